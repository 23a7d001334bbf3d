"""A random stretch of a long clip."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import seconds
from serkit.errors import SerkitError


@dataclass(frozen=True)
class Crop:
    """A stretch of at most ``max_s`` seconds at a random place; the label stays that of the whole clip.

    For memory in training: clips that are scored are never cropped. Before a step that mixes, it crops both clips.

    Attributes:
        max_s: longest stretch (6 s in SeeNet's code, 10 s in ABHINAYA's, both read).
        probability: how often a chain applies it (1).
    """

    max_s: float = 6.0
    probability: float = 1.0

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("crop", self.probability)
        if not self.max_s >= 0.1:
            raise SerkitError(f"augmentation 'crop': max_s is {self.max_s}, expected at least 0.1")

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Cut it out; a clip that is not longer stays as it is."""
        length = seconds(self.max_s)
        if example.samples is None or len(example.samples) <= length:
            return example
        start = int(rng.integers(0, len(example.samples) - length + 1))
        return dataclasses.replace(example, samples=example.samples[start : start + length])
