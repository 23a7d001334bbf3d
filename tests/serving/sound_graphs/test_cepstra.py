"""Cepstral coefficients in a graph are those of the encoder."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from serkit import dsp
from serkit.encoders.mfcc import Mfcc
from serkit.serving.sound_graphs.cepstra import deltas, mfcc

from ..signals import voice, wide
from .running import run


@pytest.mark.parametrize(("name", "slopes"), [("mfcc/13", 0), ("mfcc/20", 1), ("mfcc/40", 2)])
@pytest.mark.parametrize(
    "sound",
    [wide(1.0), voice(1.0), voice(0.025), voice(0.06), np.zeros(900), np.eye(1, 2000, 700)[0]],
    ids=["breath", "voice", "one frame", "three frames", "silence", "click"],
)
def test_coefficients(name: str, slopes: int, sound: np.ndarray) -> None:
    samples, encoder = sound.astype(np.float32), Mfcc(name, deltas=slopes)
    (found,) = run(lambda graph, x: [mfcc(graph, x, encoder)], x=samples)
    expected = encoder._frames(samples)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-5)  # of levels to 150


@pytest.mark.parametrize("time", [1, 2, 3, 6])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_slopes(time: int, reach: int) -> None:
    frames = np.random.default_rng(time).normal(size=(time, 4)).astype(np.float32)
    (found,) = run(lambda graph, x: [deltas(graph, x, reach)], x=frames)
    np.testing.assert_allclose(found, dsp.deltas(frames, reach), rtol=1e-6, atol=1e-6)
