"""Center loss: clips of a class lie close together in a space of 64 dimensions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.losses._targets import Mixed, mean_of_rows, settle_mixed, target_rows
from serkit.parameters import Positive, Size
from serkit.tensors import Batch, Outputs


class CenterLoss(nn.Module):
    """``mean_i ½ Σ_c t_ic ‖x_i − center_c‖²`` (Wen et al. 2016; for soft labels, its expectation).

    ``x`` is the network's embedding in ``width`` dimensions: as it is where it has that width (FLAM's
    bottleneck of 64, which also feeds the classifier, as in label-adaptive mixup's code), otherwise
    projected. A projection that only this loss trains could meet it by shrinking to nothing, so it is fixed and
    orthonormal unless said otherwise.

    Args:
        n_classes: number of centers. dim: width of the network's embedding.
        width: of the space of the centers (read: 64).
        projection: ``fixed`` or ``learned``, where ``dim`` is not ``width``.
        mixed: what mixed labels count as: ``soft`` (the expectation; a proposal, unknown in 2512.04551),
            ``dominant`` or ``skip``.
        lr: learning rate of the centers (read: 5e-3). They do not decay.

    Raises:
        SerkitError: a width below 1, or an unknown choice.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        dim: int,
        width: Size = 64,
        projection: Literal["fixed", "learned"] = "fixed",
        mixed: Mixed = "soft",
        lr: Positive = 5e-3,
    ) -> None:
        super().__init__()
        if width < 1 or lr <= 0:
            raise SerkitError(f"center_loss: width {width} must be at least 1 and lr {lr} more than 0")
        check_known(projection, ("fixed", "learned"), f"center_loss: no projection '{projection}'")
        settle_mixed(torch.ones(1, 1), torch.ones(1, dtype=torch.bool), mixed)
        self.n_classes, self.mixed, self.lr = n_classes, mixed, lr
        self.project: nn.Linear | None = None
        if projection == "learned" and dim != width:
            self.project = nn.Linear(dim, width, bias=False)
        width = width if self.project is not None else min(width, dim)
        self.basis: Tensor | None
        self.register_buffer("basis", _orthonormal(dim, width) if self.project is None and dim != width else None)
        self.centers = nn.Parameter(torch.randn(n_classes, width))

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Scalar; 0 where no row has a label.

        Raises:
            SerkitError: the network gives no embedding.
        """
        if outputs.embedding is None:
            raise SerkitError("the loss 'center_loss' needs a network with an embedding")
        x = outputs.embedding.to(self.centers.dtype)
        if self.project is not None:
            x = self.project(x)
        elif self.basis is not None:
            x = x @ self.basis
        targets, known = target_rows(batch, self.n_classes, x)
        targets, known = settle_mixed(targets, known, self.mixed)
        squared = (x[:, None, :] - self.centers[None, :, :]).square().sum(dim=2)
        return mean_of_rows(0.5 * (targets * squared).sum(dim=1), known)

    def param_groups(self) -> list[dict[str, Any]]:
        """The centers with their own learning rate and no decay; a learned projection with the network's."""
        groups: list[dict[str, Any]] = [{"params": [self.centers], "lr": self.lr, "weight_decay": 0.0}]
        if self.project is not None:
            groups.append({"params": list(self.project.parameters())})
        return groups


def _orthonormal(dim: int, width: int) -> Tensor:
    """(dim, width) with orthonormal columns, the same for the same shape."""
    draw = torch.randn(dim, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(draw).Q
    return basis.float()
