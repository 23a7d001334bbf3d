"""The control: pool each modality's frames, concatenate the vectors, classify with one hidden layer.

On frozen features this simple network was level with cross-modal attention in one study (validation
Macro-F1 .388 against .383; read in the notes of the UFG team's system, arXiv 2506.02088).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError
from serkit.layers import EmotionHead, FeatureNormalisation, Normalize, Pool
from serkit.parameters import Positive, Rate, Size
from serkit.tensors import Batch, Outputs


class MeanPool(nn.Module):
    """Masked pooling per modality, concatenation, LayerNorm, Linear, ReLU, Dropout, Linear (serkit's own control).

    Args:
        dims: width of the features by encoder name, in order. n_classes: emotions.
        hidden: units of the hidden layer. dropout: after it.
        pooling: ``mean``, or ``statistics``: mean and standard deviation.
        neutral_head: a neutral/expressive logit, which ``neutral_margin`` needs.
        normalize: of the input; see :class:`serkit.layers.FeatureNormalisation`.
        limit: largest size of a normalised value; larger ones are cut. ``None`` cuts nothing.
        input_dropout: of the pooled features. With ``functionals`` (one frame a clip, many columns that say nearly
            the same) half of them is a good start.

    Raises:
        SerkitError: no modality, or a limit that is not positive.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        hidden: Size = 512,
        dropout: Rate = 0.5,
        pooling: Literal["mean", "statistics"] = "mean",
        neutral_head: bool = True,
        normalize: Normalize = "none",
        limit: Positive | None = None,
        input_dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        if limit is not None and not limit > 0:
            raise SerkitError(f"mean_pool: limit {limit} must be positive, or null")
        self.dims, self.limit = dict(dims), limit
        if not self.dims:
            raise SerkitError("mean_pool: no modality; a system needs at least one encoder in 'features'")
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.pool = nn.ModuleDict({str(k): Pool(dim, pooling) for k, dim in enumerate(self.dims.values())})
        self.embedding_dim = sum(self.dims.values()) * (2 if pooling == "statistics" else 1)
        self.dropout = nn.Dropout(input_dropout)
        self.head = EmotionHead(self.embedding_dim, hidden, n_classes, dropout, neutral_head)

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and deviation of one modality's training frames (``normalize: train`` or ``level``)."""
        self.normalisation.set_statistics(name, mean, std)

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch; ``embedding`` is (batch, embedding_dim), the pooled features side by side.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        pooled = []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            frames = self.normalisation(name, given, mask)
            if self.limit is not None:
                frames = frames.clamp(-self.limit, self.limit)
            pooled.append(self.pool[str(k)](frames, mask))
        embedding = self.dropout(torch.cat(pooled, 1))
        emotion, neutral = self.head(embedding)
        return Outputs(emotion, neutral, embedding=embedding)
