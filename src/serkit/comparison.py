"""Two systems on the same utterances: paired differences, with intervals and tests. Never imports torch.

Everything is paired and by speaker: a bootstrap draw takes the same speakers for both systems, and the
permutation test swaps the two systems' answers for whole speakers. Where each system was trained with several
seeds, what is compared is the mean over seeds, and a draw takes seeds as well (:func:`compare_seeds`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from serkit import metrics as numbers
from serkit import paired
from serkit.bootstrap import Clusters, Units, clusters, percentile_interval, resample, unit_sums
from serkit.concordance import MEAN, MOMENTS, Rated, ccc_of, name_of, row_moments
from serkit.errors import SerkitError, check_known
from serkit.evaluation import Decisions, gather
from serkit.predictions import Predictions
from serkit.types import ATTRIBUTES, Manifest

D = TypeVar("D", bound="Difference")


@dataclass(frozen=True)
class Difference:
    """How much better system a is than system b, on the same utterances.

    Attributes:
        metric: what is compared. a, b: the systems.
        value_a, value_b: their numbers. difference: ``value_a - value_b``.
        low, high: 95 % interval of the difference, percentiles of the paired speaker bootstrap.
        p: two-sided, from the same draws: twice the smaller share of draws on one side of 0 (0 itself counts
            for both sides), with one added to count and draws; about 0.05 where the interval touches 0.
        p_permutation: two-sided, systems swapped for random speakers (clips of unknown speakers singly); share
            of swaps with a difference at least as large, one added to both. With so few speakers that all ways to
            swap are no more than the draws, each is taken once, and the share is exact.
        p_mcnemar: exact two-sided McNemar test of right and wrong, accuracy only, else ``None``. It takes clips
            as independent, which clips of one speaker are not: a companion, not the verdict.
        p_holm, p_permutation_holm: ``p`` and ``p_permutation`` adjusted for all comparisons of one table
            (:func:`with_holm`), ``None`` before. Of few speakers ``p`` is too small, and the second is needed.
        detectable: the true difference whose interval would leave out 0 four times in five with this spread: 2.80
            standard errors of the bootstrap difference. Both p are small less often, of few speakers much less.
        n, speakers: utterances and known speakers. interval: how low and high came about.
    """

    metric: str
    a: str
    b: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p: float
    p_permutation: float
    p_mcnemar: float | None
    p_holm: float | None
    p_permutation_holm: float | None
    detectable: float
    n: int
    speakers: int
    interval: str

    @property
    def larger_p(self) -> float:
        """The larger of both p, which is the one to believe: of few speakers that of the bootstrap is too small."""
        return max(self.p, self.p_permutation)

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class SeededDifference(Difference):
    """How much better networks of system a are than networks of system b, on average over seeds of training.

    Attributes:
        by_seed: the difference of each pair of networks; ``difference`` is their mean.
        low, high, detectable: of draws that take speakers and seeds (see :func:`compare_seeds`).
        p: of these draws, or of a t-test over speakers and seeds (:func:`serkit.paired.seeded_p`), whichever is larger.
        p_permutation: systems swapped for random speakers, in all seeds together: of these networks.
    """

    by_seed: tuple[float, ...]

    @classmethod
    def of(
        cls, metric: str, systems: tuple[str, str], values: np.ndarray, by_seed: np.ndarray, gaps: np.ndarray,
        null: np.ndarray, *, exact: bool, draws: int, n: int, groups: Clusters, p_mcnemar: float | None = None,
        p_seeds: float = 0.0,
    ) -> SeededDifference:  # fmt: skip
        """From what was resampled.

        Args:
            values: (2, seeds) of the metric. by_seed: (seeds,) how much better the first is. gaps: (draws,) the same
                when speakers and seeds are drawn. null: (swaps,) when systems are swapped. exact: each swap once.
            p_seeds: of :func:`serkit.paired.seeded_p`.
        """
        difference = float(by_seed.mean())
        return cls(
            metric, *systems, float(values[0].mean()), float(values[1].mean()), difference, *percentile_interval(gaps),
            p=max(paired.bootstrap_p(gaps), p_seeds), p_permutation=paired.permutation_p(null, difference, exact=exact),
            p_mcnemar=p_mcnemar, p_holm=None, p_permutation_holm=None,
            detectable=paired.POWER_80 * float(gaps.std(ddof=1)) if draws > 1 else math.nan,
            n=n, speakers=groups.speakers, interval=paired.named(groups, draws, len(by_seed)),
            by_seed=tuple(float(d) for d in by_seed),
        )  # fmt: skip

    def of_one_seed(self) -> Difference:
        """The same of single networks, of which nothing has to be said by seed."""
        return Difference(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Difference)})


def compare(
    a: Predictions | Sequence[Predictions],
    b: Predictions | Sequence[Predictions],
    manifest: Manifest | Sequence[Manifest],
    *,
    split: str,
    metrics: Sequence[str] = numbers.METRICS,
    draws: int = 1000,
    seed: int = 0,
    in_sample: bool = False,
    present_only: bool = False,
) -> tuple[Difference, ...]:
    """Paired differences between two systems.

    Args:
        a, b: predictions of the systems; several where there are folds.
        manifest: the gold labels; as many as there are predictions. Rows of all folds are pooled, speakers
            are clusters across folds.
        split: which rows. metrics: names of :data:`serkit.metrics.METRICS`.
        draws: bootstrap resamples and permutations. seed: same seed, same numbers.
        in_sample: accept scores on training utterances. present_only: macro averages leave out classes without a clip.

    Returns:
        A difference per metric, in the order asked.

    Raises:
        SerkitError: an unknown metric, or rows that cannot be matched (:func:`serkit.evaluation.decide`).
    """
    first = gather(a, manifest, split=split, in_sample=in_sample)
    second = gather(b, manifest, split=split, in_sample=in_sample)
    rows = _differences([first], [second], metrics, draws, seed, present_only=present_only)
    return tuple(d.of_one_seed() for d in rows)


def compare_attributes(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    manifests: Sequence[Manifest],
    *,
    split: str,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Paired differences in CCC between two systems, over the rows that are rated and scored by both.

    Args:
        a, b: predictions of the systems, one for each fold. manifests: the ratings, likewise. split: which rows.
        draws: bootstrap resamples and permutations. seed: same seed, same numbers.

    Returns:
        ``ccc_arousal, ccc_valence, ccc_dominance``, as far as both learned them, and ``ccc``, their mean over the rows
        where all of these are known, if there are two; nothing where a system has no attributes.
    """
    rated = Rated.of([a, b], manifests, split)
    if rated is None:
        return ()
    measured = np.flatnonzero(rated.known.sum(axis=0) > 1).tolist()
    asked = [(name_of(ATTRIBUTES[k]), [k]) for k in measured]
    if measured and rated.known[:, measured].all(axis=1).sum() > 1:  # not of joined corpora that rate other attributes
        asked.append((MEAN, measured))
    names = (a[0].system, b[0].system)
    return tuple(_difference_in_ccc(name, places, rated, names, draws, seed) for name, places in asked)


def _difference_in_ccc(
    name: str, places: Sequence[int], rated: Rated, systems: tuple[str, str], draws: int, seed: int
) -> Difference:
    """The difference in the mean CCC of some attributes."""
    rows = np.asarray(rated.known[:, places].all(axis=1))
    groups = rated.groups(rows)
    x = rated.truth[rows]
    parts = [
        row_moments(x[:, k], answer[rows, k], np.ones(len(x), dtype=bool)) for answer in rated.answers for k in places
    ]
    units = unit_sums(np.concatenate(parts, axis=1), groups)

    def values(sums: np.ndarray) -> np.ndarray:
        """(draws, 2) mean CCC of each system."""
        found: np.ndarray = ccc_of(sums.reshape(len(sums), 2, len(places), MOMENTS)).mean(axis=-1)
        return found

    whole = values(np.concatenate(parts, axis=1).sum(axis=0)[None, :]).T
    drawn = values(resample(units, draws, np.random.default_rng([seed, 4])))
    trades, exact = paired.trades(units.times, draws, np.random.default_rng([seed, 5]))
    swapped = values(paired.swapped(units, trades))
    found = SeededDifference.of(
        name, systems, whole, whole[0] - whole[1], drawn[:, 0] - drawn[:, 1], swapped[:, 0] - swapped[:, 1],
        exact=exact, draws=draws, n=len(x), groups=groups,
    )  # fmt: skip
    return found.of_one_seed()


def compare_seeds(
    a: Sequence[Predictions | Sequence[Predictions]],
    b: Sequence[Predictions | Sequence[Predictions]],
    manifest: Manifest | Sequence[Manifest],
    *,
    split: str,
    metrics: Sequence[str] = numbers.METRICS,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[SeededDifference, ...]:
    """Paired differences between two systems that were each trained once for every seed.

    The number is the mean over seeds of the metric's difference, seed by seed. Two things make it uncertain: who
    speaks, and how each training happened to end. So a draw takes speakers with replacement, the same for every
    network, and seeds with replacement, independently of the speakers: the pigeonhole bootstrap of a table whose
    rows and columns are both random (Owen 2007, Annals of Applied Statistics 1), which errs on the wide side where
    seeds and speakers interact. Few seeds drawn from themselves vary too little by (S − 1) / S, so their deviations
    from the mean are widened by √(S / (S − 1)). One seed gives exactly the interval of :func:`compare`: it then
    holds for these two networks and says nothing about other trainings.

    Args:
        a, b: one entry for each seed, the same seeds in the same order; each as for :func:`compare`.
        manifest, split, metrics, draws, seed: as for :func:`compare`.

    Raises:
        SerkitError: not as many seeds of b as of a, none, or as :func:`compare`.
    """
    if len(a) != len(b) or not a:
        raise SerkitError(f"{len(a)} seeds of the one system and {len(b)} of the other; expected the same seeds")
    first = [gather(p, manifest, split=split) for p in a]
    second = [gather(p, manifest, split=split) for p in b]
    return _differences(first, second, metrics, draws, seed)


def _differences(
    first: Sequence[Decisions], second: Sequence[Decisions], metrics: Sequence[str], draws: int, seed: int,
    *, present_only: bool = False,
) -> tuple[SeededDifference, ...]:  # fmt: skip
    """The differences of paired networks: entry k of ``first`` against entry k of ``second``."""
    one, other, n_seeds = first[0], second[0], len(first)
    ids = [u.id for u in one.utterances]
    for rows in (*first, *second):
        if [u.id for u in rows.utterances] != ids:
            raise SerkitError(f"'{one.system}' and '{rows.system}' are not measured on the same utterances")
    groups = clusters(one.speakers)
    n_classes = len(one.labels)
    answers = np.stack([d.answer for d in (*first, *second)])
    units = _paired_units(one.truth, answers, n_classes, groups)
    shape = (-1, 2, n_seeds, n_classes, n_classes)
    drawn = resample(units, draws, np.random.default_rng([seed, 4])).reshape(shape)
    trades, exact = paired.trades(units.times, draws, np.random.default_rng([seed, 5]))
    swapped = paired.swapped(units, trades).reshape(shape)
    whole = np.stack([[d.confusion() for d in first], [d.confusion() for d in second]])
    counted = one.possible & numbers.with_truth(whole[0, 0]) if present_only else one.possible
    kept = numbers.counted_when_drawn(counted, whole[0, 0], drawn[:, :1, :1])
    right = (one.answer == one.truth, other.answer == other.truth)
    found = []
    for name in metrics:
        value = numbers.measure(name, whole, counted)
        by_speakers = paired.gap(numbers.measure(name, drawn, kept))
        gaps = paired.over_seeds(by_speakers, np.random.default_rng([seed, 6]))
        null = paired.gap(numbers.measure(name, swapped, counted)).mean(axis=1)
        found.append(
            SeededDifference.of(
                name, (one.system, other.system), value, value[0] - value[1], gaps, null,
                exact=exact, draws=draws, n=len(ids), groups=groups,
                p_seeds=paired.seeded_p(by_speakers, value[0] - value[1], int(units.times.sum())),
                p_mcnemar=mcnemar(right[0], right[1]) if name == "accuracy" and n_seeds == 1 else None,
            )
        )  # fmt: skip
    return tuple(found)


def _paired_units(truth: np.ndarray, answers: np.ndarray, n_classes: int, groups: Clusters) -> Units:
    """The confusion counts of several networks by unit, side by side.

    Args:
        truth: (rows,). answers: (networks, rows).

    Returns:
        Sums (units, networks x classes²).
    """
    used, kind = np.unique(np.column_stack([truth, *answers]), axis=0, return_inverse=True)
    values = np.zeros((len(used), len(answers) * n_classes**2))
    rows = np.arange(len(used))
    for k in range(len(answers)):
        values[rows, k * n_classes**2 + used[:, 0] * n_classes + used[:, 1 + k]] = 1.0
    return unit_sums(values, groups, kind.reshape(-1))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Exact two-sided McNemar p: are clips that only one system gets right split evenly between the two?

    Args:
        right_a, right_b: (rows,) bool.

    Returns:
        The two-sided binomial probability, at most 1; 1 where the systems never differ.
    """
    from scipy.stats import binomtest

    only_a = int((np.asarray(right_a) & ~np.asarray(right_b)).sum())
    only_b = int((np.asarray(right_b) & ~np.asarray(right_a)).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment (Holm 1979): reject where the adjusted value is below the level.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[k]))
        adjusted[k] = highest
    return tuple(adjusted)


def with_holm(differences: Sequence[D]) -> tuple[D, ...]:
    """The same differences with both p adjusted over all of them: pass one table's comparisons together."""
    adjusted = zip(holm([d.p for d in differences]), holm([d.p_permutation for d in differences]), strict=True)
    return tuple(
        dataclasses.replace(d, p_holm=p, p_permutation_holm=swapped)
        for d, (p, swapped) in zip(differences, adjusted, strict=True)
    )


def against_all(
    system: str,
    predictions: Mapping[str, Predictions] | Mapping[str, Sequence[Predictions]],
    manifest: Manifest | Sequence[Manifest],
    *,
    split: str,
    metric: str = "macro_f1",
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """One system against every other on one metric, Holm-adjusted, in the order given.

    Args:
        system: key of the one. predictions: by name; lists of folds where ``manifest`` is a list.

    Raises:
        SerkitError: no such system, or as :func:`compare`.
    """
    check_known(system, predictions, f"no predictions of '{system}'")
    found = [
        compare(predictions[system], other, manifest, split=split, metrics=[metric], draws=draws, seed=seed)[0]
        for name, other in predictions.items()
        if name != system
    ]
    return with_holm(found)
