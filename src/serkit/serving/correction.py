"""A correction of a model's answers that was learned from labelled clips: linear in the embeddings of its networks.

Of a clip with calibrated probabilities p and embeddings e the corrected ones are ``softmax(log p + e W + b)``. Without
weights and bias that is p again, so W and b say how far a few labelled clips move the model. Where clips have labels of
their own, which the model does not know, p is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from serkit.errors import SerkitError
from serkit.probabilities import COMBINED_FLOOR, softmax

_NAMES = ("weights", "bias", "columns")


def uniform(n: int, n_classes: int) -> np.ndarray:
    """(n, classes) probabilities of what nothing is known of.

    >>> uniform(1, 4).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return np.full((n, n_classes), 1.0 / n_classes)


@dataclass(frozen=True)
class Correction:
    """What is added to the logarithms of some classes' probabilities.

    Attributes:
        weights: (dim, moved classes) float32. bias: (moved classes,) float64.
        columns: (moved classes,) places of these classes among the labels; the others are not moved.
    """

    weights: np.ndarray
    bias: np.ndarray
    columns: np.ndarray

    def apply(self, shares: np.ndarray, embedded: np.ndarray) -> np.ndarray:
        """(rows, classes) probabilities, corrected.

        Args:
            shares: (rows, classes) calibrated probabilities. embedded: (rows, dim) embeddings of the networks, each of
                length 1, one after the other.

        Raises:
            SerkitError: embeddings of another width than it was fitted to.
        """
        if embedded.shape[1] != len(self.weights):
            raise SerkitError(
                f"the correction is of embeddings of {len(self.weights)} numbers, and the networks give "
                f"{embedded.shape[1]}: the bundle is damaged"
            )
        logits = np.log(np.maximum(shares, COMBINED_FLOOR))
        logits[:, self.columns] += embedded.astype(np.float64) @ self.weights.astype(np.float64) + self.bias
        return softmax(logits)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, for a safetensors file."""
        return {
            "weights": np.ascontiguousarray(self.weights, dtype=np.float32),
            "bias": np.ascontiguousarray(self.bias, dtype=np.float64),
            "columns": np.ascontiguousarray(self.columns, dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], labels: Sequence[str]) -> Self:
        """What :meth:`to_arrays` gave.

        Raises:
            SerkitError: an array is missing, or they do not fit each other and the labels.
        """
        missing = [name for name in _NAMES if name not in arrays]
        if missing:
            raise SerkitError(f"not a correction: '{missing[0]}' is missing")
        found = cls(*(arrays[name] for name in _NAMES))
        moved = found.columns.tolist()
        shapes = (found.weights.shape[1:], found.bias.shape, found.columns.shape)
        if set(shapes) != {(len(moved),)} or len(set(moved)) != len(moved) or not set(moved) <= set(range(len(labels))):
            raise SerkitError(f"not a correction: shapes {shapes} and classes {moved} do not fit {len(labels)} labels")
        if found.columns.dtype.kind not in "iu" or not all(np.isfinite(x).all() for x in (found.weights, found.bias)):
            raise SerkitError("not a correction: columns must be whole numbers, weights and bias finite")
        return found
