"""Tables of the spectral voice descriptors: equal loudness, slopes, cepstra."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from serkit import dsp
from serkit.encoding import SAMPLE_RATE_HZ

SHORT, N_FFT, N_BANDS = 400, 512, 26
BIN_HZ = SAMPLE_RATE_HZ / N_FFT


@lru_cache(maxsize=1)
def equal_loudness() -> np.ndarray:
    """(N_BANDS,) weights of the 40-phon curve: H. Hermansky (1990), JASA 87(4), eq. 7."""
    edges = np.linspace(dsp.mel(20.0), dsp.mel(8000.0), N_BANDS + 2)[1:-1]
    square = (2 * np.pi * 700 * (10 ** (edges / 2595) - 1)) ** 2
    return np.asarray((square + 56.8e6) * square**2 / ((square + 6.3e6) ** 2 * (square + 0.38e9)), dtype=np.float32)


@lru_cache(maxsize=1)
def slope_basis() -> np.ndarray:
    """(bins, 2): regression slope of a dB spectrum over 0-500 and 500-1500 Hz, dB per kHz."""
    khz = np.arange(N_FFT // 2 + 1) * BIN_HZ / 1000
    basis = np.zeros((len(khz), 2))
    for column, (low, high) in enumerate([(0.0, 0.5), (0.5, 1.5)]):
        inside = (khz >= low) & (khz <= high)
        centred = khz[inside] - khz[inside].mean()
        basis[inside, column] = centred / (centred**2).sum()
    return basis.astype(np.float32)


@lru_cache(maxsize=1)
def cepstrum_basis() -> np.ndarray:
    """(N_BANDS, 4): MFCC 1 to 4 of natural-log bands, HTK's transform and lifter 22 (HTK book, 5.14, 5.15)."""
    lifter = 1 + 11 * np.sin(np.pi * np.arange(1, 5) / 22)
    return np.asarray(dsp.cosine_basis(N_BANDS, 5)[:, 1:] * lifter, dtype=np.float32)
