"""Worker processes that may be ended at any moment, leave Ctrl-C to their parent and do not outlive it.

``concurrent.futures.ProcessPoolExecutor`` has one pipe for the results of all processes: one that is killed while it
writes (by Ctrl-C, or for want of memory) leaves the parent waiting forever for the rest of a message. Here every
process has a pipe of its own, and its end is the end of that pipe.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from serkit.errors import RunFailed, SerkitError, plain
from serkit.interrupts import before_processes, interrupts_held

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")
_PATIENCE_S = 10.0  # for a process that has nothing left to do
_UNSTARTED = (
    "a worker process could not start, and its error is above; it imports the script that starts it, in which that has "
    "to stand below if __name__ == '__main__':"
)
_PARENT: Any = None  # in a worker: the way to its parent
_MADE: Any = None  # in a worker: what it answers by


class WorkerDied(RunFailed):
    """A process ended before it had answered: killed, out of memory, or it never came to life."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    work: Callable[[T], R],
    tasks: Iterable[T],
    *,
    jobs: int,
    begin: Callable[[], None] | None = None,
    ahead: int = 4,
    ordered: bool = True,
    listener: Callable[[Any], None] | None = None,
) -> Generator[R, None, None]:
    """Yield ``work(task)`` of every task, computed in ``jobs`` processes.

    Processes start when first needed and end with the iterator: close it, and what is under way is dropped.

    Args:
        work: importable by its name; tasks, results and errors are pickled.
        tasks: taken one by one, at most ``ahead`` for each process before their results are asked for.
        begin: called once in each process, before its first task.
        ordered: results in the order of the tasks; otherwise as they come.
        listener: told here, in this thread, whatever :func:`tell` is given in a worker.

    Raises:
        WorkerDied: the process that had a task died; raised when it is the turn of that task, as is an error of
            ``work`` or ``begin``, which keeps its type where it can be pickled.
    """
    given: queue.SimpleQueue[tuple[int, T] | None] = queue.SimpleQueue()
    told: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
    numbered = enumerate(tasks)
    hands = [_Hand(given, told, (begin, work)) for _ in range(jobs)]
    arrived: dict[int, tuple[str, Any]] = {}
    taken = yielded = 0
    finished = False
    before_processes()
    try:
        with interrupts_held():
            for hand in hands:
                hand.start()
        while True:
            for job in itertools.islice(numbered, ahead * jobs - (taken - yielded)):
                given.put(job)
                taken += 1
            if yielded == taken:
                break
            number, kind, value = _next(told)
            if kind == "told":
                if listener is not None:
                    listener(value)
                continue
            arrived[number] = (kind, value)
            while arrived and (yielded in arrived or not ordered):
                kind, value = arrived.pop(yielded if ordered else next(iter(arrived)))
                yielded += 1
                if kind == "failed":
                    raise value
                for job in itertools.islice(numbered, 1):  # nobody idles while this result is used
                    given.put(job)
                    taken += 1
                yield value
        finished = True
    finally:
        with interrupts_held():
            for hand in hands:
                given.put(None)
                if not finished:
                    hand.end()
            for hand in hands:
                if hand.ident is None:  # Ctrl-C came before it was started
                    continue
                hand.join(_PATIENCE_S)
                hand.end(kill=True)
                hand.join()


def in_processes_by(
    make: Callable[[], M], ask: Callable[[M, T], R], tasks: Iterable[T], *, jobs: int, ahead: int = 4
) -> Generator[R, None, None]:
    """Yield ``ask(made, task)`` of every task in order, ``made`` being what each process made once by ``make()``.

    Args:
        make, ask: importable by their names, or partials of such. tasks, jobs, ahead: as for :func:`in_processes`;
            errors as there. Each process computes on one thread, unless OMP_NUM_THREADS says otherwise.
    """
    begin, work = functools.partial(_make, make), functools.partial(_ask, ask)
    return in_processes(work, tasks, jobs=jobs, begin=begin, ahead=ahead)


def here_or_in_processes(
    make: Callable[[], M], ask: Callable[[M, T], R], tasks: Sequence[T], jobs: int
) -> Generator[R, None, None]:
    """:func:`in_processes_by`, or in this one where a single process would do; without tasks nothing is made.

    Args:
        jobs: processes; 0 is one per core.
    """
    n = min(jobs or cores(), len(tasks))
    if n > 1:
        yield from in_processes_by(make, ask, tasks, jobs=n)
    elif tasks:
        made = make()
        yield from (ask(made, task) for task in tasks)


def _make(make: Callable[[], Any]) -> None:
    global _MADE
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _MADE = make()


def _ask(ask: Callable[[Any, Any], Any], task: Any) -> Any:
    return ask(_MADE, task)


def tell(event: Any) -> None:
    """In a worker: hand something to the listener of :func:`in_processes`; elsewhere nobody listens."""
    if _PARENT is not None:
        _PARENT.send(("told", event))


def start_process(main: Callable[..., None], *args: Any, name: str | None = None) -> tuple[Any, Any]:
    """A process of its own, and this end of a pipe to it; Ctrl-C waits while it starts.

    Args:
        main: importable by its name; given the other end of the pipe, and ``args``. name: of the process.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs, *args), daemon=True, name=name)
    try:
        before_processes()
        with interrupts_held():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def begin_worker() -> None:
    """First thing in a worker: leave Ctrl-C to the parent, and end when the parent does, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _next(told: queue.SimpleQueue[tuple[int, str, Any]]) -> tuple[int, str, Any]:
    while True:
        with contextlib.suppress(queue.Empty):
            return told.get(timeout=0.5)  # a signal that another thread received is seen here


class _Hand(threading.Thread):
    """A thread of the parent with a process of its own, to which it hands one task after the other."""

    def __init__(self, given: queue.SimpleQueue[Any], told: queue.SimpleQueue[Any], what: tuple[Any, Any]) -> None:
        super().__init__(daemon=True)
        self._given, self._told, self._what = given, told, what
        self._lock, self._ended = threading.Lock(), False
        self._process: Any = None
        self._conn: Any = None
        self._lives = False  # whether the process has begun

    def run(self) -> None:
        while not self._ended and (job := self._given.get()) is not None:
            number, task = job
            try:
                if self._process is None:
                    self._begin()
                self._conn.send(task)
                self._told.put((number, *self._answer(number)))
            except (EOFError, OSError):
                code = self._leave()
                said = _UNSTARTED if code == 1 and not self._lives else f"a worker process died{_by(code)}"
                self._told.put((number, "failed", WorkerDied(said)))
            except Exception as error:  # noqa: BLE001  # a task or an answer that cannot be pickled: raised there
                self._told.put((number, "failed", error))
        self._leave()

    def end(self, *, kill: bool = False) -> None:
        """End the process at once, whatever it does; its thread follows."""
        with self._lock:
            self._ended = True
            process = self._process
        if process is not None:
            (process.kill if kill else process.terminate)()

    def _begin(self) -> None:
        with self._lock:
            if self._ended:
                raise EOFError
            self._process, self._conn = start_process(_main, *self._what)
            self._lives = False

    def _answer(self, number: int) -> tuple[str, Any]:
        while True:
            kind, value = self._conn.recv()
            if kind == "begun":
                self._lives = True
            elif kind == "told":
                self._told.put((number, kind, value))
            else:
                return kind, value

    def _leave(self) -> int | None:
        """Close the pipe, wait for the process to end of itself, and say how it ended."""
        process, self._process = self._process, None
        if self._conn is not None:
            self._conn.close()
        if process is None:
            return None
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
        code: int | None = process.exitcode
        return code


def _by(code: int | None) -> str:
    return f" (of signal {signal.Signals(-code).name})" if code is not None and code < 0 else ""


def _main(conn: Any, begin: Callable[[], None] | None, work: Callable[[Any], Any]) -> None:
    """A worker: begin, then answer until the parent has no more tasks."""
    global _PARENT
    begin_worker()
    _PARENT = conn
    failed: BaseException | None = None
    with contextlib.suppress(ConnectionError):
        conn.send(("begun", None))
    try:
        if begin is not None:
            begin()
    except Exception as error:  # noqa: BLE001  # raised in the parent
        failed = _portable(error)
    with contextlib.suppress(EOFError, ConnectionError):  # reset, where the parent leaves without having read
        while True:
            task = conn.recv_bytes()
            conn.send_bytes(_answer(work, task) if failed is None else pickle.dumps(("failed", failed)))


def _answer(work: Callable[[Any], Any], task: bytes) -> bytes:
    try:
        return pickle.dumps(("done", work(pickle.loads(task))), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  # raised in the parent
        return pickle.dumps(("failed", _portable(error)))


def _portable(error: Exception) -> Exception:
    """An error as it can travel; where it is nobody's message, with the place where it happened."""
    if not isinstance(error, SerkitError):
        error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # one that asks for more than a message
        return plain(error) if isinstance(error, SerkitError) else RunFailed(f"{type(error).__name__}: {error}")
    return error
