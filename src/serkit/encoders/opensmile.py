"""openSMILE's own descriptors and functionals, where its package is installed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from serkit import dsp
from serkit.encoders._offline import WHOLE_CLIP, OfflineEncoder, Pooling
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.extras import optional

SETS: Mapping[str, tuple[str, int]] = {
    "opensmile/egemaps": ("eGeMAPSv02", 25),
    "opensmile/compare": ("ComParE_2016", 65),
    "opensmile/egemaps-functionals": ("eGeMAPSv02", 88),
    "opensmile/compare-functionals": ("ComParE_2016", 6373),
}
FUNCTIONALS = "-functionals"
SHORTEST = 960  # openSMILE gives nothing below 60 ms


class Opensmile(OfflineEncoder):
    """Descriptors of eGeMAPS v02 (25) or ComParE 2016 (65), 100 frames a second; or functionals, one frame a clip.

    openSMILE's licence allows research and private use only: never a default, and not for a product.
    Sources: F. Eyben et al. (2010), ACM Multimedia; F. Eyben et al. (2016), IEEE TAC 7(2).

    Args:
        name: ``opensmile/egemaps`` or ``opensmile/compare``; with ``-functionals`` behind it the 88 or 6373 numbers of
            the whole clip, which take no ``pool`` and no ``pooling``. pool, pooling, trim: see :class:`OfflineEncoder`.

    Raises:
        MissingExtra: by :meth:`load` and the first call, where the package is not installed.
        SerkitError: an unknown name, or functionals that would be pooled.
    """

    WINDOW = 800  # the frame count that openSMILE gives from 60 ms on follows this window (measured, 2.6.0)
    LICENCE = "audEERING openSMILE licence: research and private use"
    COMMERCIAL = None
    DTYPE = "float32"  # some descriptors exceed what float16 holds

    def __init__(
        self,
        name: str = "opensmile/egemaps",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
    ) -> None:
        name = "opensmile/egemaps" if name == "opensmile" else name
        self._smile: Any = None
        self._whole = name.endswith(FUNCTIONALS)
        if self._whole:
            self.HOP = WHOLE_CLIP  # type: ignore[misc]  # of this one, where the other sets have one for all
            if (pool, pooling) != (1, "mean"):
                raise SerkitError(f"encoder '{name}': it has one frame a clip, which pool and pooling do not change")
        self._specify(name, SETS.get(name, ("", 1))[1], pool, pooling, trim, {"opensmile": "2"})

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        licence = "openSMILE licence: research and private use only; extra 'opensmile'"
        kinds = ("low-level descriptors of {}, 100 frames a second", "functionals of {}, one frame a clip")
        return {
            name: f"{dim} {kinds[name.endswith(FUNCTIONALS)].format(title)} ({licence})"
            for name, (title, dim) in SETS.items()
        }

    @classmethod
    def tiny(cls) -> Opensmile:
        """EGeMAPS, four frames pooled."""
        return cls(pool=4)

    def load(self, device: str = "cpu") -> None:
        """Import the package and configure it."""
        if self._smile is not None:
            return
        opensmile = optional("opensmile", "opensmile", f"encoder '{self.spec.name}'")
        self._smile = opensmile.Smile(
            feature_set=getattr(opensmile.FeatureSet, SETS[self.spec.name][0]),
            feature_level=getattr(opensmile.FeatureLevel, "Functionals" if self._whole else "LowLevelDescriptors"),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_smile": None}

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        self.load()
        unpooled = 1 if self._whole else 1 + (len(samples) - self.WINDOW) // self.HOP
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = self._smile.process_signal(dsp.at_least(samples, SHORTEST), SAMPLE_RATE_HZ)
        rows = np.nan_to_num(table.to_numpy(dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)[:unpooled]
        if len(rows) < unpooled:  # another version with another rule: repeat the last rather than misalign
            rows = np.pad(rows, ((0, unpooled - len(rows)), (0, 0)), mode="edge")
        return np.asarray(rows, dtype=np.float32)
