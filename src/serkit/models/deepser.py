"""Transformers on each modality, pooled, with or without a deep fusion of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.layers import FeatureNormalisation, Normalised, Normalize, Pool
from serkit.models._attributes import AttributeHead
from serkit.models._transformer import TransformerLayer
from serkit.parameters import Needs, Positive, Rate, Share, Size
from serkit.tensors import Batch, Mixture, Outputs

Fusion = Literal["deep", "none"]


class Deepser(Normalised):
    """A leg of MLP and transformer per modality, two legs that fuse their layers, pooled (MEDUSA, 2506.09556).

    Chatzichristodoulou et al. 2025 (arXiv 2506.09556), read in their released code. A leg is Linear-ReLU-Linear, then
    transformer layers; its first gives h1, its last h2, the mean of h2 over time h3. Fusion leg A reads the h1 of all
    modalities one after the other in time, leg B all h2 and then A's. The h3 of the modalities and of B, side by side,
    go through Linear and ReLU to the embedding, from which one linear layer gives emotions and another one attributes.
    Without the fusion legs it is the network of Chen et al. 2024 (arXiv 2405.20064), as far as that is known.

    Padding is attended to and pooled nowhere (the released code has no masks).

    Args:
        dims: width of the features by encoder name; the order is that of the embedding. n_classes: emotions.
        hidden: of legs and embedding (read: 512). n_layers: transformer layers of a leg (read: 2).
        heads: of their attention (read: 1). feed_forward: units inside them (read: 2048, torch's own default).
        dropout: inside the transformer layers, attention weights included (read: 0.1, torch's own default).
        head_dropout: of the embedding (read: none).
        fusion: ``deep``, or ``none``: the modalities meet in the embedding alone.
        mixup: how often a training batch is mixed before the ReLU of the embedding (manifold mixup; read: 0.3). Labels
            are mixed alike, so it wants a loss that learns distributions.
        mixup_alpha: of the Beta distribution of each clip's share, which is folded to at most ½ (read: 0.2).
        attribute_head: arousal, valence and dominance too, as ``low + (high − low) · sigmoid``.
        attribute_low, attribute_high: ends of the raters' scale (read: 1 and 7, those of MSP-Podcast).
        normalize: of the input, ``none`` (read), ``train``, ``level`` or ``utterance``; see
            :class:`serkit.layers.FeatureNormalisation`.

    Raises:
        SerkitError: no modality, an unknown fusion, heads that do not divide ``hidden``, or a scale without a width.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        hidden: Size = 512,
        n_layers: Size = 2,
        heads: Size = 1,
        feed_forward: Size = 2048,
        dropout: Rate = 0.1,
        head_dropout: Rate = 0.0,
        fusion: Fusion = "deep",
        mixup: Share = 0.0,
        mixup_alpha: Annotated[Positive, Needs("mixup")] = 0.2,
        attribute_head: bool = False,
        attribute_low: Annotated[float, Needs("attribute_head")] = 1.0,
        attribute_high: Annotated[float, Needs("attribute_head")] = 7.0,
        normalize: Normalize = "none",
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        if not self.dims:
            raise SerkitError("deepser: no modality; a system needs at least one encoder in 'features'")
        check_known(fusion, get_args(Fusion), f"deepser: no fusion '{fusion}'")
        if not attribute_low < attribute_high:
            raise SerkitError(f"deepser: attributes run from {attribute_low} to {attribute_high}, expected low < high")
        self.mixup, self.mixup_alpha = mixup, mixup_alpha
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        widths = [*self.dims.values(), *([hidden, hidden] if fusion == "deep" else [])]
        legs = [_Leg(width, hidden, n_layers, heads, feed_forward, dropout) for width in widths]
        self.legs = nn.ModuleList(legs[: len(self.dims)])
        self.fusion = nn.ModuleList(legs[len(self.dims) :])
        self.pool = Pool(hidden, "mean")
        n_pooled = len(self.dims) + (fusion == "deep")
        self.embedding_dim = hidden
        self.embed = nn.Linear(n_pooled * hidden, hidden)
        self.drop = nn.Dropout(head_dropout)
        self.emotion = nn.Linear(hidden, n_classes)
        ends = (attribute_low, attribute_high)
        self.attributes = AttributeHead(nn.Linear(hidden, 3), ends=ends) if attribute_head else None

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Returns:
            Outputs: ``emotion`` (batch, classes), ``attributes`` (batch, 3) where that head is, ``embedding``
            (batch, hidden), and in training, where rows were mixed, how (``mixture``).

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        first, last, masks = [], [], []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            h1, h2 = self.legs[k](self.normalisation(name, given, mask), mask)
            first.append(h1)
            last.append(h2)
            masks.append(mask)
        pooled = [self.pool(h2, mask) for h2, mask in zip(last, masks, strict=True)]
        if len(self.fusion):
            every = torch.cat(masks, dim=1)
            _, of_first = self.fusion[0](torch.cat(first, dim=1), every)
            twice = torch.cat([every, every], dim=1)
            _, fused = self.fusion[1](torch.cat([*last, of_first], dim=1), twice)
            pooled.append(self.pool(fused, twice))
        hidden = self.embed(torch.cat(pooled, dim=1))
        mixture = self._mixture(hidden) if self.training and self.mixup else None
        hidden = hidden if mixture is None else mixture.of(hidden)
        embedding = self.drop(hidden.relu())
        attributes = None if self.attributes is None else self.attributes(embedding)
        return Outputs(self.emotion(embedding), attributes=attributes, embedding=embedding, mixture=mixture)

    def _mixture(self, rows: Tensor) -> Mixture | None:
        """A permutation of (batch, hidden) rows and a share for each, or ``None``, as often as ``mixup`` leaves it."""
        if not float(torch.rand(())) < self.mixup:
            return None
        drawn = torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample((len(rows),))
        shares = torch.minimum(drawn, 1 - drawn)
        return Mixture(torch.randperm(len(rows)).to(rows.device), shares.to(rows.device))


class _Leg(nn.Module):
    """Linear, ReLU, Linear, transformer layers: what the first and what the last of them gives."""

    def __init__(self, dim: int, hidden: int, n_layers: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.layers = nn.ModuleList(TransformerLayer(hidden, heads, feed_forward, dropout) for _ in range(n_layers))

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, dim) and (batch, time) bool to (batch, time, hidden) twice; anything in the padding."""
        h1 = last = self.layers[0](self.project(frames), mask)
        for layer in self.layers[1:]:
            last = layer(last, mask)
        return h1, last
