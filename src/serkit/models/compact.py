"""A small convolutional network on log-mel frames that trains from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast, get_args

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.layers import FeatureNormalisation, Normalised, Normalize
from serkit.models._flam_head import FlamHead, FramePooling
from serkit.parameters import Needs, Rate, Size, Whole
from serkit.tensors import Batch, Outputs, length_mask

Stem = Literal["time", "time_frequency"]


class Compact(Normalised):
    """Convolutions over log-mel frames, four times fewer frames, frame-level attention, pooling (serkit's own).

    A front end of our own for systems that start from nothing; its sizes are not from a paper. Waveform
    augmentations come before the log-mel encoder, so the network never sees a waveform. Normalisation inside
    the stack is by frame, over channels, never over the batch: a clip's outputs are its own in training too.

    Args:
        dims: width of the frames by encoder name, such as ``{"logmel/80": 81}``; each has a stack of its own, and
            their frames follow one another in time. n_classes: emotions.
        channels: width of the frames that come out; ``heads`` must divide it.
        stem: ``time``: convolutions over time with the bands as channels; ``time_frequency``: over both, which is for
            spectrograms only and costs half as much again.
        n_blocks: residual convolutions at the low rate. kernel: frames that a convolution spans, odd.
        dropout: after each convolution and before the classifier.
        heads: of the self-attention; 0 leaves it out. pooling, bottleneck, hidden, attention_dropout,
            layer_norm, attribute_head, neutral_head: see ``FlamHead``.
        normalize: of the input: ``train`` keeps how loud a clip is, ``level`` and ``utterance`` take it away; ``none``.

    Raises:
        SerkitError: no encoder, an unknown choice, an even kernel, or heads that do not divide ``channels``.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        channels: Size = 128,
        stem: Stem = "time",
        n_blocks: Whole = 3,
        kernel: Size = 5,
        dropout: Rate = 0.2,
        heads: Whole = 16,
        pooling: FramePooling = "attention",
        bottleneck: Whole = 64,
        hidden: Whole = 0,
        attention_dropout: Annotated[Rate, Needs("heads")] = 0.0,
        layer_norm: bool = False,
        attribute_head: bool = False,
        neutral_head: bool = False,
        normalize: Normalize = "utterance",
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        if not self.dims:
            raise SerkitError("compact: no modality; a system needs at least one encoder in 'features'")
        check_known(stem, get_args(Stem), f"compact: no stem '{stem}'")
        if kernel < 1 or kernel % 2 == 0 or n_blocks < 0:
            raise SerkitError(f"compact: kernel {kernel} must be odd and n_blocks {n_blocks} not negative")
        self.normalisation = FeatureNormalisation(self.dims, normalize)
        self.stems = nn.ModuleList(
            _TimeStem(dim, channels, kernel, dropout) if stem == "time" else _TimeFrequencyStem(dim, channels, dropout)
            for dim in self.dims.values()
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Convolution(channels, channels, kernel, 1, dropout) for _ in range(n_blocks))
            for _ in self.dims
        )
        self.head = FlamHead(
            dim=channels,
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
            Outputs with ``embedding`` (batch, embedding_dim) and ``frames`` (batch, time, channels): a quarter of the
            frames that came in, rounded up, with ``frames_mask``.

        Raises:
            SerkitError: an encoder is missing or has another width.
        """
        frames, masks = [], []
        for k, (name, dim) in enumerate(self.dims.items()):
            given, mask = batch.frames(name, dim)
            encoded, lengths = self.stems[k](self.normalisation(name, given, mask), batch.lengths[name])
            low = length_mask(lengths, encoded.shape[1])
            for block in cast(nn.ModuleList, self.blocks[k]):
                encoded = encoded + block(encoded, low)
            frames.append(encoded)
            masks.append(low)
        outputs: Outputs = self.head(torch.cat(frames, dim=1), torch.cat(masks, dim=1))
        return outputs


class _Convolution(nn.Module):
    """Conv1d over time, LayerNorm over channels, GELU, dropout; padding comes out as zeros.

    A frame of the output is real where its middle input frame is: ``ceil(length / stride)`` of them.
    """

    def __init__(self, dim: int, channels: int, kernel: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, channels, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim), zeros in the padding, and the (batch, time') mask of the output, to that output."""
        encoded = self.conv(frames.transpose(1, 2)).transpose(1, 2)
        result: Tensor = self.dropout(nn.functional.gelu(self.norm(encoded))) * mask[:, :, None]
        return result


class _TimeStem(nn.Module):
    """Two convolutions over time, each halving the rate; bands are channels."""

    def __init__(self, dim: int, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = _Convolution(dim, channels, kernel, 2, dropout)
        self.second = _Convolution(channels, channels, kernel, 2, dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, dim) to (batch, ceil(time / 4), channels) with new lengths."""
        for layer in (self.first, self.second):
            lengths = (lengths + 1) // 2
            frames = layer(frames, length_mask(lengths, (frames.shape[1] + 1) // 2))
        return frames, lengths


class _TimeFrequencyStem(nn.Module):
    """Four convolutions over time and bands, the first two halving the rate, all halving the bands."""

    def __init__(self, dim: int, channels: int, dropout: float) -> None:
        super().__init__()
        widths = [1, max(channels // 8, 1), max(channels // 4, 1), max(channels // 4, 1), max(channels // 2, 1)]
        strides = (2, 2, 1, 1)
        self.layers = nn.ModuleList(
            _Convolution2d(a, b, 3, stride) for a, b, stride in zip(widths, widths[1:], strides, strict=False)
        )
        for _ in strides:
            dim = (dim + 1) // 2
        self.out = nn.Sequential(nn.Linear(dim * widths[-1], channels), nn.LayerNorm(channels), nn.Dropout(dropout))

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, dim) to (batch, ceil(time / 4), channels) with new lengths."""
        image = frames[:, None]
        mask = length_mask(lengths, frames.shape[1])
        for layer in self.layers:
            if layer.stride == 2:
                lengths = (lengths + 1) // 2
                mask = length_mask(lengths, (image.shape[2] + 1) // 2)
            image = layer(image, mask)
        flat = image.permute(0, 2, 1, 3).flatten(2)
        return self.out(flat) * mask[:, :, None], lengths


class _Convolution2d(nn.Module):
    """Conv2d over (time, bands), LayerNorm over channels at every point, GELU; padding comes out as zeros."""

    def __init__(self, dim: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(dim, channels, kernel, stride=(stride, 2), padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """(batch, dim, time, bands) and the (batch, time') mask to (batch, channels, time', bands')."""
        encoded = self.norm(self.conv(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        result: Tensor = nn.functional.gelu(encoded) * mask[:, None, :, None]
        return result
