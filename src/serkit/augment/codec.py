"""A clip as a call over the internet or a small file has it: coded with few bits, and decoded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._coding import check_coding, coded
from serkit.augment._signal import check_choice, check_range, full_scale, silent
from serkit.encoding import SAMPLE_RATE_HZ

_FORMATS = {
    "opus": ("OGG", "OPUS", 6.0, 256.0),
    "mp3": ("MP3", "MPEG_LAYER_III", 16.0, 160.0),
}  # lowest, highest kbit/s


@dataclass(frozen=True)
class Codec:
    """A lossy codec at a drawn bit rate and 16 kHz; length, level and timing of the clip stay.

    Attributes:
        low_kbps, high_kbps: range of the bit rate in kbit/s, uniform (a proposal: 10 to 32). Opus takes 6 to 256; it is
            a target, and speech needs less. Below 9 Opus holds hardly anything above 4 kHz. MP3 takes 16 to 160, and
            has the nearest of its rates.
        format: ``opus`` (RFC 6716: calls over the internet, voice messages) or ``mp3`` (MPEG-2 layer III).
        probability: how often a chain applies it (a proposal: 0.3).
    """

    low_kbps: float = 10.0
    high_kbps: float = 32.0
    format: Literal["opus", "mp3"] = "opus"
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_choice("codec", "format", self.format, tuple(_FORMATS))
        container, coding, lowest, highest = _FORMATS[self.format]
        check_range("codec", f"the bit rate of {self.format} in kbit/s", self.low_kbps, self.high_kbps, lowest, highest)
        check_coding("codec", container, coding)
        check_probability("codec", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Code and decode; a silent clip stays as it is."""
        if silent(example):
            return example
        container, coding, _, _ = _FORMATS[self.format]
        level = _level(self.format, float(rng.uniform(self.low_kbps, self.high_kbps)))
        samples = np.clip(np.asarray(example.samples, dtype=np.float32), -1.0, 1.0)
        return dataclasses.replace(
            example, samples=full_scale(coded(samples, SAMPLE_RATE_HZ, container, coding, level))
        )


def _level(name: str, kbps: float) -> float:
    """libsndfile's level of compression for a bit rate: it divides the range of rates evenly, 0 is the highest.

    Its MP3 goes down to 8 kbit/s at a level of 1, which it does not take.
    """
    lowest, highest = {"opus": (6.0, 256.0), "mp3": (8.0, 160.0)}[name]
    return (highest - kbps) / (highest - lowest)
