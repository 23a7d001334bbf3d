"""Cutting what is too long for one pass of a model into overlapping pieces, and batching by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


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


def batches(lengths: Sequence[int], budget: int, similar: float = 0.7) -> Iterator[list[int]]:
    """Indices in batches of similar length, so that little is padding: longest first.

    Args:
        lengths: positions of each item. budget: positions of a batch, padding counted (one item at least).
        similar: the shortest of a batch is at least this share of its longest.

    >>> list(batches([5, 100, 6, 90], budget=200))
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for index in order:
        longest = lengths[batch[0]] if batch else 0
        if batch and (longest * (len(batch) + 1) > budget or lengths[index] < similar * longest):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
