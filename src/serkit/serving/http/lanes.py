"""Worker processes as the service sees them: a queue, batches, deadlines, and a new worker for one that died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import send_handle
from typing import TYPE_CHECKING, Any, BinaryIO

from serkit.errors import RunFailed
from serkit.interrupts import interrupts_held
from serkit.serving.http.errors import Refused
from serkit.serving.http.worker import Failure, Setup, Task, main

if TYPE_CHECKING:
    from serkit.serving.http.metrics import Metrics

LOG = logging.getLogger("serkit.serving")
_BACKOFF_S = 0.5


class WorkerLost(RunFailed):
    """A worker died or was stopped while it answered."""


class Worker:
    """One worker process, and the thread that talks to it.

    Args:
        setup: what it is started with.

    Attributes:
        about: what it said of its model once it was ready. heard_s: how far it is in a long recording.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"serkit-{setup.lane}")
        self._process: Any = None
        self._conn: Any = None
        self.about: dict[str, Any] = {}
        self.heard_s = 0.0
        self.ready = False

    async def start(self) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            RunFailed: it cannot load the model.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._start)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        if self._conn is not None:
            self._conn.close()
        self._conn, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, self._setup), daemon=True, name="serkit-worker")
        with interrupts_held():
            self._process.start()
        theirs.close()
        self.about = self._receive()
        self.ready = True

    async def exchange(self, name: str, payload: Any, handles: Sequence[int] = ()) -> Any:
        """Ask and wait for the answer; one question at a time, in order.

        Args:
            handles: file descriptors that are sent along, and closed.

        Raises:
            WorkerLost: it died meanwhile.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, name, payload, handles)

    def _exchange(self, name: str, payload: Any, handles: Sequence[int]) -> Any:
        self.heard_s = 0.0
        try:
            self._conn.send((name, payload))
            for handle in handles:
                send_handle(self._conn, handle, self._process.pid)
            return self._receive()
        except (EOFError, OSError) as error:
            self.ready = False
            raise WorkerLost(f"a worker was lost ({type(error).__name__})") from None
        finally:
            for handle in handles:
                with contextlib.suppress(OSError):
                    os.close(handle)

    def _receive(self) -> Any:
        while True:
            kind, value = self._conn.recv()
            if kind == "progress":
                self.heard_s = value
            elif kind == "failed":
                raise RunFailed(value)
            else:
                return value

    def kill(self) -> None:
        """End the process at once; whoever waits for it gets :class:`WorkerLost`."""
        self.ready = False
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End the process."""
        self.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._join)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _join(self) -> None:
        if self._process is not None:
            self._process.join(5)
        if self._conn is not None:
            self._conn.close()


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
            RunFailed: the model cannot be loaded.
        """
        self.workers = [Worker(self.setup) for _ in range(self._n)]
        await asyncio.gather(*(w.start() for w in self.workers))
        self._runners = [asyncio.create_task(self._run(w)) for w in self.workers]

    async def close(self) -> None:
        """End all workers; what waits is told so."""
        for runner in self._runners:
            runner.cancel()
        for item in self._waiting:
            _settle(item, Refused("shutting_down", "the service is shutting down", 5))
        self._waiting.clear()
        await asyncio.gather(*(w.close() for w in self.workers))

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
            Refused: the queue is full.
        """
        if len(self._waiting) >= self._limit:
            raise Refused("busy", "too many recordings wait already; come again later", self.retry_after_s)
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
            found: dict[str, Any] | Failure = await asyncio.wait_for(item.future, limit)
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
            items = [i for i in items if not i.future.done()]
            if items:
                return items

    async def _run(self, worker: Worker) -> None:
        """Hand a worker what waits, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            items = await self._take()
            for item in items:
                item.worker, item.began = worker, loop.time()
                if self._from_start:
                    item.deadline = loop.time() + item.timeout_s
            handles = [os.dup(i.file.fileno()) for i in items if i.file is not None]  # theirs may be closed meanwhile
            began = time.perf_counter()
            try:
                limit = max(0.05, min(i.deadline for i in items) - loop.time())
                asked = asyncio.ensure_future(worker.exchange("predict", [i.task for i in items], handles))
                answers = await asyncio.wait_for(asyncio.shield(asked), limit)
            except (TimeoutError, WorkerLost) as error:
                self._given_up(items, lost=isinstance(error, WorkerLost))
                asked.add_done_callback(lambda t: t.cancelled() or t.exception())
                await self._again(worker)
                continue
            spent = time.perf_counter() - began
            self._account(items, answers, spent)
            for item, answer in zip(items, answers, strict=True):
                _settle(item, answer)

    def _given_up(self, items: list[Item], *, lost: bool) -> None:
        """Work that did not end: a lone recording is at fault; of several each gets another chance, alone."""
        now = asyncio.get_running_loop().time()
        for item in reversed(items):
            item.worker = None
            if item.deadline <= now + 0.05:
                _settle(item, Refused("timeout", f"not answered within {item.timeout_s:g} s", self.retry_after_s))
            elif len(items) == 1:
                _settle(item, Refused("internal", "a worker died of this recording; it is not tried again"))
            elif not item.future.done():
                item.task = replace(item.task, alone=True)
                self._waiting.appendleft(item)
        self._wake.set()
        LOG.warning("%s worker %s with %d recordings", self.setup.lane, "died" if lost else "ran late", len(items))

    async def revive(self, worker: Worker) -> None:
        """Bring back a worker that was lost outside the queue; whoever comes second waits for the first."""
        async with self._reviving:
            if not worker.ready:
                await self._again(worker)

    async def _again(self, worker: Worker) -> None:
        """A new process for a worker."""
        self._metrics.restarts.labels(self.setup.lane).inc()
        wait_s = _BACKOFF_S
        while True:
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


def _settle(item: Item, answer: Any) -> None:
    if item.future.done():
        return
    if isinstance(answer, BaseException):
        item.future.set_exception(answer)
    else:
        item.future.set_result(answer)
