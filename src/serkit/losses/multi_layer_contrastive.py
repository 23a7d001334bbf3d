"""Contrastive supervision of several layers of a network, through projections that only training has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.losses._contrast import contrast
from serkit.losses._targets import Mixed, not_half, settle_mixed, target_rows
from serkit.parameters import Positive, Size
from serkit.tensors import Batch, Outputs

Layers = Literal["all", "frames", "pooled", "hidden"]


class MultiLayerContrastive(nn.Module):
    """Mean of multi-positive contrastive losses on projections of several layers (Ueda et al. 2026, 2603.23673).

    Each layer of ``Outputs.layers`` is projected by its own Linear-ReLU-Linear. For each labelled clip the softmax of
    its cosines to the other clips of the batch, over the temperature, is compared by cross-entropy with equal shares
    for the other clips of its class (Tian et al. 2023, StableRep, 2306.00984). A clip whose class no other clip has
    adds 0 to the mean over clips.

    The projections belong to this loss: they are trained and resumed with the network, and not saved with it.

    In the abstract: contrastive losses at several layers, no parameters at inference. Read in a public copy of the
    released code: the five layers (of speech and of text the mean of the projected frames, and the pooled vector after
    attention; the hidden layer of the classifier, before its ReLU), the projections, the temperature, the means over
    clips and over layers, and the weight 2 next to cross-entropy (``weight: 2.0`` in a recipe). Chosen here: the class
    of a mixed clip, and that clips without a label take no part.

    Args:
        layer_dims: width of each layer of the network, by name.
        layers: which are supervised: ``all`` (read), or only one depth of the three.
        width: of the projections (read: 512). Their hidden units are half as many as the layer is wide, and as many for
            the layer ``hidden`` (read).
        temperature: τ (read: 0.1).
        mixed: what mixed labels count as: ``dominant`` (a tie is left out), ``soft`` (labels agree in part), ``skip``.

    Raises:
        SerkitError: an unknown choice, no layer of that depth, or a parameter out of range.
    """

    def __init__(
        self,
        *,
        layer_dims: Mapping[str, int],
        layers: Layers = "all",
        width: Size = 512,
        temperature: Positive = 0.1,
        mixed: Mixed = "dominant",
    ) -> None:
        super().__init__()
        check_known(layers, get_args(Layers), f"multi_layer_contrastive: no layers '{layers}'")
        if width < 1 or temperature <= 0:
            raise SerkitError(
                f"multi_layer_contrastive: width {width} must be at least 1 and temperature {temperature} more than 0"
            )
        settle_mixed(torch.ones(1, 1), torch.ones(1, dtype=torch.bool), mixed)
        self.temperature, self.mixed = temperature, mixed
        self.names = [name for name in layer_dims if layers in ("all", name.split("/")[0])]
        if not self.names:
            raise SerkitError(f"multi_layer_contrastive: the network has no layers '{layers}', only {list(layer_dims)}")
        self.project = nn.ModuleList(
            _projection(layer_dims[name], layer_dims[name] // (1 if name == "hidden" else 2), width)
            for name in self.names
        )

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Scalar; 0 where no two clips have the same class.

        Raises:
            SerkitError: the network gives no layers.
        """
        if outputs.layers is None:
            raise SerkitError("the loss 'multi_layer_contrastive' needs a network with layers")
        like = next(self.parameters())
        targets, known = target_rows(batch, outputs.emotion.shape[1], like)
        targets, known = settle_mixed(targets, known, self.mixed)
        clips = torch.arange(int(known.sum()), device=known.device)
        values = []
        for name, project in zip(self.names, self.project, strict=True):
            vectors = not_half(project(outputs.layers[name][known].to(like.dtype)))
            values.append(contrast(vectors, targets[known], clips, self.temperature, anchors="all"))
        return torch.stack(values).mean()

    def param_groups(self) -> list[dict[str, Any]]:
        """The projections, with the network's learning rate and decay (read)."""
        return [{"params": list(self.parameters())}]


def _projection(dim: int, hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, max(hidden, 1)), nn.ReLU(), nn.Linear(max(hidden, 1), width))
