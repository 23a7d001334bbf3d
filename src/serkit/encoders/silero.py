"""States of Silero's speech detector: what a small network that has heard many languages makes of a voice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from serkit import dsp
from serkit.encoders import _silero
from serkit.encoders._offline import OfflineEncoder, Pooling, remembered
from serkit.encoders.functionals import WHOLE_CLIP
from serkit.errors import SerkitError

WIDTH = sum(_silero.WIDTHS)
SPEECH_FROM = 0.5
PEAK = 0.5


class Silero(OfflineEncoder):
    """The last two convolutional layers and the recurrent one of Silero's speech detector, side by side.

    The network of the package silero-vad (version 6.2; MIT; its authors name no training data, but say that it heard
    more than 6000 languages) is run here in numpy on its published weights, which are read from the installed package;
    the package itself is not imported. That its states tell emotions apart is serkit's finding, not a published one;
    fine-tuning them brought nothing on the corpora at hand.

    - ``silero``: 320 numbers (64, 128 and 128) every 512 samples, 31.25 frames a second. A frame sees 576 samples and,
      through the recurrent layer, all that came before.
    - ``silero/functionals``: one frame of 640 numbers a clip: mean and standard deviation over the frames that the
      detector itself takes for speech (over all where these are fewer than three).

    Every clip is scaled to a peak of 0.5 first, so that its level does not matter.

    Args:
        name: ``silero`` or ``silero/functionals``. pool, pooling, trim: see :class:`OfflineEncoder`.

    Raises:
        SerkitError: by :meth:`load` and the first call, where the package is not installed or has other weights.
    """

    WINDOW = _silero.CONTEXT + _silero.HOP
    HOP = _silero.HOP
    REVISION = f"6.2-{_silero.WEIGHTS_SHA256[:16]}"
    LICENCE = "Apache-2.0; the weights of silero-vad: MIT"

    def __init__(
        self,
        name: str = "silero",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
    ) -> None:
        self.whole = name == "silero/functionals"
        if self.whole and (pool != 1 or pooling != "mean"):
            raise SerkitError(f"encoder '{name}': one frame a clip, nothing to pool; 'silero' has pool and pooling")
        self._specify(name, 2 * WIDTH if self.whole else WIDTH, pool, pooling, trim)
        self.spec = dataclasses.replace(
            self.spec, source="silero-vad", hop=WHOLE_CLIP if self.whole else self.HOP, note="weights: MIT"
        )

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        weights = "weights of silero-vad: MIT"
        return {
            "silero": f"320 states of Silero's speech detector, 31 frames a second ({weights})",
            "silero/functionals": f"mean and deviation of these where there is speech, one frame a clip ({weights})",
        }

    @classmethod
    def tiny(cls) -> Silero:
        """The whole: it is small."""
        return cls(pool=2)

    def load(self, device: str = "cpu") -> None:
        """Read the weights."""
        _silero.network()

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        heard = remembered(f"silero {self.REVISION}", samples, _heard)
        states, speech = heard[:, :WIDTH], heard[:, WIDTH]
        if not self.whole:
            return states
        kept = speech > SPEECH_FROM
        spoken = states[kept] if np.count_nonzero(kept) >= 3 else states
        return np.concatenate([spoken.mean(0), spoken.std(0)])[None]


def _heard(samples: np.ndarray) -> np.ndarray:
    """(samples,) to (frames, 321): the states, and last how likely each is speech."""
    peak = float(np.abs(samples).max())
    chunks = dsp.framed(samples * np.float32(PEAK / max(peak, 1e-6)), Silero.WINDOW, Silero.HOP)
    states, speech = _silero.network().states(chunks)
    return np.concatenate([states, speech[:, None]], axis=1)
