"""Graph attention within two modalities, co-attention between them; further modalities stand beside."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.layers import FeatureNormalisation, Normalize, Pool
from serkit.models._emotion_head import Activation, hidden_layer
from serkit.models._shares import ShareEmbedding
from serkit.models._transformer import TransformerLayer
from serkit.parameters import Rate, Size
from serkit.tensors import Batch, Outputs


class Mdat(nn.Module):
    """Graph attention, co-attention and a transformer layer on two modalities, pooled (UFG, 2506.02088).

    Ferreira et al. 2025 (arXiv 2506.02088), read in their released code, the variant of their final settings. Each
    modality goes through Linear and ReLU. Of the first two, every frame attends to all frames of its own modality
    (graph attention), then to those of the other (co-attention, added); a transformer layer and a softmax over time,
    of its own in each dimension, follow. Further modalities, theirs is F0, are averaged over time. All vectors side by
    side are the embedding, which a hidden layer turns into logits.

    Padding is attended to and pooled nowhere (the released code has no masks: it trains on padded batches and is
    evaluated clip by clip).

    Args:
        dims: width of the features by encoder name; the first two are fused. n_classes: emotions.
        hidden: of each modality (read: 512). heads: of the transformer layers (read: 8).
        feed_forward: units inside them (read: four times ``hidden``).
        head_hidden: units of the classifier (read: 768). activation: of it (read: both).
        dropout: after projections, inside the transformer layers and in the classifier (read: 0.5 in all).
        embed: width of a learned vector for each bin, by encoder name, of modalities that are shares of bins, such as
            ``{f0_bins: 256}`` (paper; their settings: 512). These are not normalised.
        normalize: of the input, ``none`` (read), ``train``, ``level`` or ``utterance``; see
            :class:`serkit.layers.FeatureNormalisation`.

    Raises:
        SerkitError: fewer than two modalities, heads that do not divide ``hidden``, or an unknown name.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        hidden: Size = 512,
        heads: Size = 8,
        feed_forward: Size = 2048,
        head_hidden: Size = 768,
        activation: Activation = "relu",
        dropout: Rate = 0.5,
        embed: Mapping[str, Size] | None = None,
        normalize: Normalize = "none",
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        if len(self.dims) < 2:
            raise SerkitError(
                f"mdat: it fuses the first two of the features, and got {len(self.dims)}; give it another encoder, or "
                "take a model for one, such as mean_pool"
            )
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.embed = ShareEmbedding(self.dims, embed)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout)) for dim in self.embed.dims.values()
        )
        self.graph = nn.ModuleList(_GraphAttention(hidden) for _ in range(2))
        self.affinity = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.transformer = nn.ModuleList(TransformerLayer(hidden, heads, feed_forward, dropout) for _ in range(2))
        self.weigh = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.mean = Pool(hidden, "mean")
        self.embedding_dim = len(self.dims) * hidden
        self.emotion = hidden_layer(self.embedding_dim, head_hidden, n_classes, dropout, activation)

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and deviation of one modality's training frames (``normalize: train`` or ``level``)."""
        self.embed.set_statistics(self.normalisation, name, mean, std)

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch; ``embedding`` is (batch, embedding_dim), the pooled modalities side by side.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        states, masks = [], []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            frames = self.embed.or_normalised(self.normalisation, name, given, mask)
            states.append(self.project[k](frames))
            masks.append(mask)
        vectors = [*self._fused(states[:2], masks[:2]), *map(self.mean, states[2:], masks[2:])]
        embedding = torch.cat(vectors, dim=1)
        return Outputs(self.emotion(embedding), embedding=embedding)

    def _fused(self, states: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Two modalities (batch, time, hidden) with their (batch, time) masks to (batch, hidden) each."""
        nodes = [layer(x, mask) for layer, x, mask in zip(self.graph, states, masks, strict=True)]
        first, second = (layer(x) for layer, x in zip(self.affinity, nodes, strict=True))
        scores = first @ second.transpose(1, 2)
        vectors = []
        for k, score in enumerate((scores, scores.transpose(1, 2))):
            other = 1 - k
            weights = score.masked_fill(~masks[other][:, None, :], -math.inf).softmax(-1)
            frames = self.transformer[k](nodes[k] + weights @ nodes[other], masks[k])
            over_time = self.weigh[k](frames).masked_fill(~masks[k][:, :, None], -math.inf).softmax(1)
            vectors.append((over_time * frames).sum(1))
        return vectors


class _GraphAttention(nn.Module):
    """Graph attention (Velickovic et al. 2018, arXiv 1710.10903, eq. 1-4), one head, every frame a neighbour of all.

    The score of frames i and j is ``LeakyReLU(a . [W x_i, W x_j])``, computed as the sum of two products: the released
    code lays out every pair of frames, which takes (batch, time, time, 2 * dim) numbers.
    """

    SLOPE = 0.2

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.transform = nn.Linear(dim, dim, bias=False)
        self.score = nn.Linear(2 * dim, 1, bias=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) and (batch, time) bool to (batch, time, dim); anything in the padding."""
        nodes: Tensor = self.transform(frames)
        own, neighbour = self.score.weight[0].chunk(2)
        scores = F.leaky_relu((nodes @ own)[:, :, None] + (nodes @ neighbour)[:, None, :], self.SLOPE)
        return scores.masked_fill(~mask[:, None, :], -math.inf).softmax(-1) @ nodes
