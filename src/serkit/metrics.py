"""Numbers from decisions: F1, recall and accuracy from confusion matrices, and distances of distributions.

Every classification metric is a function of a confusion matrix and takes any number of leading axes, so
that a bootstrap of a thousand draws is one call. Imports numpy only.

**Which classes count.** With ``counted=None`` a macro average runs over every class of the matrix, and a
class with neither a clip in truth nor an answer counts 0: what scikit-learn does with ``labels`` set to
all classes and ``zero_division=0``. ``counted`` narrows the average, for example to the classes that the
corpus can have at all or to those that have a clip in truth (:func:`with_truth`).

**Names.** UAR (unweighted average recall) is what many papers call UA, and equals scikit-learn's
``balanced_accuracy_score`` where every class has a clip. Accuracy is what they call WA.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit.errors import SerkitError, check_known
from serkit.probabilities import MEASURED_FLOOR

ABLATED = ("uar", "macro_f1", "accuracy")  # what an ablation compares, beside what the recipe chooses by
DISTRIBUTION_METRICS = ("kl", "jsd", "cosine", "intersection", "chebyshev", "clark", "canberra")
BINS = 15  # of confidence, in the calibration error and its diagram


def confusion_matrix(
    truth: Sequence[int] | np.ndarray, answer: Sequence[int] | np.ndarray, n_classes: int
) -> np.ndarray:
    """Count answers by truth.

    Args:
        truth, answer: (rows,) integer classes in ``0 … n_classes - 1``.
        n_classes: size of the label set.

    Returns:
        (classes, classes) int64, truth by row, answer by column.

    Raises:
        SerkitError: different lengths, or a class outside the label set.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    first, second = np.asarray(truth, dtype=np.int64).reshape(-1), np.asarray(answer, dtype=np.int64).reshape(-1)
    if len(first) != len(second):
        raise SerkitError(f"{len(first)} true classes and {len(second)} answers; expected one answer for each")
    for name, values in (("truth", first), ("answer", second)):
        if len(values) and (values.min() < 0 or values.max() >= n_classes):
            raise SerkitError(
                f"{name} holds class {int(values.min() if values.min() < 0 else values.max())}, expected 0 to "
                f"{n_classes - 1}; leave out rows without a label"
            )
    return np.bincount(first * n_classes + second, minlength=n_classes**2).reshape(n_classes, n_classes)


def with_truth(confusion: np.ndarray) -> np.ndarray:
    """(..., classes) bool: the classes that have a clip in truth."""
    return np.asarray(np.asarray(confusion).sum(axis=-1) > 0)


def counted_when_drawn(counted: np.ndarray, whole: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(draws, classes) bool: the classes in each draw's average: those that have a clip in it, or have none at all.

    A draw that loses a class of the measured rows leaves it out; a class that these rows lack counts as 0 in the value
    (:func:`macro_f1`) and so in every draw, or the value would lie outside its own interval.

    Args:
        counted: (classes,) bool, in the value's average. whole, drawn: (..., classes, classes) confusions.
    """
    return np.asarray(counted & (with_truth(drawn) | ~with_truth(whole)))


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``above / below``, 0 where ``below`` is 0 (scikit-learn's ``zero_division=0``)."""
    return np.asarray(np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0))


def _macro(values: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    if counted is None:
        return np.asarray(values.mean(axis=-1))
    mask = np.broadcast_to(np.asarray(counted, dtype=bool), values.shape)
    return _divide((values * mask).sum(axis=-1), mask.sum(axis=-1).astype(np.float64))


def recall(confusion: np.ndarray) -> np.ndarray:
    """(..., classes) float64: share of each class's clips that were answered so; 0 without a clip."""
    matrix = np.asarray(confusion, dtype=np.float64)
    return _divide(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def precision(confusion: np.ndarray) -> np.ndarray:
    """(..., classes) float64: share of each answer that is right; 0 where it was never given."""
    matrix = np.asarray(confusion, dtype=np.float64)
    return _divide(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-2))


def f1(confusion: np.ndarray) -> np.ndarray:
    """(..., classes) float64: ``2 tp / (2 tp + fp + fn)``; 0 where a class is neither true nor answered."""
    matrix = np.asarray(confusion, dtype=np.float64)
    return _divide(2 * np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1) + matrix.sum(axis=-2))


def macro_f1(confusion: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Mean of the classes' F1.

    Args:
        confusion: (..., classes, classes) counts, truth by row.
        counted: (classes,) or (..., classes) bool: classes in the average; ``None`` is all of them.

    Returns:
        (...) float64 in 0 to 1.
    """
    return _macro(f1(confusion), counted)


def uar(confusion: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Unweighted average recall (UA). Arguments and shape as :func:`macro_f1`."""
    return _macro(recall(confusion), counted)


def accuracy(confusion: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Share of right answers (WA), (...) float64. ``counted`` is accepted and changes nothing."""
    matrix = np.asarray(confusion, dtype=np.float64)
    return _divide(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def weighted_f1(confusion: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Mean F1 weighted by the clips in truth, (...) float64. ``counted`` changes nothing."""
    support = np.asarray(confusion, dtype=np.float64).sum(axis=-1)
    return _divide((f1(confusion) * support).sum(axis=-1), support.sum(axis=-1))


_OF_CONFUSION = {"macro_f1": macro_f1, "uar": uar, "accuracy": accuracy, "weighted_f1": weighted_f1}
METRICS = tuple(_OF_CONFUSION)
"""Names of the metrics of labels, in the order of tables."""


def measure(name: str, confusion: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """The metric called ``name`` of :data:`METRICS`; arguments and shape as :func:`macro_f1`.

    Raises:
        SerkitError: no such metric.
    """
    check_known(name, _OF_CONFUSION, f"no metric '{name}'")
    return _OF_CONFUSION[name](confusion, counted)


def from_labels(
    name: str, truth: Sequence[int] | np.ndarray, answer: Sequence[int] | np.ndarray, n_classes: int
) -> float:
    """The metric called ``name`` over all classes, from (rows,) integer classes.

    >>> from_labels("uar", [0, 0, 1], [0, 1, 1], 2)
    0.75
    """
    return float(measure(name, confusion_matrix(truth, answer, n_classes)))


def per_class(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """``{label: {precision, recall, f1, support}}`` from one (classes, classes) matrix."""
    columns = zip(
        precision(confusion), recall(confusion), f1(confusion), np.asarray(confusion).sum(axis=1), strict=True
    )
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": float(s)}
        for label, (p, r, f, s) in zip(labels, columns, strict=True)
    }


def distribution_distances(truth: np.ndarray, answer: np.ndarray) -> dict[str, np.ndarray]:
    """Distance of predicted distributions from the raters', row by row.

    KL and Jensen–Shannon divergence are what papers on rater distributions in speech emotion report (among them
    arXiv 2606.27536 on MSP-Podcast); the others are the measures of label distribution learning (Geng 2016, table 1),
    which EM2LDL reports.
    Similarities are ``cosine`` and ``intersection`` (higher is better); the rest are distances. KL is
    KL(truth ‖ answer) in nats, with answers below 1e-6 raised to it so that it stays finite; JSD is in
    nats, at most ln 2. A class that both give 0 adds nothing to Clark and Canberra.

    Args:
        truth, answer: (rows, classes) float, rows summing to 1.

    Returns:
        (rows,) float64 by each name of :data:`DISTRIBUTION_METRICS`.

    Raises:
        SerkitError: shapes differ.
    """
    p, q = np.asarray(truth, dtype=np.float64), np.asarray(answer, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 2:
        raise SerkitError(f"votes are {p.shape} and predictions {q.shape}; expected the same (rows, classes)")
    gap, total = np.abs(p - q), p + q
    middle = total / 2
    length = np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1)
    return {
        "kl": _relative_entropy(p, np.maximum(q, MEASURED_FLOOR)),
        "jsd": (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2,
        "cosine": _divide((p * q).sum(axis=1), length),
        "intersection": np.minimum(p, q).sum(axis=1),
        "chebyshev": gap.max(axis=1),
        "clark": np.sqrt((_divide(gap, total) ** 2).sum(axis=1)),
        "canberra": _divide(gap, total).sum(axis=1),
    }


def entropy(shares: np.ndarray) -> np.ndarray:
    """(rows,) entropy in nats of (rows, classes) distributions: 0 where all is on one class.

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
    [0.0, 0.6931]
    """
    p = np.asarray(shares, dtype=np.float64)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)) + 0.0


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(rows,) Σ p ln(p / q), where p is 0 nothing."""
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log(ratio)).sum(axis=1))


def confidence_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(rows,) int64: the bin of each confidence; bin k holds what is above k / bins, up to (k + 1) / bins."""
    return np.asarray(np.clip(np.ceil(np.asarray(confidence) * bins).astype(np.int64) - 1, 0, bins - 1))


def calibration_gaps(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(rows, bins) float64: ``correct - confidence`` of each row in the column of its confidence's bin.

    Summed over rows, the absolute values over bins divided by the rows are the expected calibration error,
    which is why a bootstrap of it needs no more than these sums.
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    right = np.asarray(probabilities).argmax(axis=1) == np.asarray(truth)
    column = confidence_bins(confidence, bins)
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), column] = right - confidence
    return gaps


def ece(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the top class, ``bins`` of equal width (Guo et al. 2017, eq. 3).

    Args:
        probabilities: (rows, classes), rows summing to 1. truth: (rows,) integer classes.

    Returns:
        0 (confidence equals accuracy in every bin) to 1; 0 for no rows.
    """
    gaps = calibration_gaps(probabilities, truth, bins)
    return float(np.abs(gaps.sum(axis=0)).sum() / max(len(gaps), 1))


def ccc(truth: np.ndarray, answer: np.ndarray) -> float:
    """Concordance correlation coefficient (Lin 1989) with population variances; 0 where both are constant.

    Args:
        truth, answer: (rows,) float ratings of one attribute.

    >>> round(ccc(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])), 6)
    1.0
    """
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(answer, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise SerkitError(f"ratings are {x.shape} and predictions {y.shape}; expected the same (rows,), at least one")
    if np.ptp(x) == 0 and np.ptp(y) == 0:  # their variances are not 0 where the mean of equal numbers is rounded
        return 0.0
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / below) if below > 0 else 0.0
