"""FACodec (NaturalSpeech 3, Ju et al. 2024, arXiv 2403.03100): the parts needed for prosody and timbre.

Written from the paper, the published parameter names and the published constants. A torch module whose
names are those of ``ns3_facodec_encoder_v2.bin`` and ``ns3_facodec_decoder_v2.bin``, so that the weights load
strictly; parts that prosody and timbre do not need are ignored by prefix (:data:`IGNORED`).

Every forward pass takes row lengths, and a row's output does not depend on what it is padded with: before
each convolution the padding is zero, as at the end of a clip alone, and before each resampling filter it
repeats the last value, as the published replicate padding does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = (
    "quantizer.1.",  # content
    "quantizer.2.",  # acoustic detail
    "model.",  # the waveform decoder
    "f0_predictor.",
    "phone_predictor.",
    "res_f0_predictor.",
    "res_phone_predictor.",
    "x_timbre_predictor.",
)
STRIDES = (2, 4, 5, 5)
N_FFT, WIN, HOP, N_MEL, N_PROSODY_MEL = 1024, 800, 200, 80, 20
FILTER = 12  # taps of the resampling filters around each activation
REFLECTED = (N_FFT - HOP) // 2


def seen(lengths: Tensor, time: int) -> Tensor:
    """(batch, 1, time) bool, True for real positions."""
    return (torch.arange(time, device=lengths.device)[None, :] < lengths[:, None])[:, None, :]


def zeroed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, channels, time) with zeros after each row's length."""
    return x if lengths is None else x.masked_fill(~seen(lengths, x.shape[-1]), 0.0)


def repeated(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, channels, time) with each row's last real value after its length."""
    if lengths is None:
        return x
    last = x.gather(2, (lengths - 1)[:, None, None].expand(-1, x.shape[1], 1))
    return torch.where(seen(lengths, x.shape[-1]), x, last)


class NormedConv(nn.Module):
    """A convolution whose weight is a direction and a length: ``g v / |v|`` per output channel."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, dilation: int = 1, padding: int = 0):
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(outside, 1, 1))
        self.weight_v = nn.Parameter(torch.randn(outside, inside, kernel) / math.sqrt(inside * kernel))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.stride, self.dilation, self.padding = stride, dilation, padding

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, inside, time) to (batch, outside, time / stride)."""
        size = self.weight_v.flatten(1).norm(dim=1)[:, None, None]
        weight = self.weight_v * (self.weight_g / size)
        return F.conv1d(zeroed(x, lengths), weight, self.bias, self.stride, self.padding, self.dilation)


class NormedLinear(nn.Module):
    """A linear layer whose weight is a direction and a length, per output."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(outside, 1))
        self.weight_v = nn.Parameter(torch.randn(outside, inside) / math.sqrt(inside))
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        """(…, inside) to (…, outside)."""
        return F.linear(x, self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True)), self.bias)


class _Snake(nn.Module):
    """``x + sin²(a x) / b`` with ``a = exp(alpha)``, ``b = exp(beta)`` per channel (Ziyin et al. 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.alpha.exp()[None, :, None], self.beta.exp()[None, :, None]
        return x + torch.sin(a * x) ** 2 / (b + 1e-9)


class _Filter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", kaiser_sinc())
        self.filter: Tensor


class _Lowpass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _Filter()


class SmoothSnake(nn.Module):
    """The activation at twice the rate, filtered before and after, so that it makes no aliases."""

    def __init__(self, channels: int):
        super().__init__()
        self.act = _Snake(channels)
        self.upsample = _Filter()
        self.downsample = _Lowpass()

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, channels, time) to the same shape."""
        batch, channels, time = x.shape
        taps = 2 * self.upsample.filter.flatten()
        none = taps.new_zeros(1)
        # stuffing zeros and filtering, as two filters of six taps: even outputs see x[s-3 .. s+2], odd x[s-2 .. s+3]
        even, odd = torch.cat([taps[1::2].flip(0), none]), torch.cat([none, taps[0::2].flip(0)])
        phases = torch.stack([even, odd])[:, None].repeat(channels, 1, 1)
        wide = F.conv1d(F.pad(repeated(x, lengths), (3, 3), mode="replicate"), phases, groups=channels)
        wide = wide.view(batch, channels, 2, time).transpose(2, 3).reshape(batch, channels, 2 * time)
        wide = repeated(self.act(wide), None if lengths is None else 2 * lengths)
        wide = F.pad(wide, (FILTER // 2 - 1, FILTER // 2), mode="replicate")
        return F.conv1d(wide, self.downsample.lowpass.filter.expand(channels, -1, -1), stride=2, groups=channels)


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.block = nn.ModuleList(
            [
                SmoothSnake(channels),
                NormedConv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
                SmoothSnake(channels),
                NormedConv(channels, channels, 1),
            ]
        )

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        y = x
        for step in self.block:
            y = step(y, lengths)
        return x + y


class _Down(nn.Module):
    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.block = nn.ModuleList(
            [
                *(_Residual(channels, dilation) for dilation in (1, 3, 9)),
                SmoothSnake(channels),
                NormedConv(channels, 2 * channels, 2 * stride, stride, padding=stride // 2 + stride % 2),
            ]
        )

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        for step in self.block:
            x = step(x, lengths)
        return x


class _Mel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mel_basis", torch.zeros(N_MEL, N_FFT // 2 + 1))
        self.register_buffer("hann_window", torch.hann_window(WIN))
        self.mel_basis: Tensor
        self.hann_window: Tensor

    def forward(self, reflected: Tensor) -> Tensor:
        """(batch, samples + 824), mirrored at both ends already, to (batch, 80, samples / 200) log-mel."""
        spectrum = torch.stft(
            reflected, N_FFT, HOP, win_length=WIN, window=self.hann_window, center=False, return_complex=True
        )
        size = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
        return torch.log((self.mel_basis @ size).clamp(min=1e-5))


class FacodecEncoder(nn.Module):
    """Waveform to 80 latent frames a second, and the log-mel bands that prosody is read from.

    Args:
        channels: after the first convolution; doubled by each of the four strides. out: width of the latent.
    """

    def __init__(self, channels: int = 32, out: int = 256):
        super().__init__()
        wide = [channels * 2**k for k in range(len(STRIDES) + 1)]
        self.block = nn.ModuleList(
            [
                NormedConv(1, channels, 7, padding=3),
                *(_Down(c, stride) for c, stride in zip(wide[:-1], STRIDES, strict=True)),
                SmoothSnake(wide[-1]),
                NormedConv(wide[-1], out, 3, padding=1),
            ]
        )
        self.mel_transform = _Mel()

    def forward(self, samples: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, samples), row lengths multiples of 200, to (batch, out, samples / 200)."""
        x = samples[:, None, :]
        for step in self.block:
            x = step(x, lengths)
            if isinstance(step, _Down) and lengths is not None:
                lengths = lengths // step.stride
        return x


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * dim, dim) / math.sqrt(dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.heads = heads

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, time, dim) to the same shape."""
        batch, time, dim = x.shape
        shape = (batch, time, 3, self.heads, dim // self.heads)
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(shape).permute(2, 0, 3, 1, 4)
        mask = None if lengths is None else seen(lengths, time)[:, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, time, dim))
        return result


class _FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.ffn_1 = nn.Conv1d(dim, inner, 5, padding=2)
        self.ffn_2 = nn.Linear(inner, dim)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        inner = self.ffn_1(zeroed(x.transpose(1, 2), lengths)).transpose(1, 2)
        result: Tensor = self.ffn_2(F.relu(inner))
        return result


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.self_attn = _Attention(dim, heads)
        self.ffn = _FeedForward(dim, inner)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.ln_1(x), lengths)
        result: Tensor = x + self.ffn(self.ln_2(x), lengths)
        return result


class _Positions(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        angle = torch.arange(5000)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        self.register_buffer("pe", table[:, None, :])
        self.pe: Tensor


class FrameTransformer(nn.Module):
    """Four pre-normalised transformer layers over frames.

    The published code adds row ``b`` of the position table to all frames of the ``b``-th clip of a batch
    (its input is batch first, its table is read time first). Features were extracted one clip at a time,
    so that every frame got row 0; here every frame of every clip does.
    """

    def __init__(self, dim: int = 256, heads: int = 4, inner: int = 1024, layers: int = 4):
        super().__init__()
        self.position_emb = _Positions(dim)
        self.layers = nn.ModuleList([_Layer(dim, heads, inner) for _ in range(layers)])
        self.last_ln = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, time, dim) to the same shape."""
        x = x + self.position_emb.pe[0]
        for layer in self.layers:
            x = layer(x, lengths)
        result: Tensor = self.last_ln(x)
        return result


class Codebook(nn.Module):
    """A factorised quantiser: the entry that points most nearly where the projected frame points."""

    def __init__(self, dim: int = 256, inner: int = 8, entries: int = 1024):
        super().__init__()
        self.in_proj = NormedLinear(dim, inner)
        self.out_proj = NormedLinear(inner, dim)
        self._codebook = nn.Embedding(entries, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, dim) to the same shape."""
        likeness = F.normalize(self.in_proj(x), dim=-1) @ F.normalize(self._codebook.weight, dim=-1).T
        result: Tensor = self.out_proj(self._codebook(likeness.argmax(dim=-1)))
        return result


class _Quantizer(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.ModuleList([Codebook(dim)])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers[0](x)
        return result


class FacodecDecoder(nn.Module):
    """Of the decoder: the prosody encoder and codebook, and the timbre encoder."""

    def __init__(self, dim: int = 256, inner: int = 1024):
        super().__init__()
        self.quantizer = nn.ModuleList([_Quantizer(dim)])
        self.timbre_encoder = FrameTransformer(dim, inner=inner)
        self.timbre_linear = nn.Linear(dim, 2 * dim)
        self.melspec_linear = nn.Linear(N_PROSODY_MEL, dim)
        self.melspec_encoder = FrameTransformer(dim, inner=inner)

    def prosody(self, mel: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, 80, time) log-mel to (batch, time, dim): the lowest 20 bands, encoded and quantised."""
        x = self.melspec_linear(mel[:, :N_PROSODY_MEL].transpose(1, 2))
        result: Tensor = self.quantizer[0](self.melspec_encoder(x, lengths))
        return result

    def timbre(self, latent: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, dim, time) of the encoder to (batch, time, dim); its mean over time is the speaker embedding."""
        result: Tensor = self.timbre_encoder(latent.transpose(1, 2), lengths)
        return result


def kaiser_sinc() -> Tensor:
    """(1, 1, FILTER) lowpass of unit sum: a sinc at a quarter of the rate under a Kaiser window.

    The window's shape follows Kaiser's formulas for a transition of half width 0.3, an attenuation of more than 50 dB
    (alias-free generative networks, Karras et al. 2021, appendix C.1).
    """
    attenuation = 2.285 * (FILTER // 2 - 1) * math.pi * 4 * 0.3 + 7.95
    at = torch.arange(FILTER, dtype=torch.float64) - (FILTER - 1) / 2
    window = torch.kaiser_window(FILTER, periodic=False, beta=0.1102 * (attenuation - 8.7), dtype=torch.float64)
    shaped = torch.sinc(0.5 * at) * window
    return (shaped / shaped.sum()).float().view(1, 1, FILTER)


def accounted(names: Sequence[str], needed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of a file that are neither needed nor :data:`IGNORED`, and needed names that it lacks."""
    present, wanted = set(names), set(needed)
    strange = sorted(n for n in present - wanted if not n.startswith(IGNORED))
    return strange, sorted(wanted - present)
