"""Many networks at once: each is a task for a worker process, and a finished one is never trained again."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from serkit.errors import RunFailed
from serkit.pipeline.inputs import forget_clips
from serkit.pipeline.networks_of_run import train_one
from serkit.pipeline.run import Machine, Run, device_of, threads_of
from serkit.processes import WorkerDied, in_processes, tell


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


def train_many(
    pending: Sequence[tuple[Run, Task]],
    machine: Machine,
    *,
    total: int,
    listener: Callable[[Any], None] | None = None,
) -> None:
    """Train networks side by side, in as many processes as the machine has for them; a single one in this process.

    Args:
        pending: networks, each with its run. machine: where they are trained.
        total: how many networks there are with the finished ones: the threads of each go by it, so that what is
            resumed rounds as what was done in one go.
        listener: told each :class:`serkit.training.EpochEnd` as it happens.

    Raises:
        RunFailed: a worker died; what it was killed by is said. Anything a task raised.
    """
    if not pending:
        return
    workers = max(1, min(machine.workers, total))
    jobs, threads, device = min(workers, len(pending)), threads_of(workers), device_of(machine)
    if jobs == 1:
        _train_here(pending, device, threads, listener)
        return
    found = in_processes(
        _train, [(run.folder, task, device) for run, task in pending], jobs=jobs,
        begin=functools.partial(_begin, threads), ordered=False, listener=listener,
    )  # fmt: skip
    with contextlib.closing(found):
        try:
            for _ in found:
                pass
        except WorkerDied as error:
            raise RunFailed(
                f"{error}, most likely out of memory: lower --jobs or train.batch_size, then run again; finished "
                "networks are kept"
            ) from None


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


def _begin(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _train(what: tuple[Path, Task, str]) -> None:
    folder, task, device = what
    train_one(_open(folder), task.system, task.model, device, _named(task, tell), remember=task.remember)


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
