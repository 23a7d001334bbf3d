"""Find near-duplicate recordings, by properties that survive copying.

The spectral fingerprint of Haitsma and Kalker (2002), "A highly robust audio fingerprinting system":
32 signs of the energy difference between neighbouring bands (300 to 3 400 Hz) and between frames, every
16 ms, looked up exactly and verified by the bit error rate over the common stretch.

How robust (measured on RAVDESS actors 1 to 10, 600 clips, 50 altered copies of each kind): found after a
change of gain 50 of 50, telephone bandwidth 50, a shift or a cut of 0.8 s 50, 0.5 % faster 50, white
noise at 20 dB 50, at 10 dB 41, at 0 dB 3, 8-bit samples of these quiet recordings 29, 2 % faster 8. So a
change of speed or pitch, a voice conversion or strong noise hides a copy. Nothing false was reported: of
179 700 pairs of RAVDESS one, which the corpus really holds twice; of 1 423 828 pairs of ASED 42, all with
a waveform correlation above 0.99 (one of them under two speakers); of 83 028 pairs of EmoDB none. Two
other takes of the nearest kind had bit error rates of 0.27 and 0.28, the copies at most 0.08.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ

MAX_BIT_ERROR = 0.25
MIN_COMMON_FRAMES = 40
_WINDOW, _HOP, _STEP, _BANDS = 2048, 256, 4, 33
_LOOKUP_STEP, _COMMON_KEY = 2, 64


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a recording.

    Attributes:
        bits: (frames,) uint32, one every 16 ms.
        loud: (frames,) bool, within 30 dB of the loudest frame; only these count.
    """

    bits: np.ndarray
    loud: np.ndarray


def fingerprint_audio(samples: np.ndarray) -> Fingerprint:
    """Fingerprint a recording.

    Args:
        samples: (samples,) float32 mono 16 kHz, any length.
    """
    shortest = _WINDOW + _STEP * _HOP
    if len(samples) < shortest:
        samples = np.pad(samples, (0, shortest - len(samples)))
    edges_hz = 300 * (3400 / 300) ** (np.arange(_BANDS + 1) / _BANDS)
    edges = np.round(edges_hz * _WINDOW / SAMPLE_RATE_HZ).astype(int)
    window = np.hanning(_WINDOW).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    parts = []
    for start in range(0, len(frames), 1024):
        power = np.abs(np.fft.rfft(frames[start : start + 1024] * window, axis=1)[:, : edges[-1]]) ** 2
        parts.append(np.add.reduceat(power, edges[:-1], axis=1))
    energy = np.concatenate(parts)  # (frames, bands)
    slope = energy[:, :-1] - energy[:, 1:]
    signs = (slope[_STEP:] - slope[:-_STEP]) > 0
    bits = np.ascontiguousarray(np.packbits(signs, axis=1)).view(np.uint32)[:, 0]
    level = energy[_STEP:].sum(axis=1)
    return Fingerprint(bits, level > max(1e-3 * float(level.max()), 1e-12))


def near_pairs(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs of positions whose recordings agree over a common stretch of at least 0.64 s (or 80 % of a shorter one).

    Takes time in proportion to the total length, not to the number of pairs.

    Args:
        prints: fingerprints, in any order.

    Returns:
        ``(one, two)`` with ``one < two``, sorted.
    """
    parts = [np.flatnonzero(p.loud[::_LOOKUP_STEP]) * _LOOKUP_STEP for p in prints]
    if sum(map(len, parts)) == 0:
        return []
    keys = np.concatenate([p.bits[at] for p, at in zip(prints, parts, strict=True)])
    owner = np.repeat(np.arange(len(prints)), [len(at) for at in parts])
    where = np.concatenate(parts)
    order = np.argsort(keys, kind="stable")
    keys, owner, where = keys[order], owner[order], where[order]
    pairs = []
    for one, mine in enumerate(prints):
        frames = np.flatnonzero(mine.loud)
        low = np.searchsorted(keys, mine.bits[frames], "left")
        many = np.searchsorted(keys, mine.bits[frames], "right") - low
        many[many > _COMMON_KEY] = 0  # a hum or a tone: everybody has it
        hits = np.repeat(low - np.cumsum(many) + many, many) + np.arange(int(many.sum()))
        other, shift = owner[hits], np.repeat(frames, many) - where[hits]
        later = other > one
        best: dict[int, tuple[int, int]] = {}
        for (two, by), n in Counter(zip(other[later].tolist(), shift[later].tolist(), strict=True)).items():
            best[two] = max(best.get(two, (0, 0)), (n, by))
        for two, (_, by) in sorted(best.items()):
            if min(bit_error(mine, prints[two], by + d) for d in (-1, 0, 1)) <= MAX_BIT_ERROR:
                pairs.append((one, two))
    return pairs


def bit_error(one: Fingerprint, two: Fingerprint, shift: int) -> float:
    """Share of bits that differ where frame ``t`` of ``two`` meets ``t + shift`` of ``one``; 1 if they hardly meet."""
    start, stop = max(0, shift), min(len(one.bits), len(two.bits) + shift)
    if stop <= start:
        return 1.0
    loud = one.loud[start:stop] & two.loud[start - shift : stop - shift]
    enough = min(MIN_COMMON_FRAMES, int(0.8 * min(one.loud.sum(), two.loud.sum())))
    if loud.sum() < max(enough, 8):
        return 1.0
    differ = (one.bits[start:stop] ^ two.bits[start - shift : stop - shift])[loud]
    return float(np.unpackbits(differ.view(np.uint8)).mean())
