"""Calibrated probabilities: scaling fitted on held-out speakers, and measured thresholds.

Numbers in and out are plain arrays. numpy only, except for the vector scaling's optimiser (scipy, imported
where it is used), so that what was fitted is applied anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from serkit.combining import speaker_folds
from serkit.errors import SerkitError, check_known
from serkit.metrics import BINS, confidence_bins, ece
from serkit.probabilities import MEASURED_FLOOR, log_losses, masked, softmax

Method = Literal["none", "temperature", "vector"]
METHODS = ("none", "temperature", "vector")
FOLDS = 5  # of speakers, in which a fit is measured
LEAST_ROWS = 20  # answers that a measured precision rests on
SHRINK = 1.0  # rows whose weight the penalty has that draws a fit towards none
WILSON = "95% Wilson, clips treated as independent"


@dataclass(frozen=True)
class Calibration:
    """``softmax(weights * log(p) + bias)`` of probabilities p.

    Temperature scaling has one weight 1/T and no bias (Guo et al. 2017, section 4.2); vector scaling a
    weight and a bias by class, which on log-probabilities is the diagonal Dirichlet calibration (Kull et al.
    2019, section 3).

    Attributes:
        method: what was fitted. labels: class order. weights, bias: one number by class.
        record: on what it was fitted and what it changed: rows, speakers, ECE before and after.
    """

    method: Method
    labels: tuple[str, ...]
    weights: tuple[float, ...]
    bias: tuple[float, ...]
    record: Mapping[str, Any]

    @property
    def temperature(self) -> float | None:
        """T of temperature scaling, ``None`` of another method."""
        return 1.0 / self.weights[0] if self.method == "temperature" else None

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """(rows, classes) probabilities to (rows, classes) calibrated ones, float64."""
        if self.method == "none":
            return np.asarray(probabilities, dtype=np.float64)
        return softmax(_logs(probabilities) * np.array(self.weights) + np.array(self.bias))

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return {
            "method": self.method,
            "labels": list(self.labels),
            "weights": list(self.weights),
            "bias": list(self.bias),
            "record": dict(self.record),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Calibration:
        """What :meth:`to_row` gave.

        Raises:
            SerkitError: a field is missing or does not fit the labels.
        """
        try:
            labels = tuple(str(x) for x in row["labels"])
            weights, bias = (tuple(float(x) for x in row[k]) for k in ("weights", "bias"))
            found = cls(row["method"], labels, weights, bias, dict(row["record"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SerkitError(f"not a calibration: {type(error).__name__} {error}") from None
        if found.method not in METHODS or {len(weights), len(bias)} != {len(labels)}:
            raise SerkitError(
                f"not a calibration: method '{found.method}', {len(weights)} weights, {len(labels)} labels"
            )
        return found


def fit(
    probabilities: np.ndarray,
    truth: np.ndarray,
    labels: Sequence[str],
    method: Method = "temperature",
    allowed: np.ndarray | None = None,
) -> Calibration:
    """Fit a scaling by penalised likelihood on scores of clips that the model was not trained on.

    Args:
        probabilities: (rows, classes), rows summing to 1. truth: (rows,) integer classes.
        labels: class order. method: ``none``, ``temperature`` or ``vector``, these shrunk towards no change.
        allowed: (rows, classes) bool: what each row can be, the others getting no share; all where ``None``.

    Raises:
        SerkitError: no rows, another shape, or an unknown method.
    """
    p, y = _checked(probabilities, truth, len(labels))
    check_known(method, METHODS, f"no calibration '{method}'")
    n_classes = len(labels)
    weights, bias = np.ones(n_classes), np.zeros(n_classes)
    possible = np.ones(p.shape, dtype=bool) if allowed is None else allowed
    if method == "temperature":
        weights *= 1.0 / _temperature(p, y, possible)
    elif method == "vector":
        weights, bias = _vector(p, y, possible)
    return Calibration(method, tuple(labels), tuple(weights.tolist()), tuple(bias.tolist()), {})


def fit_and_measure(
    probabilities: np.ndarray,
    truth: np.ndarray,
    speakers: Sequence[str | None],
    labels: Sequence[str],
    method: Method = "temperature",
    allowed: np.ndarray | None = None,
) -> tuple[Calibration, np.ndarray]:
    """Fit on all rows, and measure on rows of speakers that a copy of the fit has not seen, in :data:`FOLDS` parts.

    Rows of one class, or one row of each, cannot be divided: then nothing is scaled, and the record says so.
    Arguments as for :func:`fit`; ``speakers`` of the rows, ``None`` where unknown.

    Returns:
        The calibration, with ECE and log loss before and after in its record, and the (rows, classes)
        probabilities of the copies: what precision is measured on.
    """
    p, y = _checked(probabilities, truth, len(labels))
    held, measured = np.empty_like(p), "not scaled"
    if method == "none" or len(np.unique(y)) < 2 or int(np.bincount(y).max()) < 2:
        method, held = "none", p
    else:
        fold = speaker_folds(y, speakers, FOLDS, seed=0)
        measured = f"cross-fitted {folds_by(speakers, len(np.unique(fold)))}"
        for k in np.unique(fold):
            rest = None if allowed is None else allowed[fold != k]
            held[fold == k] = fit(p[fold != k], y[fold != k], labels, method, rest).apply(p[fold == k])
        held = held if allowed is None else masked(held, allowed)
    fitted = fit(p, y, labels, method, allowed)
    record = {
        "rows": len(y),
        "speakers": len({s for s in speakers if s is not None}),
        "ece_before": ece(p, y),
        "ece_after": ece(held, y),
        "log_loss_before": log_loss(p, y),
        "log_loss_after": log_loss(held, y),
        "measured": measured,
    }
    return Calibration(fitted.method, fitted.labels, fitted.weights, fitted.bias, record), held


def fold_unit(speakers: Sequence[str | None]) -> str:
    """What :func:`serkit.combining.speaker_folds` keeps together: ``speaker``, or ``clip`` where they are not known.

    >>> fold_unit(["a", "b", "a"]), fold_unit([None, None]), fold_unit(["a", "a"])
    ('speaker', 'clip', 'clip')
    """
    groups = {s for s in speakers if s is not None}
    return "speaker" if len(groups) + (None in speakers) > 1 and groups else "clip"


def folds_by(speakers: Sequence[str | None], folds: int) -> str:
    """What folds keep together in words, and how many clips they cannot keep with their speaker.

    >>> folds_by(["a", "b", "a", None], 2)
    'by speaker, 2 folds (1 clip of unknown speakers singly)'
    """
    unit, alone = fold_unit(speakers), sum(s is None for s in speakers)
    rest = f" ({alone} clip{'s'[: alone > 1]} of unknown speakers singly)" if unit == "speaker" and alone else ""
    return f"by {unit}, {folds} folds{rest}"


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative logarithm of the true class's probability, in nats."""
    chosen = np.asarray(probabilities)[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chosen, MEASURED_FLOOR)).mean())


@dataclass(frozen=True)
class Level:
    """What answers at or above a confidence are worth, on held-out speakers.

    Attributes:
        confidence: the threshold. precision: share of right answers from there on, with ``low`` and ``high``.
        n: answers there. share: of all answers. interval: kind of low and high.
    """

    confidence: float
    precision: float
    low: float
    high: float
    n: int
    share: float
    interval: str = WILSON


def levels(probabilities: np.ndarray, truth: np.ndarray, steps: Sequence[float] | None = None) -> list[Level]:
    """Measured precision by threshold of confidence.

    Thresholds that fewer than 20 answers reach are left out,
    and those that say nothing new.

    Args:
        probabilities: (rows, classes) calibrated, of held-out rows. truth: (rows,) integer classes.
        steps: thresholds; every 0.05 where ``None``.
    """
    confidence, right = _decided(probabilities, truth)
    found: list[Level] = []
    for step in np.arange(0, 1, 0.05).round(2) if steps is None else steps:
        inside = confidence >= step
        n = int(inside.sum())
        if n >= LEAST_ROWS and (not found or n < found[-1].n):
            precision = float(right[inside].mean())
            found.append(Level(float(step), precision, *wilson(precision, n), n, n / len(right)))
    return found


def confidence_for(precision: float, probabilities: np.ndarray, truth: np.ndarray) -> Level:
    """The lowest confidence from which on answers were right at least this often.

    Args:
        precision: wanted, in (0, 1). probabilities, truth: as in :func:`levels`.

    Raises:
        SerkitError: out of range, or no threshold that 20 answers reach was that precise.
    """
    if not 0 < precision < 1:
        raise SerkitError(f"threshold {precision:g}: expected a precision between 0 and 1, such as 0.8")
    confidence, right = _decided(probabilities, truth)
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(right) + 1)
    reached = np.cumsum(right[order]) / n
    last = np.append(np.diff(confidence[order]) < 0, True)  # the whole of equal confidences, or nothing of it
    usable = last & (n >= LEAST_ROWS)
    good = np.flatnonzero(usable & (reached >= precision))
    if not len(good):
        best = (
            f"the best was {reached[usable].max():.2f}"
            if usable.any()
            else f"it was measured on {len(right)} clips only"
        )
        raise SerkitError(f"threshold {precision:g}: no confidence reached that precision on held-out speakers; {best}")
    k = int(good[-1])
    share = float(reached[k])
    return Level(float(confidence[order][k]), share, *wilson(share, k + 1), k + 1, (k + 1) / len(right))


def unsure_below(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The confidence under which answers were more often wrong than right, by isotonic regression.

    Returns:
        0 where all were right more often than not, above 1 where none were.
    """
    confidence, right = _decided(probabilities, truth)
    values, place, n_rows = np.unique(confidence, return_inverse=True, return_counts=True)  # equal ones are one block
    blocks: list[list[float]] = []  # sum of right, rows, lowest confidence: pooled while they decrease
    for c, r, size in zip(values, np.bincount(place, right), n_rows, strict=True):
        blocks.append([float(r), float(size), float(c)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            r_sum, n, _ = blocks.pop()
            blocks[-1][0] += r_sum
            blocks[-1][1] += n
    for k, (r_sum, n, low) in enumerate(blocks):
        if r_sum / n >= 0.5:
            return 0.0 if k == 0 else low
    return 1.01


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """The rows of a reliability diagram (Guo et al. 2017, fig. 1), in the bins of the ECE; empty bins are left out.

    Returns:
        By bin of confidence: ``from, to`` (its edges), ``n`` answers, their mean ``confidence``, the share of
        right ones ``accuracy``, and its Wilson interval ``low, high``.
    """
    confidence, right = _decided(probabilities, truth)
    column = confidence_bins(confidence, bins)
    found = []
    for k in np.unique(column):
        inside = column == k
        n, share = int(inside.sum()), float(right[inside].mean())
        low, high = wilson(share, n)
        row = {"from": float(k) / bins, "to": float(k + 1) / bins, "n": n}
        found.append(
            {**row, "confidence": float(confidence[inside].mean()), "accuracy": share, "low": low, "high": high}
        )
    return found


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n independent trials (Wilson 1927).

    >>> tuple(round(x, 3) for x in wilson(0.8, 100))
    (0.711, 0.867)
    """
    z = 1.959963984540054
    centre, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def _checked(probabilities: np.ndarray, truth: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if p.ndim != 2 or p.shape[1] != n_classes or y.shape != (len(p),) or not len(p):
        raise SerkitError(f"calibration: probabilities {p.shape} and truth {y.shape}, expected (rows, {n_classes})")
    if y.min() < 0 or y.max() >= n_classes:
        raise SerkitError(f"calibration: a true class is outside 0 … {n_classes - 1}; leave unlabelled rows out")
    return p, y


def _decided(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) confidence of the answers, and whether they are right."""
    p, y = _checked(probabilities, truth, np.asarray(probabilities).shape[1])
    return p.max(axis=1), p.argmax(axis=1) == y


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), MEASURED_FLOOR)))


def _temperature(p: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> float:
    """Golden-section search on log T; leaving 1/T = 1 is penalised with the weight of :data:`SHRINK` rows.

    Log loss and penalty are convex in 1/T, so unimodal. Without it T of clips that are all answered right falls to the
    end of the search, and every further answer has a confidence of 1.
    """
    logs = _logs(p)

    def loss(log_t: float) -> float:
        scale = math.exp(-log_t)
        lost = log_losses(np.where(allowed, logs * scale, -np.inf), y)
        return float(lost.mean()) + SHRINK / (2 * len(y)) * (scale - 1) ** 2

    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.05), math.log(20.0)
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return math.exp((low + high) / 2)


def _vector(p: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias by class; leaving (1, 0) is penalised with the weight of :data:`SHRINK` rows."""
    from scipy.optimize import minimize

    logs, n, k = _logs(p), len(y), p.shape[1]
    target = np.eye(k)[y]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = theta[:k], theta[k:]
        q = softmax(np.where(allowed, logs * weights + bias, -np.inf))
        gap = (q - target) / n
        away = np.concatenate([weights - 1, bias])
        value = -np.log(np.maximum(q[np.arange(n), y], 1e-300)).mean() + SHRINK / (2 * n) * (away**2).sum()
        return float(value), np.concatenate([(gap * logs).sum(axis=0), gap.sum(axis=0)]) + SHRINK / n * away

    start = np.concatenate([np.ones(k), np.zeros(k)])
    theta = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return theta[:k], theta[k:]
