"""Pretrained speech networks on padded batches, to train further: samples in, frames out, no trace of the padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serkit.foundation import emotion2vec_model
from serkit.foundation.speech import isolate_clips, receptive_field
from serkit.foundation.whisper import HOP, MEL_HOP, N_FFT, attended, entering, log_mel

QUIET_VARIANCE = 1e-7  # of Wav2Vec2FeatureExtractor


class Trainable(nn.Module):
    """A pretrained network as what trains it sees it.

    Args:
        model: of transformers. front: the convolutions below everything else. layers: of the transformer, first to
            last. top: what follows. dim: width of a state.
    """

    def __init__(
        self, model: Any, *, front: Iterable[nn.Module], layers: Iterable[nn.Module], top: Iterable[nn.Module], dim: int
    ) -> None:
        super().__init__()
        self.model, self.dim = model, dim
        self.front, self.layers, self.top = tuple(front), tuple(layers), tuple(top)

    def freeze_front(self) -> None:
        """Train the convolutions no further, and keep no graph of them."""
        for module in self.front:
            freeze = getattr(module, "_freeze_parameters", None)  # wav2vec 2.0 otherwise keeps a graph all the same
            freeze() if freeze else module.requires_grad_(False)

    def checkpoint_activations(self) -> None:
        """Keep no activations of the transformer layers, and compute them again in the backward pass."""
        enable = getattr(self.model, "activation_checkpointing_enable", None)  # its name since transformers 5
        enable = enable or self.model.gradient_checkpointing_enable
        enable({"use_reentrant": False})


class Backbone(Trainable):
    """What every family on waveforms has in common; a clip's frames are its own, whatever it is padded with.

    In evaluation mode they are the frames that the encoder of the same name extracts.

    Args:
        model: of transformers. normalise: bring each clip to zero mean and unit variance first.
        front: the convolutions below everything else. layers: of the transformer, first to last. top: what follows.
        dim: width of a frame. window, hop: samples that a frame needs, and between frames.
    """

    quiet_variance: ClassVar[float] = QUIET_VARIANCE

    def __init__(
        self,
        model: Any,
        *,
        normalise: bool,
        front: Iterable[nn.Module],
        layers: Iterable[nn.Module],
        top: Iterable[nn.Module],
        dim: int,
        window: int,
        hop: int,
    ) -> None:
        super().__init__(model, front=front, layers=layers, top=top, dim=dim)
        self.normalise, self.window, self.hop = normalise, window, hop

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of some clips.

        Args:
            samples: (batch, time) float, anything in the padding. lengths: (batch,) int64, at least 1.

        Returns:
            (batch, frames, dim) and (batch,) int64 numbers of real frames.
        """
        states, n_frames = self.states(samples, lengths, every=False)
        return states[0], n_frames

    def states(self, samples: Tensor, lengths: Tensor, *, every: bool = True) -> tuple[list[Tensor], Tensor]:
        """Hidden states of some clips: what enters the first layer, then what each layer gives.

        The last one is the model's own output, after its final normalisation, as in features with ``layer: all``;
        or before it, see :class:`WaveBackbone`.

        Args:
            samples: (batch, time) float, anything in the padding. lengths: (batch,) int64, at least 1.
            every: or else the last one alone.

        Returns:
            (batch, frames, dim) each, and (batch,) int64 numbers of real frames.
        """
        lengths = lengths.clamp(min=self.window)
        short = self.window - samples.shape[1]
        samples = F.pad(samples, (0, short)) if short > 0 else samples
        real = torch.arange(samples.shape[1], device=samples.device)[None, :] < lengths[:, None]
        samples = samples.float().masked_fill(~real, 0.0)
        if self.normalise:
            n = lengths[:, None].float()
            away = (samples - samples.sum(dim=1, keepdim=True) / n).masked_fill(~real, 0.0)
            samples = away * torch.rsqrt((away**2).sum(dim=1, keepdim=True) / n + self.quiet_variance)
        return self._states(samples, lengths, real, every)

    def _states(self, samples: Tensor, lengths: Tensor, real: Tensor, every: bool) -> tuple[list[Tensor], Tensor]:
        """As :meth:`states`, of samples that are zero where (batch, time) ``real`` is false."""
        raise NotImplementedError


class WaveBackbone(Backbone):
    """A wav2vec 2.0-shaped network; what is masked, and why, is told in :mod:`serkit.foundation.speech`.

    Args:
        model: of transformers. normalise: as in :class:`Backbone`.
        raw_end: of all states, give the last layer's own output in place of the model's, which in networks with a
            stable layer normalisation is that output normalised.
    """

    def __init__(self, model: Any, *, normalise: bool, raw_end: bool = False) -> None:
        config, encoder = model.config, model.encoder
        window, hop = receptive_field(config.conv_kernel, config.conv_stride)
        stable = config.do_stable_layer_norm and hasattr(encoder, "layer_norm")
        super().__init__(
            model, normalise=normalise, front=[model.feature_extractor], layers=encoder.layers,
            top=[encoder.layer_norm] if stable else [],  # of others it precedes the first layer
            dim=int(config.hidden_size), window=window, hop=hop,
        )  # fmt: skip
        self.raw_end = raw_end
        self._kernels, self._strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self._norm = isolate_clips(model)

    def _states(self, samples: Tensor, lengths: Tensor, real: Tensor, every: bool) -> tuple[list[Tensor], Tensor]:
        if self._norm is not None:
            self._norm.lengths = (lengths - self._kernels[0]) // self._strides[0] + 1
        mask = None if bool(real.all()) else real.long()
        found = self.model(samples, attention_mask=mask, output_hidden_states=every)
        below = list(found.hidden_states[:-1]) if every else []
        last = found.hidden_states[-1] if every and self.raw_end else found.last_hidden_state
        return [*below, last], (lengths - self.window) // self.hop + 1


class Emotion2vecBackbone(Backbone):
    """emotion2vec, for inference: :class:`serkit.foundation.emotion2vec_model.Emotion2vecModel` has no dropout.

    Args:
        model: in evaluation mode; its classifier is not asked.
    """

    quiet_variance: ClassVar[float] = emotion2vec_model.QUIET_VARIANCE

    def __init__(self, model: emotion2vec_model.Emotion2vecModel) -> None:
        super().__init__(
            model, normalise=True, front=[model.audio.local_encoder], layers=model.layers, top=[], dim=model.dim,
            window=model.window, hop=model.hop,
        )  # fmt: skip

    def _states(self, samples: Tensor, lengths: Tensor, real: Tensor, every: bool) -> tuple[list[Tensor], Tensor]:
        n_frames = (lengths - self.window) // self.hop + 1
        last = len(self.layers)
        wanted = range(0 if every else last, last + 1)
        found = cast(Any, self.model).states(samples, None if bool(real.all()) else n_frames, wanted)
        return [found[k] for k in wanted], n_frames


class WhisperBackbone(Backbone):
    """Whisper's encoder, its spectrogram included. A clip of ``n`` samples has ``ceil(n / 320)`` frames.

    A clip longer than a window is computed in windows one after the other, each with positions from zero and a
    loudness of its own, as in the encoder ``whisper``. The positions are sinusoids and are never trained.

    Args:
        model: ``WhisperEncoder`` of transformers. normalise: as in :class:`Backbone`; no published one wants it.
        filters: (bands, 201) float32 of the mel bands.
        frames: of a window that every clip is padded to with silence, which is attended to, as published (1500: 30 s);
            ``None``: positions are cut to the clip, nothing else is attended to, and only what is longer than the
            model's positions is cut.
        whole: the frames of the silence after a clip count as its own, up to the end of its last window, as they do in
            transformers' classifier; only with ``frames``.
        begun: a step of 160 samples that a clip ends in counts as one; or else it has ``ceil(floor(n / 160) / 2)``
            frames, at least one, as in vox-profile.
    """

    filters: Tensor

    def __init__(
        self,
        model: Any,
        *,
        normalise: bool,
        filters: np.ndarray,
        frames: int | None,
        whole: bool = False,
        begun: bool = True,
    ) -> None:
        super().__init__(
            model, normalise=normalise, front=[model.conv1, model.conv2], layers=model.layers, top=[model.layer_norm],
            dim=int(model.config.d_model), window=1, hop=HOP,
        )  # fmt: skip
        self.frames, self.most = frames, int(model.config.max_source_positions)
        self.whole, self.begun = whole and frames is not None, begun
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        model.embed_positions.requires_grad_(False)

    def _states(self, samples: Tensor, lengths: Tensor, real: Tensor, every: bool) -> tuple[list[Tensor], Tensor]:
        n_frames = -(-lengths // HOP) if self.begun else -(-(lengths // MEL_HOP).clamp(min=1) // 2)
        time = int(n_frames.max())
        size = self.frames or min(time, self.most)
        count = -(-time // size)
        samples = samples[:, : count * size * HOP]
        samples = F.pad(samples, (0, count * size * HOP - samples.shape[1])).reshape(-1, size * HOP)
        first = size * torch.arange(count, device=lengths.device)
        own = (n_frames[:, None] - first).clamp(0, size).flatten()
        some = own > 0  # windows; a short clip beside a long one has none of most
        found = [state.new_zeros(len(some), *state.shape[1:]).index_put((some,), state) if count > 1 else state
                 for state in self._windows(samples[some], own[some], every)]  # fmt: skip
        if self.whole:
            time, n_frames = count * size, -(-n_frames // size) * size
        return [state.reshape(-1, count * size, self.dim)[:, :time] for state in found], n_frames

    def _windows(self, samples: Tensor, own: Tensor, every: bool) -> list[Tensor]:
        """Hidden states, (windows, time, dim) each, of (windows, samples) with (windows,) frames of their clip."""
        size, seen = samples.shape[1] // HOP, None
        if self.frames is None:
            samples = F.pad(samples, (0, N_FFT))
            seen = torch.arange(size, device=own.device)[None, :] < own[:, None]
        with torch.autocast(samples.device.type, enabled=False):
            mel = log_mel(samples, self.filters, seen)
        model = cast(Any, self.model)
        hidden = F.dropout(entering(model, mel), p=model.dropout, training=self.training)
        mask = attended(seen, hidden.dtype)
        below = []
        for layer in model.layers:
            if every:
                below.append(hidden)
            if not (self.training and model.layerdrop > 0.0 and float(torch.rand([])) < model.layerdrop):
                hidden = layer(hidden, mask)
        return [*below, model.layer_norm(hidden)]
