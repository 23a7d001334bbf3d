"""Cutting what is too long for one pass of a model into overlapping pieces, batching by length, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

Seen = TypeVar("Seen", bound=Sized)


@dataclass(frozen=True)
class Piece:
    """A stretch of positions that a model sees at once.

    Attributes:
        start, end: positions the model sees. keep_start, keep_end: those whose output is kept.
    """

    start: int
    end: int
    keep_start: int
    keep_end: int

    @property
    def kept(self) -> slice:
        """Where, in the output for what the model sees, the kept stretch is."""
        return slice(self.keep_start - self.start, self.keep_end - self.start)


@dataclass(frozen=True)
class Window(Generic[Seen]):
    """What a model sees at once of an item.

    Attributes:
        item: index of the item. seen: its samples or tokens. kept: frames of the output that are the item's.
    """

    item: int
    seen: Seen
    kept: slice


def pieces(n: int, size: int, context: int) -> list[Piece]:
    """Cut ``n`` positions into pieces of at most ``size``, each with up to ``context`` more seen than kept.

    What fits into one piece is not cut. The kept stretches are equally long (give or take one) and cover
    every position once.

    >>> [(p.start, p.keep_start, p.keep_end, p.end) for p in pieces(10, 6, 1)]
    [(0, 0, 4, 5), (3, 4, 7, 8), (6, 7, 10, 10)]
    """
    if n <= size:
        return [Piece(0, n, 0, n)]
    context = min(context, (size - 1) // 2)
    count = -(-n // (size - 2 * context))
    edges = [-(-n * k // count) for k in range(count + 1)]
    return [Piece(max(0, a - context), min(n, b + context), a, b) for a, b in pairwise(edges)]


def encoded(
    windows: Sequence[Window[Seen]],
    encode: Callable[[list[Seen]], Sequence[np.ndarray]],
    budget: int,
    *,
    lengths: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Encode windows in batches of like length, and join those of an item.

    Args:
        windows: of all items, item by item, each item's from begin to end.
        encode: what windows show, to (frames, dim) each.
        budget: positions of a batch, see :func:`batches`. lengths: of each window as it is computed, if not its own.

    Returns:
        (frames, dim) of each item.
    """
    parts = [np.empty(0)] * len(windows)
    for batch in batches([len(w.seen) for w in windows] if lengths is None else lengths, budget):
        for k, frames in zip(batch, encode([windows[k].seen for k in batch]), strict=True):
            parts[k] = frames[windows[k].kept]
    found: dict[int, list[np.ndarray]] = {}
    for window, frames in zip(windows, parts, strict=True):
        found.setdefault(window.item, []).append(frames)
    return [np.concatenate(frames) for frames in found.values()]


def batches(
    lengths: Sequence[float], budget: float, *, similar: float = 0.7, most: int | None = None
) -> Iterator[list[int]]:
    """Indices in batches of similar length, so that little is padding: longest first.

    Args:
        lengths: positions, or seconds, of each item.
        budget: the longest item of a batch times their number stays within it, unless the item is alone.
        similar: the shortest of a batch is at least this share of its longest. most: items in a batch.

    >>> list(batches([5, 100, 6, 90], budget=200))
    [[1, 3], [2, 0]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[batch[0]] if batch else 0
        full = len(batch) == most or longest * (len(batch) + 1) > budget
        if batch and (full or lengths[index] < similar * longest):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
