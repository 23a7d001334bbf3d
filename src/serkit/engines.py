"""Who does the work of extraction: batches of items in, their features or the reason against them out.

A batch is decoded once for all encoders that want it. In a worker process the encoders come pickled,
load their weights at the first batch, and compute on one thread each.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serkit.audio import load
from serkit.encoding import Encoder
from serkit.errors import RunFailed, SerkitError
from serkit.processes import begin_worker, interrupts_held

LOG = logging.getLogger(__name__)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TEXT_LETTERS_PER_S = 15.0  # about what English speech carries; only for making batches of equal work


@dataclass(frozen=True, slots=True)
class Item:
    """One stretch of audio or one text that some encoders want.

    Attributes:
        key: as in :mod:`serkit.contents`. id: of the first utterance with this content.
        path, start_s, end_s: where the audio lies; ``path`` is empty for a text.
        text: for text encoders. duration_s: length of the audio as its header says, 0 for a text.
        encoders: names of those that want it. n_utterances: how many have this content.
    """

    key: str
    id: str
    encoders: tuple[str, ...]
    path: str = ""
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    duration_s: float = 0.0
    n_utterances: int = 1

    @property
    def work_s(self) -> float:
        """Its share of a batch's budget, in seconds of speech."""
        return self.duration_s if self.text is None else len(self.text) / _TEXT_LETTERS_PER_S


@dataclass(frozen=True)
class Outcome:
    """What became of an item: by encoder name its (frames, dim) float32 features, or one line of reason."""

    features: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


Run = Generator[tuple[tuple[Item, ...], list[Outcome]], None, None]


def batches(items: Iterable[Item], budget_s: float, max_items: int = 256) -> list[tuple[Item, ...]]:
    """Group items of like length, so that little is padded; texts and audio apart, the longest batch first.

    Args:
        items: any order. budget_s: longest item times number of items stays within this many seconds,
            or the item is alone. max_items: in a batch.
    """
    made: list[tuple[Item, ...]] = []
    for is_text in (False, True):
        chosen = [item for item in items if (item.text is not None) == is_text]
        current: list[Item] = []
        longest = 0.0
        for item in sorted(chosen, key=lambda i: (-i.work_s, i.key)):
            longest = longest or item.work_s
            if current and (len(current) >= max_items or longest * (len(current) + 1) > budget_s):
                made.append(tuple(current))
                current, longest = [], item.work_s
            current.append(item)
        if current:
            made.append(tuple(current))
    return made


def encode(encoder: Encoder, items: Sequence[Any], ids: Sequence[str]) -> list[np.ndarray | SerkitError]:
    """Call an encoder on waveforms or texts; an item that it refuses costs that item and no other.

    Args:
        encoder: loaded. items: as in :class:`serkit.encoding.Encoder`. ids: to name the item that fails.

    Returns:
        One (frames, dim) float32 array per item, or the encoder's own error about it.

    Raises:
        RunFailed: the encoder failed in a way that is not the item's fault, or broke its contract.
    """
    try:
        found: list[np.ndarray | SerkitError] = [*encoder(items)]
    except RunFailed:
        raise
    except SerkitError as error:
        if len(items) == 1:
            return [error]
        return [encode(encoder, [item], [name])[0] for item, name in zip(items, ids, strict=True)]
    except Exception as error:  # re-raised with the name of the item, once that is known
        if len(items) == 1:
            raise RunFailed(
                f"encoder '{encoder.spec.name}' failed on utterance '{ids[0]}': {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}; to go on without it: exclude: [{ids[0]}]"
            ) from error
        LOG.warning("encoder '%s' failed on a batch of %d (%s); one by one", encoder.spec.name, len(items), error)
        return [encode(encoder, [item], [name])[0] for item, name in zip(items, ids, strict=True)]
    if len(found) != len(items):
        raise RunFailed(f"encoder '{encoder.spec.name}' gave {len(found)} arrays for {len(items)} items")
    return found


def run_local(work: Sequence[tuple[Item, ...]], encoders: Mapping[str, Encoder], *, jobs: int, device: str) -> Run:
    """Encode batches on this machine and yield each with its outcomes, in the order given.

    Args:
        work: batches. encoders: by name, not loaded.
        jobs: processes; 1, or a ``device`` other than ``cpu``, encodes here while ``jobs`` threads decode ahead.
        device: handed to :meth:`Encoder.load`.

    Raises:
        RunFailed: an encoder failed, or a process died.
        SerkitError: an encoder cannot be loaded or sent to another process.
    """
    jobs = min(jobs, len(work))
    if jobs <= 1 or device != "cpu":
        return _in_this_process(work, encoders, max(1, jobs), device)
    return _in_processes(work, encoders, jobs, device)


def _decoded(batch: tuple[Item, ...]) -> list[Any]:
    """For each item its waveform (samples,) float32, its text, or the error of decoding it."""
    found: list[Any] = []
    for item in batch:
        if item.text is not None:
            found.append(item.text)
            continue
        try:
            found.append(load(item.path, start_s=item.start_s, end_s=item.end_s))
        except SerkitError as error:
            found.append(error)
    return found


def _outcomes(batch: tuple[Item, ...], contents: list[Any], encoders: Mapping[str, Encoder]) -> list[Outcome]:
    outcomes = [Outcome() for _ in batch]
    for item, content, outcome in zip(batch, contents, outcomes, strict=True):
        if isinstance(content, SerkitError):
            outcome.reasons.update(dict.fromkeys(item.encoders, str(content)))
    for name in dict.fromkeys(name for item in batch for name in item.encoders):
        rows = [
            row
            for row, item in enumerate(batch)
            if name in item.encoders and not isinstance(contents[row], SerkitError)
        ]
        if not rows:
            continue
        found = encode(encoders[name], [contents[row] for row in rows], [batch[row].id for row in rows])
        for row, result in zip(rows, found, strict=True):
            if isinstance(result, SerkitError):
                outcomes[row].reasons[name] = str(result)
            else:
                outcomes[row].features[name] = result
    return outcomes


def _in_this_process(
    work: Sequence[tuple[Item, ...]], encoders: Mapping[str, Encoder], threads: int, device: str
) -> Run:
    for encoder in encoders.values():
        encoder.load(device)
    ahead: deque[tuple[tuple[Item, ...], Future[list[Any]]]] = deque()
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for batch in work:
            ahead.append((batch, pool.submit(_decoded, batch)))
            if len(ahead) > threads + 1:
                ready, decoded = ahead.popleft()
                yield ready, _outcomes(ready, decoded.result(), encoders)
        while ahead:
            ready, decoded = ahead.popleft()
            yield ready, _outcomes(ready, decoded.result(), encoders)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_processes(work: Sequence[tuple[Item, ...]], encoders: Mapping[str, Encoder], jobs: int, device: str) -> Run:
    try:
        packed = pickle.dumps(dict(encoders))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SerkitError(f"an encoder cannot be sent to another process ({error}); extract with jobs=1") from error
    before = {child.pid for child in multiprocessing.active_children()}
    ahead: deque[tuple[tuple[Item, ...], Future[list[Outcome]]]] = deque()
    with _single_threaded():
        pool = ProcessPoolExecutor(
            jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(packed, device)
        )
        try:
            for batch in work:
                with interrupts_held():  # the first of these starts the processes
                    ahead.append((batch, pool.submit(_work, batch)))
                if len(ahead) >= 4 * jobs:
                    ready, outcomes = ahead.popleft()
                    yield ready, outcomes.result()
            while ahead:
                ready, outcomes = ahead.popleft()
                yield ready, outcomes.result()
            pool.shutdown()
        except BrokenProcessPool as error:
            raise RunFailed(
                "a worker process died (killed, out of memory, or started from a script without "
                "if __name__ == '__main__'); finished shards are kept: run again, with fewer jobs"
            ) from error
        finally:
            for child in multiprocessing.active_children():  # nobody waits for a batch that nobody wants
                if child.pid not in before:
                    child.terminate()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started within compute on one thread, unless the user has said how many."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class _Worker:
    """State of a worker process."""

    packed = b""
    device = "cpu"
    encoders: Mapping[str, Encoder] | None = None


def _begin(packed: bytes, device: str) -> None:
    begin_worker()
    _Worker.packed, _Worker.device = packed, device


def _work(batch: tuple[Item, ...]) -> list[Outcome]:
    """Decode and encode a batch in a worker; errors travel back as one line."""
    try:
        if _Worker.encoders is None:
            encoders: Mapping[str, Encoder] = pickle.loads(_Worker.packed)
            for encoder in encoders.values():
                encoder.load(_Worker.device)
            _Worker.encoders = encoders
        return _outcomes(batch, _decoded(batch), _Worker.encoders)
    except RunFailed as error:
        raise RunFailed(str(error)) from None
    except SerkitError as error:  # of a subclass that may not survive the journey
        raise SerkitError(str(error)) from None
