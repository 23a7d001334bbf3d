"""The weighted mean of log probabilities: one fitted number per system, where a stack of scores has hundreds. And the
mean of the probabilities themselves, which fits nothing.

numpy; scipy and scikit-learn are imported where a pool is fitted, so that a bundle can answer without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from serkit.combining import (
    Aligned,
    Ensemble,
    Scores,
    Unfitted,
    align,
    allowed_classes,
    log_shares,
    speaker_folds,
    training_rows,
)
from serkit.errors import SerkitError
from serkit.predictions import Predictions
from serkit.probabilities import COMBINED_FLOOR, log_losses, masked, softmax
from serkit.types import Manifest


@dataclass(eq=False)
class LogPool(Ensemble):
    """The logarithmic opinion pool (Genest & Zidek 1986, *Statistical Science* 1; Heskes 1998 fits its weights).

    ``log p = sum_s w_s log p_s - log Z`` with one weight ``w_s >= 0`` per system: equal weights of 1 / systems are the
    mean logit. Fitted are the weights, on the class-balanced log loss of out-of-fold scores, drawn towards each other:
    ``strength x systems x sum_s (w_s - mean w)^2`` is added. Their sum is free, so that a pool whose systems are too
    sure, or not sure enough, is corrected. With a few hundred clips this has far less to overfit than weights for each
    class of each system. That the weights are drawn to their mean, and how, is serkit's own choice.

    Attributes:
        in_sample: accept scores of models trained on the same utterances.
        strengths: values to choose from, by the smallest class-balanced log loss in cross-validation by speaker (ties:
            the stronger). folds, seed: of that choice.
        weights_: (systems,) float64. strength_: what was chosen. losses_: balanced log loss by strength.
    """

    in_sample: bool = False
    seed: int = 42
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    folds: int = 5
    weights_: np.ndarray = field(init=False, repr=False)
    strength_: float = field(init=False, repr=False)
    losses_: dict[float, float] = field(init=False, repr=False)

    def fit(self, predictions: Scores, manifest: Manifest) -> Self:
        """Fit the weights on the labelled rows of ``predictions``.

        Raises:
            SerkitError: rows that may not be learned from (``training_rows``), or one class alone.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # products of a few columns: threads would mostly wait for each other
            return self._fit(align(predictions), manifest)

    def _fit(self, table: Aligned, manifest: Manifest) -> Self:
        rows = training_rows(table, manifest, in_sample=self.in_sample)
        present = np.unique(rows.truth)
        if len(present) < 2:
            raise SerkitError(f"a stack needs at least two classes, got {[table.labels[k] for k in present]}")
        allowed = allowed_classes(rows.ids, manifest)
        logs = log_shares(table)[rows.index]
        fold = speaker_folds(rows.truth, rows.speakers, self.folds, self.seed)
        self.losses_ = {}
        for strength in sorted(self.strengths, reverse=True):
            lost = np.zeros(len(fold))
            for k in np.unique(fold):
                inside, outside = fold != k, fold == k
                weights = _fitted(logs[inside], allowed[inside], rows.truth[inside], strength)
                lost[outside] = log_losses(_pooled(weights, logs[outside], allowed[outside]), rows.truth[outside])
            self.losses_[strength] = float(np.mean([lost[rows.truth == k].mean() for k in present]))
        self.strength_ = min(self.losses_, key=lambda s: (self.losses_[s], -s))
        self.weights_ = _fitted(logs, allowed, rows.truth, self.strength_)
        self.systems_, self.labels_, self.ids_ = table.systems, table.labels, rows.ids
        return self

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        pooled = _pooled(self.weights_, log_shares(table), allowed)
        return Predictions(self.system, table.labels, "logit", table.ids, table.models, table.seen, pooled)

    def _save_models(self, folder: Path) -> dict[str, Any]:
        return {"weights": self.weights_.tolist(), "strength": self.strength_}

    def _load_models(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.restore(head)

    def restore(self, head: Mapping[str, Any]) -> None:
        """Take over fitted weights from what ``save`` wrote; ``systems_`` is set.

        Raises:
            SerkitError: not one finite weight of 0 or more per system.
        """
        weights = np.asarray(head["weights"], dtype=np.float64)
        if weights.shape != (len(self.systems_),) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise SerkitError(
                f"log pool: weights {weights.tolist()}, expected {len(self.systems_)} finite ones of 0 or more"
            )
        self.weights_ = weights


def _pooled(weights: np.ndarray, logs: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(rows, classes) logits of the pool of (rows, systems, classes) log probabilities.

    Classes that a row cannot have are far below all others, whatever the weights.
    """
    pooled = np.tensordot(logs, weights, ((1,), (0,)))
    return np.where(allowed, pooled, pooled.min(axis=1, keepdims=True) + np.log(COMBINED_FLOOR))


def _fitted(logs: np.ndarray, allowed: np.ndarray, truth: np.ndarray, strength: float) -> np.ndarray:
    """(systems,) weights with the least class-balanced log loss and penalty."""
    from scipy.optimize import minimize

    n_rows, n_systems, _ = logs.shape
    counts = np.bincount(truth)
    share = 1.0 / (counts[truth] * np.count_nonzero(counts))
    rows = np.arange(n_rows)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        p = softmax(_pooled(weights, logs, allowed))
        away = weights - weights.mean()
        right = np.maximum(p[rows, truth], COMBINED_FLOOR)
        value = -(share * np.log(right)).sum() + strength * n_systems * (away**2).sum()
        p[rows, truth] -= 1.0
        slope = np.einsum("rsc,rc,r->s", logs, p, share) + 2 * strength * n_systems * away
        return float(value), slope

    start = np.full(n_systems, 1.0 / n_systems)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * n_systems)
    return np.asarray(found.x, dtype=np.float64)


@dataclass(eq=False)
class MeanProbability(Unfitted):
    """The mean of the systems' probabilities, the soft vote.

    The linear opinion pool with equal weights (Stone 1961, remembered). Each system's softmax is taken among the
    classes that the utterance's corpus can have. A report gives its numbers, and no test of the stack against it:
    the tests that are adjusted together stay those of earlier reports.
    """

    system: str = "mean_probability"

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        systems = [masked(table.probabilities[:, k], allowed) for k in range(len(table.systems))]
        mean = np.mean(systems, axis=0)
        return Predictions(self.system, table.labels, "prob", table.ids, table.models, table.seen, mean)
