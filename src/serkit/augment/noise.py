"""Noise added at a drawn signal-to-noise ratio."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._recordings import recording
from serkit.augment._signal import check_choice, check_range, full_scale, power, silent, snr_gain
from serkit.parameters import Needs


@dataclass(frozen=True)
class Noise:
    """Additive noise over the whole clip, at an SNR that the result has exactly.

    Attributes:
        snr_low_db, snr_high_db: range of the SNR over the whole clip, uniform (a proposal: 5 to 30).
        color: ``white`` (flat), ``pink`` (−3 dB an octave) or ``brown`` (−6 dB an octave); ignored with a folder.
        folder: recordings of noise to draw from instead; a random stretch, repeated where it is too short.
        probability: how often a chain applies it (a proposal: 0.3).
    """

    snr_low_db: float = 5.0
    snr_high_db: float = 30.0
    color: Annotated[Literal["white", "pink", "brown"], Needs("folder", None)] = "white"
    folder: str | None = None
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("noise", "the SNR in dB", self.snr_low_db, self.snr_high_db)
        check_choice("noise", "color", self.color, ("white", "pink", "brown"))
        check_probability("noise", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Add the noise; a silent clip, or a silent recording of noise, leaves the example as it was."""
        if silent(example):
            return example
        clean = np.asarray(example.samples, dtype=np.float64)
        snr_db = float(rng.uniform(self.snr_low_db, self.snr_high_db))
        noise = _colored(len(clean), self.color, rng) if self.folder is None else _drawn(self.folder, len(clean), rng)
        noise_power = power(noise)
        if noise_power == 0.0:
            return example
        noisy = clean + snr_gain(power(clean), noise_power, snr_db) * noise
        return dataclasses.replace(example, samples=full_scale(noisy))


def _colored(n_samples: int, color: str, rng: np.random.Generator) -> np.ndarray:
    """(n_samples,) float64 Gaussian noise whose amplitude falls as f^0, f^−½ or f^−1, those two without offset."""
    white = rng.standard_normal(n_samples)
    exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0}[color]
    if exponent == 0.0:
        return white
    spectrum = np.fft.rfft(white)
    spectrum[0] = 0.0
    spectrum[1:] /= np.arange(1, len(spectrum)) ** exponent
    return np.fft.irfft(spectrum, n=n_samples)


def _drawn(folder: str, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """(n_samples,) float64: a random stretch of a random recording, which repeats where it is too short."""
    found = recording(folder, rng)
    start = int(rng.integers(0, max(len(found) - n_samples, 0) + 1))
    return np.resize(found[start:], n_samples).astype(np.float64)
