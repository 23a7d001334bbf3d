"""Vowels of which everything is known: what the tests of the voice descriptors measure."""

from __future__ import annotations

import numpy as np

RATE = 16_000
BANDWIDTHS_HZ = (80, 100, 120, 150, 200)
FORMANTS_HZ = (600, 1500, 2500, 3500, 4500)
PAIR = 2 / np.sqrt(np.pi)  # mean absolute difference of two normal draws of deviation 1


def response(frequency_hz: np.ndarray, formants: tuple[float, ...] = FORMANTS_HZ) -> np.ndarray:
    """Complex gain of the vocal tract, second-order resonances, and of a glottal slope."""
    s = 2j * np.pi * frequency_hz
    gain = np.ones(len(s), dtype=np.complex128)
    for f, width in zip(formants, BANDWIDTHS_HZ, strict=True):
        pole = -np.pi * width + 2j * np.pi * f
        gain = gain * abs(pole) ** 2 / ((s - pole) * (s - pole.conjugate()))
    turn = s / (2 * np.pi * 100)
    return np.asarray(gain * (0.1 + turn) / (1 + turn) ** 2)


def vowel(
    f0: float,
    formants: tuple[float, ...] = FORMANTS_HZ,
    *,
    seconds: float = 1.0,
    jitter: float = 0.0,
    shimmer_db: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Impulses at four times the rate through :func:`response`; (samples,) float32 with a peak of 0.5.

    Args:
        jitter, shimmer_db: deviation of every period, as a share of it, and of every impulse's level.
        noise: deviation of white noise that is added.
    """
    rng, rate = np.random.default_rng(seed), 4 * RATE
    n = round(seconds * rate)
    pulses, t = np.zeros(n + 2), 0.0
    while t < n - 1:
        gain = 10 ** (shimmer_db * rng.standard_normal() / 20)
        pulses[int(t)] += gain * (1 - t % 1)
        pulses[int(t) + 1] += gain * (t % 1)
        t += rate / f0 * (1 + jitter * rng.standard_normal())
    spectrum = np.fft.rfft(pulses[:n])
    spectrum *= response(np.arange(len(spectrum)) * rate / n, formants)
    wave = np.fft.irfft(spectrum[: n // 8 + 1], n // 4)
    wave = 0.5 * wave / np.abs(wave).max()
    return (wave + noise * rng.standard_normal(len(wave))).astype(np.float32)


def truth(f0: float, formants: tuple[float, ...]) -> dict[str, float]:
    """What a vowel without perturbation has, by name of the descriptor."""
    harmonics = np.arange(1, int(7500 / f0)) * f0
    level_db = 20 * np.log10(np.abs(response(harmonics, formants)))
    known = {"f0_semitones": 12 * np.log2(f0 / 27.5), "h1_h2_db": level_db[0] - level_db[1]}
    for k, f in enumerate(formants[:3], start=1):
        near = np.abs(harmonics - f) <= max(100.0, f0 / 2 + 1)
        known |= {f"f{k}_khz": f / 1000, f"f{k}_amplitude_db": float(level_db[near].max() - level_db[0])}
    return known | {"h1_a3_db": -known["f3_amplitude_db"]}
