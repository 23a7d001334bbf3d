"""Signal processing the offline encoders share: frames, spectra, mel bands, trimming. numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ, EncoderSpec

CHUNK_FRAMES = 256  # frames worked on at once: memory stays small and in cache
TRIM_BLOCK = 160  # samples of a block whose energy decides whether it is silence


def at_least(samples: np.ndarray, length: int) -> np.ndarray:
    """Zero-pad a clip at its end to ``length`` samples; longer clips are returned as they are."""
    if len(samples) >= length:
        return samples
    return np.concatenate([samples, np.zeros(length - len(samples), dtype=samples.dtype)])


def without_offset(samples: np.ndarray, least: float = 0.05) -> np.ndarray:
    """The samples less their mean, where that exceeds ``least`` of their deviation; else the samples as they are.

    What a sound card adds to everything is not part of the voice; the little that a short stretch of speech is off
    zero by itself stays.

    Args:
        samples: (n,) float32.

    >>> without_offset(np.array([0.25, 0.75], dtype=np.float32)).tolist()
    [-0.25, 0.25]
    """
    if not len(samples):
        return samples
    mean = samples.mean(dtype=np.float64)
    if abs(mean) <= least * samples.std(dtype=np.float64):
        return samples
    centred: np.ndarray = (samples - mean).astype(np.float32)
    return centred


def framed(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """A view of overlapping frames, by the frame rule of :func:`serkit.encoding.n_frames`.

    Args:
        samples: (samples,) at least ``window`` long. window, hop: in samples.

    Returns:
        (frames, window), read-only view, same dtype.
    """
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def chunks(frames: np.ndarray, size: int = CHUNK_FRAMES) -> Iterator[np.ndarray]:
    """Yield ``frames`` in order, ``size`` rows at a time."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


@lru_cache(maxsize=32)
def hann(length: int) -> np.ndarray:
    """(length,) float32 periodic Hann window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length), dtype=np.float32)


def power_spectrum(frames: np.ndarray, n_fft: int) -> np.ndarray:
    """Squared magnitude of the discrete Fourier transform of windowed frames.

    Args:
        frames: (frames, window) float32, already multiplied by a window. n_fft: zero-padded length.

    Returns:
        (frames, n_fft // 2 + 1) float32.
    """
    spectrum = np.fft.rfft(frames, n_fft)
    return np.asarray(spectrum.real**2 + spectrum.imag**2, dtype=np.float32)


def mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    """HTK's mel scale: ``2595 log10(1 + f / 700)``."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency_hz, dtype=np.float64) / 700.0))


@lru_cache(maxsize=32)
def mel_weights(n_bands: int, n_fft: int, low_hz: float = 20.0, high_hz: float = 8000.0) -> np.ndarray:
    """Triangular filters, equally wide and linear on the mel scale, peak 1 (HTK book, section 5.4).

    Returns:
        (n_fft // 2 + 1, n_bands) float32.
    """
    edges = np.linspace(mel(low_hz), mel(high_hz), n_bands + 2)
    at = mel(np.arange(n_fft // 2 + 1) * SAMPLE_RATE_HZ / n_fft)[:, None]
    rise = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), dtype=np.float32)


@lru_cache(maxsize=32)
def cosine_basis(n_in: int, n_out: int) -> np.ndarray:
    """(n_in, n_out) float32: the orthonormal discrete cosine transform II."""
    k, n = np.arange(n_out), np.arange(n_in)[:, None]
    basis = np.sqrt(2.0 / n_in) * np.cos(np.pi * k * (n + 0.5) / n_in)
    basis[:, 0] = np.sqrt(1.0 / n_in)
    return np.asarray(basis, dtype=np.float32)


def deltas(frames: np.ndarray, reach: int = 2) -> np.ndarray:
    """Slope of the regression line over ``2 reach + 1`` frames, ends repeated (HTK book, eq. 5.16).

    Args:
        frames: (time, dim) float. reach: frames to each side.

    Returns:
        (time, dim), same dtype: change per frame.
    """
    padded = np.pad(frames, ((reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(frames)
    for k in range(1, reach + 1):
        total += k * (padded[reach + k : len(frames) + reach + k] - padded[reach - k : len(frames) + reach - k])
    return np.asarray(total / (2 * sum(k * k for k in range(1, reach + 1))), dtype=frames.dtype)


def trim_silence(samples: np.ndarray, *, threshold_db: float = -40.0, margin_s: float = 0.1) -> np.ndarray:
    """Cut leading and trailing silence, leaving a margin; pauses inside stay.

    A 10-ms block is silence when its energy, mean removed, lies ``threshold_db`` below the loudest
    block's. Blocks lie on a fixed grid, so trimming twice gives what trimming once gives. A clip
    without any energy is returned as it is.

    Args:
        samples: (samples,) float32. threshold_db: relative to the loudest block, negative.
        margin_s: seconds kept on both sides of what is not silence.

    Returns:
        (samples,) view of the input, never empty unless the input is.
    """
    n_blocks = len(samples) // TRIM_BLOCK
    if n_blocks < 3:
        return samples
    grid = samples[: n_blocks * TRIM_BLOCK].reshape(n_blocks, TRIM_BLOCK)
    energy = grid.var(axis=1, dtype=np.float64)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (threshold_db / 10))
    if len(loud) == 0 or energy.max() <= 0:
        return samples
    margin = round(margin_s * SAMPLE_RATE_HZ / TRIM_BLOCK)
    first, last = max(0, loud[0] - margin), loud[-1] + 1 + margin
    return samples[first * TRIM_BLOCK : last * TRIM_BLOCK if last < n_blocks else len(samples)]


def prepared(samples: np.ndarray, spec: EncoderSpec) -> np.ndarray:
    """The samples the frame rule applies to: trimmed where ``spec.params["trim"]`` says so.

    Every encoder does this itself; whoever checks a frame count uses
    ``n_frames(len(prepared(samples, spec)), spec)``. Doing it twice changes nothing.
    """
    trim: Mapping[str, Any] | None = spec.params.get("trim")
    return trim_silence(samples, **trim) if trim else samples
