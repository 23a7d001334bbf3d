"""Many networks at once: each is a task for a worker process, and a finished one is never trained again."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from serkit.errors import RunFailed
from serkit.pipeline.inputs import forget_clips
from serkit.pipeline.networks_of_run import train_one
from serkit.pipeline.run import Run
from serkit.processes import begin_worker, interrupts_held

_QUEUE: Any = None


@dataclass(frozen=True)
class Task:
    """One network to train: a system of the run and a model of its cross-fit.

    Attributes:
        called: what progress calls the system and the model, where several runs are trained together.
        remember: other tasks train on the same augmented clips, which are kept for them in memory.
    """

    system: str
    model: str
    called: tuple[str, str] | None = None
    remember: bool = False


def train_tasks(
    run: Run,
    tasks: Iterable[Task],
    *,
    device: str,
    jobs: int,
    threads: int,
    listener: Callable[[Any], None] | None = None,
) -> None:
    """Train networks of one run; see :func:`train_many`."""
    train_many([(run, task) for task in tasks], device=device, jobs=jobs, threads=threads, listener=listener)


def train_many(
    pending: Sequence[tuple[Run, Task]],
    *,
    device: str,
    jobs: int,
    threads: int,
    listener: Callable[[Any], None] | None = None,
) -> None:
    """Train networks in ``jobs`` processes of ``threads`` threads each; one job is done in this process.

    Args:
        pending: networks, each with its run. listener: told each :class:`serkit.training.EpochEnd` as it happens.

    Raises:
        RunFailed: a worker died; what it was killed by is said. Anything a task raised.
    """
    if not pending:
        return
    if jobs == 1:
        _train_here(pending, device, threads, listener)
        return
    context = mp.get_context("spawn")
    queue = context.SimpleQueue() if listener is not None else None
    pool = ProcessPoolExecutor(min(jobs, len(pending)), context, _start_worker, (queue, threads))
    try:
        with interrupts_held():  # a worker is born with this mask: Ctrl-C is for the parent alone
            running = {pool.submit(_train, run.folder, task, device) for run, task in pending}
        while running:
            finished, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            while queue is not None and listener is not None and not queue.empty():
                listener(queue.get())
            for future in finished:
                future.result()
    except BrokenProcessPool:
        raise RunFailed(
            "a training process was killed, most likely for want of memory: lower --jobs or train.batch_size, "
            "then run again; finished networks are kept"
        ) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):  # a pool has no public way to stop its tasks
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _train_here(
    pending: Sequence[tuple[Run, Task]], device: str, threads: int, listener: Callable[[Any], None] | None
) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for run, task in pending:
            train_one(run, task.system, task.model, device, _named(task, listener), remember=task.remember)
    finally:
        forget_clips()
        torch.set_num_threads(before)


def _start_worker(queue: Any, threads: int) -> None:
    global _QUEUE
    _QUEUE = queue
    begin_worker()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _train(folder: Path, task: Task, device: str) -> None:
    tell = _named(task, _QUEUE.put if _QUEUE is not None else None)
    train_one(_open(folder), task.system, task.model, device, tell, remember=task.remember)


def _named(task: Task, listener: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    """The listener, told the names that the task is called by."""
    called = task.called
    if called is None or listener is None:
        return listener
    return lambda event: listener(replace(event, system=called[0], model=called[1]))


@lru_cache(maxsize=1)
def _open(folder: Path) -> Run:
    """The run, read once in each worker process."""
    return Run(folder)
