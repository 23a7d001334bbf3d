"""Two systems on the same utterances: paired differences, with intervals and tests. Never imports torch.

Everything is paired and by speaker: a bootstrap draw takes the same speakers for both systems, and the
permutation test swaps the two systems' answers for whole speakers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serkit import metrics as numbers
from serkit.bootstrap import Clusters, Units, clusters, percentile_interval, resample, unit_sums
from serkit.errors import SerkitError, did_you_mean
from serkit.evaluation import gather
from serkit.predictions import Predictions
from serkit.types import Manifest

# distance between no effect and one found four times in five, in standard errors: z(0.975) + z(0.8)
POWER_80 = 1.959964 + 0.841621


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
            of swaps with a difference at least as large, one added to both.
        p_mcnemar: exact two-sided McNemar test of right and wrong, accuracy only, else ``None``. It takes clips
            as independent, which clips of one speaker are not: a companion, not the verdict.
        p_holm: ``p`` adjusted for all comparisons of one table (:func:`with_holm`), ``None`` before.
        detectable: the smallest true difference that would be found (80 % power, two-sided 5 %) with this
            spread: 2.80 standard errors of the bootstrap difference.
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
    detectable: float
    n: int
    speakers: int
    interval: str

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return dataclasses.asdict(self)


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
) -> tuple[Difference, ...]:
    """Paired differences between two systems.

    Args:
        a, b: predictions of the systems; several where there are folds.
        manifest: the gold labels; as many as there are predictions. Rows of all folds are pooled, speakers
            are clusters across folds.
        split: which rows. metrics: names of :data:`serkit.metrics.METRICS`.
        draws: bootstrap resamples and permutations. seed: same seed, same numbers.
        in_sample: accept scores on training utterances.

    Returns:
        A difference per metric, in the order asked.

    Raises:
        SerkitError: an unknown metric, or rows that cannot be matched (:func:`serkit.evaluation.decide`).
    """
    first = gather(a, manifest, split=split, in_sample=in_sample)
    second = gather(b, manifest, split=split, in_sample=in_sample)
    if [u.id for u in first.utterances] != [u.id for u in second.utterances]:
        raise SerkitError(f"'{first.system}' and '{second.system}' are not measured on the same utterances")
    groups = clusters(first.speakers)
    n_classes = len(first.labels)
    units = _paired_units(first.truth, first.answer, second.answer, n_classes, groups)
    drawn = _split(resample(units, draws, np.random.default_rng([seed, 4])), n_classes)
    swapped = _split(_swapped(units, draws, np.random.default_rng([seed, 5])), n_classes)
    kept = first.possible & numbers.with_truth(drawn[0])
    whole = (first.confusion(), second.confusion())
    right = (first.answer == first.truth, second.answer == first.truth)
    interval = groups.interval(draws).replace("% ", "% paired ", 1)
    found = []
    for name in metrics:
        value = [float(numbers.measure(name, c, first.possible)) for c in whole]
        gaps = numbers.measure(name, drawn[0], kept) - numbers.measure(name, drawn[1], kept)
        null = numbers.measure(name, swapped[0], first.possible) - numbers.measure(name, swapped[1], first.possible)
        difference = value[0] - value[1]
        low, high = percentile_interval(gaps)
        found.append(
            Difference(
                name, first.system, second.system, value[0], value[1], difference, low, high,
                p=_bootstrap_p(gaps),
                p_permutation=float((1 + (np.abs(null) >= abs(difference) - 1e-12).sum()) / (draws + 1)),
                p_mcnemar=mcnemar(right[0], right[1]) if name == "accuracy" else None,
                p_holm=None,
                detectable=POWER_80 * float(gaps.std(ddof=1)) if draws > 1 else math.nan,
                n=len(first.truth), speakers=groups.speakers, interval=interval,
            )
        )  # fmt: skip
    return tuple(found)


def _paired_units(
    truth: np.ndarray, answer_a: np.ndarray, answer_b: np.ndarray, n_classes: int, groups: Clusters
) -> Units:
    """Both systems' confusion counts by unit, side by side: (units, 2 x classes²)."""
    code = (truth * n_classes + answer_a) * n_classes + answer_b
    used, kind = np.unique(code, return_inverse=True)
    gold, rest = used // n_classes**2, used % n_classes**2
    values = np.zeros((len(used), 2 * n_classes**2))
    rows = np.arange(len(used))
    values[rows, gold * n_classes + rest // n_classes] = 1.0
    values[rows, n_classes**2 + gold * n_classes + rest % n_classes] = 1.0
    return unit_sums(values, groups, kind.reshape(-1))


def _split(sums: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Two (draws, classes, classes) from (draws, 2 x classes²)."""
    both = sums.reshape(-1, 2, n_classes, n_classes)
    return both[:, 0], both[:, 1]


def _swapped(units: Units, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, columns): sums after the two systems traded places for each unit with probability ½."""
    half = units.sums.shape[1] // 2
    a, b = units.sums[:, :half], units.sums[:, half:]
    times = units.times.astype(np.float64)
    traded = rng.binomial(units.times, 0.5, size=(draws, len(times))).astype(np.float64)
    first = traded @ (b - a) + times @ a
    return np.concatenate([first, times @ (a + b) - first], axis=1)


def _bootstrap_p(gaps: np.ndarray) -> float:
    """Two-sided p of (draws,) bootstrap differences against 0."""
    tail = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(gaps) + 1))


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


def with_holm(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The same differences with ``p_holm`` over all of them: pass one table's comparisons together."""
    adjusted = holm([d.p for d in differences])
    return tuple(dataclasses.replace(d, p_holm=p) for d, p in zip(differences, adjusted, strict=True))


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
    if system not in predictions:
        raise SerkitError(f"no predictions of '{system}'" + did_you_mean(system, predictions))
    found = [
        compare(predictions[system], other, manifest, split=split, metrics=[metric], draws=draws, seed=seed)[0]
        for name, other in predictions.items()
        if name != system
    ]
    return with_holm(found)
