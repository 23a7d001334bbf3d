"""The sound of a room."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._recordings import recording
from serkit.augment._signal import check_range, full_scale, power, seconds, silent
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.parameters import Needs


@dataclass(frozen=True)
class Reverb:
    """Convolution with a room impulse response; length, loudness and onset of the clip stay.

    Without a folder the response is a direct sound followed by white noise that falls by 60 dB in RT60
    (Polack's statistical model), at a drawn direct-to-reverberant ratio. A recorded response is aligned at its
    largest sample.

    Attributes:
        rt60_low_s, rt60_high_s: range of the reverberation time, uniform (a proposal: 0.15 to 0.8).
        direct_low_db, direct_high_db: range of direct over reverberant energy (a proposal: 0 to 12).
        folder: recorded impulse responses to draw from instead.
        probability: how often a chain applies it (a proposal: 0.3).
    """

    rt60_low_s: Annotated[float, Needs("folder", None)] = 0.15
    rt60_high_s: Annotated[float, Needs("folder", None)] = 0.8
    direct_low_db: Annotated[float, Needs("folder", None)] = 0.0
    direct_high_db: Annotated[float, Needs("folder", None)] = 12.0
    folder: str | None = None
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("reverb", "RT60 in s", self.rt60_low_s, self.rt60_high_s, at_least=0.01)
        check_range("reverb", "direct over reverberant in dB", self.direct_low_db, self.direct_high_db)
        check_probability("reverb", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Convolve and bring back to the clip's power; a silent clip stays as it is."""
        if silent(example):
            return example
        dry = np.asarray(example.samples, dtype=np.float64)
        response = self.response(rng) if self.folder is None else _recorded(self.folder, rng)
        wet = _convolve(dry, response)[: len(dry)]
        wet_power = power(wet)
        if wet_power == 0.0:
            return example
        return dataclasses.replace(example, samples=full_scale(wet * np.sqrt(power(dry) / wet_power)))

    def response(self, rng: np.random.Generator) -> np.ndarray:
        """(samples,) float64: a synthetic response, direct sound of 1 first, as long as its RT60."""
        rt60_s = float(rng.uniform(self.rt60_low_s, self.rt60_high_s))
        ratio = 10.0 ** (float(rng.uniform(self.direct_low_db, self.direct_high_db)) / 10.0)
        time_s = np.arange(1, max(seconds(rt60_s), 2)) / SAMPLE_RATE_HZ
        tail = rng.standard_normal(len(time_s)) * 10.0 ** (-3.0 * time_s / rt60_s)
        tail /= np.sqrt(np.sum(tail**2) * ratio)
        return np.concatenate([[1.0], tail])


def _recorded(folder: str, rng: np.random.Generator) -> np.ndarray:
    found = recording(folder, rng).astype(np.float64)
    return found[int(np.argmax(np.abs(found))) :]


def _convolve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Full linear convolution by FFT, float64."""
    n = len(a) + len(b) - 1
    size = 1 << (n - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size), size)[:n]
