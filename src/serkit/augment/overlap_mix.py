"""One clip after the other, with a stretch where both speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_choice, check_range, full_scale, mixed, seconds, silent


@dataclass(frozen=True)
class OverlapMix:
    """Concatenation of two clips that overlap by a drawn time (SAILER, arXiv 2505.22133, section 4.2).

    The second clip begins so that the two overlap by 0 to 2 s, at most by the shorter of them; where they
    overlap they are added. Which clip comes first is drawn. The label is the average of the two
    distributions (read), however long the clips are.

    Attributes:
        overlap_low_s, overlap_high_s: range of the overlap, uniform (read: 0 to 2 s).
        label: ``average`` (read), or ``length``: shares by duration (a proposal).
        probability: unknown in the paper; 0.5 is a proposal.
    """

    overlap_low_s: float = 0.0
    overlap_high_s: float = 2.0
    label: Literal["average", "length"] = "average"
    probability: float = 0.5

    kind = "samples"
    needs_partner = True

    def __post_init__(self) -> None:
        check_range("overlap_mix", "the overlap in s", self.overlap_low_s, self.overlap_high_s, at_least=0.0)
        check_choice("overlap_mix", "label", self.label, ("average", "length"))
        check_probability("overlap_mix", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Join the clips into one of ``n_i + n_j − overlap`` samples; unchanged where one is silent."""
        if silent(example) or partner is None or silent(partner):
            return example
        clips = [np.asarray(e.samples, dtype=np.float64) for e in (example, partner)]
        share = 0.5 if self.label == "average" else len(clips[1]) / (len(clips[0]) + len(clips[1]))
        if rng.random() < 0.5:
            clips.reverse()
        drawn = seconds(float(rng.uniform(self.overlap_low_s, self.overlap_high_s)))
        overlap = min(drawn, len(clips[0]), len(clips[1]))
        result = np.zeros(len(clips[0]) + len(clips[1]) - overlap)
        result[: len(clips[0])] += clips[0]
        result[len(result) - len(clips[1]) :] += clips[1]
        return mixed(example, partner, share, samples=full_scale(result))
