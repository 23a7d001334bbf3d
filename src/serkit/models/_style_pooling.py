"""Frames of a clip to one vector by convolutions and self-attention: the style encoder of EmoSphere-SER."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serkit.errors import SerkitError


class StylePooling(nn.Module):
    """Two dense layers, two gated convolutions, self-attention, the mean over time (read in the code of 2505.19693).

    On each frame twice Linear, Mish, dropout; twice ``x + dropout(value · σ(gate))`` of a convolution over time; ``x +
    attention(x)``, whose scores are divided by ``√width`` whatever the number of heads; a last linear layer and the
    mean over real frames. What lies in the padding is set to 0 before every convolution and has no part in attention
    and mean: there it runs into the last frames, and the mean takes a frame or two too many.

    Args:
        dim: width of a frame. width: of everything here. kernel: frames that a convolution sees, odd.
        heads: of the attention, which must divide ``width``. dropout: after each part, and of attention weights.

    Attributes:
        out_dim: width of the vector.

    Raises:
        SerkitError: an even kernel, or heads that do not divide the width.
    """

    def __init__(self, dim: int, width: int = 1024, kernel: int = 5, heads: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise SerkitError(f"style pooling: the kernel has {kernel} frames, expected an odd number")
        if width % heads:
            raise SerkitError(f"style pooling: a width of {width} cannot be shared by {heads} heads: take a multiple")
        self.out_dim, self.heads, self.dropout = width, heads, nn.Dropout(dropout)
        self.dense = nn.Sequential(
            nn.Linear(dim, width), nn.Mish(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.Mish(), nn.Dropout(dropout),
        )  # fmt: skip
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, 2 * width, kernel, padding=kernel // 2) for _ in range(2)
        )  # values, then gates
        self.project = nn.Linear(width, 3 * width)  # queries, keys, values
        self.merge = nn.Linear(width, width)
        self.last = nn.Linear(width, width)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) and (batch, time) bool, a real frame in every row, to (batch, width)."""
        real = mask[:, :, None]
        x = self.dense(frames)
        for convolution in self.convolutions:
            x = x * real
            value, gate = convolution(x.transpose(1, 2)).transpose(1, 2).chunk(2, dim=2)
            x = x + self.dropout(value * gate.sigmoid())
        x = x * real
        batch, time, width = x.shape
        split = self.project(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (batch, heads, time, width of a head) each
        mixed = F.scaled_dot_product_attention(
            query, key, value,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.dropout.p if self.training else 0.0,
            scale=1 / math.sqrt(width),
        )  # fmt: skip
        x = x + self.dropout(self.merge(mixed.transpose(1, 2).reshape(batch, time, width)))
        weights = mask.to(x.dtype) / mask.sum(dim=1, keepdim=True)
        return torch.einsum("bt,btd->bd", weights, self.last(x))
