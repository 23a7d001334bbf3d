"""An overdriven recording: its peaks are cut off."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_range, silent


@dataclass(frozen=True)
class Clipping:
    """Hard clipping at a drawn level below the clip's peak; what is softer stays as it is.

    Attributes:
        low_db, high_db: range of the level below the peak, uniform in dB (a proposal: 3 to 15).
        probability: how often a chain applies it (a proposal: 0.2).
    """

    low_db: float = 3.0
    high_db: float = 15.0
    probability: float = 0.2

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("clipping", "the level below the peak in dB", self.low_db, self.high_db, at_least=0.0)
        check_probability("clipping", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Cut the peaks off; a silent clip stays as it is."""
        if silent(example) or example.samples is None:
            return example
        below_db = float(rng.uniform(self.low_db, self.high_db))
        level = np.float32(np.max(np.abs(example.samples)) * 10.0 ** (-below_db / 20.0))
        return dataclasses.replace(example, samples=np.clip(example.samples, -level, level).astype(np.float32))
