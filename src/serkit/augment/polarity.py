"""Inverted polarity of the waveform."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability


@dataclass(frozen=True)
class Polarity:
    """Every sample times −1, which nobody hears (label-adaptive mixup's code, read: probability 0.9 within 0.8).

    Attributes:
        probability: how often a chain applies it (a proposal: 0.5, both signs equally often).
    """

    probability: float = 0.5

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("polarity", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Invert the samples."""
        if example.samples is None:
            return example
        return dataclasses.replace(example, samples=np.negative(example.samples))
