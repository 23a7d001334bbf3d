"""From logits to probabilities and back, over the last axis of (rows, classes). Imports numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COMBINED_FLOOR = 1e-12  # probabilities that are combined, or fitted to: their logarithm starts here
MEASURED_FLOOR = 1e-6  # probabilities that are measured: a forest gives exact zeros


def softmax(logits: np.ndarray) -> np.ndarray:
    """(rows, classes) probabilities of logits.

    >>> softmax(np.log([[1.0, 3.0]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(rows, classes) logarithms of :func:`softmax`, none of them infinite."""
    peak = logits.max(axis=1, keepdims=True)
    return np.asarray(logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True)))


def log_losses(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(rows,) negative logarithms, in nats, of the probabilities of (rows,) true classes."""
    peak = logits.max(axis=1)
    total = np.log(np.exp(logits - peak[:, None]).sum(axis=1)) + peak
    return np.asarray(total - logits[np.arange(len(logits)), truth])


def masked(probabilities: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Probabilities with the classes that are not allowed at 0, summing to 1; even where nothing is left.

    Args:
        probabilities, allowed: (rows, classes) float and bool.

    >>> masked(np.array([[0.2, 0.3, 0.5]]), np.array([[True, True, False]])).round(2).tolist()
    [[0.4, 0.6, 0.0]]
    """
    even = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    return _summing_to_one(np.where(allowed, probabilities, 0.0), even)


def restricted(probabilities: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """(rows, chosen) probabilities of some classes only, summing to 1; even where nothing is left.

    >>> restricted(np.array([[0.2, 0.3, 0.5]]), [0, 1]).round(2).tolist()
    [[0.4, 0.6]]
    """
    kept = np.asarray(probabilities, dtype=np.float64)[:, list(columns)]
    return _summing_to_one(kept, 1.0 / kept.shape[1])


def _summing_to_one(kept: np.ndarray, even: np.ndarray | float) -> np.ndarray:
    total = kept.sum(axis=1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), even)
