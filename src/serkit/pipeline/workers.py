"""Many networks at once: each is a task for a worker process, and a finished one is never trained again."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serkit.errors import RunFailed

_QUEUE: Any = None


@dataclass(frozen=True)
class Task:
    """One network to train: a system of the run and a model of its cross-fit."""

    system: str
    model: str


def train_tasks(
    folder: Path,
    tasks: Iterable[Task],
    *,
    device: str,
    jobs: int,
    threads: int,
    listener: Callable[[Any], None] | None = None,
) -> None:
    """Train networks in ``jobs`` processes of ``threads`` threads each.

    Args:
        folder: of the run. listener: told each :class:`serkit.training.EpochEnd` as it happens.

    Raises:
        RunFailed: a worker died; what it was killed by is said. Anything a task raised.
    """
    pending = list(tasks)
    if not pending:
        return
    context = mp.get_context("spawn")
    queue = context.Manager().Queue() if listener is not None else None
    with ProcessPoolExecutor(min(jobs, len(pending)), context, _start_worker, (queue, threads)) as pool:
        running: set[Future[None]] = {pool.submit(_train, folder, task, device) for task in pending}
        try:
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
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(queue: Any, threads: int) -> None:
    global _QUEUE
    _QUEUE = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _train(folder: Path, task: Task, device: str) -> None:
    from serkit.pipeline.networks_of_run import train_one

    train_one(folder, task.system, task.model, device, _QUEUE.put if _QUEUE is not None else None)
