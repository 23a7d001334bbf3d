"""Progress, speed and remaining time of a stage. Draws nothing: the command line does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A moment of a stage.

    Attributes:
        stage: what is being done, a word or two. unit: what is counted, in the plural.
        done, total: finished and all items, failed ones included. failed: those that could not be done.
        audio_s, total_audio_s: seconds of audio finished and in all; 0 where the stage hears none.
        elapsed_s: since the stage began. share: of the work that is done, from 0 to 1, where items differ much and
            somebody knows better than by counting them.
    """

    stage: str
    unit: str
    done: int
    total: int
    failed: int
    audio_s: float
    total_audio_s: float
    elapsed_s: float
    share: float | None = None

    @property
    def rate_hz(self) -> float:
        """Items per second since the stage began."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def audio_h_per_h(self) -> float:
        """Hours of audio per hour: how many times faster than listening."""
        return self.audio_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the speed so far, by share, else audio, else items; ``None`` before anything is done."""
        if self.share is not None and self.done < self.total:
            return self.elapsed_s * (1 - self.share) / self.share if self.share > 0 and self.elapsed_s > 0 else None
        done, total = (self.audio_s, self.total_audio_s) if self.total_audio_s > 0 else (self.done, self.total)
        if self.done >= self.total:
            return 0.0
        return (total - done) * self.elapsed_s / done if done > 0 and self.elapsed_s > 0 else None


def duration(seconds: float | None) -> str:
    """A span of time as a person reads it, ``?`` where it is not known.

    >>> duration(72.4), duration(7300), duration(None)
    ('1 min 12 s', '2 h 01 min', '?')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Counts, and calls back at most every ``every_s`` seconds, and at the first and the last item.

    Args:
        stage, unit, total, total_audio_s: as in :class:`Progress`.
            ``total`` is 0 where it is not known.
        callback: is handed each :class:`Progress`; ``None`` counts in silence.
        every_s: seconds between two calls. after_s: before the first; what is over by then is not spoken of.

    >>> seen = []
    >>> meter = Meter("extract", 2, seen.append)
    >>> meter.advance(); meter.advance(failed=1)
    >>> [(p.done, p.failed) for p in seen][-1]
    (2, 1)
    """

    def __init__(
        self,
        stage: str,
        total: int,
        callback: ProgressCallback | None = None,
        *,
        unit: str = "utterances",
        total_audio_s: float = 0.0,
        every_s: float = 0.2,
        after_s: float = 0.0,
    ) -> None:
        self.stage, self.unit, self.total, self.total_audio_s = stage, unit, total, total_audio_s
        self.done, self.failed, self.audio_s = 0, 0, 0.0
        self.share: float | None = None
        self._callback, self._every_s, self._after_s = callback, every_s, after_s
        self._start, self._last = time.monotonic(), float("-inf")
        self._tell()

    def advance(self, n: int = 1, *, audio_s: float = 0.0, failed: int = 0, share: float | None = None) -> None:
        """Count ``n`` more items as done, ``failed`` of them in vain, with ``audio_s`` seconds of audio.

        Args:
            share: of all the work that is done by now; ``n`` is 0 where that changes within an item.
        """
        self.share = share
        self.done += n
        self.failed += failed
        self.audio_s += audio_s
        self._tell()

    def now(self) -> Progress:
        """Where the stage is."""
        elapsed = time.monotonic() - self._start
        return Progress(
            self.stage, self.unit, self.done, self.total, self.failed, self.audio_s, self.total_audio_s, elapsed,
            self.share,
        )  # fmt: skip

    def _tell(self) -> None:
        if self._callback is None:
            return
        clock = time.monotonic()
        if clock - self._start < self._after_s:
            return
        if self.done >= self.total > 0 or clock - self._last >= self._every_s:
            self._last = clock
            self._callback(self.now())
