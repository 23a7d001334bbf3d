"""The wav2vec 2.0 architecture: WavLM, HuBERT, wav2vec 2.0 and DistilHuBERT, batched without a trace of it.

Three things make a clip's features depend on its neighbours in the published pipelines, and are avoided
here: padding that is attended to (masked), normalisation of the waveform over the padded batch (each clip
alone), and a group normalisation after the first convolution, which averages over time and takes no mask
(the ``base`` models; computed over the clip's own frames).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation.base import Layer, LayerTap, Precision, Pretrained
from serkit.foundation.loading import front_end, load_model, transformers_package
from serkit.foundation.pieces import Window, encoded, pieces

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, HOP = 400, 320  # of every published checkpoint (Baevski et al. 2020, section 2); folders say their own
CLASSES: Mapping[str, str] = {
    "wavlm": "WavLMModel",
    "hubert": "HubertModel",
    "wav2vec2": "Wav2Vec2Model",
    "distilhubert": "HubertModel",
}
"""Families of this architecture, and their classes in transformers."""
HEADS = (
    "lm_head.", "quantizer.", "project_hid.", "project_q.", "classifier.", "projector.", "layer_weights",
    "tdnn.", "objective.", "feature_extractor.weight", "feature_extractor.bias",  # of speaker verification (x-vectors)
)  # fmt: skip
MASK = ("masked_spec_embed", *(f"{name}.masked_spec_embed" for name in ("wav2vec2", "hubert", "wavlm")))
"""What stands for masked frames in training; its name has a prefix in a checkpoint with a head."""


class SpeechEncoder(Pretrained):
    """Waveforms to hidden states of a wav2vec 2.0-shaped model, 50 frames a second.

    A clip longer than ``chunk_s`` is computed in stretches that overlap by ``context_s`` on each side,
    because attention over ten minutes does not fit; both are part of the fingerprint.

    Args:
        name: ``FAMILY/…``, or ``hub:ORG/MODEL`` or ``path:DIR`` of the family's architecture.
        layer: hidden state: a number (0 is what enters the first layer), ``last``, ``mean_last_4``, or ``all``
            side by side, (frames, layers x dim), with ``n_layers`` in the spec's parameters.
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder in the hub's layout that replaces the source.
        precision: arithmetic of the model: ``float32``, ``bf16`` or ``fp16``.
        chunk_s, context_s: clips longer than the one are computed in stretches that see the other on each side.
        batch_s: seconds of audio computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    MODALITY: ClassVar[Literal["audio", "text"]] = "audio"

    def __init__(
        self,
        name: str,
        *,
        layer: Layer = "last",
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        precision: Precision = "float32",
        chunk_s: float = 60.0,
        context_s: float = 5.0,
        batch_s: float | None = None,
    ) -> None:
        self.resolved = self._resolved(name, source)
        kernels = self.resolved.config.get("conv_kernel")
        strides = self.resolved.config.get("conv_stride")
        window, hop = receptive_field(kernels, strides) if kernels and strides else (WINDOW, HOP)
        if chunk_s <= 2 * context_s or context_s < 0:
            raise SerkitError(f"encoder '{name}': chunk_s {chunk_s} must be more than twice context_s {context_s}")
        self._chunk = int(chunk_s * SAMPLE_RATE_HZ / hop)
        self._context = int(context_s * SAMPLE_RATE_HZ / hop)
        self.batch_s = batch_s
        self._specify(
            name, layer=layer, pool=pool, dtype=dtype, precision=precision, window=window, hop=hop,
            params={"chunk_s": float(chunk_s), "context_s": float(context_s)},
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> Self:
        """Small random weights of the real class, saved and loaded like a download."""
        return cls(f"{cls.FAMILY}/random")

    def _load(self, folder: Path) -> None:
        transformers = transformers_package(self.spec.name)
        self._model: Any = load_model(
            self.spec.name, getattr(transformers, CLASSES[self.FAMILY]), folder,
            ignored=(*HEADS, *MASK), missing_ok=MASK,
        )  # fmt: skip
        self._front: Any = front_end(self.spec.name, folder)
        if self._front.sampling_rate != SAMPLE_RATE_HZ:
            raise SerkitError(f"encoder '{self.spec.name}': trained at {self._front.sampling_rate} Hz, expected 16000")
        config = self._model.config
        self._check_sizes(
            config.hidden_size, config.num_hidden_layers, *receptive_field(config.conv_kernel, config.conv_stride)
        )
        self._norm = isolate_clips(self._model)
        self._first_stride, self._first_kernel = config.conv_stride[0], config.conv_kernel[0]
        self._tap = LayerTap(self._model.encoder.layers, self.taken)

    def _check_sizes(self, *found: int) -> None:
        """Refuse weights of another dim, number of layers, window or hop than the checkpoint's."""
        expected = (self.resolved.dim, self.resolved.layers, self.spec.window, self.spec.hop)
        if found != expected:
            raise SerkitError(
                f"encoder '{self.spec.name}': weights with dim, layers, window, hop {found}, expected {expected}"
            )

    def _encode(self, items: list[np.ndarray]) -> list[np.ndarray]:
        window, hop = self.spec.window, self.spec.hop
        windows: list[Window[np.ndarray]] = []
        for index, wave in enumerate(map(self._prepared, items)):
            total = self._n_frames(len(wave))
            for piece in pieces(total, self._chunk, self._context):
                end = len(wave) if piece.end == total else (piece.end - 1) * hop + window
                windows.append(Window(index, wave[piece.start * hop : end], piece.kept))
        seconds = self.batch_s or (60.0 if self.device == "cpu" else 480.0)
        return encoded(windows, self._batch, int(seconds * SAMPLE_RATE_HZ))

    def _prepared(self, samples: np.ndarray) -> np.ndarray:
        """Zero-padded to one window and normalised alone, by the checkpoint's own feature extractor."""
        if len(samples) < self.spec.window:
            samples = np.pad(samples, (0, self.spec.window - len(samples)))
        values = self._front(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")["input_values"]
        return np.asarray(values[0], dtype=np.float32)

    def _batch(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(samples,) each to (frames, dim) each, padded together; the padding is masked everywhere."""
        import torch

        lengths = [len(w) for w in waves]
        padded = np.zeros((len(waves), max(lengths)), dtype=np.float32)
        for row, wave in enumerate(waves):
            padded[row, : len(wave)] = wave
        values = torch.from_numpy(padded).to(self.device, self._model.dtype)
        states = self._combined(self._states(values, lengths)).numpy()
        return [states[row, : self._n_frames(length)] for row, length in enumerate(lengths)]

    def _n_frames(self, n_samples: int) -> int:
        return 1 + (n_samples - self.spec.window) // self.spec.hop

    def _states(self, values: Tensor, lengths: list[int]) -> Mapping[int, Tensor]:
        """Hidden states of (batch, samples), zeros in the padding, by number, (batch, frames, dim) each."""
        import torch

        mask = None
        if min(lengths) < max(lengths):
            seen = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
            mask = seen.long().to(self.device)
        if self._norm is not None:
            first = [(n - self._first_kernel) // self._first_stride + 1 for n in lengths]
            self._norm.lengths = torch.tensor(first, device=self.device)
        output = self._model(values, attention_mask=mask)
        return self._tap.states(output.last_hidden_state)


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Samples that one output of a stack of unpadded convolutions sees, and samples between two outputs.

    >>> receptive_field((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    (400, 320)
    """
    window, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    return window, hop


def isolate_clips(model: Any) -> Any:
    """Have a padded batch give each clip the frames that it has alone, in place.

    Args:
        model: of transformers, one of :data:`CLASSES`; its weights and their names stay as they are.

    Returns:
        The first normalisation (:func:`masked_norm`), which is told the lengths before each pass; ``None`` where the
        model has none over time.
    """
    for layer in model.encoder.layers:
        if hasattr(layer.attention, "torch_multi_head_self_attention"):
            layer.attention.torch_multi_head_self_attention = biased_attention(layer.attention)
    widen_groups(model)
    if model.config.feat_extract_norm != "group":
        return None
    first = model.feature_extractor.conv_layers[0]
    first.layer_norm = masked_norm(first.layer_norm)
    return first.layer_norm


def biased_attention(attention: Any) -> Any:
    """WavLM's attention with its gated position bias in one fused call; the weights are never formed.

    The published code asks for the attention weights of every layer and throws them away.

    Args:
        attention: ``WavLMAttention`` of transformers.

    Returns:
        a function of hidden states (batch, time, dim), mask (batch, time) or ``None``, and bias
        (batch * heads, time, time), to ``(output, None)`` with output (batch, time, dim).
    """
    import torch
    from torch.nn import functional as F

    heads = attention.num_heads

    def attend(hidden: torch.Tensor, mask: torch.Tensor | None, bias: torch.Tensor) -> tuple[torch.Tensor, None]:
        batch, time, dim = hidden.shape
        query, key, value = (
            projection(hidden).view(batch, time, heads, dim // heads).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        bias = bias.view(batch, heads, time, time)
        if mask is not None:
            bias = bias.masked_fill(~mask.bool()[:, None, None, :], torch.finfo(bias.dtype).min)
        dropped = attention.dropout if attention.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropped)
        output: torch.Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(batch, time, dim))
        return output, None

    return attend


def widen_groups(model: Any) -> None:
    """Compute convolutions in groups in float32 where a CPU would compute them in bf16 or fp16, in place.

    oneDNN's bf16 convolution in groups, which the positional embedding of wav2vec 2.0 and its kin is, can give numbers
    that have nothing to do with float32's. Measured with torch 2.13 on a CPU with AMX: 4 or 8 channels a group and a
    kernel of 16, error as large as the output; 16 to 64 channels and a kernel of 128, as published models have them,
    0.003 of it, which is bf16's own. Gradients were right in both.

    Args:
        model: any module of torch; its weights and their names stay as they are.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1:
            module._conv_forward = partial(_wide_convolution, module)  # type: ignore[method-assign]  # not the weight


def _wide_convolution(module: Any, x: Any, weight: Any, bias: Any) -> Any:
    """``nn.Conv1d._conv_forward``, (batch, channels, time), with the dtype of the result as it would be."""
    import torch
    from torch import nn

    mixed = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if mixed else x.dtype
    if x.device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return nn.Conv1d._conv_forward(module, x, weight, bias)
    with torch.autocast("cpu", enabled=False):
        wide = nn.Conv1d._conv_forward(module, x.float(), weight.float(), None if bias is None else bias.float())
    return wide.to(dtype)


def masked_norm(norm: Any) -> Any:
    """The same per-channel normalisation over time, over each row's own frames.

    Args:
        norm: ``nn.GroupNorm`` with one channel per group. The result reads its row lengths, (batch,) int64,
        from an attribute ``lengths`` set before each forward pass.

    Raises:
        SerkitError: several channels per group.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    if norm.num_groups != norm.num_channels:
        raise SerkitError(f"group normalisation of {norm.num_channels} channels in {norm.num_groups} groups")

    class MaskedNorm(nn.Module):
        lengths: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(batch, channels, time) to the same shape, zeros in the padding.

            A row at a time: PyTorch's own kernel is several times as fast as masks around sums.
            """
            weight, bias, groups = self.weight.float(), self.bias.float(), len(self.weight)
            out = torch.zeros_like(x)
            for row, length in enumerate(self.lengths.tolist()):
                own = x[row : row + 1, :, :length].float()
                out[row, :, :length] = F.group_norm(own, groups, weight, bias, self.eps)[0].to(x.dtype)
            return out

    return MaskedNorm()
