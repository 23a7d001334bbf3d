from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.pitch import Pitch
from serkit.errors import SerkitError


def tone(hz: float, n: int = 32000) -> Example:
    return Example(np.array([1.0]), (0.5 * np.sin(2 * np.pi * hz * np.arange(n) / 16000)).astype(np.float32))


def peak_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=1 << 17))
    return float(np.argmax(spectrum) * 16000 / (1 << 17))


@pytest.mark.parametrize("semitones", [-4.0, -1.0, 0.5, 2.0, 12.0])
@pytest.mark.parametrize("hz", [180.0, 440.0])
def test_pitch_moves_and_duration_stays(semitones: float, hz: float) -> None:
    result = Pitch(low_semitones=semitones, high_semitones=semitones)(tone(hz), np.random.default_rng(0)).samples
    assert len(result) == 32000
    assert peak_hz(result) == pytest.approx(hz * 2 ** (semitones / 12), rel=0.01)
    assert np.sqrt(np.mean(result**2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-4)
    assert np.sqrt(np.mean(result[4000:-4000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_onset_stays_in_its_place() -> None:
    burst = tone(440)
    samples = burst.samples.copy()
    samples[:16000] = 0
    shifted = Pitch(low_semitones=3, high_semitones=3)(Example(burst.target, samples), np.random.default_rng(0)).samples
    loud = np.flatnonzero(np.abs(shifted) > 0.15)
    assert loud[0] == pytest.approx(16000, abs=512)


def test_no_shift_changes_nothing() -> None:
    example = tone(300)
    assert Pitch(low_semitones=0, high_semitones=0)(example, np.random.default_rng(0)) is example


def test_more_than_an_octave_is_refused() -> None:
    with pytest.raises(SerkitError, match="at most 12"):
        Pitch(high_semitones=13)
