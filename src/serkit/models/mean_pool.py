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
from serkit.layers import FeatureNormalisation, Normalize, Pool
from serkit.models._emotion_head import Activation, EmotionHead
from serkit.models._shares import ShareEmbedding
from serkit.parameters import Positive, Rate, Size, Whole
from serkit.tensors import Batch, Outputs


class MeanPool(nn.Module):
    """Masked pooling per modality, concatenation, LayerNorm, Linear, ReLU, Dropout, Linear (serkit's own control).

    Args:
        dims: width of the features by encoder name, in order. n_classes: emotions.
        hidden: units of the hidden layer. dropout: after it, and after each projection.
        activation: of the hidden layer, ``relu``, or gated: ``swiglu`` (read: both).
        pooling: ``mean``, or ``statistics``: mean and standard deviation.
        neutral_head: a neutral/expressive logit, which ``neutral_margin`` needs.
        normalize: of the input; see :class:`serkit.layers.FeatureNormalisation`.
        limit: largest size of a normalised value; larger ones are cut. ``None`` cuts nothing.
        input_dropout: of the pooled features. With ``functionals`` (one frame a clip, many columns that say nearly
            the same) half of them is a good start.
        project: units to which Linear, ReLU and Dropout bring each pooled modality before concatenation (read: 512);
            0 for none of it.
        embed: width of a learned vector for each bin, by encoder name, of modalities that are shares of bins, such as
            ``{f0_bins: 256}``. These are neither normalised nor cut.

    Raises:
        SerkitError: no modality, a limit that is not positive, or an unknown name.
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
        activation: Activation = "relu",
        project: Whole = 0,
        embed: Mapping[str, Size] | None = None,
    ) -> None:
        super().__init__()
        if limit is not None and not limit > 0:
            raise SerkitError(f"mean_pool: limit {limit} must be positive, or null")
        self.dims, self.limit = dict(dims), limit
        if not self.dims:
            raise SerkitError("mean_pool: no modality; a system needs at least one encoder in 'features'")
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.embed = ShareEmbedding(self.dims, embed)
        pools = [Pool(dim, pooling) for dim in self.embed.dims.values()]
        self.pool = nn.ModuleDict({str(k): pool for k, pool in enumerate(pools)})
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(pool.out_dim, project), nn.ReLU(), nn.Dropout(dropout)) for pool in pools if project
        )
        self.embedding_dim = sum(project or pool.out_dim for pool in pools)
        self.dropout = nn.Dropout(input_dropout)
        self.head = EmotionHead(self.embedding_dim, hidden, n_classes, dropout, neutral_head, activation)

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and deviation of one modality's training frames (``normalize: train`` or ``level``)."""
        self.embed.set_statistics(self.normalisation, name, mean, std)

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch; ``embedding`` is (batch, embedding_dim), the pooled features side by side.

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        pooled = []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            frames = self.embed.or_normalised(self.normalisation, name, given, mask)
            if self.limit is not None and name not in self.embed:
                frames = frames.clamp(-self.limit, self.limit)
            vector = self.pool[str(k)](frames, mask)
            pooled.append(self.project[k](vector) if len(self.project) else vector)
        embedding = self.dropout(torch.cat(pooled, 1))
        emotion, neutral, _ = self.head(embedding)
        return Outputs(emotion, neutral, embedding=embedding)
