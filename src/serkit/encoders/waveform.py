"""The waveform itself, as a feature that networks are trained on end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from serkit.encoders._offline import OfflineEncoder


class Waveform(OfflineEncoder):
    """Samples as frames one wide: (samples, 1), 16 000 a second, one frame per sample.

    Stored as float32, nothing is lost (64 kB for a second): features computed from the stored waveform are, to
    the bit, those computed from the recording. So fine-tuned backbones, and augmentations of the waveform,
    read the same store as everything else.

    Args:
        name: ``waveform``. trim: cut silence at both ends, see :class:`OfflineEncoder`.
        dtype: ``float32``; or ``float16``, half the size, which changes a sample by at most 4.9e-4 of itself
            (about 75 dB below it).
    """

    WINDOW: ClassVar[int] = 1
    HOP: ClassVar[int] = 1

    def __init__(
        self,
        name: str = "waveform",
        *,
        trim: bool | Mapping[str, float] = False,
        dtype: Literal["float16", "float32"] = "float32",
    ) -> None:
        self.DTYPE = dtype  # type: ignore[misc]  # of this one, where the other encoders have one for all
        self._specify(name, 1, 1, "mean", trim)

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {"waveform": "the samples themselves, for networks trained end to end (Apache-2.0)"}

    @classmethod
    def tiny(cls) -> Waveform:
        """The same: there is nothing to make small."""
        return cls()

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        return samples[:, None]
