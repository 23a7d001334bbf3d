"""Multinomial logistic regression on the clip's features, fitted in one step: the simple baseline of the field.

scikit-learn's takes one class for a clip and every class as possible. Here raters' shares can be learned, and a clip
says nothing about classes that its corpus does not have; otherwise the numbers are the same, as a test shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError
from serkit.layers import Normalize
from serkit.models._pooled import PooledFeatures, possible_classes
from serkit.parameters import Needs, Positive
from serkit.tensors import Batch, Outputs

_STEPS = 2000  # of L-BFGS, at most
_FLAT = 1e-5  # largest slope by weight, of the loss per clip, at which it stops
_STEEP = 1e-2  # a larger one after all steps is far from the minimum


class LogisticRegression(PooledFeatures):
    """``x·w_c + b_c`` for each class c (textbook; with eGeMAPS functionals the usual baseline, Eyben et al. 2016).

    ``x`` are the pooled, standardised features of all modalities, one after the other.

    Args:
        dims: width of the features by encoder name, in order. n_classes: emotions.
        start: ``fitted`` computes all weights from the training clips and their copies before the first epoch
            (``train.epochs: 0`` keeps them as they are); ``random`` leaves everything to the epochs.
        c: inverse strength of the L2 penalty: ``c · Σ loss + ½ |w|²`` is minimised, as in scikit-learn. The biases are
            not penalised.
        class_weight: ``balanced``: a class weighs n / (classes · n of the class), as in scikit-learn; ``none``.
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
        start: Literal["fitted", "random"] = "random",
        c: Annotated[Positive, Needs("start", "fitted")] = 0.1,
        class_weight: Annotated[Literal["balanced", "none"], Needs("start", "fitted")] = "balanced",
        pooling: Literal["mean", "statistics"] = "mean",
        normalize: Normalize = "none",
        limit: Positive | None = None,
    ) -> None:
        super().__init__("logistic_regression", dims, pooling, normalize, limit)
        self.start, self.c, self.class_weight = start, c, class_weight
        self.linear = nn.Linear(self.embedding_dim, n_classes)

    @property
    def solves(self) -> bool:
        """Whether :meth:`solve` computes the weights."""
        return self.start == "fitted"

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch; ``embedding`` is (batch, embedding_dim) x.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        x = torch.cat(self.pooled(batch), 1)
        return Outputs(self.linear(x), embedding=x)

    def solve(self, batches: Iterable[tuple[Batch, Tensor]]) -> None:
        """Compute all weights from training clips (L-BFGS in float64); their order does not matter beyond rounding.

        A class that the clip's corpus does not have is left out of its softmax.

        Args:
            batches: clips, and their (batch, classes) distributions over the classes: one class, or the raters' shares;
                zeros for a clip without.

        Raises:
            SerkitError: no clip has a target, or no minimum is found, as happens with features of very unequal size.
        """
        vectors, wanted, impossible = [], [], []
        with torch.no_grad():
            for batch, rows in batches:
                known = rows.sum(dim=1) > 0
                vectors.append(torch.cat(self.pooled(batch), 1)[known].double())
                wanted.append(rows[known].double())
                impossible.append(~possible_classes(batch, rows)[known])
        x, targets, never = (torch.cat(parts) if parts else torch.zeros(0) for parts in (vectors, wanted, impossible))
        if not len(x):
            raise SerkitError("logistic_regression: start: fitted needs training clips with a label")
        weights = torch.ones(targets.shape[1], dtype=torch.float64)
        if self.class_weight == "balanced":
            counts = targets.sum(dim=0)
            weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1e-12)) * (counts > 0)
        weight = torch.zeros(self.linear.weight.shape, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(len(self.linear.bias), dtype=torch.float64, requires_grad=True)
        search = torch.optim.LBFGS(
            [weight, bias], max_iter=_STEPS, tolerance_grad=_FLAT, tolerance_change=0.0, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            search.zero_grad()
            log_shares = (x @ weight.T + bias).masked_fill(never, -torch.inf).log_softmax(dim=1)
            of_clips = -(targets * weights * log_shares.masked_fill(never, 0.0)).sum()
            found = (of_clips + weight.square().sum() / (2 * self.c)) / len(x)
            found.backward()  # type: ignore[no-untyped-call]  # of torch
            return found

        search.step(loss)  # type: ignore[no-untyped-call]  # of torch
        loss()
        slope = max(float(p.grad.abs().max()) for p in (weight, bias) if p.grad is not None)
        if not slope <= _STEEP:
            raise SerkitError(
                f"logistic_regression: no minimum was found in {_STEPS} steps (largest slope {slope:.2g}): the "
                "features differ too much in size; set model.normalize: train, or model.limit: 4"
            )
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)
