"""Closeness of scores to the raters' votes: distances of distributions, with intervals. Never imports torch.

Every clip with votes takes part, whether its raters agreed on a label or not: a clip without agreement has no
label and stays out of every label metric, and its votes are the best that is known of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serkit import metrics
from serkit.bootstrap import Clusters, clusters, percentile_interval, resampled_means
from serkit.combining import allowed_classes
from serkit.predictions import Metric, Predictions
from serkit.probabilities import masked
from serkit.types import Manifest

ENTROPY = "entropy_correlation"
DISPUTED = "_disputed"
PRIOR = "_prior"


@dataclass(frozen=True)
class Rated:
    """The rows of a split that have votes, with what a system says of them.

    Attributes:
        ids: (rows,). speakers: (rows,) name or ``None``.
        votes, probabilities: (rows, classes) float64, rows summing to 1.
        possible: (rows, classes) bool: the classes that the row's corpus can have.
        agreed: (rows,) bool: the row has a label.
    """

    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    votes: np.ndarray
    probabilities: np.ndarray
    possible: np.ndarray
    agreed: np.ndarray


def rated(predictions: Predictions, manifest: Manifest, *, split: str) -> Rated | None:
    """The rated rows of a split, matched by id; ``None`` where no row has votes for any of the labels.

    Votes for classes outside the manifest's labels are left out and the rest brought to a sum of 1. A clip without
    agreement that was not scored (the out-of-fold scores of a stack are of labelled clips) is left out: n says so.

    Args:
        predictions: several models per utterance are averaged. manifest: the votes. split: which rows.

    Raises:
        SerkitError: a labelled utterance with votes has no row.
    """
    place = {label: k for k, label in enumerate(manifest.labels)}
    pooled = predictions.pooled()
    scored = set(pooled.ids)
    rows = [
        u
        for u in manifest
        if u.split == split
        and any(w > 0 and k in place for k, w in (u.votes or {}).items())
        and (u.emotion is not None or u.id in scored)
    ]
    if not rows:
        return None
    votes = np.zeros((len(rows), len(place)))
    for k, u in enumerate(rows):
        for label, weight in (u.votes or {}).items():
            if label in place:
                votes[k, place[label]] = weight
    taken = pooled.take([u.id for u in rows])
    possible = allowed_classes(taken.ids, manifest)
    return Rated(
        taken.ids,
        tuple(u.speaker for u in rows),
        votes / votes.sum(axis=1, keepdims=True),
        masked(taken.probabilities(), possible),
        possible,
        np.array([u.emotion is not None for u in rows]),
    )


def closeness(
    predictions: Sequence[Predictions],
    manifests: Sequence[Manifest],
    *,
    split: str,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Closeness to the raters' votes over all rated rows, of several folds together.

    - ``kl``, ``jsd``, ``cosine`` …: means over rows of :func:`serkit.metrics.distribution_distances`.
    - ``entropy_correlation``: Pearson's r between the entropy of the votes and that of the scores: does the system
      doubt where raters differ? Left out where either is constant.
    - ``NAME_prior``: the same distances for one constant, the mean vote of train, without the classes that a row's
      corpus cannot have, which are not answers of the system either. Each fold has that of its own train: those of
      all folds have seen every test clip. A system that does not beat it is no better than a constant as a
      distribution (published ones are not: EM2LDL), which may only mean that it is too sure.
    - ``NAME_disputed``: the same distances over the rows without agreement alone, where there are some.

    Args:
        predictions, manifests: one of each for every fold. split: which rows. draws, seed: of the speaker bootstrap.

    Returns:
        By name; ``{}`` where no row has votes.

    Raises:
        SerkitError: a labelled utterance with votes has no row.
    """
    pairs = zip(predictions, manifests, strict=True)
    found_by_fold = [(rated(p, m, split=split), _prior(m)) for p, m in pairs]
    parts = [r for r, _ in found_by_fold if r is not None]
    priors = [prior for r, prior in found_by_fold if r is not None]
    if not parts:
        return {}
    votes = np.concatenate([r.votes for r in parts])
    answers = np.concatenate([r.probabilities for r in parts])
    agreed = np.concatenate([r.agreed for r in parts])
    speakers = [s for r in parts for s in r.speakers]
    groups = clusters(speakers)
    found = _distances(votes, answers, groups, "", draws, seed)
    found.update(_entropies(votes, answers, groups, draws, seed))
    known = [prior for prior in priors if prior is not None]
    if len(known) == len(parts):
        own = zip(known, parts, strict=True)
        constant = np.concatenate([masked(np.broadcast_to(c, r.votes.shape), r.possible) for c, r in own])
        found.update(_distances(votes, constant, groups, PRIOR, draws, seed))
    if not agreed.all():
        rest = clusters([s for s, a in zip(speakers, agreed, strict=True) if not a])
        found.update(_distances(votes[~agreed], answers[~agreed], rest, DISPUTED, draws, seed))
    return found


def _distances(
    votes: np.ndarray, answers: np.ndarray, groups: Clusters, ending: str, draws: int, seed: int
) -> dict[str, Metric]:
    distances = metrics.distribution_distances(votes, answers)
    values = np.column_stack([distances[name] for name in metrics.DISTRIBUTION_METRICS])
    drawn = resampled_means(values, groups, draws=draws, seed=seed)
    interval = groups.interval(draws)
    return {
        name + ending: Metric(
            float(values[:, k].mean()), *percentile_interval(drawn[:, k]), len(values), groups.speakers, interval
        )
        for k, name in enumerate(metrics.DISTRIBUTION_METRICS)
    }


def _entropies(votes: np.ndarray, answers: np.ndarray, groups: Clusters, draws: int, seed: int) -> dict[str, Metric]:
    """The correlation of entropies; from means of products, so that a bootstrap is one product of matrices."""
    x, y = metrics.entropy(votes), metrics.entropy(answers)
    if np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return {}
    x, y = x - x.mean(), y - y.mean()  # moments of numbers around 0 lose no digits
    moments = np.column_stack([x, y, x * x, y * y, x * y])
    value = float(_correlation(moments.mean(axis=0)))
    drawn = _correlation(resampled_means(moments, groups, draws=draws, seed=seed))
    return {ENTROPY: Metric(value, *percentile_interval(drawn), len(x), groups.speakers, groups.interval(draws))}


def _correlation(means: np.ndarray) -> np.ndarray:
    """(...) Pearson's r from (..., 5) means of x, y, x², y² and xy; 0 where one does not vary."""
    x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
    below = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0.0))
    return np.asarray(np.divide(xy - x * y, below, out=np.zeros_like(below), where=below > 1e-15))


def _prior(manifest: Manifest) -> np.ndarray | None:
    """(classes,) mean vote of the training rows; ``None`` without any."""
    shares = manifest.where(lambda u: u.split == "train").votes()
    shares = shares[~np.isnan(shares).any(axis=1)]
    return shares.mean(axis=0) if len(shares) else None
