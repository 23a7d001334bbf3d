"""One worker process as the service sees it: started, asked, lost, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import send_handle
from typing import Any

from serkit.errors import RunFailed
from serkit.processes import start_process
from serkit.serving.http.worker import Setup, main


class WorkerLost(RunFailed):
    """A worker died or was stopped while it answered.

    Args:
        cause: what is known of it. asked: whether it had read the question; ``False`` where it was dead before.
    """

    def __init__(self, cause: str, *, asked: bool = True) -> None:
        super().__init__(cause)
        self.asked = asked


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
        self._lock = threading.Lock()  # whoever ends the process finds it started, or not there at all
        self._closed = False
        self.about: dict[str, Any] = {}
        self.heard_s = 0.0
        self.ready = False
        self._busy_s = self._told_s = 0.0  # seconds in which it was asked; those that were accounted for

    async def start(self) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            RunFailed: it cannot load the model. WorkerLost: it ended meanwhile, or was closed.
        """
        if self._closed:
            raise WorkerLost("a closed worker cannot be started again", asked=False)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._start)

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise WorkerLost("a worker was closed before it started", asked=False)
            if self._conn is not None:
                self._conn.close()
            self._process, self._conn = start_process(main, self._setup, name="serkit-worker")
        try:
            self.about = self._receive()
        except (EOFError, OSError):
            raise WorkerLost("a worker ended while it started") from None
        with self._lock:
            self.ready = not self._closed

    async def exchange(self, name: str, payload: Any, handles: Sequence[int] = ()) -> Any:
        """Ask and wait for the answer; one question at a time, in order.

        Args:
            handles: file descriptors that are sent along, and closed.

        Raises:
            WorkerLost: it died meanwhile.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, name, payload, handles)

    def busy_s(self) -> float:
        """Seconds that it was busy since this was last asked."""
        busy = self._busy_s
        found, self._told_s = busy - self._told_s, busy
        return found

    def _exchange(self, name: str, payload: Any, handles: Sequence[int]) -> Any:
        self.heard_s, began = 0.0, time.perf_counter()
        try:
            self._conn.send((name, payload))
            for handle in handles:
                send_handle(self._conn, handle, self._process.pid)
            return self._receive()
        except (EOFError, OSError) as error:
            self.ready = False
            asked = isinstance(error, EOFError)  # a pipe that is closed with something unread in it is reset instead
            raise WorkerLost(f"it was killed, or ran out of memory ({type(error).__name__})", asked=asked) from None
        finally:
            self._busy_s += time.perf_counter() - began
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
            elif kind == "broken":
                self.ready = False
                raise WorkerLost(value)
            else:
                return value

    def kill(self) -> None:
        """End the process at once; whoever waits for it gets :class:`WorkerLost`."""
        with self._lock:
            self.ready = False
            if self._process is not None:
                self._process.kill()

    async def close(self) -> None:
        """End the process, also one that is being started; none is started afterwards."""
        await asyncio.get_running_loop().run_in_executor(None, self._end)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _end(self) -> None:
        self._closed = True
        self.kill()
        if self._process is not None:
            self._process.join(5)
        if self._conn is not None:
            self._conn.close()
