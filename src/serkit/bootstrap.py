"""Uncertainty of a number: resampling of speakers, and the balanced subsets behind BS-F1. Imports numpy only.

Clips of one speaker are alike, so that resampling clips makes intervals far too narrow. What is drawn here,
with replacement, is a speaker with all clips; a clip whose speaker is unknown stands for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serkit.errors import SerkitError
from serkit.metrics import macro_f1, with_truth

ROUGH_BELOW = 20
CHUNK = 500


@dataclass(frozen=True)
class Clusters:
    """What a bootstrap draws.

    Attributes:
        index: (rows,) int64: the speaker of each row, -1 where the row stands for itself.
        speakers: known speakers among the rows.
        unit: ``speaker`` or ``utterance``.
    """

    index: np.ndarray
    speakers: int
    unit: str

    def interval(self, draws: int) -> str:
        """What an interval from ``draws`` resamples is called, such as ``95% speaker bootstrap (1000 draws)``.

        Below 20 known speakers the text says ``rough``: percentiles of so few units are too narrow.
        """
        text = f"95% {self.unit} bootstrap ({draws} draws)"
        alone = int((self.index < 0).sum())
        if self.speakers == 0:
            return text + ", rough: speakers unknown"
        if self.unit == "utterance":
            return text + ", rough: one speaker"
        if alone:
            text += f", {alone} clip{'s'[: alone > 1]} of unknown speakers drawn singly"
        known = f"{self.speakers} known speaker{'s'[: self.speakers > 1]}" if alone else f"{self.speakers} speakers"
        return text + (f", rough: {known}" if self.speakers < ROUGH_BELOW else "")


def clusters(speakers: Sequence[str | None]) -> Clusters:
    """Group rows by speaker.

    Where all rows are of one speaker, or of unknown ones, there is nothing to resample but utterances: then every row
    stands for itself, and the interval says so.

    Args:
        speakers: (rows,) name of each row's speaker, ``None`` where unknown.
    """
    names: dict[str, int] = {}
    index = np.array([-1 if s is None else names.setdefault(s, len(names)) for s in speakers], dtype=np.int64)
    if not names or (len(names) == 1 and index.min() >= 0):
        return Clusters(np.full(len(index), -1, dtype=np.int64), len(names), "utterance")
    return Clusters(index, len(names), "speaker")


@dataclass(frozen=True)
class Units:
    """Sums by unit, units that are alike kept once.

    Attributes:
        sums: (units, columns) float64: what one unit adds.
        times: (units,) int64: how many units of that kind there are (speakers 1, alike clips many).
    """

    sums: np.ndarray
    times: np.ndarray


def unit_sums(values: np.ndarray, groups: Clusters, kind: np.ndarray | None = None) -> Units:
    """Add up what each speaker contributes.

    Clips that stand for themselves and are of one kind are interchangeable, so they are kept once with
    their number. The draws that follow have exactly the distribution of the plain bootstrap.

    Args:
        values: (kinds, columns) what a row of each kind adds; (rows, columns) where ``kind`` is ``None``.
        groups: the speakers of the rows.
        kind: (rows,) int64: position of each row in ``values``.
    """
    values = np.asarray(values, dtype=np.float64)
    kind = np.arange(len(values)) if kind is None else kind
    own = groups.index < 0
    parts, times = [], []
    if not own.all():
        known = np.flatnonzero(~own)
        order = known[np.argsort(groups.index[known], kind="stable")]
        starts = np.flatnonzero(np.diff(groups.index[order], prepend=-1))
        parts.append(np.add.reduceat(values[kind[order]], starts, axis=0))
        times.append(np.ones(len(starts), dtype=np.int64))
    if own.any():
        number = np.bincount(kind[own], minlength=len(values))
        parts.append(values[number > 0])
        times.append(number[number > 0])
    if not parts:
        raise SerkitError("a bootstrap needs at least one row, got none")
    return Units(np.concatenate(parts), np.concatenate(times))


def resample(units: Units, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, columns) float64: column sums over units drawn with replacement, as many as there are."""
    if draws < 1:
        raise SerkitError(f"a bootstrap needs at least one draw, got {draws}")
    total = int(units.times.sum())
    share = units.times / total
    parts = []
    for start in range(0, draws, CHUNK):
        drawn = rng.multinomial(total, share, size=min(CHUNK, draws - start))
        parts.append(drawn.astype(np.float64) @ units.sums)
    return np.concatenate(parts)


def resampled_confusions(
    truth: np.ndarray, answer: np.ndarray, n_classes: int, groups: Clusters, *, draws: int, seed: int
) -> np.ndarray:
    """Confusion matrices of speaker-bootstrap resamples.

    Args:
        truth, answer: (rows,) integer classes. groups: speakers of the rows.
        draws: number of resamples. seed: the same seed gives the same matrices.

    Returns:
        (draws, classes, classes) float64 counts, truth by row.
    """
    kind = np.asarray(truth, dtype=np.int64) * n_classes + np.asarray(answer, dtype=np.int64)
    units = unit_sums(np.eye(n_classes**2), groups, kind)
    return resample(units, draws, np.random.default_rng([seed, 1])).reshape(draws, n_classes, n_classes)


def resampled_means(values: np.ndarray, groups: Clusters, *, draws: int, seed: int) -> np.ndarray:
    """(draws, columns) float64: means over rows of (rows, columns) values in speaker-bootstrap resamples."""
    table = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    sums = resample(unit_sums(table, groups), draws, np.random.default_rng([seed, 2]))
    return np.asarray(sums[:, :-1] / sums[:, -1:])


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of (draws,) bootstrap values."""
    outside = 100 * (1 - level) / 2
    low, high = np.percentile(np.asarray(draws, dtype=np.float64), [outside, 100 - outside])
    return float(low), float(high)


def balanced_subsets(
    confusion: np.ndarray, *, subsets: int = 100, per_class: int = 200, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Confusion matrices of class-balanced subsets, each drawn without replacement.

    The subsets of BS-F1 (Ueda et al. 2025): ``per_class`` clips of every class, or as many as the smallest
    class has. Which clips of one class and one answer are drawn does not matter to any metric, so that
    drawing counts (multivariate hypergeometric, by class) is drawing clips.

    Args:
        confusion: (classes, classes) int counts. Classes without a clip in truth stay out.

    Returns:
        (subsets, classes, classes) int64, and the clips drawn of each class.

    Raises:
        SerkitError: no clip at all.
    """
    matrix = np.asarray(confusion, dtype=np.int64)
    support = matrix.sum(axis=1)
    if not support.any():
        raise SerkitError("balanced subsets need at least one labelled clip, got none")
    size = int(min(per_class, support[support > 0].min()))
    rng = np.random.default_rng([seed, 3])
    drawn = np.zeros((subsets, *matrix.shape), dtype=np.int64)
    for k in np.flatnonzero(support):
        drawn[:, k] = rng.multivariate_hypergeometric(matrix[k], size, size=subsets)
    return drawn, size


def bs_f1(confusion: np.ndarray, *, subsets: int = 100, per_class: int = 200, seed: int = 0) -> tuple[np.ndarray, str]:
    """Macro-F1 of class-balanced subsets, as published: mean with minimum and maximum, not an interval.

    Returns:
        (subsets,) float64 Macro-F1 over the classes with a clip in truth, and what their range is called:
        ``min-max of 100 balanced subsets, 200 per class``; where the set is balanced already, all subsets
        hold the same clips and the text says so.
    """
    drawn, size = balanced_subsets(confusion, subsets=subsets, per_class=per_class, seed=seed)
    present = with_truth(confusion)
    text = f"min-max of {subsets} balanced subsets, {size} per class"
    if (np.asarray(confusion).sum(axis=1)[present] == size).all():
        text += " (the set is balanced: every subset is the whole set)"
    return macro_f1(drawn, present), text
