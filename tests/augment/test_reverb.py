from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from serkit.augment import Example
from serkit.augment.reverb import Reverb


def clip(samples: np.ndarray) -> Example:
    return Example(np.array([1.0]), samples.astype(np.float32))


def test_response_has_the_decay_and_ratio_asked_for() -> None:
    step = Reverb(rt60_low_s=0.4, rt60_high_s=0.4, direct_low_db=6, direct_high_db=6)
    response = step.response(np.random.default_rng(0))
    assert len(response) == 6400
    assert response[0] == 1.0
    assert 10 * np.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(6.0)
    energy_left_db = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1])
    times_s = np.arange(len(energy_left_db)) / 16000
    early = energy_left_db > energy_left_db[0] - 30
    assert -60 / np.polyfit(times_s[early], energy_left_db[early], 1)[0] == pytest.approx(0.4, rel=0.05)


def test_result_is_the_direct_convolution_at_the_same_power() -> None:
    rng = np.random.default_rng(1)
    dry = 0.1 * rng.standard_normal(1200)
    step = Reverb(rt60_low_s=0.05, rt60_high_s=0.05)
    wet = step(clip(dry), np.random.default_rng(7)).samples
    reference = np.convolve(clip(dry).samples.astype(float), step.response(np.random.default_rng(7)))[:1200]
    reference *= np.sqrt(np.mean(dry**2) / np.mean(reference**2))
    assert wet == pytest.approx(reference, abs=1e-6)


def test_recorded_response_is_aligned_at_its_peak(tmp_path: Path) -> None:
    response = np.zeros(2000)
    response[[700, 710]] = 0.5, 0.25
    soundfile.write(tmp_path / "room.wav", response, 16000, subtype="FLOAT")
    click = np.zeros(100)
    click[20] = 0.5
    wet = Reverb(folder=str(tmp_path))(clip(click), np.random.default_rng(0)).samples
    assert np.flatnonzero(np.abs(wet) > 1e-5).tolist() == [20, 30]
    assert wet[20] / wet[30] == pytest.approx(2.0, rel=1e-4)
