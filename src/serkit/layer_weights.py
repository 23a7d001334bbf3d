"""A stack of hidden layers as one feature, by weights that the network learns.

``layer: all`` stores every layer of a pretrained model side by side. SUPERB (Yang et al. 2021, arXiv 2105.01051,
section 3) reads them as ``sum_l softmax(w)_l x_l`` with one weight for each layer; in s3prl's code
(``Featurizer._weighted_sum``) the weights start equal and a layer normalisation without parameters comes first where
it is asked for. Here that stands before any network, so that no network knows of layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serkit.errors import SerkitError, check_known
from serkit.layers import FeatureNormalisation
from serkit.tensors import Batch, Outputs

Kind = Literal["softmax", "layer_norm"]


class LayerWeights(nn.Module):
    """Layers side by side to their weighted sum.

    Args:
        n_layers: how many. kind: ``softmax``; or ``layer_norm``: each layer normalised over its dimensions first.

    Raises:
        SerkitError: fewer than one layer, or an unknown kind.
    """

    def __init__(self, n_layers: int, kind: str = "softmax") -> None:
        super().__init__()
        check_known(kind, get_args(Kind), f"layer_weights '{kind}'")
        if n_layers < 1:
            raise SerkitError(f"layer_weights: {n_layers} layers, expected at least 1")
        self.n_layers, self.kind = n_layers, kind
        self.logits = nn.Parameter(torch.zeros(n_layers))

    def weights(self) -> Tensor:
        """(layers,) that sum to 1."""
        return self.logits.softmax(0)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, time, layers * dim) to (batch, time, dim); zeros stay zeros."""
        layers = frames.reshape(*frames.shape[:2], self.n_layers, -1)
        if self.kind == "layer_norm":
            layers = F.layer_norm(layers, [int(layers.shape[3])])
        return torch.einsum("l,btld->btd", self.weights().to(layers.dtype), layers)


class WeightedLayers(nn.Module):
    """A network whose stacked features become weighted sums before it sees them.

    Where the network has ``normalize: train`` or ``level``, each layer is standardised by its own statistics, before
    the sum: layers differ in scale, and the statistics of a sum would change with its weights.

    Args:
        network: built for the width of one layer. dims: widths by feature, those of stacks whole.
        stacks: number of layers by feature, of those that are stacks. kind: see :class:`LayerWeights`.

    Raises:
        SerkitError: an unknown kind.
    """

    def __init__(self, network: nn.Module, dims: Mapping[str, int], stacks: Mapping[str, int], kind: str) -> None:
        super().__init__()
        self.network, self.dims = network, dict(dims)
        by_train = getattr(getattr(network, "normalisation", None), "keeps_statistics", False)
        self.standardise = FeatureNormalisation({n: dims[n] for n in stacks}, "train" if by_train else "none")
        self.place = {name: str(k) for k, name in enumerate(stacks)}
        self.mix = nn.ModuleDict({self.place[name]: LayerWeights(n, kind) for name, n in stacks.items()})
        for attribute in ("embedding_dim", "layer_dims", "masked"):
            if hasattr(network, attribute):
                setattr(self, attribute, getattr(network, attribute))

    @property
    def normalisation(self) -> Any:
        """That of the network."""
        return self.network.normalisation

    def weights(self) -> dict[str, Tensor]:
        """(layers,) weights by stacked feature, without gradient: what was learned."""
        return {name: self.stack(name).weights().detach() for name in self.place}

    def stack(self, name: str) -> LayerWeights:
        """The weights of one stacked feature."""
        found: LayerWeights = self.mix[self.place[name]]  # type: ignore[assignment]  # a ModuleDict forgets its types
        return found

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Those of the network, where it has its own, and the weights at the full rate."""
        own = getattr(self.network, "param_groups", None)
        inner = [p for p in self.network.parameters() if p.requires_grad]
        groups = [{"params": inner, "lr": lr}] if own is None else list(own(lr))
        return [*groups, {"params": list(self.mix.parameters()), "lr": lr}]

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and standard deviation of one feature's training frames; of a stack, all its layers'."""
        inner: Any = self.network
        if name in self.place:
            self.standardise.set_statistics(name, mean, std)
            dim = self.dims[name] // self.stack(name).n_layers
            mean, std = mean.new_zeros(dim), std.new_ones(dim)
        inner.set_statistics(name, mean, std)

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Raises:
            SerkitError: a stack that is missing or has another width; whatever the network raises.
        """
        features = dict(batch.features)
        for name in self.place:
            stacked, mask = batch.frames(name, self.dims[name])
            features[name] = self.stack(name)(self.standardise(name, stacked, mask))
        outputs: Outputs = self.network(replace(batch, features=features))
        return outputs
