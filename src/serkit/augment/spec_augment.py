"""Stripes of time and of dimensions blanked out of the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from serkit.augment import Example, change_features, check_probability
from serkit.augment._signal import check_choice
from serkit.errors import SerkitError


@dataclass(frozen=True)
class SpecAugment:
    """Time and dimension masks on features (Park et al. 2019, without time warping).

    Attributes:
        n_time_masks: masks along time (read there: 2 for its largest policies).
        max_time_frames: widest time mask in frames, further bounded by ``max_time_fraction`` of the clip.
        max_time_fraction: the bound p of Park et al. (0.2), so that a clip is never masked whole.
        n_dim_masks: masks along the feature axis. max_dim_fraction: widest of them (27 of 80 mel bands there: 0.34;
            here 0.15, a proposal, for the wide embeddings).
        value: what stands in a mask: ``mean`` (of the clip, by dimension) or ``zero``.
        encoders: names of the features to mask; ``None`` masks all of them, each on its own.
        probability: how often a chain applies it (a proposal: 0.5).
    """

    n_time_masks: int = 2
    max_time_frames: int = 40
    max_time_fraction: float = 0.2
    n_dim_masks: int = 2
    max_dim_fraction: float = 0.15
    value: Literal["mean", "zero"] = "mean"
    encoders: tuple[str, ...] | None = None
    probability: float = 0.5

    kind = "features"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("spec_augment", self.probability)
        check_choice("spec_augment", "value", self.value, ("mean", "zero"))
        if min(self.n_time_masks, self.n_dim_masks, self.max_time_frames) < 0:
            raise SerkitError("augmentation 'spec_augment': counts of masks and frames must not be negative")
        for name in ("max_time_fraction", "max_dim_fraction"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SerkitError(
                    f"augmentation 'spec_augment': {name} is {getattr(self, name)}, expected from 0 to less than 1"
                )

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Mask the features; at least one frame and one dimension are narrower than any mask.

        Raises:
            SerkitError: ``encoders`` names features that the example does not have.
        """
        return change_features("spec_augment", example, self.encoders, lambda x: self._mask(x, rng) if len(x) else x)

    def _mask(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        time, dim = frames.shape
        fill = frames.mean(axis=0) if self.value == "mean" else np.zeros(dim, dtype=frames.dtype)
        masked = frames.copy()
        widest = min(self.max_time_frames, int(self.max_time_fraction * time))
        for _ in range(self.n_time_masks):
            start, width = _stripe(time, widest, rng)
            masked[start : start + width] = fill
        for _ in range(self.n_dim_masks):
            start, width = _stripe(dim, int(self.max_dim_fraction * dim), rng)
            masked[:, start : start + width] = fill[start : start + width]
        return masked


def _stripe(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(0, widest + 1))
    return int(rng.integers(0, length - width + 1)), width
