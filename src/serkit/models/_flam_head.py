"""Frame-level attention, pooling and classifier: what follows any front end that gives frames."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from serkit.errors import check_known
from serkit.layers import CrossModalAttention
from serkit.models._attributes import AttributeHead
from serkit.models._style_pooling import StylePooling
from serkit.tensors import Outputs

FramePooling = Literal["attention", "mean", "max", "last", "attentive_statistics"]
HiddenActivation = Literal["relu", "tanh"]
_VARIANCE_FLOOR = 1e-5


class FramePool(nn.Module):
    """Frames of a clip to one vector, over its real frames only.

    Args:
        dim: width of a frame.
        pooling: ``attention``: softmax of ``v·u_t`` with a learned v (Wang et al. 2026, arXiv 2512.04551); ``mean``;
            ``max``; ``last``: the last real frame; ``attentive_statistics``: mean and standard deviation
            under softmax of ``v·tanh(W u_t)`` (Okabe et al. 2018).

    Attributes:
        out_dim: width of the vector.
        least_variance: of ``attentive_statistics``: 1e-5 is the least that a variance counts as, and not added to it.

    Raises:
        SerkitError: an unknown pooling.
    """

    def __init__(self, dim: int, pooling: FramePooling = "attention") -> None:
        super().__init__()
        check_known(pooling, get_args(FramePooling), f"no pooling '{pooling}'")
        self.pooling, self.out_dim, self.least_variance = pooling, dim, False
        self.score: nn.Module | None = None
        if pooling == "attention":
            self.score = nn.Linear(dim, 1, bias=False)
        elif pooling == "attentive_statistics":
            self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
            self.out_dim = 2 * dim

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) and (batch, time) bool, a real frame in every row, to (batch, out_dim)."""
        if self.pooling == "max":
            return frames.masked_fill(~mask[:, :, None], -math.inf).amax(dim=1)
        if self.pooling == "last":
            position = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
            return frames[torch.arange(len(frames), device=frames.device), position]
        if self.score is None:
            weights = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
        else:
            weights = self.score(frames)[:, :, 0].masked_fill(~mask, -math.inf).softmax(dim=1)
        mean = torch.einsum("bt,btd->bd", weights, frames)
        if self.pooling != "attentive_statistics":
            return mean
        variance = torch.einsum("bt,btd->bd", weights, (frames - mean[:, None, :]) ** 2)
        kept = variance.clamp(min=_VARIANCE_FLOOR) if self.least_variance else variance + _VARIANCE_FLOOR
        return torch.cat([mean, kept.sqrt()], dim=1)


class FlamHead(nn.Module):
    """Self-attention over frames with a residual, pooling, classifier; frames in, Outputs out.

    ``U = F + MSA(F)``, ``z = pool(U)``, ``embedding = W z``, ``emotion = classifier(embedding)``. It is built after a
    front end of any kind: stored features, a convolutional stack, a backbone that is being trained.

    Args:
        dim: width of a frame. n_classes: emotions.
        heads: of the self-attention; 0 leaves it out, which is plain pooling. They must divide ``dim``.
        pooling: see :class:`FramePool`.
        bottleneck: width of the embedding; 0 takes the pooled vector as it is.
        hidden: units of a hidden layer of the classifier; 0 is a linear one.
        activation: of that layer: ``relu``, after a layer normalisation; ``tanh``, without one.
        dropout: before the classifier (and in it). attention_dropout: of the attention weights.
        layer_norm: normalise ``U`` before pooling.
        attribute_head: arousal, valence and dominance from the embedding, on the ratings' own scale.
        neutral_head: a neutral logit.
        pool: another module that makes a vector of ``out_dim`` numbers of frames and mask, instead of ``pooling``.

    Attributes:
        embedding_dim: width of ``Outputs.embedding``.

    Raises:
        SerkitError: ``heads`` does not divide ``dim``, or an unknown pooling or activation.
    """

    def __init__(
        self,
        *,
        dim: int,
        n_classes: int,
        heads: int = 16,
        pooling: FramePooling = "attention",
        bottleneck: int = 64,
        hidden: int = 0,
        activation: HiddenActivation = "relu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm: bool = False,
        attribute_head: bool = False,
        neutral_head: bool = False,
        pool: StylePooling | None = None,
    ) -> None:
        super().__init__()
        check_known(activation, get_args(HiddenActivation), f"no activation '{activation}'")
        self.attention = CrossModalAttention(dim, heads, attention_dropout) if heads else None
        self.norm = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.pool = FramePool(dim, pooling) if pool is None else pool
        self.embedding_dim = bottleneck or self.pool.out_dim
        self.embed = nn.Linear(self.pool.out_dim, bottleneck) if bottleneck else nn.Identity()
        self.emotion = _classifier(self.embedding_dim, hidden, n_classes, dropout, activation)
        attributes = _classifier(self.embedding_dim, hidden, 3, dropout, activation) if attribute_head else ()
        self.attributes = AttributeHead(*attributes) if attribute_head else None
        self.neutral = _classifier(self.embedding_dim, hidden, 1, dropout, activation) if neutral_head else None

    def forward(self, frames: Tensor, mask: Tensor) -> Outputs:
        """Score frames.

        Args:
            frames: (batch, time, dim). mask: (batch, time) bool, a real frame in every row.

        Returns:
            Outputs with ``frames``, the U of above (zeros in the padding), and ``frames_mask``.
        """
        if self.attention is not None:
            frames = frames + self.attention(frames, frames, mask)
        frames = self.norm(frames) * mask[:, :, None]
        embedding = self.embed(self.pool(frames, mask))
        return Outputs(
            emotion=self.emotion(embedding),
            neutral=None if self.neutral is None else self.neutral(embedding)[:, 0],
            attributes=None if self.attributes is None else self.attributes(embedding),
            embedding=embedding,
            frames=frames,
            frames_mask=mask,
        )


def _classifier(dim: int, hidden: int, out: int, dropout: float, activation: HiddenActivation) -> nn.Sequential:
    if not hidden:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, out))
    bend = [nn.Tanh()] if activation == "tanh" else [nn.LayerNorm(hidden), nn.ReLU()]
    inner = [nn.Dropout(dropout), nn.Linear(dim, hidden), *bend, nn.Dropout(dropout)]
    return nn.Sequential(*inner, nn.Linear(hidden, out))
