"""What networks without hidden layers share: each modality standardised, cut, and pooled over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError
from serkit.layers import FeatureNormalisation, Normalised, Normalize, Pool
from serkit.tensors import Batch


class PooledFeatures(Normalised):
    """Base of a network on pooled features.

    Args:
        model: name of the network, for messages. dims: width of the features by encoder name, in order.
        pooling, normalize, limit: as the networks describe them.

    Raises:
        SerkitError: no modality.
    """

    def __init__(
        self,
        model: str,
        dims: Mapping[str, int],
        pooling: Literal["mean", "statistics"],
        normalize: Normalize,
        limit: float | None,
    ) -> None:
        super().__init__()
        self.dims, self.limit = dict(dims), limit
        if not self.dims:
            raise SerkitError(f"{model}: no modality; a system needs at least one encoder in 'features'")
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        pools = [Pool(dim, pooling) for dim in self.dims.values()]
        self.pool = nn.ModuleList(pools)
        self.embedding_dim = sum(pool.out_dim for pool in pools)

    def pooled(self, batch: Batch) -> list[Tensor]:
        """(batch, pooled dim) of each modality.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        parts = []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            frames = self.normalisation(name, given, mask)
            if self.limit is not None:
                frames = frames.clamp(-self.limit, self.limit)
            parts.append(self.pool[k](frames, mask))
        return parts


def possible_classes(batch: Batch, rows: Tensor) -> Tensor:
    """(batch, classes) bool: which classes the corpus of each clip has, for ``rows`` of that shape."""
    return torch.ones_like(rows, dtype=torch.bool) if batch.class_mask is None else batch.class_mask.bool()
