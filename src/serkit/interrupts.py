"""Ctrl-C: where Python alone would break (processes that start, imports, compiled code), and what is said of it."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from serkit.errors import DiskFull, Stopped

KEPT = "finished work is kept"
_AGAIN_S = 0.05  # until an interrupt that came at a bad moment is tried again
_IMPORTING = "<frozen importlib._bootstrap>"
_COMPILED = (  # Python that compiled code calls and does not let KeyboardInterrupt through: file, beginning of names
    (f"pydantic{os.sep}main.py", "model_dump"),  # it makes a ValueError of it
    (f"{os.sep}soundfile.py", "vio_"),  # libsndfile takes the file for a damaged one, or for a shorter one
)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block is through, where the system can hold it back.

    A process or thread started within inherits that for life: what a terminal sends to the whole group reaches the
    parent alone, also while a worker is still importing. That is what it is for: where another thread has not inherited
    it, the system tells that one, and Python interrupts the block all the same; see :func:`interrupts_after`.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_after() -> Iterator[None]:
    """Ctrl-C comes once the block is through, whichever thread of the process the system tells; nothing is inherited.

    For short work that cannot be left in the middle, such as a member of a zip archive.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread is interrupted
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
        if came:
            signal.raise_signal(signal.SIGINT)


def before_processes() -> None:
    """Start the helper of multiprocessing now, to be called before the :func:`interrupts_held` that processes start in.

    Otherwise it comes with the first process, and whoever starts it hears Ctrl-C again from then on: that process, too.
    """
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Around work that keeps what is finished, or a decorator of it: Ctrl-C and a disk that fails within say so.

    Nothing else may say it: of all other work nothing is kept.

    Raises:
        Stopped: in the place of ``KeyboardInterrupt``.
        OSError, DiskFull: as they came, with :data:`KEPT` as a note, which the command line shows.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; run the same command again to resume") from None
    except (OSError, DiskFull) as error:
        error.add_note(KEPT)
        raise


def postpone_when_unsafe() -> None:
    """Have Ctrl-C raise ``KeyboardInterrupt`` at the next moment at which that is safe; for a program, not a library.

    An import that is interrupted may end the process without a word (compiled modules call Python where no error is
    foreseen), or leave a half-made module behind; so it is finished first. So is what compiled code asks of Python and
    would make another error of: a model that pydantic writes, bytes of a file in memory that libsndfile reads. In a
    finalizer, where Python prints the error and goes on, it is raised again afterwards. Call it in the main thread.
    """
    signal.signal(signal.SIGINT, _interrupt)
    ordinary = sys.unraisablehook

    def unraisable(what: Any) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            _later()
        else:
            ordinary(what)

    sys.unraisablehook = unraisable


def _interrupt(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        where, name = frame.f_code.co_filename, frame.f_code.co_name
        if where == _IMPORTING or any(where.endswith(file) and name.startswith(begin) for file, begin in _COMPILED):
            _later()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _later() -> None:
    timer = threading.Timer(_AGAIN_S, _again)
    timer.daemon = True
    timer.start()


def _again() -> None:
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)  # a real one: it ends a wait, too
    else:
        _thread.interrupt_main()
