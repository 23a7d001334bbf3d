"""One worker process as the service sees it: started, asked, lost, ended."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import send_handle
from typing import Any

from serkit.errors import RunFailed
from serkit.interrupts import interrupts_held
from serkit.serving.http.worker import Setup, main


class WorkerLost(RunFailed):
    """A worker died or was stopped while it answered.

    Args:
        cause: what is known of it. asked: whether it had the question; ``False`` where it was dead before.
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
        try:
            self.about = self._receive()
        except EOFError:
            raise WorkerLost("a worker ended while it started") from None
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
        asked = False
        try:
            self._conn.send((name, payload))
            asked = True
            for handle in handles:
                send_handle(self._conn, handle, self._process.pid)
            return self._receive()
        except (EOFError, OSError) as error:
            self.ready = False
            raise WorkerLost(f"it was killed, or ran out of memory ({type(error).__name__})", asked=asked) from None
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
            elif kind == "broken":
                self.ready = False
                raise WorkerLost(value)
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
