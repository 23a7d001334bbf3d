"""Arousal, valence and dominance on the scale of the training corpus."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Apart(nn.Module):
    """A network of its own for each of three numbers.

    Args:
        parts: three, each (batch, dim) to (batch, 1), of layers in a row.
    """

    def __init__(self, *parts: nn.Sequential) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 3)."""
        return torch.cat([part(embedding) for part in self.parts], dim=1)


class AttributeHead(nn.Sequential):
    """A head of three numbers, brought from around 0 to the ratings' own scale.

    Weights that start near 0 would first have to find the middle of a scale of 1 to 7. So the ratings' mean and
    standard deviation in train stand behind the last layer (serkit's own; the code of the challenge's baseline learns
    ratings brought to 0 to 1), and are saved with the weights. CCC is the same on both scales.

    Args:
        layers: (batch, dim) to (batch, 3).
        ends: of a fixed scale instead: ``low + (high - low) * sigmoid``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *layers: nn.Module, ends: tuple[float, float] | None = None) -> None:
        super().__init__(*layers)
        self.ends = ends
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Take the (3,) mean and standard deviation of the ratings; NaN in both for what is not taught.

        Such an attribute is answered with NaN, and gets no gradient.
        """
        self.mean.copy_(torch.where(std > 0, mean, math.nan))
        self.std.copy_(torch.where(std > 0, std, 0.0))

    @property
    def unit(self) -> Tensor:
        """(3,) deviation of the ratings, or width of the fixed scale; 1 for what is not taught."""
        width = self.std if self.ends is None else torch.full_like(self.std, self.ends[1] - self.ends[0])
        return torch.where(torch.isnan(self.mean), torch.ones_like(width), width)

    def forward(self, embedding: Tensor) -> Tensor:
        """(batch, dim) to (batch, 3) arousal, valence, dominance."""
        for layer in self:
            embedding = layer(embedding)
        if self.ends is None:
            return embedding * self.std + self.mean
        low, high = self.ends
        return low + (high - low) * embedding.sigmoid() + (self.mean - self.mean)  # NaN where it is not taught
