"""Higher or deeper at the same pace."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_range, full_scale, power, silent
from serkit.errors import SerkitError

_WINDOW, _HOP = 512, 128


@dataclass(frozen=True)
class Pitch:
    """Pitch shift by a drawn number of semitones: phase-vocoder stretch, then resampling.

    Duration and power stay. The spectral envelope moves with the pitch, so that a large shift sounds like
    another speaker (a proposal as augmentation; pitch carries emotion, keep it small).

    Attributes:
        low_semitones, high_semitones: range, uniform, within ±12 (a proposal: −2 to 2).
        probability: how often a chain applies it (a proposal: 0.2).
    """

    low_semitones: float = -2.0
    high_semitones: float = 2.0
    probability: float = 0.2

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("pitch", "the shift in semitones", self.low_semitones, self.high_semitones, at_least=-12.0)
        if self.high_semitones > 12.0:
            raise SerkitError(f"augmentation 'pitch': high_semitones is {self.high_semitones}, expected at most 12")
        check_probability("pitch", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Shift; silent clips, and those shorter than one window of 32 ms, stay as they are."""
        if silent(example) or example.samples is None or len(example.samples) < _WINDOW:
            return example
        import soxr

        semitones = float(rng.uniform(self.low_semitones, self.high_semitones))
        if semitones == 0.0:
            return example
        factor = 2.0 ** (semitones / 12.0)
        n = len(example.samples)
        stretched = _stretch(example.samples.astype(np.float64), factor)
        shifted = soxr.resample(stretched.astype(np.float32), factor, 1.0)
        samples = np.zeros(n)
        samples[: min(n, len(shifted))] = shifted[:n]
        if power(samples) == 0.0:
            return example
        samples *= np.sqrt(power(example.samples) / power(samples))
        return dataclasses.replace(example, samples=full_scale(samples))


def _stretch(samples: np.ndarray, factor: float) -> np.ndarray:
    """(round(n · factor),) float64: the same pitch over ``factor`` times the duration, by a phase vocoder.

    Magnitudes are interpolated between neighbouring frames; each bin's phase goes on at the frequency
    measured between them (Flanagan & Golden 1966).
    """
    n = len(samples)
    window = np.hanning(_WINDOW + 1)[:-1]
    padded = np.pad(samples, (_WINDOW // 2, _WINDOW + _HOP))
    starts = np.arange(0, len(padded) - _WINDOW + 1, _HOP)
    frames = np.fft.rfft(padded[starts[:, None] + np.arange(_WINDOW)] * window, axis=1)
    position = np.arange(0, len(frames) - 1, 1.0 / factor)
    left = position.astype(int)
    part = (position - left)[:, None]
    magnitude = (1 - part) * np.abs(frames[left]) + part * np.abs(frames[left + 1])
    expected = 2.0 * np.pi * _HOP * np.arange(frames.shape[1]) / _WINDOW
    deviation = np.angle(frames[left + 1]) - np.angle(frames[left]) - expected
    advance = expected + deviation - 2.0 * np.pi * np.round(deviation / (2.0 * np.pi))
    phase = np.angle(frames[:1]) + np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(advance, axis=0)[:-1]])
    pieces = np.fft.irfft(magnitude * np.exp(1j * phase), n=_WINDOW, axis=1) * window
    result = np.zeros(_HOP * (len(pieces) - 1) + _WINDOW)
    weight = np.zeros_like(result)
    for k, piece in enumerate(pieces):
        result[k * _HOP : k * _HOP + _WINDOW] += piece
        weight[k * _HOP : k * _HOP + _WINDOW] += window**2
    result /= np.maximum(weight, 1e-3)
    length = round(n * factor)
    return np.pad(result[_WINDOW // 2 :], (0, max(length, 0)))[:length]
