"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serkit import dsp
from serkit.encoders._offline import OfflineEncoder, Pooling
from serkit.errors import SerkitError

N_FFT, N_BANDS, FLOOR = 512, 40, 1e-10


class Mfcc(OfflineEncoder):
    """Cepstral coefficients of 40 log-mel bands, coefficient 0 (the mean level) included.

    Frames, bands and floor as in :class:`serkit.encoders.logmel.Logmel`; orthonormal cosine transform
    II; no lifter, no pre-emphasis.

    Args:
        name: ``mfcc/COEFFICIENTS``. pool, pooling, trim: see :class:`OfflineEncoder`.
        deltas: 0, 1 (slopes over five frames follow) or 2 (and the slopes of those).
    """

    def __init__(
        self,
        name: str = "mfcc/20",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
        deltas: int = 1,
    ) -> None:
        name = "mfcc/20" if name == "mfcc" else name
        if deltas not in (0, 1, 2):
            raise SerkitError(f"encoder '{name}': deltas {deltas}, expected 0, 1 or 2")
        count = name.rpartition("/")[2]
        self.n_coefficients, self.deltas = int(count) if count.isdecimal() else 0, int(deltas)
        dim = self.n_coefficients * (1 + self.deltas)
        self._specify(name, dim, pool, pooling, trim, {"deltas": self.deltas})

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {
            f"mfcc/{count}": f"{count} cepstral coefficients and their slopes, 100 frames a second (Apache-2.0)"
            for count in (13, 20, 40)
        }

    @classmethod
    def tiny(cls) -> Mfcc:
        """13 coefficients without slopes, four frames pooled."""
        return cls("mfcc/13", pool=4, deltas=0)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        weights, window = dsp.mel_weights(N_BANDS, N_FFT), dsp.hann(self.WINDOW)
        basis = dsp.cosine_basis(N_BANDS, self.n_coefficients)
        parts = [
            np.log(np.maximum(dsp.power_spectrum(frames * window, N_FFT) @ weights, FLOOR)) @ basis
            for frames in dsp.chunks(dsp.framed(samples, self.WINDOW, self.HOP))
        ]
        stages = [np.concatenate(parts)]
        for _ in range(self.deltas):
            stages.append(dsp.deltas(stages[-1]))
        return np.concatenate(stages, axis=1)
