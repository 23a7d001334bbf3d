"""A call over the internet of which some packets do not arrive."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import check_range, seconds, silent

PACKET = seconds(0.02)
LAGS = (seconds(0.0025), seconds(0.015))  # a pitch of 67 to 400 Hz
MATCHED = seconds(0.01)
FADE_FROM, FADE_TO = seconds(0.01), seconds(0.06)
JOIN = seconds(0.004)


@dataclass(frozen=True)
class PacketLoss:
    """Packets of 20 ms are lost, one by one or in bursts, and concealed; length and timing of the clip stay.

    Losses have Gilbert's model (1960): a packet is lost with one probability after a lost one and with another after
    one that arrived, so that rate and mean burst are as given. What is lost is filled with the last pitch period
    before it, again and again, and fades out between 10 and 60 ms; the ends overlap. This is serkit's own concealment,
    a simple form of that of ITU-T G.711 Appendix I (remembered); the state of a codec is not lost.

    Attributes:
        low_percent, high_percent: range of the share of lost packets, uniform, within 0 to 50 (a proposal: 2 to 20).
        burst_packets: mean number of packets lost in a row, at least 1 (a proposal: 2).
        probability: how often a chain applies it (a proposal: 0.3).
    """

    low_percent: float = 2.0
    high_percent: float = 20.0
    burst_packets: float = 2.0
    probability: float = 0.3

    kind = "samples"
    needs_partner = False

    def __post_init__(self) -> None:
        check_range("packet_loss", "the loss in percent", self.low_percent, self.high_percent, 0.0, 50.0)
        check_range("packet_loss", "the mean burst in packets", self.burst_packets, self.burst_packets, at_least=1.0)
        check_probability("packet_loss", self.probability)

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Lose and conceal packets; a silent clip, and one of which no packet would arrive, stay as they are."""
        if silent(example):
            return example
        samples = np.asarray(example.samples, dtype=np.float32)
        rate = float(rng.uniform(self.low_percent, self.high_percent)) / 100.0
        lost = _lost(-(-len(samples) // PACKET), rate, self.burst_packets, rng)
        if lost.all() or not lost.any():
            return example
        return dataclasses.replace(example, samples=_concealed(samples, lost))


def _lost(n_packets: int, rate: float, burst: float, rng: np.random.Generator) -> np.ndarray:
    """(n_packets,) True where a packet is lost."""
    after_lost, after_heard = 1.0 - 1.0 / burst, rate / (burst * (1.0 - rate))
    found = np.zeros(n_packets, dtype=bool)
    limit = rate
    for k, drawn in enumerate(rng.random(n_packets)):
        found[k] = drawn < limit
        limit = after_lost if found[k] else after_heard
    return found


def _concealed(samples: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """(n,) float32 samples with lost packets filled, and faded into the packet that arrives next."""
    heard = samples.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(int))) * PACKET
    for start, end in zip(edges[::2], np.minimum(edges[1::2], len(samples)), strict=True):
        stop = min(end + JOIN, len(samples))
        period, overlap = _period(heard[:start])
        heard[start - overlap : start] = period[len(period) - overlap :]
        fade = np.clip((FADE_TO - np.arange(stop - start)) / (FADE_TO - FADE_FROM), 0.0, 1.0)
        filled = np.resize(period, stop - start) * fade
        heard[start:end] = filled[: end - start]
        share = (np.arange(stop - end) + 1) / (JOIN + 1)
        heard[end:stop] = share * samples[end:stop] + (1.0 - share) * filled[end - start :]
    return heard


def _period(before: np.ndarray) -> tuple[np.ndarray, int]:
    """(lag,) float64: the last pitch period of (m,) samples; its last quarter leads over to its own beginning.

    Returns:
        The period, one sample of silence where m is small, and how many samples at its end are changed for that.
    """
    recent = before[-(MATCHED + LAGS[1]) :].astype(np.float64)
    if len(recent) < MATCHED + LAGS[1]:
        return np.zeros(1), 0
    windows = np.lib.stride_tricks.sliding_window_view(recent, MATCHED)[::-1][LAGS[0] : LAGS[1] + 1]
    power = np.maximum(np.sum(windows**2, axis=1), 1e-12)
    lag = LAGS[0] + int(np.argmax(windows @ recent[-MATCHED:] / np.sqrt(power)))
    overlap = lag // 4
    share = (np.arange(overlap) + 1) / (overlap + 1)
    period = recent[-lag:].copy()
    period[-overlap:] = (1.0 - share) * period[-overlap:] + share * recent[-lag - overlap : -lag]
    return period, overlap
