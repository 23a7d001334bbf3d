"""The samples of a recording that is coming in, from some point on."""

from __future__ import annotations

from collections import deque

import numpy as np

from serkit.errors import SerkitError


class Recent:
    """The samples of a recording from some point on, by their place in the whole; chunks are kept as they came.

    Attributes:
        end: samples so far.
    """

    def __init__(self) -> None:
        self._parts: deque[np.ndarray] = deque()
        self._start = self.end = 0

    def push(self, samples: np.ndarray) -> None:
        """Append (n,) samples."""
        if len(samples):
            self._parts.append(samples)
            self.end += len(samples)

    def forget(self, before: int) -> None:
        """Drop whole chunks that end before this sample."""
        while self._parts and self._start + len(self._parts[0]) <= before:
            self._start += len(self._parts.popleft())

    def holds(self, start: int, end: int) -> bool:
        """Whether these samples, one at least, are at hand."""
        return self._start <= start < end <= self.end

    def take(self, start: int, end: int) -> np.ndarray:
        """(end - start,) samples, float32.

        Raises:
            SerkitError: they were forgotten, or are still to come.
        """
        if not self.holds(start, end):
            raise SerkitError(f"samples {start} to {end} are not available ({self._start} to {self.end} are)")
        found, at = [], self._start
        for part in self._parts:
            if at + len(part) > start and at < end:
                found.append(part[max(0, start - at) : end - at])
            at += len(part)
        return np.concatenate(found) if len(found) != 1 else np.ascontiguousarray(found[0])
