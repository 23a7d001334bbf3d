"""A clip as over a telephone: a narrow band, and coded with few bits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._coding import check_coding, coded
from serkit.augment._signal import check_choice, check_range, filtered, full_scale, silent
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError

LINE_RATE_HZ = 8000  # of G.711 and GSM
_CODINGS = {"mu-law": "ULAW", "a-law": "ALAW", "gsm": "GSM610"}  # as libsndfile calls them


@dataclass(frozen=True)
class Telephone:
    """Band-pass with drawn edges, 8 kHz, and perhaps a codec, G.711 or GSM: calls, and files of 8 kHz.

    The level of what passes stays as it was; the line itself is driven to a drawn peak.

    Attributes:
        low_from_hz, low_to_hz: range of the lower edge (half power), uniform; 300 Hz is the edge of the classic
            telephone band, and files of 8 kHz have none (0).
        high_from_hz, high_to_hz: range of the upper edge (3400 Hz in the telephone band).
        codec: ``mu-law`` (North America, Japan) or ``a-law`` of ITU-T G.711, eight bits, ``none``, or ``any`` of these
            three, each as often; or ``gsm`` of mobile phones (GSM 06.10 full rate, 13 kbit/s).
        peak_low_db, peak_high_db: range of the peak on the line, in dB of full scale (a proposal: −20 to −3).
        probability: how often a chain applies it (a proposal: 0.3).
    """

    low_from_hz: float = 0.0
    low_to_hz: float = 300.0
    high_from_hz: float = 3200.0
    high_to_hz: float = 3900.0
    codec: Literal["any", "mu-law", "a-law", "none", "gsm"] = "any"
    peak_low_db: float = -20.0
    peak_high_db: float = -3.0
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("telephone", "the lower edge in Hz", self.low_from_hz, self.low_to_hz, at_least=0.0)
        check_range("telephone", "the upper edge in Hz", self.high_from_hz, self.high_to_hz, at_least=0.0)
        check_range("telephone", "the peak in dB", self.peak_low_db, self.peak_high_db)
        check_choice("telephone", "codec", self.codec, ("any", "none", *_CODINGS))
        if self.codec == "gsm":
            check_coding("telephone", "RAW", _CODINGS["gsm"])
        check_probability("telephone", self.probability)
        if self.low_to_hz >= self.high_from_hz:
            raise SerkitError(
                f"augmentation 'telephone': the lower edge goes up to {self.low_to_hz} Hz, the upper one down to"
                f" {self.high_from_hz} Hz; expected a band between them"
            )

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Filter, code and decode; a clip that is silent, or without anything in the band, stays as it is."""
        if silent(example):
            return example
        import soxr

        low_hz, high_hz = rng.uniform(self.low_from_hz, self.low_to_hz), rng.uniform(self.high_from_hz, self.high_to_hz)
        codec = str(rng.choice(["mu-law", "a-law", "none"])) if self.codec == "any" else self.codec
        peak = 10.0 ** (float(rng.uniform(self.peak_low_db, self.peak_high_db)) / 20.0)
        samples = np.asarray(example.samples, dtype=np.float32)
        passed = filtered(samples, lambda hz: _band(hz, low_hz, high_hz))
        line = soxr.resample(passed.astype(np.float32), SAMPLE_RATE_HZ, LINE_RATE_HZ)
        loudest = float(np.max(np.abs(line), initial=0.0))
        if loudest < 1e-9:
            return example
        heard = _passed(line * np.float32(peak / loudest), codec) * np.float32(loudest / peak)
        back = soxr.resample(heard, LINE_RATE_HZ, SAMPLE_RATE_HZ)[: len(samples)]
        return dataclasses.replace(example, samples=full_scale(np.pad(back, (0, len(samples) - len(back)))))


def _band(hz: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Gain at each frequency: Butterworth edges, 24 dB an octave below and 48 above."""
    below = (low_hz / np.maximum(hz, 1.0)) ** 8
    above = (hz / high_hz) ** 16
    return np.asarray(1.0 / np.sqrt((1.0 + below) * (1.0 + above)))


def _passed(samples: np.ndarray, codec: str) -> np.ndarray:
    """(n,) float32 samples within ±1 after a codec and back.

    Args:
        samples: (n,) at the line's rate; louder ones than ±1 are clipped.
        codec: one of ``_CODINGS``, or ``none``, which only clips.
    """
    clipped: np.ndarray = np.clip(samples, -1.0, 1.0).astype(np.float32)
    return clipped if codec == "none" else coded(clipped, LINE_RATE_HZ, "RAW", _CODINGS[codec])
