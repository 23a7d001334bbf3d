"""Agreement of arousal, valence and dominance with the raters: CCC with intervals. Never imports torch.

Every clip with a rating takes part, whether it has a label or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from serkit.bootstrap import Clusters, clusters, percentile_interval, resample, unit_sums
from serkit.predictions import Metric, Predictions
from serkit.types import ATTRIBUTES, Manifest, Utterance

MEAN = "ccc"
MOMENTS = 6  # columns of row_moments: rows, x, y, x², y², xy


def name_of(attribute: str) -> str:
    """What the CCC of an attribute is called in a report, such as ``ccc_valence``."""
    return f"{MEAN}_{attribute}"


def ratings(utterances: Sequence[Utterance]) -> np.ndarray:
    """(rows, 3) float64 arousal, valence, dominance of utterances on the corpus's own scale, NaN where unknown."""
    return np.array([u.attributes for u in utterances], dtype=np.float64).reshape(len(utterances), len(ATTRIBUTES))


def rating_scale(manifest: Manifest) -> tuple[float, float] | None:
    """Lowest and highest rating that raters could give; ``None``: it is unknown, or not the same in joined corpora."""
    rated = {u.corpus for u in manifest if u.is_rated}
    joined = [info for name, info in (manifest.info.get("corpora") or {}).items() if name in rated]
    scales = {tuple(map(float, info.get("rating_scale") or ())) for info in joined or [manifest.info]}
    scale = scales.pop()
    return (scale[0], scale[1]) if scale and not scales else None


@dataclass(frozen=True)
class Rated:
    """Rows that some systems scored, with what raters gave.

    Attributes:
        truth: (rows, 3) float64 arousal, valence, dominance, NaN where unknown. answers: (rows, 3) of each system.
        speakers: of each row.
    """

    truth: np.ndarray
    answers: tuple[np.ndarray, ...]
    speakers: tuple[str | None, ...]

    @classmethod
    def of(cls, systems: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str) -> Self | None:
        """The rows of a split that all systems scored, of all folds; ``None`` where a system has no attributes.

        Args:
            systems: of each, predictions of every fold. manifests: one for every fold.
        """
        answers: list[list[np.ndarray]] = [[] for _ in systems]
        truths: list[np.ndarray] = []
        speakers: list[str | None] = []
        for fold, manifest in enumerate(manifests):
            tables = [folds[fold].pooled() for folds in systems]
            scored = set.intersection(*(set(table.ids) for table in tables))
            rows = [u for u in manifest if u.split == split and u.id in scored]
            for found, table in zip(answers, tables, strict=True):
                attributes = table.take([u.id for u in rows]).attributes
                if attributes is None:
                    return None
                found.append(attributes)
            truths.append(ratings(rows))
            speakers += [u.speaker for u in rows]
        return cls(np.concatenate(truths), tuple(np.concatenate(found) for found in answers), tuple(speakers))

    @property
    def known(self) -> np.ndarray:
        """(rows, 3) bool: rated, and answered by every system."""
        found: np.ndarray = np.isfinite(self.truth)
        for answer in self.answers:
            found = found & np.isfinite(answer)
        return found

    def groups(self, keep: np.ndarray) -> Clusters:
        """The speakers of the rows where (rows,) ``keep`` is true."""
        return clusters([s for s, kept in zip(self.speakers, keep, strict=True) if kept])


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
    rated = Rated.of([predictions], manifests, split)
    if rated is None:
        return {}
    x, y, known = rated.truth, rated.answers[0], rated.known
    measured = np.flatnonzero(known.sum(axis=0) > 1)
    if not len(measured):
        return {}
    moments = np.concatenate([row_moments(x[:, k], y[:, k], known[:, k]) for k in measured], axis=1)
    values = ccc_of(moments.sum(axis=0).reshape(len(measured), MOMENTS))
    found = {}
    for k, place in enumerate(measured):
        rows, own = known[:, place], moments[:, k * MOMENTS : (k + 1) * MOMENTS]
        groups = rated.groups(rows)
        found[name_of(ATTRIBUTES[place])] = _metric(
            values[k], _drawn(own[rows], groups, draws, seed)[:, 0], groups, draws
        )
    there = np.asarray(known[:, measured].any(axis=1))
    groups = rated.groups(there)
    mean = np.nanmean(_drawn(moments[there], groups, draws, seed), axis=1)  # of those that are known in a draw
    found[MEAN] = _metric(values.mean(), mean, groups, draws)
    return found


def _metric(value: float, drawn: np.ndarray, groups: Clusters, draws: int) -> Metric:
    interval = percentile_interval(drawn)
    return Metric(float(value), *interval, len(groups.index), groups.speakers, groups.interval(draws))


def row_moments(x: np.ndarray, y: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(rows, 6) what each row adds; 0 where a rating is unknown. Numbers around 0 lose no digits in products."""
    middle = x[known].mean()
    a, b = np.where(known, x - middle, 0.0), np.where(known, y - middle, 0.0)
    return np.column_stack([known, a, b, a * a, b * b, a * b])


def _drawn(moments: np.ndarray, groups: Clusters, draws: int, seed: int) -> np.ndarray:
    """(draws, attributes) CCC in speaker-bootstrap resamples; NaN where no row of a resample has a rating."""
    sums = resample(unit_sums(moments, groups), draws, np.random.default_rng([seed, 4]))
    sums = sums.reshape(draws, -1, MOMENTS)
    return np.where(sums[..., 0] > 0, ccc_of(sums), np.nan)


def ccc_of(sums: np.ndarray) -> np.ndarray:
    """(...) CCC from (..., 6) sums of 1, x, y, x², y² and xy; 0 where both are constant or no row is known."""
    n = np.maximum(sums[..., :1], 1.0)
    x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / n, -1, 0)
    below = np.maximum(xx - x * x, 0.0) + np.maximum(yy - y * y, 0.0) + (x - y) ** 2
    return np.asarray(np.divide(2.0 * (xy - x * y), below, out=np.zeros_like(below), where=below > 1e-15))
