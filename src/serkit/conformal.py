"""Sets of classes that hold the right one as often as asked: split conformal prediction on held-out clips.

A class is in the set of a clip where its probability reaches a cut; the most probable class always is. The cut is a
quantile of the true class's probability over held-out clips, so that the set of a further clip, exchangeable with
these, holds the true class with at least the probability that was asked for, whatever the model (Vovk, Gammerman and
Shafer 2005, section 4.1; one cut for all classes: Sadinle, Lei and Wasserman 2019, "LAC"). Sums of ranked
probabilities (Romano, Sesia and Candès 2020, "APS"; with penalties Angelopoulos et al. 2021) made larger sets here, see
docs/predict.md. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serkit.bootstrap import clusters, percentile_interval, resampled_means
from serkit.calibration import FOLDS, LEAST_ROWS, folds_by
from serkit.combining import speaker_folds
from serkit.errors import SerkitError
from serkit.predictions import Metric

COVERAGES = (0.8, 0.9, 0.95)  # that a model card has, and the page of the service offers
LOW_SPEAKERS = 0.1  # share of the speakers whose sets hold the true class least often, looked at apart


def least_probability(coverage: float, probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The probability from which on a class is in the set.

    It is the k-th highest of the true classes' probabilities, where k is (n + 1) times the coverage, rounded up (Vovk
    et al. 2005), and a true class that is the most probable one counts as 1, because it is in every set.

    Args:
        coverage: wanted share of sets that hold the true class, in (0, 1).
        probabilities: (rows, classes) of held-out clips. truth: (rows,) their integer classes.

    Returns:
        1 where the most probable class alone is right often enough, 0 where only all classes are.

    Raises:
        SerkitError: out of range, or too few clips for it.

    >>> shares = np.tile([[0.5, 0.3, 0.2]], (20, 1))
    >>> least_probability(0.8, shares, np.array([0] * 10 + [1] * 7 + [2] * 3))
    0.3
    """
    refuse_coverage(coverage)
    n = len(truth)
    if n < LEAST_ROWS:
        raise SerkitError(
            f"coverage {coverage:g}: {n} held-out clips, and {LEAST_ROWS} or more are needed; leave it out, or adapt "
            "the model to labelled clips (serkit adapt --corpus)"
        )
    k = max(1, math.ceil(round((n + 1) * coverage, 9)))
    if k > n:
        raise SerkitError(
            f"coverage {coverage:g} takes {math.ceil(round(1 / (1 - coverage) - 1, 6))} held-out clips or more, and "
            f"there are {n}; ask for {math.floor(1000 * n / (n + 1)) / 1000:g} or less"
        )
    own = probabilities[np.arange(n), truth]
    own = np.where(probabilities.argmax(axis=1) == truth, 1.0, own)
    return float(np.sort(own)[n - k])


def refuse_coverage(coverage: float) -> None:
    """Raise :class:`SerkitError` of a coverage that is no share between 0 and 1."""
    if not 0 < coverage < 1:
        raise SerkitError(f"coverage {coverage:g}: expected a share between 0 and 1, such as 0.9")


def members(probabilities: np.ndarray, least: float | np.ndarray) -> np.ndarray:
    """(rows, classes) bool: the classes in the sets of (rows, classes) probabilities.

    Args:
        least: see :func:`least_probability`; one for all, or (rows, 1).

    >>> members(np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]), 0.3).astype(int).tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    inside = probabilities >= least
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return np.asarray(inside)


def ranked(probabilities: Mapping[str, float], least: float) -> tuple[str, ...]:
    """The set of one answer, the most probable class first.

    >>> ranked({"anger": 0.3, "fear": 0.1, "sadness": 0.6}, 0.2)
    ('sadness', 'anger')
    """
    order = sorted(probabilities, key=lambda label: -probabilities[label])
    return tuple(label for k, label in enumerate(order) if k == 0 or probabilities[label] >= least)


@dataclass(frozen=True)
class Covered:
    """How often sets hold the true class, and how large they are.

    Attributes:
        coverage: what was asked for. held: share of the sets that hold the true class. size: mean number of classes.
        alone: share of the sets of one class. by_class: by label ``held, size, n``, of the clips of that class.
        by_speaker: ``mean, low`` of the share by speaker, every speaker weighing the same: over all, and over the
            tenth (at least one) with the lowest shares; empty where no two speakers are known.
    """

    coverage: float
    held: Metric
    size: Metric
    alone: float
    by_class: Mapping[str, Mapping[str, float]]
    by_speaker: Mapping[str, float]

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return asdict(self)


def covered(
    coverage: float,
    inside: np.ndarray,
    truth: np.ndarray,
    labels: Sequence[str],
    speakers: Sequence[str | None],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Covered:
    """Measure sets on labelled clips.

    Args:
        inside: (rows, classes) bool, see :func:`members`. truth: (rows,) integer classes. labels: class order.
        speakers: (rows,) who speaks. draws: bootstrap resamples. seed: of these.
    """
    right, sizes = inside[np.arange(len(truth)), truth], inside.sum(axis=1)
    groups = clusters(speakers)
    values = np.column_stack([right, sizes]).astype(np.float64)
    drawn = resampled_means(values, groups, draws=draws, seed=seed)
    held, size = (
        Metric(float(value), *percentile_interval(some), len(truth), groups.speakers, groups.interval(draws))
        for value, some in zip(values.mean(axis=0), drawn.T, strict=True)
    )
    by_class = {
        label: {"held": float(right[own].mean()), "size": float(sizes[own].mean()), "n": int(own.sum())}
        for k, label in enumerate(labels)
        if (own := truth == k).any()
    }
    by_speaker: dict[str, float] = {}
    if groups.unit == "speaker":
        shares = np.sort([right[groups.index == k].mean() for k in range(groups.speakers)])
        n_low = math.ceil(LOW_SPEAKERS * len(shares))
        by_speaker = {"mean": float(shares.mean()), "low": float(shares[:n_low].mean())}
    return Covered(coverage, held, size, float((sizes == 1).mean()), by_class, by_speaker)


def crossed(
    probabilities: np.ndarray,
    truth: np.ndarray,
    labels: Sequence[str],
    speakers: Sequence[str | None],
) -> list[dict[str, Any]]:
    """What sets are worth at :data:`COVERAGES`, each clip's by a cut that was measured on clips of other speakers.

    Args:
        probabilities: (rows, classes) of held-out clips. truth: (rows,) integer classes. labels: class order.
        speakers: (rows,) who speaks.

    Returns:
        A JSON-able row of :class:`Covered` with ``measured`` for each coverage that the clips suffice for.
    """
    if len(np.unique(truth)) < 2 or int(np.bincount(truth).max()) < 2:
        return []
    fold = speaker_folds(truth, speakers, FOLDS, seed=0)
    measured = f"cross-validated {folds_by(speakers, len(np.unique(fold)))}"
    found = []
    for coverage in COVERAGES:
        inside = np.zeros(probabilities.shape, dtype=bool)
        try:
            for k in np.unique(fold):
                cut = least_probability(coverage, probabilities[fold != k], truth[fold != k])
                inside[fold == k] = members(probabilities[fold == k], cut)
        except SerkitError:  # too few clips
            continue
        found.append({**covered(coverage, inside, truth, labels, speakers).to_row(), "measured": measured})
    return found
