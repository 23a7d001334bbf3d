"""emotion2vec (Ma et al. 2023, arXiv 2312.15185): the network that its features come from, and its classifier.

Written from the public code that computes it (FunASR, ``funasr/models/emotion2vec``, MIT), which is data2vec 2.0
(Baevski et al. 2022, arXiv 2212.07525) for audio, and from the published ``config.yaml``. Not checked on the published
weights. A torch module whose names are the published ones without ``d2v_model.``, so that the weights load strictly:

- seven convolutions without padding, each with layer normalisation over its channels and GELU;
- layer normalisation and a linear layer to the width of the network;
- five convolutions in groups, each with a normalisation without weights and GELU, one after the other; their result,
  the position, is added;
- ten learned tokens before the frames; a layer normalisation;
- transformer layers with the normalisation after the sum, four of the context encoder and eight above it. All add to
  their attention a penalty that grows with the distance of two frames (ALiBi, Press et al. 2021, arXiv 2108.12409),
  scaled for each head by what was learned; the tokens have none, to or from;
- the frames without the tokens are the features; the classifier is a linear layer on their mean.

A row's output does not depend on what it is padded with: before each convolution of the position the padding is zero,
as at the end of a clip alone, and no frame attends to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serkit import emotion2vec_files
from serkit.checkpoint_files import weight_files
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation.loading import read_bin, refuse_weights, safe_folder
from serkit.foundation.pieces import pieces
from serkit.foundation.speech import receptive_field

PREFIX = "d2v_model."  # of every name below the classifier, in the files that have one
HEAD = ("proj.weight", "proj.bias")
IGNORED = ("modality_encoders.AUDIO.decoder.",)  # reconstructs masked frames in pretraining
QUIET_VARIANCE = 1e-5  # torch's, in the normalisation of the waveform
CHUNK_S, CONTEXT_S = 60.0, 5.0  # of the classifier, as the encoder has them by default


def slopes(heads: int) -> list[float]:
    """Penalty of each head for a distance of one frame; between powers of two, every other one of the next is added.

    >>> slopes(2), slopes(3)
    ([0.0625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    power = 2 ** int(math.log2(heads))
    found = [2.0 ** (-8.0 * (k + 1) / power) for k in range(power)]
    return found if power == heads else found + slopes(2 * power)[0::2][: heads - power]


def normalised(samples: np.ndarray, shortest: int) -> np.ndarray:
    """(samples,) float32 at zero mean and unit variance, as the published code brings each whole clip.

    Args:
        samples: (samples,) float32. shortest: samples that a clip has at least; zeros are added to a shorter one.
    """
    wide = np.pad(samples.astype(np.float64), (0, max(0, shortest - len(samples))))
    return np.asarray((wide - wide.mean()) / np.sqrt(wide.var() + QUIET_VARIANCE), dtype=np.float32)


class _Front(nn.Module):
    def __init__(self, widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.conv_layers = nn.ModuleList()
        for inside, width, kernel, stride in zip((1, *widths), widths, kernels, strides, strict=False):
            conv = nn.Conv1d(inside, width, kernel, stride, bias=False)
            self.conv_layers.append(nn.ModuleDict({"0": conv, "2": nn.ModuleDict({"1": nn.LayerNorm(width)})}))

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) to (batch, frames, width)."""
        x, layers = samples[:, :, None], cast(Any, self.conv_layers)
        for layer in layers:
            x = F.gelu(layer["2"]["1"](layer["0"](x.transpose(1, 2)).transpose(1, 2)))
        return x


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), heads

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, time, dim = x.shape
        query, key, value = self.qkv(x).view(batch, time, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, time, dim))
        return result


class _Wide(nn.Module):
    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int, eps: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn, self.mlp = _Attention(dim, heads), _Wide(dim, inner)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(batch, time, dim), with what is added to the attention (batch or 1, heads, time, time), to the same."""
        x = self.norm1(x + self.attn(x, bias))
        result: Tensor = self.norm2(x + self.mlp(x))
        return result


class _Context(nn.Module):
    def __init__(self, layers: nn.ModuleList, norm: nn.LayerNorm):
        super().__init__()
        self.blocks, self.norm = layers, norm


class _Audio(nn.Module):
    """What is before the layers that all kinds of input would share, in data2vec's words the modality encoder."""

    def __init__(self, config: Mapping[str, Any], layers: nn.ModuleList):
        super().__init__()
        dim, heads, kernel = config["hidden_size"], config["num_attention_heads"], config["conv_pos_kernel"]
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, heads, 1, 1))
        self.extra_tokens = nn.Parameter(torch.randn(1, config["num_extra_tokens"], dim))
        self.local_encoder = _Front(config["conv_dim"], config["conv_kernel"], config["conv_stride"])
        width = config["conv_dim"][-1]
        self.project_features = nn.ModuleDict({"1": nn.LayerNorm(width), "2": nn.Linear(width, dim)})
        self.relative_positional_encoder = nn.ModuleDict(
            {
                str(k + 1): nn.ModuleDict(
                    {"0": nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=config["conv_pos_groups"])}
                )
                for k in range(config["conv_pos_depth"])
            }
        )
        self.context_encoder = _Context(layers, nn.LayerNorm(dim, config["layer_norm_eps"]))

    def forward(self, samples: Tensor, seen: Tensor | None) -> Tensor:
        """(batch, samples), with (batch, frames) bool or nothing, to (batch, tokens + frames, dim)."""
        x = self.project_features["2"](self.project_features["1"](self.local_encoder(samples)))
        position, layers = x, cast(Any, self.relative_positional_encoder)
        for layer in layers.values():
            position = position if seen is None else position.masked_fill(~seen[:, :, None], 0.0)
            position = layer["0"](position.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2)
            position = F.gelu(F.layer_norm(position, position.shape[-1:]))
        x = torch.cat([self.extra_tokens.expand(len(x), -1, -1), x + position], dim=1)
        result: Tensor = self.context_encoder.norm(x)
        return result

    def penalty(self, frames: int, seen: Tensor | None) -> Tensor:
        """(batch or 1, heads, tokens + frames, tokens + frames): what is added to the attention of every layer."""
        scale = self.alibi_scale[0].float().clamp_min(0.0)
        at = torch.arange(frames, device=scale.device, dtype=torch.float32)
        slope = torch.tensor(slopes(scale.shape[1]), device=scale.device)[None, :, None, None]
        tokens = self.extra_tokens.shape[1]
        found = F.pad(-slope * scale * (at[None, :] - at[:, None]).abs(), (tokens, 0, tokens, 0))
        if seen is not None:
            hidden = ~F.pad(seen, (tokens, 0), value=True)[:, None, None, :]
            found = found.expand(len(seen), -1, -1, -1).masked_fill(hidden, float("-inf"))
        return found.to(self.alibi_scale.dtype)


class Emotion2vecModel(nn.Module):
    """emotion2vec for inference: no dropout, no masking.

    Args:
        config: of :func:`serkit.emotion2vec_files.sizes`. classes: of the classifier; 0 for none.

    Attributes:
        dim: width of a frame. window, hop: samples that a frame spans, and between frames.
    """

    def __init__(self, config: Mapping[str, Any], classes: int = 0):
        super().__init__()
        dim, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
        made = [_Layer(dim, heads, inner, config["layer_norm_eps"]) for _ in range(config["num_hidden_layers"])]
        below = config["prenet_layers"]
        self.modality_encoders = nn.ModuleDict({"AUDIO": _Audio(config, nn.ModuleList(made[:below]))})
        self.blocks = nn.ModuleList(made[below:])
        self.proj = nn.Linear(dim, classes) if classes else None
        self.dim = int(dim)
        self.window, self.hop = receptive_field(config["conv_kernel"], config["conv_stride"])

    @property
    def audio(self) -> _Audio:
        """All below the last layers."""
        return cast(_Audio, self.modality_encoders["AUDIO"])

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.audio.alibi_scale.dtype

    @property
    def layers(self) -> list[nn.Module]:
        """Transformer layers, first to last."""
        return [*self.audio.context_encoder.blocks, *self.blocks]

    def cut(self, n: int) -> None:
        """Remove the layers above the first ``n``, so that they take no memory."""
        below = self.audio.context_encoder.blocks
        del self.blocks[max(0, n - len(below)) :]
        del below[n:]

    def states(self, samples: Tensor, frames: Tensor | None, wanted: Iterable[int]) -> dict[int, Tensor]:
        """Hidden states: 0 is what enters the first layer, ``k`` what layer ``k`` gives.

        Args:
            samples: (batch, samples), each clip normalised alone, anything finite in the padding.
            frames: (batch,) int64, real frames of each; ``None`` where all have as many as the longest.
            wanted: which hidden states.

        Returns:
            (batch, frames, dim) each, by number.
        """
        kept, audio = set(wanted), self.audio
        tokens = audio.extra_tokens.shape[1]
        n = (samples.shape[1] - self.window) // self.hop + 1
        seen = None if frames is None else torch.arange(n, device=samples.device)[None, :] < frames[:, None]
        x, bias = audio(samples, seen), audio.penalty(n, seen)
        found = {0: x[:, tokens:]} if 0 in kept else {}
        for k, layer in enumerate(self.layers[: max(kept)], start=1):
            x = layer(x, bias)
            if k in kept:
                found[k] = x[:, tokens:]
        return found


def load_emotion2vec(name: str, folder: Path, *, classes: int = 0) -> Emotion2vecModel:
    """Load the published files, or safetensors of the same names, in float32 and evaluation mode, strictly.

    Args:
        name: for messages. folder: with ``config.yaml`` and the weights. classes: of the classifier, where it is
            wanted; otherwise its weights are left out.

    Raises:
        SerkitError: weights missing, unexpected or of another shape, named; or a file with more than tensors.
    """
    with torch.device("meta"):  # no random numbers, which would be replaced at once
        model = Emotion2vecModel(emotion2vec_files.sizes(folder), classes)
    given: dict[str, Tensor] = {}
    for file in weight_files(safe_folder(name, folder)):
        given.update(read_bin(name, file))
    tensors = {key.removeprefix(PREFIX): tensor.float() for key, tensor in given.items()}
    if len(tensors) < len(given):
        raise SerkitError(f"encoder '{name}': {folder} has weights twice, with and without '{PREFIX}'")
    own = model.state_dict()
    ignored = IGNORED if classes else (*IGNORED, *HEAD)
    strange = sorted(k for k in tensors if k not in own and not k.startswith(ignored))
    lacking = sorted(k for k in own if k not in tensors)
    odd = sorted(k for k in own if k in tensors and tensors[k].shape != own[k].shape)
    refuse_weights(name, folder, lacking, strange, odd)
    model.load_state_dict({k: tensors[k] for k in own}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Emotion2vecClassifier:
    """emotion2vec+ with its own classifier.

    Attributes:
        model: on the CPU, in float32. labels: its classes in their order; ``None`` for one that is not used.
    """

    model: Emotion2vecModel
    labels: tuple[str | None, ...]

    @classmethod
    def load(cls, folder: Path, name: str = "") -> Emotion2vecClassifier:
        """From a folder with the published ``config.yaml``, ``model.pt`` and ``tokens.txt``; ``name`` is for messages.

        Raises:
            SerkitError: as for :func:`load_emotion2vec`, or no ``tokens.txt``.
        """
        labels = emotion2vec_files.labels(folder)
        return cls(load_emotion2vec(name or folder.name, folder, classes=len(labels)), labels)

    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, classes) float32 of (samples,) float32 at 16 kHz each, each clip alone; every class, used or not."""
        with torch.inference_mode():
            return torch.stack([self._logits(clip) for clip in clips]).numpy()

    def _logits(self, clip: np.ndarray) -> Tensor:
        """(classes,): the linear layer on the mean of all frames of a clip, a long one in stretches."""
        model = self.model
        wave, last = normalised(clip, model.window), len(model.layers)
        total = (len(wave) - model.window) // model.hop + 1
        size, context = (int(s * SAMPLE_RATE_HZ / model.hop) for s in (CHUNK_S, CONTEXT_S))
        frames = []
        for piece in pieces(total, size, context):
            seen = wave[piece.start * model.hop : (piece.end - 1) * model.hop + model.window]
            frames.append(model.states(torch.from_numpy(seen)[None], None, [last])[last][0, piece.kept])
        result: Tensor = cast(nn.Linear, model.proj)(torch.cat(frames).mean(dim=0))
        return result
