"""The process that answers. Light to import: what is heavy comes once threads are bounded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

from serkit.errors import SerkitError
from serkit.processes import begin_worker


@dataclass(frozen=True)
class Setup:
    """What a worker is started with.

    Attributes:
        model: name or place of a bundle. lane: what it is for. nice: how far it stands back for others.
    """

    model: str
    lane: str = "predict"
    nice: int = 0


@dataclass(frozen=True)
class Task:
    """A recording to answer.

    Attributes:
        content: its bytes, or ``None`` where a file descriptor follows.
        options: as :meth:`serkit.serving.predictor.Model.predict` takes them. max_s: longest recording.
        index, file: what the answer repeats. alone: never together with others, and progress is told.
    """

    content: bytes | None
    options: dict[str, Any] = field(default_factory=dict)
    max_s: float = 1800.0
    index: int = 0
    file: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a recording was not answered: a code of :data:`serkit.serving.http.errors.STATUS` and one line."""

    code: str
    message: str


def main(conn: Connection, setup: Setup) -> None:
    """Answer what comes through the pipe until it closes; the parent may end this process at any time."""
    import signal

    begin_worker()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the service finishes first, then closes the pipe
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if setup.nice and hasattr(os, "nice"):
        os.nice(setup.nice)
    from serkit.serving.http.answering import Answerer

    try:
        answerer = Answerer(setup.model)
    except SerkitError as error:
        conn.send(("failed", str(error)))
        return
    conn.send(("answer", answerer.about()))
    try:
        while True:
            name, payload = conn.recv()
            if name == "predict":
                handles = [None if t.content is not None else recv_handle(conn) for t in payload]
                value: Any = answerer.predict(payload, handles, lambda heard: conn.send(("progress", heard)))
            else:
                value = getattr(answerer, name)(*payload)
            conn.send(("answer", value))
    except (EOFError, OSError):
        return
