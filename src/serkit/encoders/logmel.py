"""Log-mel band energies and log energy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serkit import dsp
from serkit.encoders._offline import OfflineEncoder, Pooling

N_FFT = 512
FLOOR = 1e-10


class Logmel(OfflineEncoder):
    """Logarithms of mel-band energies, and of the frame's energy as the last feature.

    100 frames a second: 25-ms periodic Hann window, 512-point Fourier transform, squared magnitude,
    triangular bands from 20 Hz to 8 kHz that are equally wide on HTK's mel scale
    (``2595 log10(1 + f/700)``) with peak weight 1, natural logarithm of ``max(energy, 1e-10)`` with
    samples in [-1, 1]. The last feature is the natural logarithm of the unwindowed frame's sum of
    squares, with the same floor.

    Args:
        name: ``logmel/BANDS``. pool, pooling, trim: see :class:`OfflineEncoder`.
    """

    def __init__(
        self,
        name: str = "logmel/80",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
    ) -> None:
        name = "logmel/80" if name == "logmel" else name
        bands = name.rpartition("/")[2]
        self.n_bands = int(bands) if bands.isdecimal() else 0
        self._specify(name, self.n_bands + 1, pool, pooling, trim)

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {
            f"logmel/{bands}": f"{bands} log-mel bands and log energy, 100 frames a second (Apache-2.0)"
            for bands in (24, 40, 64, 80, 128)
        }

    @classmethod
    def tiny(cls) -> Logmel:
        """24 bands, four frames pooled."""
        return cls("logmel/24", pool=4)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        weights, window = dsp.mel_weights(self.n_bands, N_FFT), dsp.hann(self.WINDOW)
        parts = []
        for frames in dsp.chunks(dsp.framed(samples, self.WINDOW, self.HOP)):
            bands = dsp.power_spectrum(frames * window, N_FFT) @ weights
            energy = np.einsum("ij,ij->i", frames, frames)[:, None]
            parts.append(np.log(np.maximum(np.concatenate([bands, energy], axis=1), FLOOR)))
        return np.concatenate(parts)
