"""Faster and higher, or slower and deeper, like a tape."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_range, full_scale, silent


@dataclass(frozen=True)
class Speed:
    """Resampling by a drawn factor: duration divided, pitch multiplied by it (Ko et al. 2015, remembered).

    Attributes:
        low, high: range of the factor, uniform (0.9 to 1.1 as in Ko et al.); 1 changes nothing.
        probability: how often a chain applies it (a proposal: 0.3).
    """

    low: float = 0.9
    high: float = 1.1
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("speed", "the factor", self.low, self.high, at_least=0.1)
        check_probability("speed", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Resample; silent clips, and those too short to leave a sample, stay as they are."""
        if silent(example):
            return example
        import soxr

        factor = float(rng.uniform(self.low, self.high))
        samples = soxr.resample(np.asarray(example.samples, dtype=np.float32), factor, 1.0)
        if factor == 1.0 or len(samples) < 1:
            return example
        return dataclasses.replace(example, samples=full_scale(samples))
