"""A :class:`~serkit.serving.correction.Correction` fitted to labelled clips, its strength chosen by cross-validation.

The fit is a multinomial logistic regression on the embeddings of a bundle's networks that starts from what the bundle
answers: its log-probabilities are an offset, and the Gaussian prior of all weights is centred on 0, on no change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serkit.calibration import fold_unit
from serkit.combining import speaker_folds
from serkit.probabilities import COMBINED_FLOOR, log_losses, log_softmax, restricted
from serkit.serving.correction import Correction

STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # of the prior: the inverse of a weight's variance
USUAL = 0.1  # what was best on clips of half of ASED's speakers (docs/adapt.md)
FOLDS, SEED = 5, 0
_DEVIATIONS = 2.0  # standard errors by which another strength must be better than the usual one


@dataclass(frozen=True)
class Clips:
    """Labelled clips as a bundle answers them, each by one piece or by several.

    Attributes:
        shares: (pieces, classes) calibrated probabilities. embedded: (pieces, dim) embeddings.
        clip: (pieces,) which clip a piece is of. weight: (pieces,) its share of that clip's answer.
        truth: (clips,) places of the true labels among the classes. speakers: (clips,), ``None`` where unknown.
    """

    shares: np.ndarray
    embedded: np.ndarray
    clip: np.ndarray
    weight: np.ndarray
    truth: np.ndarray
    speakers: tuple[str | None, ...]

    def answered(self, correction: Correction | None = None) -> np.ndarray:
        """(clips, classes) probabilities, as ``predict`` by clip gives them, with or without a correction."""
        shares = self.shares if correction is None else correction.apply(self.shares, self.embedded)
        found = np.zeros((len(self.truth), shares.shape[1]))
        np.add.at(found, self.clip, self.weight[:, None] * shares)
        return found

    def take(self, clips: np.ndarray) -> Clips:
        """Those at ascending places."""
        kept = np.isin(self.clip, clips)
        return Clips(
            self.shares[kept], self.embedded[kept], np.searchsorted(clips, self.clip[kept]), self.weight[kept],
            self.truth[clips], tuple(self.speakers[k] for k in clips),
        )  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A correction, and what it is worth.

    Attributes:
        correction: fitted to all clips. strength: of its prior.
        held: (clips, classes) probabilities of each clip by a correction that was fitted to clips of others.
        unit, folds: what was held out: folds of ``speaker`` or ``clip``.
        loss_before, loss_after: mean log loss in nats among the labels of the clips, every class weighing the same,
            without a correction and of the held-out answers.
    """

    correction: Correction
    strength: float
    held: np.ndarray
    unit: str
    folds: int
    loss_before: float
    loss_after: float


def fit(clips: Clips, strengths: Sequence[float]) -> list[Correction]:
    """For each strength the correction of the highest posterior, every class weighing the same.

    Only labels that occur are moved.

    Args:
        strengths: of the prior, each above 0: the larger, the less is changed. They are meant for embeddings scaled so
            that their mean squared distance from their mean is 1, as they are here.
    """
    moved = np.unique(clips.truth)
    centred, mean, basis = _scaled(clips)
    inputs = np.hstack([centred, np.ones((len(centred), 1))])
    offset = np.log(np.maximum(restricted(clips.shares, moved.tolist()), COMBINED_FLOOR))
    truth = np.searchsorted(moved, clips.truth)
    weight = clips.weight * _balanced(truth)[clips.clip]
    found = []
    for strength in strengths:
        theta = _solved(inputs, offset, truth[clips.clip], weight, strength)
        weights = basis @ theta[:-1]
        found.append(Correction(weights.astype(np.float32), theta[-1] - mean @ weights, moved))
    return found


def cross_validated(clips: Clips, told: Callable[[], None] = lambda: None) -> Fitted:
    """A correction whose strength was chosen on clips of speakers that a copy of it was not fitted to.

    It is :data:`USUAL`, unless another is better by more than two standard errors of the difference by clip.

    Args:
        told: is called after each of up to :data:`FOLDS` + 1 rounds of fits.
    """
    moved = np.unique(clips.truth)
    fold = speaker_folds(clips.truth, clips.speakers, FOLDS, SEED)
    held = {strength: np.zeros((len(clips.truth), clips.shares.shape[1])) for strength in STRENGTHS}
    for k in np.unique(fold):
        rest, mine = clips.take(np.flatnonzero(fold != k)), np.flatnonzero(fold == k)
        asked = clips.take(mine)
        for found, correction in zip(held.values(), fit(rest, STRENGTHS), strict=True):
            found[mine] = asked.answered(correction)
        told()
    losses = {strength: _losses(found, clips.truth, moved) for strength, found in held.items()}
    strength = _chosen(losses)
    before = _losses(clips.answered(), clips.truth, moved)
    [correction] = fit(clips, [strength])
    told()
    return Fitted(
        correction, strength, held[strength], fold_unit(clips.speakers), len(np.unique(fold)),
        float(before.mean()), float(losses[strength].mean()),
    )  # fmt: skip


def _chosen(losses: dict[float, np.ndarray]) -> float:
    best = min(STRENGTHS, key=lambda s: (losses[s].mean(), -s))
    worse = losses[USUAL] - losses[best]
    error = worse.std() * np.sqrt(len(worse))
    return best if worse.sum() > _DEVIATIONS * error else USUAL


def _losses(shares: np.ndarray, truth: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """(clips,) log losses among the labels that occur; their mean weighs every class the same."""
    place = np.searchsorted(moved, truth)
    logs = np.log(np.maximum(restricted(shares, moved.tolist()), COMBINED_FLOOR))
    return np.asarray(log_losses(logs, place) * _balanced(place))


def _balanced(truth: np.ndarray) -> np.ndarray:
    """(clips,) weights with a mean of 1, the same sum for every class that occurs."""
    counts = np.bincount(truth)
    return np.asarray(len(truth) / (np.count_nonzero(counts) * counts[truth]))


def _scaled(clips: Clips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings in coordinates of their own span: (pieces, rank), their (dim,) mean, and the (dim, rank) basis.

    A rotation changes nothing in a fit whose prior is the same in all directions, and there are fewer clips than
    dimensions.
    """
    wide = clips.embedded.astype(np.float64)
    mean = np.average(wide, axis=0, weights=clips.weight)
    wide -= mean
    size = np.sqrt(np.average(np.square(wide).sum(axis=1), weights=clips.weight))
    _, values, rows = np.linalg.svd(wide, full_matrices=False)
    basis = rows[values > 1e-6 * max(values[0], 1e-12)].T / max(size, 1e-12)
    return wide @ basis, mean, basis


def _solved(
    inputs: np.ndarray, offset: np.ndarray, truth: np.ndarray, weight: np.ndarray, strength: float
) -> np.ndarray:
    """(inputs, classes) weights at the minimum of the weighted log loss and the prior."""
    from scipy.optimize import minimize

    shape = (inputs.shape[1], offset.shape[1])
    target = np.eye(shape[1])[truth]
    rows = np.arange(len(truth))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(shape)
        logs = log_softmax(offset + inputs @ theta)
        value = -(weight * logs[rows, truth]).sum() + strength / 2 * np.square(flat).sum()
        slope = inputs.T @ (weight[:, None] * (np.exp(logs) - target)) + strength * theta
        return float(value), slope.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return np.asarray(found).reshape(shape)
