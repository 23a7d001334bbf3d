"""The lanes to the workers: a queue, batches, deadlines, and a new worker for one that died."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from serkit.errors import RunFailed
from serkit.serving.http.errors import Refused
from serkit.serving.http.logs import where
from serkit.serving.http.process import Worker, WorkerLost
from serkit.serving.http.worker import Failure, Setup, Task, requests_of

if TYPE_CHECKING:
    from serkit.serving.http.metrics import Metrics

LOG = logging.getLogger("serkit.serving")
_BACKOFF_S = 0.5
UNREAD = 2
"""How often a recording or a stream waits for another worker because one died before it read anything of it."""


@dataclass(eq=False)
class Item:
    """A recording on its way: the task, its file where it is a large one, and who waits for it."""

    task: Task
    file: BinaryIO | None
    timeout_s: float
    future: asyncio.Future[Any]
    deadline: float
    worker: Worker | None = None
    began: float = field(default=0.0)
    unread: int = 0

    @property
    def left(self) -> bool:
        """Whether nobody waits for it any more: its file is closed before its future is cancelled."""
        return self.future.done() or (self.file is not None and self.file.closed)


class Lane:
    """Workers of one kind and what waits for them.

    A worker that becomes free takes its share of the clips that wait, up to ``batch``: no clip is kept waiting for
    company.

    Args:
        setup: of its workers. n: how many. limit: recordings that may wait. batch: clips answered together.
        clock_from_start: a deadline counts from when the work begins, not from when it was handed in.
    """

    def __init__(
        self, setup: Setup, n: int, *, limit: int, metrics: Metrics, batch: int = 1, clock_from_start: bool = False
    ) -> None:
        self.setup, self._n, self._limit, self._batch = setup, n, limit, batch
        self._metrics, self._from_start = metrics, clock_from_start
        self._waiting: deque[Item] = deque()
        self._wake, self._reviving = asyncio.Event(), asyncio.Lock()
        self.workers: list[Worker] = []
        self._runners: list[asyncio.Task[None]] = []
        self._closed = False
        self._mean_s = 0.1  # of work for one recording, lately

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether any worker can answer."""
        return any(w.ready and not r.done() for w, r in zip(self.workers, self._runners, strict=True))

    @property
    def alive(self) -> bool:
        """Whether workers that are lost are still replaced."""
        return any(not r.done() for r in self._runners)

    @property
    def retry_after_s(self) -> int:
        """When it is worth to come again."""
        return max(1, min(120, round((len(self._waiting) + 1) * self._mean_s / self._n)))

    async def start(self) -> None:
        """Start all workers and wait for them.

        Raises:
            RunFailed: the model cannot be loaded. Refused: the lane is closed.
        """
        if self._closed:
            raise _shutting_down()
        self.workers = [Worker(self.setup) for _ in range(self._n)]
        await asyncio.gather(*(w.start() for w in self.workers))
        if self._closed:
            raise _shutting_down()
        self._runners = [asyncio.create_task(self._run(w)) for w in self.workers]

    async def close(self) -> None:
        """End all workers; what waits or is being answered is told so."""
        self._closed = True
        for runner in self._runners:
            runner.cancel()
        self.refuse_waiting(_shutting_down())
        await asyncio.gather(*(w.close() for w in self.workers))
        await asyncio.gather(*self._runners, return_exceptions=True)

    def refuse_waiting(self, error: Refused) -> None:
        """Tell everything that waits that it is not answered, and why."""
        for item in self._waiting:
            _settle(item, error)
        self._waiting.clear()

    async def answer(self, task: Task, file: BinaryIO | None, timeout_s: float) -> dict[str, Any]:
        """Wait for the answer of one recording.

        Args:
            file: its content, for a task without one; has a file descriptor, and stays open meanwhile.

        Raises:
            Refused: busy, timeout, or what is wrong with the recording.
        """
        item = self.submit(task, file, timeout_s)
        found = await self.wait(item)
        if isinstance(found, Failure):
            raise Refused(found.code, found.message)
        return found

    def discard(self, item: Item) -> None:
        """Nobody waits for it any more: it leaves the queue, or its worker is stopped."""
        if item in self._waiting:
            self._waiting.remove(item)
        elif item.worker is not None and not item.future.done():
            item.worker.kill()
        item.future.cancel()

    def submit(self, task: Task, file: BinaryIO | None, timeout_s: float) -> Item:
        """Put a recording into the queue.

        Raises:
            Refused: the queue is full, or the lane is closed.
        """
        if self._closed:
            raise _shutting_down()
        if len(self._waiting) >= self._limit:
            raise Refused("busy", "too many recordings are waiting; try again later", self.retry_after_s)
        loop = asyncio.get_running_loop()
        item = Item(task, file, timeout_s, loop.create_future(), loop.time() + timeout_s)
        self._waiting.append(item)
        self._wake.set()
        return item

    async def wait(self, item: Item) -> dict[str, Any] | Failure:
        """Wait for a recording that was handed in. One that nobody waits for any more leaves the queue.

        Raises:
            Refused: its time is over.
        """
        loop = asyncio.get_running_loop()
        try:
            limit = None if self._from_start else max(0.0, item.deadline - loop.time())
            async with asyncio.timeout(limit):
                found: dict[str, Any] | Failure = await item.future
            return found
        except TimeoutError:
            raise Refused("timeout", f"not answered within {item.timeout_s:g} s", self.retry_after_s) from None
        finally:
            if item in self._waiting:
                self._waiting.remove(item)

    async def _take(self) -> list[Item]:
        """The next recordings for one worker."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            share = min(self._batch, math.ceil(len(self._waiting) / self._n))  # the others get theirs
            items = [self._waiting.popleft()]
            while len(items) < share and not (items[0].task.alone or self._waiting[0].task.alone):
                items.append(self._waiting.popleft())
            return items

    async def _run(self, worker: Worker) -> None:
        """Hand a worker what waits, until the lane is closed."""
        while True:
            items = await self._take()
            try:
                await self._serve(worker, items)
            except asyncio.CancelledError:
                for item in items:
                    _settle(item, _shutting_down())
                raise
            except Exception as error:  # noqa: BLE001  # logged and told; a runner that ends would take a worker from all
                LOG.error("%s lane, request %s: %s", self.setup.lane, _requests(items), where(error))
                for item in items:
                    _settle(item, Refused("internal", "internal error; the service's log has it"))

    async def _serve(self, worker: Worker, items: list[Item]) -> None:
        """Have a worker answer some recordings, and replace it where it does not."""
        loop = asyncio.get_running_loop()
        for item in items:
            if item.left:
                item.future.cancel()
        items = [i for i in items if not i.left]
        handles = self._handles(items)
        if not items or handles is None:
            return
        for item in items:
            item.worker, item.began = worker, loop.time()
            if self._from_start:
                item.deadline = loop.time() + item.timeout_s
        began = time.perf_counter()
        limit = max(0.05, min(i.deadline for i in items) - loop.time())
        asked = asyncio.ensure_future(worker.exchange("predict", [i.task for i in items], handles))
        try:
            async with asyncio.timeout(limit):  # wait_for of Python 3.11 swallows a cancellation now and then
                answers = await asyncio.shield(asked)
        except (TimeoutError, WorkerLost) as error:
            self._given_up(items, error if isinstance(error, WorkerLost) else None)
            asked.add_done_callback(lambda t: t.cancelled() or t.exception())
            await self._again(worker)
            return
        self._account(items, answers, time.perf_counter() - began)
        for item, answer in zip(items, answers, strict=True):
            _settle(item, answer)

    def _handles(self, items: list[Item]) -> list[int] | None:
        """File descriptors of large recordings, whose files may be closed meanwhile; ``None`` where none is left."""
        found: list[int] = []
        try:
            for item in items:
                if item.file is not None:
                    found.append(os.dup(item.file.fileno()))
        except OSError as error:
            for handle in found:
                os.close(handle)
            LOG.error("%s lane, request %s: %s", self.setup.lane, _requests(items), error)
            for item in items:
                _settle(item, Refused("busy", "too many files are open; try again later", self.retry_after_s))
            return None
        return found

    def _given_up(self, items: list[Item], lost: WorkerLost | None) -> None:
        """Work that did not end: a lone recording is at fault; of several each gets another chance, alone.

        Args:
            lost: ``None`` where the worker ran late. One that was dead before it was asked is nobody's fault here.
        """
        blamed = lost is None or lost.asked
        now = asyncio.get_running_loop().time()
        for item in reversed(items):
            item.worker = None
            if item.deadline <= now + 0.05:
                _settle(item, Refused("timeout", f"not answered within {item.timeout_s:g} s", self.retry_after_s))
            elif len(items) == 1 and blamed:
                _settle(item, Refused("internal", "a worker crashed on this recording; it is not tried again"))
            elif not blamed and item.unread >= UNREAD:
                said = f"{item.unread + 1} workers died before they read this recording; try again later"
                _settle(item, Refused("not_ready", said, self.retry_after_s))
            elif not item.future.done():
                item.task = replace(item.task, alone=item.task.alone or blamed)
                item.unread += not blamed
                self._waiting.appendleft(item)
        self._wake.set()
        LOG.warning(
            "%s worker %s with %d recordings, request %s%s",
            self.setup.lane, "died" if lost else "ran late", len(items), _requests(items), f": {lost}" if lost else "",
        )  # fmt: skip

    async def revive(self, worker: Worker) -> None:
        """Bring back a worker that was lost outside the queue; whoever comes second waits for the first."""
        async with self._reviving:
            if not worker.ready:
                await self._again(worker)

    async def _again(self, worker: Worker) -> None:
        """A new process for a worker, unless the lane is closed."""
        self._metrics.restarts.labels(self.setup.lane).inc()
        wait_s = _BACKOFF_S
        while not self._closed:
            worker.kill()
            try:
                await worker.start()
            except (RunFailed, EOFError, OSError) as error:
                LOG.error("%s worker does not start: %s", self.setup.lane, error)
                await asyncio.sleep(wait_s)
                wait_s = min(30.0, 2 * wait_s)
            else:
                return

    def _account(self, items: list[Item], answers: list[Any], spent: float) -> None:
        self._mean_s += 0.1 * (spent / len(items) - self._mean_s)
        self._metrics.work.labels(self.setup.lane).inc(spent)
        self._metrics.batches.observe(len(items))
        heard = sum(a["duration_s"] for a in answers if isinstance(a, dict))
        self._metrics.audio.labels(self.setup.lane).inc(heard)


def _requests(items: Sequence[Item]) -> str:
    return requests_of([item.task for item in items])


def _shutting_down() -> Refused:
    return Refused("shutting_down", "the service is shutting down", 5)


def _settle(item: Item, answer: Any) -> None:
    if item.future.done():
        return
    if isinstance(answer, BaseException):
        item.future.set_exception(answer)
    else:
        item.future.set_result(answer)
