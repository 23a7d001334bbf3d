"""Pitch in bins: against the formula of the released code, on tones of known pitch, and what pooling makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from vowels import RATE, vowel

from serkit.encoders import _pitch
from serkit.encoders.f0_bins import F0Bins
from serkit.errors import SerkitError


def reference(f0_hz: float) -> int:
    """The bin of a voiced frame, 1 to 255, as the released code counts it (50 to 1100 Hz, 256 bins)."""
    low, high = 1127 * np.log(1 + 50 / 700), 1127 * np.log(1 + 1100 / 700)
    mel = (1127 * np.log(1 + f0_hz / 700) - low) * 254 / (high - low) + 1
    return int(np.rint(min(max(mel, 1), 255)))


@pytest.mark.parametrize("f0_hz", [30.0, 50.0, 80.0, 133.7, 220.0, 440.0, 799.0, 1100.0, 3000.0])
def test_bins_are_those_of_the_released_code(f0_hz: float) -> None:
    assert F0Bins()._bin(np.array([f0_hz])).tolist() == [reference(f0_hz)]
    assert F0Bins()._bin(np.array([0.0])).tolist() == [0]


@pytest.mark.parametrize("f0_hz", [90.0, 150.0, 310.0])
def test_a_steady_voice_is_in_its_bin(f0_hz: float) -> None:
    frames = F0Bins()([vowel(f0_hz)])[0]
    assert set(np.unique(frames)) == {0.0, 1.0}
    assert (frames.sum(axis=1) == 1).all()
    assert abs(np.median(frames.argmax(axis=1)) - reference(f0_hz)) <= 1


def test_frames_are_every_second_one_of_the_tracker() -> None:
    samples = np.concatenate([vowel(120.0), np.zeros(4_000, np.float32), vowel(200.0)])
    encoder = F0Bins()
    np.testing.assert_array_equal(encoder([samples])[0].argmax(1), encoder._bin(_pitch.track(samples).f0_hz[::2]))


def test_a_pause_has_a_column_of_its_own_or_the_line_between_its_neighbours() -> None:
    pause = np.zeros(RATE // 2, dtype=np.float32)
    samples = np.concatenate([vowel(120.0), pause, vowel(200.0)])
    own, line = (F0Bins(unvoiced=way)([samples])[0].argmax(axis=1) for way in ("bin", "interpolate"))
    middle = (len(vowel(120.0)) + len(pause) // 2) // 320
    assert own[middle] == 0
    beside = own[:middle][own[:middle] > 0][-1], own[middle:][own[middle:] > 0][0]
    assert min(beside) <= line[middle] <= max(beside)
    assert (line > 0).all()
    voiced = own > 0
    assert voiced.any()
    np.testing.assert_array_equal(own[voiced], line[voiced])


@pytest.mark.parametrize("way", ["bin", "interpolate"])
def test_a_clip_without_a_voice_is_all_in_column_0(way: str) -> None:
    """Regression: the released script fails on such a clip and writes no features for it."""
    frames = F0Bins(unvoiced=way)([np.zeros(RATE, dtype=np.float32)])[0]
    assert (frames.argmax(axis=1) == 0).all()


def test_loudness_changes_no_bin() -> None:
    """Regression: the released script hands integer samples to its tracker as they are, 32 768 times as loud."""
    encoder = F0Bins()
    np.testing.assert_array_equal(encoder([vowel(150.0)])[0], encoder([0.125 * vowel(150.0)])[0])


def test_pooled_frames_are_shares_of_time() -> None:
    samples = np.concatenate([vowel(120.0), vowel(200.0)])
    single, pooled = F0Bins()([samples])[0], F0Bins(pool=5)([samples])[0]
    np.testing.assert_allclose(pooled[0], single[:5].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(pooled.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bins": 2}, "bins 2, expected 3 or more"),
        ({"low_hz": 400.0, "high_hz": 100.0}, "pitch from 400.0 to 100.0 Hz"),
        ({"unvoiced": "interpolated"}, "did you mean 'interpolate'"),
    ],
)
def test_what_makes_no_bins_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(SerkitError, match=message):
        F0Bins(**parameters)
