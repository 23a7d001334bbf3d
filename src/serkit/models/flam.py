"""The network of Multi-Loss Learning: frame-level attention on frames of a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import nn

from serkit.errors import SerkitError
from serkit.layers import FeatureNormalisation, Normalised, Normalize
from serkit.models._flam_head import FlamHead, FramePooling
from serkit.parameters import Needs, Rate, Size, Whole
from serkit.tensors import Batch, Outputs


class Flam(Normalised):
    """``U = F + MSA_16(F)``, learned-vector pooling, a 64-d embedding, a linear classifier (Wang et al. 2026).

    Wang et al. 2026 (arXiv 2512.04551), section on FLAM. Read: 16 heads, the residual, pooling
    by a learned vector, 64 dimensions for the centers. Unknown: LayerNorm, dropout, feed-forward block; they
    are off here. The classifier reads the 64 dimensions, as in label-adaptive mixup's code, its ancestor.

    Several encoders are each projected to the common width and follow one another in time, so that every
    frame attends to those of all of them (a proposal; the paper has one encoder).

    Args:
        dims: width of the features by encoder name. n_classes: emotions.
        heads: of the self-attention (read: 16); 0 leaves it out.
        pooling: ``attention`` (read), ``mean``, ``max``, ``last`` or ``attentive_statistics``.
        width: of the frames that attend; ``None`` is the encoder's own (the widest), rounded up to a multiple of
            ``heads``. Where it is not the encoder's own, a linear layer brings the frames to it.
        bottleneck: width of the embedding (read: 64, as a projection for the centers); 0: the pooled vector.
        hidden: units of a hidden layer of the classifier; 0 is a linear one.
        dropout, attention_dropout, layer_norm, attribute_head, neutral_head: see ``FlamHead``.
        normalize: of the input, ``none``, ``train``, ``level`` or ``utterance``; see
            :class:`serkit.layers.FeatureNormalisation`.

    Raises:
        SerkitError: no encoder, a width that heads do not divide, an unknown pooling.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        heads: Whole = 16,
        pooling: FramePooling = "attention",
        width: Size | None = None,
        bottleneck: Whole = 64,
        hidden: Whole = 0,
        dropout: Rate = 0.0,
        attention_dropout: Annotated[Rate, Needs("heads")] = 0.0,
        layer_norm: bool = False,
        attribute_head: bool = False,
        neutral_head: bool = False,
        normalize: Normalize = "none",
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        if not self.dims:
            raise SerkitError("flam: no modality; a system needs at least one encoder in 'features'")
        step = max(heads, 1)
        width = -(-max(self.dims.values()) // step) * step if width is None else width
        alone = len(self.dims) == 1
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.project = nn.ModuleList(
            nn.Identity() if alone and dim == width else nn.Linear(dim, width) for dim in self.dims.values()
        )
        self.head = FlamHead(
            dim=width,
            n_classes=n_classes,
            heads=heads,
            pooling=pooling,
            bottleneck=bottleneck,
            hidden=hidden,
            dropout=dropout,
            attention_dropout=attention_dropout,
            layer_norm=layer_norm,
            attribute_head=attribute_head,
            neutral_head=neutral_head,
        )
        self.embedding_dim = self.head.embedding_dim

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Returns:
            Outputs with ``embedding`` (batch, embedding_dim) and ``frames`` (batch, time, width) of all
            encoders, one after the other, with ``frames_mask``.

        Raises:
            SerkitError: an encoder is missing or has another width.
        """
        frames, masks = [], []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            frames.append(self.project[k](self.normalisation(name, given, mask)))
            masks.append(mask)
        outputs: Outputs = self.head(torch.cat(frames, dim=1), torch.cat(masks, dim=1))
        return outputs
