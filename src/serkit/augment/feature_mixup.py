"""Mixup of frame-level features."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import mixed
from serkit.errors import SerkitError


@dataclass(frozen=True)
class FeatureMixup:
    """Convex combination of two clips' features and labels (Zhang et al. 2018), for clips of any length.

    The share ``w ~ Beta(alpha, alpha)`` is folded to at most ½, so that the main clip, whose length the result
    has, dominates. The partner lies at a random place of the main clip, or, where it is longer, a random
    stretch of it does; the same relative place for every encoder. Frames outside it stay as they are, and
    the partner's share of the label is ``w`` times the part of the frames that it covers, averaged over encoders.

    Attributes:
        alpha: of the Beta distribution (0.2 as in MEDUSA's manifold mixup, read; there after pooling).
        probability: how often a chain applies it (read there: 0.3).
    """

    alpha: float = 0.2
    probability: float = 0.3

    kind = "features"
    needs_partner = True

    def __post_init__(self) -> None:
        check_probability("feature_mixup", self.probability)
        if not self.alpha > 0.0:
            raise SerkitError(f"augmentation 'feature_mixup': alpha is {self.alpha}, expected more than 0")

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Mix; unchanged without a partner or without features.

        Raises:
            SerkitError: the partner lacks an encoder's features, or they have another width.
        """
        if partner is None or not example.features:
            return example
        weight = float(rng.beta(self.alpha, self.alpha))
        weight, place = min(weight, 1.0 - weight), float(rng.random())
        features, covered = {}, []
        for name, frames in example.features.items():
            other = partner.features.get(name)
            if other is None or other.shape[1] != frames.shape[1]:
                got = "none" if other is None else f"{other.shape[1]} wide"
                raise SerkitError(
                    f"augmentation 'feature_mixup': features '{name}' are {frames.shape[1]} wide, the partner's: {got}"
                )
            length = min(len(frames), len(other))
            start = round(place * (len(frames) - length))
            start_other = round(place * (len(other) - length))
            result = frames.copy()
            result[start : start + length] *= 1.0 - weight
            result[start : start + length] += weight * other[start_other : start_other + length]
            features[name] = result
            covered.append(length / len(frames) if len(frames) else 0.0)
        share = weight * float(np.mean(covered))
        return dataclasses.replace(mixed(example, partner, share), features=features)
