"""Louder or softer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_range, full_scale, silent


@dataclass(frozen=True)
class Gain:
    """A factor on the whole waveform, drawn uniformly in dB; never louder than full scale.

    Attributes:
        low_db, high_db: range in dB (read in label-adaptive mixup's code: −10 to 10).
        probability: read there: 0.3.
    """

    low_db: float = -10.0
    high_db: float = 10.0
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("gain", "the gain in dB", self.low_db, self.high_db)
        check_probability("gain", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Scale the samples; a silent clip stays as it is."""
        if silent(example):
            return example
        factor = 10.0 ** (float(rng.uniform(self.low_db, self.high_db)) / 20.0)
        samples = np.asarray(example.samples, dtype=np.float64) * factor
        return dataclasses.replace(example, samples=full_scale(samples))
