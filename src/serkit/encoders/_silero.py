"""Silero's speech detectors in numpy: the states of their layers.

The package silero-vad 6.2 has several networks of one shape that were trained apart. Three of them are read here: the
one for 16 kHz of its ``tinygrad_model.py``, the one of half the precision, and the one for 8 kHz. (``vad: silero`` runs
a fourth, a near relative of the first: their weights correlate by 0.90 to 0.99, those of the three not at all.)

All three read one transform of the sound at 16 kHz. A window of 128 samples at 8 kHz and one of 256 at 16 kHz last as
long and have the same distance of 62.5 Hz between bins, so the network for 8 kHz is given the bins up to 4 kHz, halved
as it sums half as many samples; the sound is not resampled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from serkit import dsp, package_files
from serkit.errors import SerkitError
from serkit.onnx_weights import initializers

CONTEXT, HOP = 64, 512
N_FFT, STEP, REFLECTED = 256, 128, 64
BINS = N_FFT // 2 + 1
WIDTHS = (64, 128, 128)  # of the third and fourth convolution, and the recurrent layer


class Weights(NamedTuple):
    """Where a network's weights lie in the package: file, its SHA-256, what its names begin with, bins it reads."""

    file: str
    sha256: str
    prefix: str
    bins: int


NETWORKS = {
    "16k": Weights(
        "silero_vad_16k.safetensors", "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1", "", BINS
    ),
    "half": Weights(
        "silero_vad_half.onnx", "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769", "", BINS
    ),
    "8k": Weights(
        "silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        "model_8k.",
        BINS // 2 + 1,
    ),
}


class Layer(NamedTuple):
    """A convolution of width three over time: weight (3 * inputs, outputs), bias (outputs,), and its stride."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(batch, time, inputs) to (batch, ceil(time / stride), outputs), rectified; zeros at both ends."""
        padded = np.pad(frames, ((0, 0), (1, 1), (0, 0)))
        starts = range(0, frames.shape[1], self.stride)
        windows = np.stack([padded[:, start : start + 3].reshape(len(frames), -1) for start in starts], axis=1)
        return np.asarray(np.maximum(windows @ self.weight + self.bias, 0.0))


class Network:
    """One detector, in float32.

    Args:
        weights: the shapes of silero-vad, by the names of its safetensors file. bins: of the transform that it reads,
            from 0 Hz on.

    Attributes:
        layers: the four convolutions. scale: what the magnitudes are multiplied by.
        input, recurrent, bias: of the gates, those of sigmoids halved. out, out_bias: of the probability of speech.

    Raises:
        SerkitError: one is missing.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], bins: int = BINS) -> None:
        try:
            self.bins, self.scale = bins, np.float32((bins - 1) / (BINS - 1))
            self.layers = [_layer(weights, k, stride) for k, stride in ((1, 1), (2, 2), (3, 2), (4, 1))]
            # gates enter, keep, (candidate,) leave: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, halved here once and for all
            half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], dtype=np.float32), WIDTHS[2])
            self.input, self.recurrent = (weights[f"lstm_cell.weight_{k}"].T * half for k in ("ih", "hh"))
            self.bias = (weights["lstm_cell.bias_ih"] + weights["lstm_cell.bias_hh"]) * half
            self.out, self.out_bias = weights["final_conv.weight"][0, :, 0], float(weights["final_conv.bias"][0])
        except KeyError as error:
            raise SerkitError(f"the weights of silero-vad have no {error}") from None

    def convolved(self, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(time, 4, 129) magnitudes to (time, 64) and (time, 128): the third and the fourth convolution."""
        frames = spectra if self.bins == BINS else spectra[..., : self.bins] * self.scale
        for layer in self.layers[:3]:
            frames = layer(frames)
        return frames[:, 0], self.layers[3](frames)[:, 0]

    def entering(self, fourth: np.ndarray) -> np.ndarray:
        """(time, 128) to (time, 512): what each frame brings to the gates of the recurrent layer."""
        return np.asarray(fourth @ self.input + self.bias)

    def speech(self, recurrent: np.ndarray) -> np.ndarray:
        """(time, 128) states of the recurrent layer to (time,) probabilities of speech."""
        score = np.maximum(recurrent, 0.0) @ self.out + self.out_bias
        return np.asarray(1.0 / (1.0 + np.exp(-score)))


def states(networks: Sequence[Network], chunks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """What each network makes of a sound, from the state of zeros on.

    Args:
        networks: of :func:`network`. chunks: (time, 576) samples at 16 kHz, 512 new ones in each.

    Returns:
        For each network (time, 320) states, and (time,) probabilities of speech.
    """
    heard: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in networks]
    for part in dsp.chunks(chunks):
        spectra = _spectra(part)
        for network, parts in zip(networks, heard, strict=True):
            parts.append(network.convolved(spectra))
    thirds, fourths = ([np.concatenate([part[k] for part in parts]) for parts in heard] for k in (0, 1))
    recurrent = _recur(networks, [network.entering(fourth) for network, fourth in zip(networks, fourths, strict=True)])
    return [
        (np.concatenate([third, fourth, last], axis=1), network.speech(last))
        for network, third, fourth, last in zip(networks, thirds, fourths, recurrent, strict=True)
    ]


def _spectra(chunks: np.ndarray) -> np.ndarray:
    """(time, 576) samples to (time, 4, 129) magnitudes, the end of each chunk mirrored."""
    mirrored = np.concatenate([chunks, chunks[:, -2 : -REFLECTED - 2 : -1]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, N_FFT, axis=1)[:, ::STEP]
    waves = windows @ basis()
    return np.asarray(np.sqrt(waves[..., :BINS] ** 2 + waves[..., BINS:] ** 2))


def _recur(networks: Sequence[Network], given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What enters the gates, (time, 512) for each network, to their (time, 128) states; one step of all at a time."""
    entering = np.stack(given, axis=1)[:, :, None]  # (time, networks, 1, 512)
    recurrent = np.stack([network.recurrent for network in networks])
    width = recurrent.shape[1]
    hidden, cell = (np.zeros((len(networks), 1, width), dtype=np.float32) for _ in range(2))
    found = np.empty((len(entering), *hidden.shape), dtype=np.float32)
    for k, row in enumerate(entering):
        bent = np.tanh(row + hidden @ recurrent)
        gates = 0.5 * bent + 0.5
        cell = gates[..., width : 2 * width] * cell + gates[..., :width] * bent[..., 2 * width : 3 * width]
        hidden = found[k] = gates[..., 3 * width :] * np.tanh(cell)
    return [found[:, n, 0] for n in range(len(networks))]


def _layer(weights: Mapping[str, np.ndarray], k: int, stride: int) -> Layer:
    kernel = weights[f"conv{k}.weight"]
    return Layer(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)).copy(), weights[f"conv{k}.bias"], stride)


@lru_cache(maxsize=len(NETWORKS))
def network(name: str = "16k") -> Network:
    """A network of the installed package, by its name in ``NETWORKS``, read once.

    Raises:
        SerkitError: the package is not installed, or has other weights.
    """
    return Network(_weights(name), NETWORKS[name].bins)


@lru_cache(maxsize=1)
def basis() -> np.ndarray:
    """(256, 258): the transform of all of them, real parts and then imaginary ones, windowed."""
    return np.ascontiguousarray(_weights("16k")["stft_conv.weight"][:, 0].T)


def _weights(name: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    file, sha256, prefix, _ = NETWORKS[name]
    content = package_files.find(package_files.SILERO, f"data/{file}", "encoder 'silero'").read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SerkitError(
            "the silero-vad that is installed does not have the weights of version 6.2, which encoder 'silero' "
            f"needs: {package_files.SILERO.reinstall}"
        )
    if file.endswith(".safetensors"):
        return dict(load(content))
    held = initializers(content, file)
    return {ours: held[prefix + theirs] for theirs, ours in _ONNX_NAMES.items() if prefix + theirs in held}


_ONNX_NAMES = {
    **{f"encoder.{k}.reparam_conv.{part}": f"conv{k + 1}.{part}" for k in range(4) for part in ("weight", "bias")},
    **{f"decoder.rnn.{part}_{k}": f"lstm_cell.{part}_{k}" for part in ("weight", "bias") for k in ("ih", "hh")},
    **{f"decoder.decoder.2.{part}": f"final_conv.{part}" for part in ("weight", "bias")},
}
