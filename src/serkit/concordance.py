"""Agreement of arousal, valence and dominance with the raters: CCC with intervals. Never imports torch.

Every clip with a rating takes part, whether it has a label or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit.bootstrap import Clusters, clusters, percentile_interval, resample, unit_sums
from serkit.predictions import Metric, Predictions
from serkit.types import ATTRIBUTES, Manifest, Utterance

MEAN = "ccc"
_MOMENTS = 6  # rows, x, y, x², y², xy


def name_of(attribute: str) -> str:
    """What the CCC of an attribute is called in a report, such as ``ccc_valence``."""
    return f"{MEAN}_{attribute}"


def ratings(utterances: Sequence[Utterance]) -> np.ndarray:
    """(rows, 3) float64 arousal, valence, dominance of utterances on the corpus's own scale, NaN where unknown."""
    return np.array([u.attributes for u in utterances], dtype=np.float64).reshape(len(utterances), len(ATTRIBUTES))


def concordance(
    predictions: Sequence[Predictions],
    manifests: Sequence[Manifest],
    *,
    split: str,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Metric]:
    """The concordance correlation of each attribute that a system learned, over all rated rows of all folds.

    Args:
        predictions, manifests: one of each for every fold. split: which rows; a row that was not scored (the
            out-of-fold scores of a stack are of labelled clips) is left out: n says so.
        draws, seed: of the speaker bootstrap.

    Returns:
        ``ccc_arousal, ccc_valence, ccc_dominance`` (:func:`serkit.metrics.ccc`), and ``ccc``, their mean, as the
        challenges on MSP-Podcast rank by; an attribute that nobody rated or the system did not learn is left out.
        ``{}`` of a system without attributes.
    """
    answers, truths, speakers = [], [], []
    for table, manifest in zip(predictions, manifests, strict=True):
        if table.attributes is None:
            return {}
        pooled = table.pooled()
        scored = set(pooled.ids)
        rows = [u for u in manifest if u.split == split and u.id in scored]
        answers.append(pooled.take([u.id for u in rows]).attributes)
        truths.append(ratings(rows))
        speakers += [u.speaker for u in rows]
    x, y = np.concatenate(truths), np.concatenate([a for a in answers if a is not None])
    known = np.isfinite(x) & np.isfinite(y)
    measured = np.flatnonzero(known.sum(axis=0) > 1)
    if not len(measured):
        return {}
    moments = np.concatenate([_moments(x[:, k], y[:, k], known[:, k]) for k in measured], axis=1)
    values = _ccc(moments.sum(axis=0).reshape(len(measured), _MOMENTS))
    found = {}
    for k, place in enumerate(measured):
        rows, own = known[:, place], moments[:, k * _MOMENTS : (k + 1) * _MOMENTS]
        groups = _groups(speakers, rows)
        found[name_of(ATTRIBUTES[place])] = _metric(
            values[k], _drawn(own[rows], groups, draws, seed)[:, 0], groups, draws
        )
    there = known[:, measured].any(axis=1)
    groups = _groups(speakers, there)
    mean = np.nanmean(_drawn(moments[there], groups, draws, seed), axis=1)  # of those that are known in a draw
    found[MEAN] = _metric(values.mean(), mean, groups, draws)
    return found


def _groups(speakers: Sequence[str | None], keep: np.ndarray) -> Clusters:
    return clusters([s for s, kept in zip(speakers, keep, strict=True) if kept])


def _metric(value: float, drawn: np.ndarray, groups: Clusters, draws: int) -> Metric:
    interval = percentile_interval(drawn)
    return Metric(float(value), *interval, len(groups.index), groups.speakers, groups.interval(draws))


def _moments(x: np.ndarray, y: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(rows, 6) what each row adds; 0 where a rating is unknown. Numbers around 0 lose no digits in products."""
    middle = x[known].mean()
    a, b = np.where(known, x - middle, 0.0), np.where(known, y - middle, 0.0)
    return np.column_stack([known, a, b, a * a, b * b, a * b])


def _drawn(moments: np.ndarray, groups: Clusters, draws: int, seed: int) -> np.ndarray:
    """(draws, attributes) CCC in speaker-bootstrap resamples; NaN where no row of a resample has a rating."""
    sums = resample(unit_sums(moments, groups), draws, np.random.default_rng([seed, 4]))
    sums = sums.reshape(draws, -1, _MOMENTS)
    return np.where(sums[..., 0] > 0, _ccc(sums), np.nan)


def _ccc(sums: np.ndarray) -> np.ndarray:
    """(...) CCC from (..., 6) sums of 1, x, y, x², y² and xy; 0 where both are constant or no row is known."""
    n = np.maximum(sums[..., :1], 1.0)
    x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / n, -1, 0)
    below = np.maximum(xx - x * x, 0.0) + np.maximum(yy - y * y, 0.0) + (x - y) ** 2
    return np.asarray(np.divide(2.0 * (xy - x * y), below, out=np.zeros_like(below), where=below > 1e-15))
