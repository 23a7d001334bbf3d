"""Tones and music, as opposed to speech: sound whose pitch is constant or steps. Imports numpy only."""

from __future__ import annotations

from collections import deque

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ

SIZE, HOP = 4096, 3200  # samples of a frame, and from one to the next
LEAST_FRAMES = 3
_LOW, _HIGH = 64, 1024  # bins of 250 to 4000 Hz
_PEAKS, _BESIDE = 8, 2
_FINE, _STEP = 2048, 1024  # the same for melodies: frames of 0.128 s every 0.064 s
_NOTES_S, _SHARE, _STAYS = 2.0, 0.75, 0.97  # length of a window of a melody, and the limits that all of them pass


class Tones:
    """How far a recording is made of tones that stay, in frames of 0.256 s every 0.2 s.

    Of each frame's power between 250 and 4000 Hz: the share in its eight highest peaks (8 Hz to both sides), and
    the cosine between the root spectra of this frame and the one before. A note's peaks are narrow and
    stay; those of a voice glide. Frames are on a fixed grid, so that chunks of any size give the same.
    """

    def __init__(self) -> None:
        self._window = np.hanning(SIZE)
        self._pending = np.zeros(0, dtype=np.float32)
        self._rows: deque[tuple[float, float, float, float]] = deque()  # weight, share; weight and cosine to the last
        self._first = 0  # index of the first row that is kept
        self._last: np.ndarray | None = None
        self._weight = 0.0

    def push(self, samples: np.ndarray) -> None:
        """Hear (n,) float32 mono 16 kHz."""
        pending, at = np.concatenate([self._pending, samples]), 0
        while len(pending) - at >= SIZE:
            self._rows.append(self._row(pending[at : at + SIZE]))
            at += HOP
        self._pending = pending[at:].copy()

    def between(self, start: int, end: int) -> float:
        """From 0 (a voice, or noise) to 1 (tones) between two samples; 0 where there are under three whole frames."""
        a = -(-start // HOP) - self._first
        b = min((end - SIZE) // HOP + 1 - self._first, len(self._rows))
        if a < 0 or b - a < LEAST_FRAMES:
            return 0.0
        rows = np.array([self._rows[k] for k in range(a, b)])
        share = (rows[:, 0] * rows[:, 1]).sum() / rows[:, 0].sum()
        stays = (rows[1:, 2] * rows[1:, 3]).sum() / rows[1:, 2].sum()
        return float(np.sqrt(share * stays))

    def forget(self, before: int) -> None:
        """Frames that begin before this sample will not be asked for."""
        while self._rows and (self._first + 1) * HOP <= before:
            self._rows.popleft()
            self._first += 1

    def _row(self, samples: np.ndarray) -> tuple[float, float, float, float]:
        power = np.abs(np.fft.rfft(samples.astype(np.float64) * self._window))[_LOW:_HIGH] ** 2 + 1e-12
        total = float(power.sum())
        inside = power[_BESIDE:-_BESIDE]
        peaks = np.flatnonzero((inside > power[1:-3]) & (inside >= power[3:-1]))
        highest = peaks[np.argsort(inside[peaks])[-_PEAKS:]] + _BESIDE
        near = np.zeros(len(power), dtype=bool)
        for k in range(-_BESIDE, _BESIDE + 1):
            near[highest + k] = True
        root = np.sqrt(power / total)
        cosine = float(root @ self._last) if self._last is not None else 0.0
        weight, before = float(np.sqrt(total)), self._weight
        self._last, self._weight = root, weight
        return weight, float(power[near].sum()) / total, min(weight, before), cosine


def is_tonal(value: float, n_samples: int) -> bool:
    """Whether a stretch of this length with this :meth:`Tones.between` is tones or music, and no voice.

    The limits are set so that hardly any speech is lost: see ``docs/benchmarks.md``.
    """
    return value > (0.85 if n_samples < 5 * SAMPLE_RATE_HZ else 0.80)


def is_melody(samples: np.ndarray) -> bool:
    """Whether a stretch of two seconds or more is notes that step, and no voice, from begin to end.

    Of each two seconds, in frames of 0.128 s every 0.064 s between 250 and 4000 Hz: the share of the power in the eight
    highest peaks, and the cosine between the root spectra of neighbours; of both the median, weighted by loudness. A
    melody's frames are mostly within a note, where nothing moves; a voice glides in nearly all of them. One window
    that may be a voice keeps the whole stretch.

    Args:
        samples: (n,) float32 mono 16 kHz.
    """
    size = round(_NOTES_S * SAMPLE_RATE_HZ)
    if len(samples) < size:
        return False
    last = len(samples) - size
    return all(_is_notes(samples[at : at + size]) for at in [*range(0, last, size // 2), last])


def _is_notes(samples: np.ndarray) -> bool:
    low, high = _LOW * _FINE // SIZE, _HIGH * _FINE // SIZE
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _FINE)[::_STEP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FINE), axis=1))[:, low:high] ** 2 + 1e-12
    total = power.sum(axis=1)
    weight, root = np.sqrt(total), np.sqrt(power / total[:, None])
    stays = _median((root[1:] * root[:-1]).sum(axis=1), np.minimum(weight[1:], weight[:-1]))
    if stays <= _STAYS:
        return False
    inside = power[:, 2:-2]
    peaks = np.where((inside > power[:, 1:-3]) & (inside >= power[:, 3:-1]), inside, 0.0)
    highest = np.argpartition(-peaks, _PEAKS, axis=1)[:, :_PEAKS] + 2
    near = np.zeros(power.shape, dtype=bool)
    for k in (-1, 0, 1):
        np.put_along_axis(near, highest + k, True, axis=1)
    return _median((power * near).sum(axis=1) / total, weight) > _SHARE


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, 0.5 * reached[-1])])
