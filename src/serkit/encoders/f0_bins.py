"""Fundamental frequency in bins of the mel scale, for networks that learn a vector for each bin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from serkit.encoders import _pitch
from serkit.encoders._offline import OfflineEncoder
from serkit.errors import SerkitError, check_known

UNVOICED = ("bin", "interpolate")


class F0Bins(OfflineEncoder):
    """The pitch of each frame as one of some bins, equally wide on the mel scale: 1 in its column, 0 in the others.

    Bins and scale as in the released code of the UFG team (Ferreira et al. 2025, arXiv 2506.02088): the lowest pitch of
    the scale is bin 1, the highest the last one, what lies outside goes to these two. Column 0 stands for "no pitch".
    The authors' pitch tracker is RMVPE, which needs weights; this one is serkit's own (autocorrelation, 55 to 800 Hz).
    As columns, not as a number, bins can be averaged: the mean of some frames is the share of time in each bin, and a
    linear layer on it is the mean of the vectors that an embedding learns for the bins.

    Args:
        name: ``f0_bins``. pool: neighbouring frames of 20 ms put together into one, as shares.
        trim: see :class:`OfflineEncoder`.
        bins: how many columns, "no pitch" included (read: 256).
        low_hz, high_hz: ends of the scale (read: 50 and 1100).
        unvoiced: ``bin``: column 0; ``interpolate``: the pitch on the straight line between the voiced neighbours, as
            read, so that column 0 is left for clips without any voice (the released code has no features for those).

    Raises:
        SerkitError: fewer than 3 bins, a scale without a width, or an unknown ``unvoiced``.
    """

    WINDOW = _pitch.WINDOW
    HOP = 2 * _pitch.HOP

    def __init__(
        self,
        name: str = "f0_bins",
        *,
        pool: int = 1,
        trim: bool | Mapping[str, float] = False,
        bins: int = 256,
        low_hz: float = 50.0,
        high_hz: float = 1100.0,
        unvoiced: Literal["bin", "interpolate"] = "bin",
    ) -> None:
        if bins < 3:
            raise SerkitError(f"encoder '{name}': bins {bins}, expected 3 or more: no pitch, and two of pitch")
        if not 0 < low_hz < high_hz:
            raise SerkitError(f"encoder '{name}': pitch from {low_hz} to {high_hz} Hz, expected 0 < low_hz < high_hz")
        check_known(unvoiced, UNVOICED, f"encoder '{name}': unvoiced '{unvoiced}'")
        self.bins, self.ends_hz, self.unvoiced = int(bins), (float(low_hz), float(high_hz)), unvoiced
        params = {"bins": self.bins, "low_hz": low_hz, "high_hz": high_hz, "unvoiced": unvoiced}
        self._specify(name, self.bins, pool, "mean", trim, params)

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {"f0_bins": "the pitch as one of 256 bins of the mel scale, 50 frames a second (Apache-2.0)"}

    @classmethod
    def tiny(cls) -> F0Bins:
        """Sixteen bins, four frames pooled."""
        return cls(pool=4, bins=16)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        f0 = _pitch.track(samples).f0_hz
        voiced = f0 > 0
        if self.unvoiced == "interpolate" and voiced.any():
            f0 = np.interp(np.arange(len(f0)), np.flatnonzero(voiced), f0[voiced])
        columns = self._bin(f0[:: self.HOP // _pitch.HOP])
        return np.asarray(np.eye(self.bins, dtype=np.float32)[columns])

    def _bin(self, f0_hz: np.ndarray) -> np.ndarray:
        """(time,) pitch in Hz, 0 where there is none, to (time,) column."""
        low, high = (1127 * np.log1p(hz / 700) for hz in self.ends_hz)
        place = 1 + (1127 * np.log1p(f0_hz.astype(np.float64) / 700) - low) / (high - low) * (self.bins - 2)
        column = np.clip(np.rint(place), 1, self.bins - 1).astype(np.intp)
        column[f0_hz <= 0] = 0
        return np.asarray(column)
