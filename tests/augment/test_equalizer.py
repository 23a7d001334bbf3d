from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.equalizer import Equalizer
from serkit.errors import SerkitError


def noise(seed: int = 0) -> Example:
    samples = 0.05 * np.random.default_rng(seed).standard_normal(32000)
    return Example(np.array([1.0]), samples.astype(np.float32))


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def test_level_stays_and_colour_changes() -> None:
    before = noise()
    spectra = []
    for seed in range(20):
        after = Equalizer(deviation_db=6.0)(before, np.random.default_rng(seed))
        assert level_db(after.samples) == pytest.approx(level_db(before.samples), abs=0.05)
        ratio = np.abs(np.fft.rfft(after.samples)) / np.abs(np.fft.rfft(before.samples))
        spectra.append(20 * np.log10(ratio[[500, 2000, 6000, 14000]]))  # 250 Hz, 1, 3 and 7 kHz
    spread = np.std(np.array(spectra) - np.mean(spectra, axis=1, keepdims=True), axis=0)
    assert np.all((spread > 2) & (spread < 9))


def test_no_deviation_changes_nothing() -> None:
    after = Equalizer(deviation_db=0.0)(noise(), np.random.default_rng(0))
    assert after.samples == pytest.approx(noise().samples, abs=1e-6)


def test_gain_is_smooth_between_its_points() -> None:
    after = Equalizer(deviation_db=8.0, points=3)(noise(), np.random.default_rng(1)).samples
    n = 1 << 15
    ratio = 20 * np.log10(np.abs(np.fft.rfft(after, n)) / np.abs(np.fft.rfft(noise().samples, n)))
    smooth = np.convolve(ratio, np.ones(301) / 301, mode="valid")
    assert np.abs(np.diff(smooth)).max() < 0.2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SerkitError, match="from 0 to 40"):
        Equalizer(deviation_db=-1.0)
    with pytest.raises(SerkitError, match="2 or more"):
        Equalizer(points=1)
