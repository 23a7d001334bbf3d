"""Some raters left out, at random."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.errors import SerkitError

_ROUNDING = 1e-3


@dataclass(frozen=True)
class AnnotatorDropout:
    """Each rater is left out with a probability, the rest renormalised (SAILER, arXiv 2505.22133, section 4.2).

    Clips without rater counts stay as they are; where every rater would go, all stay. A rater who named two emotions
    counts half for each (IEMOCAP); such a part is drawn on its own, because the counts do not say which parts belong
    together.

    Attributes:
        rate: probability of leaving out a rater (read: 0.2).
        n_raters: raters per clip, for a corpus whose votes are shares instead of counts; a run on one is refused
            without it.
        probability: how often a chain applies it (1: the rate says it all).
    """

    rate: float = 0.2
    n_raters: int | None = None
    probability: float = 1.0

    kind = "target"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("annotator_dropout", self.probability)
        if not 0.0 <= self.rate < 1.0:
            raise SerkitError(f"augmentation 'annotator_dropout': rate is {self.rate}, expected from 0 to less than 1")
        if self.n_raters is not None and self.n_raters < 1:
            raise SerkitError(f"augmentation 'annotator_dropout': n_raters is {self.n_raters}, expected at least 1")

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Draw the raters that stay; ``votes`` and ``target`` follow."""
        if example.votes is None:
            return example
        votes = np.asarray(example.votes, dtype=np.float64)
        if self.n_raters is not None:
            votes = votes / votes.sum() * self.n_raters
        whole = np.floor(votes + _ROUNDING)
        part = np.where(votes - whole > _ROUNDING, votes - whole, 0.0)
        kept = rng.binomial(whole.astype(np.int64), 1.0 - self.rate).astype(np.float64)
        if part.any():
            kept += part * (rng.random(len(part)) >= self.rate)
        if kept.sum() == 0:
            kept = whole + part
        return dataclasses.replace(example, votes=kept, target=kept / kept.sum())
