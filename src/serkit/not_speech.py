"""Whether a stretch of a recording that is coming in is tones, music or noise, and no voice. Imports numpy only."""

from __future__ import annotations

import numpy as np

from serkit.noises import is_noise
from serkit.recent import Recent
from serkit.tones import Tones, is_melody, is_tonal


class NotSpeech:
    """Chunks of a recording in; of any stretch of it, whether it is no speech.

    A stretch of which some samples are still to come, or forgotten, is taken for speech.

    Args:
        tones: listen for tones and music (:mod:`serkit.tones`).
        noises: listen for blows and noise (:mod:`serkit.noises`).
    """

    def __init__(self, *, tones: bool = True, noises: bool = True) -> None:
        self._tones = Tones() if tones else None
        self._noises = noises
        self._recent = Recent()

    def push(self, samples: np.ndarray) -> None:
        """Hear (n,) float32 mono 16 kHz."""
        if self._tones is not None:
            self._tones.push(samples)
        if self._tones is not None or self._noises:
            self._recent.push(samples)

    def forget(self, before: int) -> None:
        """Samples before this one will not be asked for."""
        if self._tones is not None:
            self._tones.forget(before)
        self._recent.forget(before)

    def between(self, start: int, end: int) -> bool:
        """Whether the sound between two samples is tones, music or noise."""
        return self.is_tonal(start, end) or self.is_noise_or_melody(start, end)

    def is_tonal(self, start: int, end: int) -> bool:
        """Whether it is tones that stay, by what was measured as it came in: costs next to nothing."""
        return self._tones is not None and is_tonal(self._tones.between(start, end), end - start)

    def is_noise_or_melody(self, start: int, end: int) -> bool:
        """Whether it is noise or notes that step, for which the whole of it is heard again."""
        if not self._recent.holds(start, end):
            return False
        samples = self._recent.take(start, end)
        return (self._noises and is_noise(samples)) or (self._tones is not None and is_melody(samples))
