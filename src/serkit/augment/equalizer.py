"""Coloration by another microphone or room: a smooth gain over frequency."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit import dsp
from serkit.augment import Example, check_probability
from serkit.augment._signal import filtered, full_scale, power, silent
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError


@dataclass(frozen=True)
class Equalizer:
    """A drawn gain over frequency, smooth on the mel scale; the clip's level stays.

    Attributes:
        deviation_db: standard deviation of the gain at each of the points (a proposal: 5).
        points: points from 0 Hz to half the rate, evenly on the mel scale, lines between (a proposal: 7).
        probability: how often a chain applies it (a proposal: 0.3).
    """

    deviation_db: float = 5.0
    points: int = 7
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("equalizer", self.probability)
        if not 0.0 <= self.deviation_db <= 40.0:
            raise SerkitError(f"augmentation 'equalizer': deviation_db is {self.deviation_db}, expected from 0 to 40")
        if self.points < 2:
            raise SerkitError(f"augmentation 'equalizer': points is {self.points}, expected 2 or more")

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Filter without phase; a silent clip stays as it is."""
        if silent(example):
            return example
        samples = np.asarray(example.samples, dtype=np.float64)
        gains_db = rng.normal(0.0, self.deviation_db, self.points)
        mel = np.linspace(0.0, dsp.mel(SAMPLE_RATE_HZ / 2), self.points)
        coloured = filtered(samples, lambda hz: 10.0 ** (np.interp(dsp.mel(hz), mel, gains_db) / 20.0))
        left = power(coloured)
        level = np.sqrt(power(samples) / left) if left else 1.0
        return dataclasses.replace(example, samples=full_scale(level * coloured))
