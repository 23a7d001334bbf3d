"""The cross-modal network of Ueda et al., Interspeech 2025 (arXiv 2505.20007), section 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.layers import (
    BidirectionalGRU,
    CrossModalAttention,
    FeatureNormalisation,
    Normalised,
    Normalize,
    Pool,
    Pooling,
)
from serkit.models._attributes import Apart, AttributeHead
from serkit.models._emotion_head import EmotionHead, hidden_layer
from serkit.parameters import NotNegative, Rate, Size
from serkit.tensors import Batch, Outputs
from serkit.types import ATTRIBUTES

Attention = Literal["per_pair", "per_query"]
PUBLISHED_CODE: dict[str, Any] = {"masked": False, "attention": "per_query", "pooling": "published_code"}
"""Keywords that give the network of the released code; its trimodal one adds ``heads: {PROSODY: 2}``."""


class CrossAttention(Normalised):
    """Recurrent encodings of 2 or more modalities that attend to each other, pooled (Ueda et al. 2025).

    Per modality ``H = biGRU(LayerNorm(Linear(X)))``; ``Z_m = H_m + sum_n MHA(H_m, H_n, H_n)`` over the
    other modalities; attention pooling (eq. 1-2); the pooled vectors side by side are the embedding,
    which LayerNorm-Linear-ReLU-Linear turns into logits. One modality alone has no cross attention: a
    biGRU with attention pooling.

    Args:
        dims: width of the features by encoder name; the order is that of the embedding.
        n_classes: emotions.
        hidden: h, units of the projection, of each GRU direction and of the classifier (paper: 512).
        heads: attention heads, for all or by query modality, the others 1 (paper: 1; code, prosody: 2).
        dropout: in the heads (code: 0.5; the paper names none).
        attention_dropout: of the attention weights; ``None`` takes ``dropout`` (code: 0.5).
        attention: ``per_pair``: an attention of its own for every ordered pair of modalities, as the
            paper's "for each distinct modality combination" reads; ``per_query``: one per query
            modality, shared by its keys (code). With two modalities they are the same.
        pooling: ``scaled`` (eq. 1), ``published_code`` (with bias, without ``1/sqrt(D)``), ``mean``,
            ``statistics``.
        masked: padding is nowhere seen. ``False``: it is encoded, attended to and pooled like speech, so
            that a clip's logits depend on its batch, as in the released code.
        neutral_head: a neutral/expressive logit from the embedding, which ``neutral_margin`` needs (code:
            always there).
        attribute_head: arousal, valence and dominance, each by a Linear-ReLU-Dropout-Linear of its own on the
            normalised embedding (SAIL, arXiv 2506.10930: three MLPs of two layers), on the ratings' own scale.
        normalize: of the input, ``none`` (paper), ``train``, ``level`` or ``utterance``;
            see :class:`serkit.layers.FeatureNormalisation`.
        gru_layers: stacked GRU layers (paper: 1). layer_dropout: between them.
        input_dropout: of the projected, normalised features before the GRU (paper: none).
        noise: standard deviation of Gaussian noise on the (normalised) input in training (paper: none).

    Raises:
        SerkitError: no modality, an unknown attention, heads for an unknown one or
            heads that do not divide ``2 * hidden``.

    >>> network = CrossAttention(dims={"whisper": 1280, "roberta": 1024}, n_classes=8, **PUBLISHED_CODE)
    >>> sum(p.numel() for p in network.parameters())
    17992203
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        hidden: Size = 512,
        heads: Size | Mapping[str, Size] = 1,
        dropout: Rate = 0.5,
        attention_dropout: Rate | None = None,
        attention: Attention = "per_pair",
        pooling: Pooling = "scaled",
        masked: bool = True,
        neutral_head: bool = True,
        normalize: Normalize = "none",
        gru_layers: Size = 1,
        layer_dropout: Rate = 0.0,
        input_dropout: Rate = 0.0,
        noise: NotNegative = 0.0,
        attribute_head: bool = False,
    ) -> None:
        super().__init__()
        self.dims, self.masked, self.noise = dict(dims), masked, noise
        if not self.dims:
            raise SerkitError("cross_attention: no modality; a system needs at least one encoder in 'features'")
        check_known(attention, get_args(Attention), f"cross_attention: no attention '{attention}'")
        n_heads = _heads_by_modality(heads, tuple(self.dims))
        width = 2 * hidden
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.Dropout(input_dropout))
            for dim in self.dims.values()
        )
        self.recurrent = nn.ModuleList(BidirectionalGRU(hidden, hidden, gru_layers, layer_dropout) for _ in self.dims)
        self._pairs = list(permutations(range(len(self.dims)), 2))
        rate = dropout if attention_dropout is None else attention_dropout
        keys = dict.fromkeys(self._attention_key(pair, attention) for pair in self._pairs)
        self.attention = nn.ModuleDict(
            {key: CrossModalAttention(width, n_heads[int(key.split("_")[0])], rate) for key in keys}
        )
        self._attention_of = {pair: self._attention_key(pair, attention) for pair in self._pairs}
        self.pool = nn.ModuleList(Pool(width, pooling) for _ in self.dims)
        self.embedding_dim = len(self.dims) * Pool(width, pooling).out_dim
        self.head = EmotionHead(self.embedding_dim, hidden, n_classes, dropout, neutral_head)
        apart = (hidden_layer(self.embedding_dim, hidden, 1, dropout) for _ in ATTRIBUTES)
        self.attributes = AttributeHead(Apart(*apart)) if attribute_head else None
        self.mean = Pool(hidden, "mean")
        self.layer_dims = {
            **{f"frames/{name}": hidden for name in self.dims},
            **{f"pooled/{name}": pool.out_dim for name, pool in zip(self.dims, self.pool, strict=True)},
            "hidden": hidden,
        }

    @staticmethod
    def _attention_key(pair: tuple[int, int], attention: str) -> str:
        return f"{pair[0]}_from_{pair[1]}" if attention == "per_pair" else f"{pair[0]}_from_others"

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Args:
            batch: its features hold every modality of ``dims``.

        Returns:
            Outputs: ``emotion`` (batch, classes), ``neutral`` (batch,) and ``attributes`` (batch, 3) where
            these heads are, ``embedding`` (batch, embedding_dim), ``frames`` (batch, time, 2 * hidden) with
            ``frames_mask`` of the first modality after attention, and ``layers``: of each modality the
            mean over time of what the GRU reads, then the pooled vectors, then the hidden layer of the
            classifier before its ReLU (as in Crab, Ueda et al. 2026, 2603.23673).

        Raises:
            SerkitError: a modality is missing or has another width.
        """
        encoded: list[Tensor] = []
        means: list[Tensor] = []
        masks: list[Tensor | None] = []
        for k, (name, dim) in enumerate(self.dims.items()):
            frames, mask = batch.frames(name, dim)
            lengths = batch.lengths[name]
            frames = self.normalisation(name, frames, mask)
            if self.noise and self.training:
                frames = frames + self.noise * torch.randn_like(frames)
            if not self.masked:
                lengths = torch.full_like(lengths, frames.shape[1])
            projected = self.project[k](frames)
            encoded.append(self.recurrent[k](projected, lengths))
            masks.append(mask if self.masked else None)
            means.append(self.mean(projected, masks[k]))
        aligned = list(encoded)
        for pair in self._pairs:
            query, key = pair
            attend = self.attention[self._attention_of[pair]]
            aligned[query] = aligned[query] + attend(encoded[query], encoded[key], masks[key])
        pooled = [pool(frames, mask) for pool, frames, mask in zip(self.pool, aligned, masks, strict=True)]
        embedding = torch.cat(pooled, 1)
        emotion, neutral, hidden = self.head(embedding)
        return Outputs(
            emotion,
            neutral,
            None if self.attributes is None else self.attributes(self.head.norm(embedding)),
            embedding=embedding,
            frames=aligned[0],
            frames_mask=batch.mask(next(iter(self.dims))),
            layers=dict(zip(self.layer_dims, [*means, *pooled, hidden], strict=True)),
        )


def _heads_by_modality(heads: int | Mapping[str, int], names: tuple[str, ...]) -> list[int]:
    if isinstance(heads, int):
        return [heads] * len(names)
    for name in heads:
        check_known(name, names, f"cross_attention: heads for '{name}', which is not a modality here")
    return [heads.get(name, 1) for name in names]
