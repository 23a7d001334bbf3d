"""Log-mel bands and cepstral coefficients in a graph are those of the encoders."""

from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.encoders.logmel import Logmel
from serkit.encoders.mfcc import Mfcc
from serkit.serving.sound_graphs import bands

from ..signals import voice, wide
from .running import run

SOUNDS = {
    "breath": wide(1.0),
    "voice": voice(1.0),
    "one frame": voice(0.025),
    "three frames": voice(0.06),
    "silence": np.zeros(900),
    "click": np.eye(1, 2000, 700)[0],
}
of_sounds = pytest.mark.parametrize("sound", list(SOUNDS.values()), ids=list(SOUNDS))


@pytest.mark.parametrize("n_bands", [24, 80])
@of_sounds
def test_log_mel(n_bands: int, sound: np.ndarray) -> None:
    samples = sound.astype(np.float32)
    (found,) = run(lambda graph, x: [bands.logmel(graph, *bands.spectra(graph, x), n_bands)], x=samples)
    expected = Logmel(f"logmel/{n_bands}")._frames(samples)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "slopes"), [("mfcc/13", 0), ("mfcc/20", 1), ("mfcc/40", 2)])
@of_sounds
def test_coefficients(name: str, slopes: int, sound: np.ndarray) -> None:
    samples, encoder = sound.astype(np.float32), Mfcc(name, deltas=slopes)
    (found,) = run(lambda graph, x: [bands.mfcc(graph, bands.spectra(graph, x)[1], encoder)], x=samples)
    expected = encoder._frames(samples)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-5)  # of levels to 150


@pytest.mark.parametrize("time", [1, 2, 3, 6])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_slopes(time: int, reach: int) -> None:
    frames = np.random.default_rng(time).normal(size=(time, 4)).astype(np.float32)
    (found,) = run(lambda graph, x: [bands.deltas(graph, x, reach)], x=frames)
    np.testing.assert_allclose(found, dsp.deltas(frames, reach), rtol=1e-6, atol=1e-6)
