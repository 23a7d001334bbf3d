"""What several augmentations share: power, full scale, mixed labels, checked parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from serkit.augment import Example
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known


def power(samples: np.ndarray) -> float:
    """Mean square of (n,) samples, in float64; 0 of an empty array."""
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def silent(example: Example | None) -> bool:
    """True of a clip without samples, or with nothing but zeros."""
    return example is None or example.samples is None or power(example.samples) == 0.0


def full_scale(samples: np.ndarray) -> np.ndarray:
    """(n,) float32: the samples, scaled down as a whole to a peak of 1 where they are louder."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    return np.asarray(samples / peak if peak > 1.0 else samples, dtype=np.float32)


def filtered(samples: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(n,) float64: the samples with a real gain at every frequency, so without a shift in time.

    Args:
        samples: (n,) mono at 16 kHz.
        gain: gives the factors at (m,) frequencies in Hz.
    """
    n = len(samples)
    size = n + SAMPLE_RATE_HZ // 10  # silence after the end, which the filter rings into instead of the beginning
    spectrum = np.fft.rfft(samples, n=size) * gain(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE_HZ))
    return np.fft.irfft(spectrum, n=size)[:n]


def snr_gain(signal_power: float, noise_power: float, snr_db: float) -> float:
    """Factor on noise of ``noise_power`` that puts it ``snr_db`` below ``signal_power``.

    >>> snr_gain(1.0, 0.25, 0.0)
    2.0
    """
    return math.sqrt(signal_power / (noise_power * 10.0 ** (snr_db / 10.0)))


def seconds(duration_s: float) -> int:
    """Samples in a duration, rounded."""
    return round(duration_s * SAMPLE_RATE_HZ)


def mixed(example: Example, partner: Example, share: float, **changes: object) -> Example:
    """The example with ``share`` of its label replaced by the partner's, and with ``changes``.

    Attributes (arousal, valence, dominance) mix like the target; an unknown one stays unknown. The gender of two
    speakers who differ in it is unknown.
    """
    if example.target.shape != partner.target.shape:
        raise SerkitError(
            f"mixing: targets of {len(example.target)} and {len(partner.target)} classes; expected the same classes"
        )
    target = (1.0 - share) * example.target + share * partner.target
    if not (example.target.any() and partner.target.any()):
        target = np.zeros_like(target)
    attributes = None
    if example.attributes is not None and partner.attributes is not None:
        attributes = (1.0 - share) * example.attributes + share * partner.attributes
    gender = example.gender if share <= 0 or example.gender == partner.gender else -1
    changed: Any = {**changes, "target": target, "votes": None, "attributes": attributes, "gender": gender}
    return dataclasses.replace(example, **changed)


def check_range(
    name: str, what: str, low: float, high: float, at_least: float = -math.inf, at_most: float = math.inf
) -> None:
    """Refuse a range that is empty, not finite, begins below ``at_least`` or ends above ``at_most``."""
    if not (math.isfinite(low) and math.isfinite(high) and at_least <= low <= high <= at_most):
        end = "on" if at_most == math.inf else f"to {at_most:g}"
        bound = "" if at_least == -math.inf else f" from {at_least:g} {end}"
        raise SerkitError(f"augmentation '{name}': {what} runs from {low} to {high}, expected low ≤ high{bound}")


def check_choice(name: str, what: str, given: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones."""
    check_known(given, known, f"augmentation '{name}': {what} is '{given}'")
