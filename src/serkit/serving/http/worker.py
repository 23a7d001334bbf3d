"""The worker process. Light to import: heavy packages are loaded once threads are bounded."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

from serkit.errors import SerkitError
from serkit.processes import begin_worker
from serkit.serving.http.logs import of_interpreter, where

LOG = logging.getLogger("serkit.serving")


@dataclass(frozen=True)
class Setup:
    """What a worker is started with.

    Attributes:
        model: name or place of a bundle. lane: what it is for. nice: how far it stands back for others.
        calls: the bundle for calls, see :func:`serkit.serving.predictor.load`.
    """

    model: str
    lane: str = "predict"
    nice: int = 0
    calls: str = "auto"


@dataclass(frozen=True)
class Task:
    """A recording to answer.

    Attributes:
        content: its bytes, or ``None`` where a file descriptor follows.
        options: as :meth:`serkit.serving.predictor.Model.predict` takes them. max_s: longest recording.
        index, file: what the answer repeats. alone: never together with others, and progress is told.
        request: what the log calls the request it came with.
    """

    content: bytes | None
    options: dict[str, Any] = field(default_factory=dict)
    max_s: float = 1800.0
    index: int = 0
    file: str | None = None
    alone: bool = False
    request: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a recording was not answered: a code of :data:`serkit.serving.http.errors.STATUS` and one line."""

    code: str
    message: str


def main(conn: Connection, setup: Setup) -> None:
    """Answer what comes through the pipe until it closes; the parent may end this process at any time.

    An unexpected error is logged with its places and the request, without its words. Over a recording it ends
    this process, which is replaced: nobody knows what it left behind. A stream is closed alone, for others are heard by
    the same process.
    """
    import signal

    begin_worker()
    sys.unraisablehook = of_interpreter
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the service finishes first, then closes the pipe
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if setup.nice and hasattr(os, "nice"):
        os.nice(setup.nice)
    from serkit.serving.http.answering import Answerer

    try:
        answerer = Answerer(setup.model, setup.calls)
    except SerkitError as error:
        conn.send(("failed", str(error)))
        return
    conn.send(("answer", answerer.about()))
    try:
        _answer_all(conn, answerer)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent closed the pipe, or is gone
        return
    except Exception as error:  # noqa: BLE001  # not one of a recording: this process ends, and is replaced
        LOG.error("%s worker ends: %s", setup.lane, where(error))


def _answer_all(conn: Connection, answerer: Any) -> None:
    while True:
        name, payload = conn.recv()
        if name != "predict":
            conn.send(("answer", _of_stream(answerer, name, payload)))
            continue
        handles = [None if t.content is not None else recv_handle(conn) for t in payload]
        try:
            value = answerer.predict(payload, handles, lambda heard: conn.send(("progress", heard)))
        except Exception as error:  # noqa: BLE001  # whatever it is: the parent is told, which logs it
            conn.send(("broken", where(error)))
            return
        conn.send(("answer", value))


def _of_stream(answerer: Any, name: str, payload: tuple[Any, ...]) -> Any:
    try:
        return getattr(answerer, name)(*payload)
    except Exception as error:  # noqa: BLE001  # whatever it is: the log has it, and the client is told
        LOG.error("streams worker, request %s: %s", payload[0], where(error))
        answerer.drop(payload[0])
        return Failure("internal", "internal error in this stream; the service's log has it")


def requests_of(tasks: Sequence[Task]) -> str:
    """What the log calls the requests of some recordings."""
    return ", ".join(dict.fromkeys(task.request or "?" for task in tasks))
