"""Label-adaptive mixup by length: two whole clips half and half, labels by their durations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import full_scale, mixed, silent


@dataclass(frozen=True)
class Lam:
    """Length-based mixup (Kang et al., ICASSP 2023; read in their released data loader).

    Both clips are scaled to a peak of 1, laid over each other from the beginning with weight ½ each, the
    shorter one followed by silence, and the partner's share of the label is its share of the two
    durations, ``l_j / (l_i + l_j)``. Their code pads to 6.25 s with the clip's mean; here the mixture is as
    long as the longer clip.

    Attributes:
        normalize: scale both clips to a peak of 1 first (read).
        probability: read: 0.5.
    """

    normalize: bool = True
    probability: float = 0.5

    kind = "samples"
    needs_partner = True

    def __post_init__(self) -> None:
        check_probability("lam", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Mix; unchanged where a clip is silent. Nothing is drawn from ``rng``."""
        if silent(example) or partner is None or silent(partner):
            return example
        clips = [np.asarray(e.samples, dtype=np.float64) for e in (example, partner)]
        result = np.zeros(max(len(c) for c in clips))
        for clip in clips:
            result[: len(clip)] += 0.5 * (clip / np.abs(clip).max() if self.normalize else clip)
        share = len(clips[1]) / (len(clips[0]) + len(clips[1]))
        return mixed(example, partner, share, samples=full_scale(result))
