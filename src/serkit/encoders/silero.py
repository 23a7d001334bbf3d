"""States of Silero's speech detectors: small networks trained on many languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from serkit import dsp
from serkit.encoders import _silero
from serkit.encoders._offline import WHOLE_CLIP, OfflineEncoder, Pooling, remembered
from serkit.errors import SerkitError

WIDTH = sum(_silero.WIDTHS)
SPEECH_FROM = 0.5
PEAK = 0.5
ONE, ALL = ("16k",), tuple(_silero.NETWORKS)


class Silero(OfflineEncoder):
    """The last two convolutional layers and the recurrent one of Silero's speech detectors, side by side.

    Networks of the package silero-vad (version 6.2; MIT; its authors name no training data, but say that it heard
    more than 6000 languages) are run here in numpy on their published weights, which are read from the installed
    package; the package itself is not imported. That their states tell emotions apart is serkit's finding, not a
    published one; fine-tuning the first brought nothing on the corpora at hand.

    - ``silero``: 320 numbers (64, 128 and 128) every 512 samples, 31.25 frames a second, of the network for 16 kHz. A
      frame sees 576 samples and, through the recurrent layer, all that came before.
    - ``silero/functionals``: one frame of 640 numbers a clip: mean and standard deviation over the frames that the
      detector itself takes for speech (over all where these are fewer than three).
    - ``silero/all``: 960 numbers, of three networks that were trained apart: the one above, the one of half the
      precision and the one for 8 kHz, which hears up to 4 kHz.
    - ``silero/all/functionals``: 1920 numbers; each network chooses its own frames.

    Every clip is scaled to a peak of 0.5 first, so that its level does not matter.

    Args:
        name: one of these. pool, pooling, trim: see :class:`OfflineEncoder`.

    Raises:
        SerkitError: by :meth:`load` and the first call, where the package is not installed or has other weights.
    """

    WINDOW = _silero.CONTEXT + _silero.HOP
    HOP = _silero.HOP
    LICENCE = "Apache-2.0; the weights of silero-vad: MIT"

    def __init__(
        self,
        name: str = "silero",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
    ) -> None:
        self.whole = name.endswith("/functionals")
        self.networks = ALL if name.startswith("silero/all") else ONE
        if self.whole and (pool != 1 or pooling != "mean"):
            frames = name.removesuffix("/functionals")
            raise SerkitError(f"encoder '{name}': one frame per clip, nothing to pool; '{frames}' has pool and pooling")
        width = WIDTH * len(self.networks)
        self._specify(name, 2 * width if self.whole else width, pool, pooling, trim)
        self.spec = dataclasses.replace(
            self.spec,
            source="silero-vad",
            revision=_revision(self.networks),
            hop=WHOLE_CLIP if self.whole else self.HOP,
            note="weights: MIT",
        )

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        weights = "weights of silero-vad: MIT"
        return {
            "silero": f"320 states of Silero's speech detector, 31 frames a second ({weights})",
            "silero/functionals": f"mean and deviation of these where there is speech, one frame a clip ({weights})",
            "silero/all": f"960 states of three of Silero's speech detectors, 31 frames a second ({weights})",
            "silero/all/functionals": f"mean and deviation of these where each hears speech, one a clip ({weights})",
        }

    @classmethod
    def tiny(cls) -> Silero:
        """The whole: it is small."""
        return cls(pool=2)

    def load(self, device: str = "cpu") -> None:
        """Read the weights."""
        for name in self.networks:
            _silero.network(name)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        heard = remembered(f"silero {self.spec.revision}", samples, self._heard)
        n = len(self.networks)
        states, speech = heard[:, :-n], heard[:, -n:]
        if not self.whole:
            return states
        spoken = [_spoken(states[:, k * WIDTH : (k + 1) * WIDTH], speech[:, k]) for k in range(n)]
        return np.concatenate([statistic for part in spoken for statistic in (part.mean(0), part.std(0))])[None]

    def _heard(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) to (frames, 321 · networks): the states, and last each network's probabilities of speech."""
        peak = float(np.abs(samples).max())
        chunks = dsp.framed(samples * np.float32(PEAK / max(peak, 1e-6)), self.WINDOW, self.HOP)
        found = _silero.states([_silero.network(name) for name in self.networks], chunks)
        return np.concatenate([states for states, _ in found] + [speech[:, None] for _, speech in found], axis=1)


def _spoken(states: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """The rows of (frames, 320) that hold speech; all where these are fewer than three."""
    kept = speech > SPEECH_FROM
    return states[kept] if np.count_nonzero(kept) >= 3 else states


def _revision(networks: Sequence[str]) -> str:
    """Of the package, and the hashes of the files that are read."""
    return "-".join(["6.2", *(_silero.NETWORKS[name].sha256[:16] for name in networks)])
