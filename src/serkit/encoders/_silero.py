"""Silero's speech detector in numpy: what its layers hold.

Layers and weights are those of ``tinygrad_model.py`` and ``silero_vad_16k.safetensors`` in silero-vad 6.2. The ONNX
graphs beside them, which ``vad: silero`` runs, have other weights (compared: every layer but the transform differs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from serkit import dsp, silero_files
from serkit.errors import SerkitError

WEIGHTS_SHA256 = "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1"
CONTEXT, HOP = 64, 512
N_FFT, STEP, REFLECTED = 256, 128, 64
WIDTHS = (64, 128, 128)  # of the third and fourth convolution, and the recurrent layer


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
    """The detector's network at 16 kHz, in float32.

    Args:
        weights: the published names and shapes.

    Raises:
        SerkitError: one is missing.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        try:
            self._basis = np.ascontiguousarray(weights["stft_conv.weight"][:, 0].T)
            self._layers = [_layer(weights, k, stride) for k, stride in ((1, 1), (2, 2), (3, 2), (4, 1))]
            # gates enter, keep, (candidate,) leave: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, halved here once and for all
            half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], dtype=np.float32), WIDTHS[2])
            self._input, self._recurrent = (weights[f"lstm_cell.weight_{k}"].T * half for k in ("ih", "hh"))
            self._bias = (weights["lstm_cell.bias_ih"] + weights["lstm_cell.bias_hh"]) * half
            self._out, self._out_bias = weights["final_conv.weight"][0, :, 0], float(weights["final_conv.bias"][0])
        except KeyError as error:
            raise SerkitError(f"the weights of silero-vad have no {error}") from None

    def states(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(time, 576) samples to (time, 320) states and (time,) probabilities of speech, from the state of zeros on."""
        parts = [self._convolved(part) for part in dsp.chunks(chunks)]
        third, fourth = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        recurrent = self._recur(fourth)
        score = np.maximum(recurrent, 0.0) @ self._out + self._out_bias
        return np.concatenate([third, fourth, recurrent], axis=1), 1.0 / (1.0 + np.exp(-score))

    def _convolved(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mirrored = np.concatenate([chunks, chunks[:, -2 : -REFLECTED - 2 : -1]], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(mirrored, N_FFT, axis=1)[:, ::STEP]
        waves = windows @ self._basis
        bins = N_FFT // 2 + 1
        frames = np.sqrt(waves[..., :bins] ** 2 + waves[..., bins:] ** 2)
        for layer in self._layers[:3]:
            frames = layer(frames)
        return frames[:, 0], self._layers[3](frames)[:, 0]

    def _recur(self, frames: np.ndarray) -> np.ndarray:
        given = frames @ self._input + self._bias
        width = given.shape[1] // 4
        hidden, cell = (np.zeros(width, dtype=np.float32) for _ in range(2))
        found = np.empty((len(frames), width), dtype=np.float32)
        for k, row in enumerate(given):
            bent = np.tanh(row + hidden @ self._recurrent)
            gates = 0.5 * bent + 0.5
            cell = gates[width : 2 * width] * cell + gates[:width] * bent[2 * width : 3 * width]
            hidden = found[k] = gates[3 * width :] * np.tanh(cell)
        return found


def _layer(weights: Mapping[str, np.ndarray], k: int, stride: int) -> Layer:
    kernel = weights[f"conv{k}.weight"]
    return Layer(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)).copy(), weights[f"conv{k}.bias"], stride)


@lru_cache(maxsize=1)
def network() -> Network:
    """The published network, read once.

    Raises:
        SerkitError: the package is not installed, or has other weights.
    """
    from safetensors.numpy import load

    held = silero_files.find("silero_vad_16k.safetensors", "encoder 'silero'").read_bytes()
    if hashlib.sha256(held).hexdigest() != WEIGHTS_SHA256:
        raise SerkitError(
            "the silero-vad that is installed has other weights than those of version 6.2, which encoder 'silero' "
            f"needs: pip install '{silero_files.PACKAGE}'"
        )
    return Network(load(held))
