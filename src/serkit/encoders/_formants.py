"""Formants by selective linear prediction, for the voice descriptors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ

ORDER = 11
BAND_HZ = 5_500.0  # five formants of an adult lie below; the prediction sees nothing above
LAG_WINDOW_HZ = 40.0
MAX_REFLECTION = 1.0 - 1e-7  # where rounding passes 1, the recursion explodes
MIN_HZ, MAX_HZ, MAX_BANDWIDTH_HZ = 120.0, 5_000.0, 1_200.0


@lru_cache(maxsize=4)
def to_correlation(n_fft: int) -> np.ndarray:
    """(bins, ORDER + 1) float32: pre-emphasis and inverse transform of the power up to BAND_HZ."""
    bins = int(BAND_HZ * n_fft / SAMPLE_RATE_HZ) + 1
    angle = np.pi * np.arange(bins) / (bins - 1)
    emphasis = 1.0 + 0.94**2 - 2 * 0.94 * np.cos(angle)
    weights = np.where((angle == 0) | (np.arange(bins) == bins - 1), 1.0, 2.0)
    lags = np.arange(ORDER + 1)
    taper = np.exp(-0.5 * (2 * np.pi * LAG_WINDOW_HZ * lags / (2 * BAND_HZ)) ** 2)
    return np.asarray((emphasis * weights)[:, None] * np.cos(angle[:, None] * lags) * taper, dtype=np.float32)


def _predictor(correlation: np.ndarray) -> np.ndarray:
    """Levinson-Durbin for all rows at once: (rows, ORDER + 1) to (rows, ORDER) of 1 + a1 z^-1 + …"""
    rows = len(correlation)
    a = np.zeros((rows, ORDER + 1))
    a[:, 0] = 1.0
    error = correlation[:, 0] * (1 + 1e-6) + 1e-12
    for i in range(1, ORDER + 1):
        reflection = -np.einsum("ij,ij->i", a[:, :i], correlation[:, i:0:-1]) / error
        reflection = np.clip(reflection, -MAX_REFLECTION, MAX_REFLECTION)
        a[:, 1 : i + 1] += reflection[:, None] * a[:, i - 1 :: -1][:, :i] if i > 1 else reflection[:, None]
        error = np.maximum(error * (1.0 - reflection**2), 1e-12)
    return a[:, 1:]


def formants(power: np.ndarray, n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """The three lowest resonances of each frame.

    Linear prediction of order 11 on the spectrum below 5.5 kHz (selective linear prediction: J. Makhoul
    (1975), Proc. IEEE 63(4), section IV), pre-emphasis 0.94, roots of the predictor by eigenvalues;
    roots from 120 to 5000 Hz narrower than 1200 Hz count.

    Args:
        power: (frames, n_fft // 2 + 1) power spectrum. n_fft: its transform's length.

    Returns:
        frequency and bandwidth in Hz, each (frames, 3) float32, NaN where there are fewer roots.
    """
    basis = to_correlation(n_fft)
    correlation = (power[:, : len(basis)] @ basis).astype(np.float64)
    correlation /= np.maximum(correlation[:, :1], 1e-20)
    predictor = _predictor(correlation)
    companion = np.zeros((len(power), ORDER, ORDER), dtype=np.float32)
    companion[:, 0, :] = -predictor
    companion[:, np.arange(1, ORDER), np.arange(ORDER - 1)] = 1.0
    roots = np.linalg.eigvals(companion)
    frequency = np.angle(roots) * (BAND_HZ / np.pi)
    bandwidth = -np.log(np.maximum(np.abs(roots), 1e-6)) * (2 * BAND_HZ / np.pi)
    good = (frequency > MIN_HZ) & (frequency < MAX_HZ) & (bandwidth < MAX_BANDWIDTH_HZ)
    frequency = np.where(good, frequency, np.inf)
    order = np.argsort(frequency, axis=1)[:, :3]
    frequency = np.take_along_axis(frequency, order, axis=1)
    bandwidth = np.take_along_axis(bandwidth, order, axis=1)
    absent = ~np.isfinite(frequency)
    frequency[absent] = np.nan
    bandwidth[absent] = np.nan
    return frequency.astype(np.float32), bandwidth.astype(np.float32)
