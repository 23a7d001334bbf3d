"""The pitch track of the graph is that of serkit.encoders._pitch."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders import _pitch
from serkit.serving.sound_graphs import pitch

from ..signals import quiet, talk, voice, wide
from .running import run


def click(n: int) -> np.ndarray:
    sound = np.zeros(n, dtype=np.float32)
    sound[n // 3] = 0.5
    return sound


SOUNDS = {
    "a voice": voice(1.5, 1),
    "a high voice with breath": wide(1.5, 2, 390.0),
    "only voiced": np.sin(2 * np.pi * 140 * np.arange(16_000) / 16_000),
    "voices and pauses": talk(2),
    "one window": voice(0.06, 3),
    "two frames": voice(0.075, 3),
    "noise": quiet(1.0, 0.1),
    "soft noise": quiet(1.0, 1e-5),
    "silence": np.zeros(8000),
    "an offset": np.full(8000, 0.25),
    "a click": click(8000),
    "a voice in silence": np.concatenate([np.zeros(5000), voice(0.4), np.zeros(5000)]),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_track_is_that_of_the_encoder(name: str) -> None:
    samples = SOUNDS[name].astype(np.float32)
    expected = _pitch.track(samples)
    f0, harmonicity, power = run(pitch.track, x=samples)
    assert f0.dtype == harmonicity.dtype == power.dtype == np.float32
    assert np.array_equal(f0 > 0, expected.f0_hz > 0)
    np.testing.assert_allclose(f0, expected.f0_hz, rtol=1e-4)
    np.testing.assert_allclose(harmonicity, expected.harmonicity, atol=1e-4)
    assert power.shape == expected.power.shape
    assert (np.abs(power - expected.power).max(axis=1) <= 1e-5 * expected.power.max(axis=1)).all()


def test_the_sounds_are_voiced_and_not() -> None:
    share = {name: (_pitch.track(sound.astype(np.float32)).f0_hz > 0).mean() for name, sound in SOUNDS.items()}
    assert share["only voiced"] == 1
    assert share["a voice"] > 0.9
    assert 0.2 < share["a voice in silence"] < 0.8
    assert share["silence"] == share["an offset"] == share["a click"] == 0
    assert share["noise"] < 0.1
