"""Second order: each class a linear and a quadratic function of the clip's features, computed in one step.

Kernel ridge regression (Saunders et al. 1998), known for speech emotion as the kernel extreme learning machine of the
ComParE challenges (Kaya et al. 2015), with the kernel ``x·z + curvature (x·z)²``. Its solution is a linear function of
the clip and, by class, a quadratic form; of that the largest ``rank`` eigenvalues are kept, so the network is small and
needs none of the training clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError
from serkit.layers import Normalize
from serkit.models._pooled import PooledFeatures, possible_classes
from serkit.parameters import Needs, NotNegative, Positive, Size
from serkit.tensors import Batch, Outputs

_SHORTEST = 0.1  # a shorter vector says nothing and is left short: features standardised by the clip have mean 0
_STEPS = 3  # of subspace iteration for the largest eigenvalues
_MORE = 16  # vectors beside those that are kept, for its accuracy


class Quadratic(PooledFeatures):
    """``scale * (x·w_c + Σ_r s_cr (x·u_cr)²)`` for each class c (serkit's own form of kernel ridge regression).

    ``x`` are the pooled, standardised features, each modality brought to length 1.

    Args:
        dims: width of the features by encoder name, in order. n_classes: emotions.
        rank: r of each class. With functionals, 16 to 32 were as good as all.
        start: ``ridge`` computes all weights from the training clips and their copies before the first epoch
            (``train.epochs: 0`` keeps them as they are); ``random`` leaves everything to the epochs.
        curvature: of the kernel; 0 would leave a linear model. ridge: added to the kernel's diagonal.
        most_rows: training clips, copies counted, that ``ridge`` takes, of more so many at even distances; its table
            has as many rows and columns (16 000: 3.6 GB).
        scale: factor on the result, which regression brings near 0 and 1, to make it logits.
        pooling: ``mean``, or ``statistics``: mean and standard deviation.
        normalize: of the input; see :class:`serkit.layers.FeatureNormalisation`.
        limit: largest size of a normalised value; larger ones are cut. ``None`` cuts nothing.

    Raises:
        SerkitError: no modality.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        rank: Size = 24,
        start: Literal["ridge", "random"] = "random",
        curvature: Annotated[NotNegative, Needs("start", "ridge")] = 1.0,
        ridge: Annotated[Positive, Needs("start", "ridge")] = 0.03,
        most_rows: Annotated[Size, Needs("start", "ridge")] = 16_000,
        scale: Positive = 8.0,
        pooling: Literal["mean", "statistics"] = "mean",
        normalize: Normalize = "none",
        limit: Positive | None = None,
    ) -> None:
        super().__init__("quadratic", dims, pooling, normalize, limit)
        self.scale, self.start = scale, start
        self.curvature, self.ridge, self.most_rows = curvature, ridge, most_rows
        self.linear = nn.Linear(self.embedding_dim, n_classes, bias=False)
        self.directions = nn.Linear(self.embedding_dim, n_classes * rank, bias=False)
        self.weights = nn.Parameter(torch.randn(n_classes, rank) / rank)

    @property
    def solves(self) -> bool:
        """Whether :meth:`solve` computes the weights."""
        return self.start == "ridge"

    def embed(self, batch: Batch) -> Tensor:
        """(batch, embedding_dim) x, of length 1.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        parts = [nn.functional.normalize(part, dim=1, eps=_SHORTEST) for part in self.pooled(batch)]
        return torch.cat(parts, 1) / math.sqrt(len(parts))

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch; ``embedding`` is (batch, embedding_dim), of length 1."""
        x = self.embed(batch)
        squares = self.directions(x).unflatten(1, self.weights.shape) ** 2  # (batch, classes, rank)
        return Outputs(self.scale * (self.linear(x) + (squares * self.weights).sum(2)), embedding=x)

    @torch.no_grad()
    def solve(self, batches: Iterable[tuple[Batch, Tensor]]) -> None:
        """Compute all weights from training clips; their order does not matter beyond rounding.

        What is learned is a target less the mean over the classes that the clip's corpus has.

        Args:
            batches: clips, and their (batch, classes) distributions over the classes: one class, or the raters' shares;
                zeros for a clip without.

        Raises:
            SerkitError: no clip has a target.
        """
        n_classes, rank = self.weights.shape
        vectors, wanted, n = [], [], 0
        for batch, rows in batches:
            x, known = self.embed(batch), rows.sum(dim=1) > 0
            possible = possible_classes(batch, rows).to(rows)
            vectors.append(x[known])
            wanted.append((rows - possible / possible.sum(1, keepdim=True))[known])
            n += len(vectors[-1])
        if not n:
            raise SerkitError("quadratic: start: ridge needs training clips with a label")
        taken = torch.linspace(0, n - 1, min(n, self.most_rows)).round().long()
        x, targets = torch.cat(vectors)[taken], torch.cat(wanted)[taken]
        kernel = x @ x.T
        kernel.addcmul_(kernel, kernel, value=self.curvature).diagonal().add_(self.ridge)
        alpha = torch.cholesky_solve(targets, torch.linalg.cholesky(kernel))  # (rows, classes)
        self.linear.weight.copy_((x.T @ alpha).T)
        for c in range(n_classes):
            vectors_c, values = _largest(x, self.curvature * alpha[:, c], rank, seed=c)
            directions = torch.zeros(rank, x.shape[1])
            directions[: vectors_c.shape[1]] = vectors_c.T
            self.directions.weight[c * rank : (c + 1) * rank] = directions
            self.weights[c] = nn.functional.pad(values, (0, rank - len(values)))


def _largest(x: Tensor, weights: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvectors (dim, rank) and values (rank,) of ``xᵀ diag(weights) x``, largest in size first."""
    dim = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(dim, min(rank + _MORE, dim), generator=generator).to(x)
    for _ in range(_STEPS):
        basis, _ = torch.linalg.qr(x.T @ (weights[:, None] * (x @ basis)))
    seen = x @ basis
    values, inner = torch.linalg.eigh(seen.T @ (weights[:, None] * seen))
    order = values.abs().argsort(descending=True)[:rank]
    return basis @ inner[:, order], values[order]
