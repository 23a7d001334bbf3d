"""The encoder of Smart Turn v3 in numpy: the layers of Whisper tiny, trained further.

Its weights are read from the package pipecat-ai, where they lie in a graph of ONNX that multiplies in eight bits. They
are taken out of it and multiplied in float32 here: the graph's rounding of what goes from layer to layer is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from serkit import dsp, package_files
from serkit.errors import SerkitError
from serkit.onnx_weights import initializers

FILE = "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
DIM, HEADS, LAYERS = 384, 6, 4
BANDS, N_FFT, BAND_HOP, HOP = 80, 400, 160, 320
LONGEST = 400  # frames: 8 s, the window it was trained on
WHOLE = LONGEST * HOP

# of each layer the numbers that the graph gives to its matrices: query, key, value, out, first, second
_MATRICES = (
    (17, 25, 32, 75, 79, 88),
    (92, 100, 107, 148, 152, 161),
    (165, 173, 180, 221, 225, 234),
    (238, 246, 253, 294, 298, 307),
)
_LINEAR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2")
_NORMS = ("self_attn_layer_norm", "final_layer_norm")


class Network:
    """Two convolutions and transformer layers, in float32; one clip at a time, whatever its length up to 8 s.

    Args:
        weights: by the names that transformers' ``WhisperEncoder`` has for them, in its shapes; ``embed_positions``
            of any length. heads: of the attention.

    Raises:
        SerkitError: one is missing.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], heads: int) -> None:
        try:
            self.heads, self.positions = heads, weights["embed_positions.weight"]
            self.convolutions = [
                (_flat(weights[f"conv{k}.weight"]), weights[f"conv{k}.bias"], stride) for k, stride in ((1, 1), (2, 2))
            ]
            count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
            self.layers = [_Layer(weights, f"layers.{k}.", heads) for k in range(count)]
        except KeyError as error:
            raise SerkitError(f"the weights of smart_turn have no {error}") from None

    def states(self, bands: np.ndarray, depth: int) -> list[np.ndarray]:
        """(2 * time, bands) to ``depth`` + 1 arrays (time, dim): what enters the first layer, and what leaves each.

        The clip takes the last ``time`` positions, as one that ends where the window ends; what would lie before it is
        left out, not filled with zeros.
        """
        frames = bands
        for weight, bias, stride in self.convolutions:
            frames = _gelu(_convolved(frames, weight, bias, stride))
        found = [frames + self.positions[len(self.positions) - len(frames) :]]
        for layer in self.layers[:depth]:
            found.append(layer(found[-1]))
        return found


class _Layer:
    """A layer of the transformer that normalises first, as Whisper's do."""

    def __init__(self, weights: Mapping[str, np.ndarray], prefix: str, heads: int) -> None:
        self.heads = heads
        self.matrices = [np.ascontiguousarray(weights[f"{prefix}{name}.weight"].T) for name in _LINEAR]
        dim = len(self.matrices[0])
        biases = [weights[f"{prefix}{name}.bias"] for name in _LINEAR if name != "self_attn.k_proj"]
        self.biases = [biases[0], np.zeros(dim, dtype=np.float32), *biases[1:]]
        self.norms = [(weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"]) for name in _NORMS]
        self.scale = np.float32((dim // heads) ** -0.5)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(time, dim) to (time, dim)."""
        given = _normalised(frames, *self.norms[0])
        query, key, value = (self._by_head(self._linear(given, k)) for k in range(3))
        scores = (query * self.scale) @ key.transpose(0, 2, 1)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        together = (shares @ value).transpose(1, 0, 2).reshape(frames.shape)
        frames = frames + self._linear(together, 3)
        inner = _gelu(self._linear(_normalised(frames, *self.norms[1]), 4))
        return np.asarray(frames + self._linear(inner, 5))

    def _linear(self, frames: np.ndarray, k: int) -> np.ndarray:
        return np.asarray(frames @ self.matrices[k] + self.biases[k])

    def _by_head(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), self.heads, -1).transpose(1, 0, 2)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Whisper's log-mel of the end of a window of 8 s.

    The samples are first brought to mean 0 and deviation 1 over the whole window, zeros in front of them included, as
    the network was trained (Smart Turn's inference code).

    Args:
        samples: (samples,) float32, a multiple of 320 and at most 8 s.

    Returns:
        (samples / 160, 80) float32.
    """
    mean = samples.sum(dtype=np.float64) / WHOLE
    deviation = np.sqrt(max(np.square(samples, dtype=np.float64).sum() / WHOLE - mean**2, 0.0) + 1e-7)
    scaled = ((samples - mean) / deviation).astype(np.float32)
    half = N_FFT // 2
    before = np.full(half, -mean / deviation, dtype=np.float32)
    padded = np.concatenate([before, scaled, scaled[-2 : -half - 2 : -1]])
    frames = dsp.framed(padded, N_FFT, BAND_HOP)[: len(samples) // BAND_HOP]
    energies = dsp.power_spectrum(frames * dsp.hann(N_FFT), N_FFT) @ mel_weights()
    levels = np.log10(np.maximum(energies, 1e-10))
    return np.asarray((np.maximum(levels, levels.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)


@lru_cache(maxsize=1)
def mel_weights() -> np.ndarray:
    """(201, 80) triangles of area 1, equally wide on Slaney's mel scale: linear to 1 kHz, then logarithmic."""
    step = np.log(6.4) / 27.0
    edges = np.linspace(0.0, 15.0 + np.log(8000.0 / 1000.0) / step, BANDS + 2)
    hz = np.where(edges < 15.0, edges * 200.0 / 3.0, 1000.0 * np.exp(step * (edges - 15.0)))
    at = np.arange(N_FFT // 2 + 1)[:, None] * 16_000 / N_FFT
    rise, fall = (at - hz[:-2]) / (hz[1:-1] - hz[:-2]), (hz[2:] - at) / (hz[2:] - hz[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (hz[2:] - hz[:-2]), dtype=np.float32)


@lru_cache(maxsize=1)
def published() -> Network:
    """The network of the installed package, read once.

    Raises:
        MissingExtra: the package is not installed. SerkitError: it has other weights.
    """
    purpose = "encoder 'smart_turn'"
    content = package_files.find(package_files.PIPECAT, FILE, purpose).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SerkitError(
            f"the {package_files.PIPECAT.name} that is installed does not have the weights of Smart Turn 3.2, which "
            f"{purpose} needs: {package_files.PIPECAT.reinstall}"
        )
    return Network(weights_of(initializers(content, "smart-turn-v3.2-cpu.onnx")), HEADS)


def weights_of(held: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the graph holds, as float32 by the names and in the shapes of transformers' ``WhisperEncoder``."""
    prefix = "inner.encoder."
    found = {name.removeprefix(prefix): x for name, x in held.items() if name.startswith(prefix) and x.dtype == "f4"}
    found = {name: x for name, x in found.items() if not name.endswith(("_scale", "weight_zero_point"))}
    for k in (1, 2):
        found[f"conv{k}.weight"] = _dequantised(held, f"{prefix}conv{k}.weight", 0)
        bias = f"{prefix}conv{k}.bias_quantized"
        found[f"conv{k}.bias"] = held[bias] * held[f"{bias}_scale"]
    for layer, numbers in enumerate(_MATRICES):
        for name, number in zip(_LINEAR, numbers, strict=True):
            found[f"layers.{layer}.{name}.weight"] = _dequantised(held, f"val_{number}", 1).T
    return {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in found.items()}


def _dequantised(held: Mapping[str, np.ndarray], name: str, axis: int) -> np.ndarray:
    values, scale, zero = (held[f"{name}_{part}"].astype(np.float32) for part in ("quantized", "scale", "zero_point"))
    shape = [-1 if k == axis else 1 for k in range(values.ndim)]
    return np.asarray((values - zero.reshape(shape)) * scale.reshape(shape))


def _flat(weight: np.ndarray) -> np.ndarray:
    """(out, in, 3) of a convolution to (3 * in, out)."""
    return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))


def _convolved(frames: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """(time, in) to (ceil(time / stride), out), zeros at both ends."""
    padded = np.pad(frames, ((1, 1), (0, 0)))
    starts = np.arange(0, len(frames), stride)
    return np.asarray(np.concatenate([padded[starts + k] for k in range(3)], axis=1) @ weight + bias)


def _normalised(frames: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = frames - frames.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return np.asarray(centred / spread * weight + bias)


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), with Abramowitz and Stegun's 7.1.26 for the error function, which is within 1.5e-7."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1.0 / (1.0 + np.float32(0.3275911) * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    error = np.copysign(1.0 - tail * np.exp(-z * z), x)
    return np.asarray(0.5 * x * (1.0 + error), dtype=np.float32)
