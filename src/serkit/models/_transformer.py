"""The transformer layer that several networks share."""

from __future__ import annotations

from torch import Tensor, nn

from serkit.layers import CrossModalAttention


class TransformerLayer(nn.Module):
    """A transformer encoder layer (Vaswani et al. 2017), normalised after each part, padding masked.

    With the same weights it gives the values of ``nn.TransformerEncoderLayer``; one head attends the cheaper way.
    """

    def __init__(self, dim: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = CrossModalAttention(dim, heads, dropout)
        inner = [nn.Linear(dim, feed_forward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feed_forward, dim)]
        self.inner = nn.Sequential(*inner)
        self.norm_attention, self.norm_inner = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) and (batch, time) bool to (batch, time, dim)."""
        frames = self.norm_attention(frames + self.drop(self.attention(frames, frames, mask)))
        attended: Tensor = self.norm_inner(frames + self.drop(self.inner(frames)))
        return attended
