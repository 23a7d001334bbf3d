"""Chunks of any sampling rate and size as one stream of 16 kHz."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import numpy as np

from serkit.audio import MAX_RATE_HZ, MIN_RATE_HZ, to_mono_16k
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.remarks import Remarks

BLOCK = 1 << 18  # samples: 16 s at 16 kHz


def to_16k(rate_hz: float, remarks: Remarks) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function of (chunk, last) to (n,) float32 mono 16 kHz; chunks of any size give the same samples.

    Args:
        rate_hz: sampling rate of the chunks. remarks: gathers what is worth knowing of them.

    Raises:
        SerkitError: a sampling rate that no recording has.
    """
    is_number = isinstance(rate_hz, Real) and math.isfinite(rate_hz)
    if not (is_number and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and rate_hz == int(rate_hz)):
        raise SerkitError(f"sampling rate {rate_hz!r} Hz, expected a whole number of {MIN_RATE_HZ} to {MAX_RATE_HZ}")

    heard = 0

    def mixed(chunk: np.ndarray) -> np.ndarray:
        nonlocal heard
        samples = samples_of(chunk)
        if samples.size == 0:
            return np.zeros(0, np.float32)
        found = to_mono_16k(samples, SAMPLE_RATE_HZ, remarks, at=heard)
        heard += len(samples)
        return found

    if rate_hz == SAMPLE_RATE_HZ:
        return lambda chunk, last: mixed(chunk)
    import soxr

    stream = soxr.ResampleStream(int(rate_hz), SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")

    def resample(chunk: np.ndarray, last: bool) -> np.ndarray:
        mono = mixed(chunk)
        found = stream.resample_chunk(mono, last=last)
        return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float32)

    return resample


def blocks_of(chunk: np.ndarray) -> Iterator[np.ndarray]:
    """A chunk in parts that take little memory, however long it is; one of an odd shape as it is."""
    if chunk.ndim == 0 or len(chunk) <= BLOCK:
        yield chunk
        return
    for start in range(0, len(chunk), BLOCK):
        yield chunk[start : start + BLOCK]


def samples_of(chunk: Any) -> np.ndarray:
    """A chunk as an array; bytes, whose width nobody knows, are refused: numpy would take some for 8-bit samples."""
    if isinstance(chunk, (bytes, bytearray)) or (isinstance(chunk, memoryview) and chunk.itemsize == 1):
        raise SerkitError(
            f"a chunk of {len(chunk)} bytes: expected an array of samples, such as np.frombuffer(chunk, dtype=np.int16)"
        )
    return np.asarray(chunk)
