"""Statistics of a clip in a graph are those of the encoder."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.functionals import Functionals
from serkit.encoders.logmel import Logmel
from serkit.encoders.voice import FEATURES, Voice
from serkit.serving.sound_graphs.functionals import functionals

from ..signals import voice, wide
from .running import run

RNG = np.random.default_rng(5)
BETWEEN = np.linspace(0.2, 0.5, 9)  # the last is exactly where frames are not yet voiced


class Given:
    """An encoder that has its answer."""

    def __init__(self, frames: np.ndarray) -> None:
        self.answer = frames

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """The answer."""
        return self.answer


def both(logmel: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The graph's frame, and the encoder's."""
    encoder = Functionals()
    vars(encoder).update(_logmel=Given(logmel), _voice=Given(frames))
    (found,) = run(lambda graph, x, y: [functionals(graph, x, y)], x=logmel, y=frames)
    return found, encoder._frames(np.zeros(960, dtype=np.float32))


def made(n_frames: int, voicing: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Random frames of ``logmel/40`` and of ``voice``, with this voicing."""
    logmel = (RNG.normal(size=(n_frames + 3, 41)) * 3 - 8).astype(np.float32)
    frames = (RNG.normal(size=(n_frames, len(FEATURES))) * 10).astype(np.float32)
    frames[:, FEATURES.index("voicing")] = voicing
    return logmel, frames


@pytest.mark.parametrize(
    "sound",
    [wide(1.0), voice(0.6), voice(4.0), wide(0.06), np.zeros(5000), np.eye(1, 2000, 700)[0], np.ones(960)],
    ids=["breath", "voice", "long", "one frame", "silence", "click", "constant"],
)
def test_sounds(sound: np.ndarray) -> None:
    samples = sound.astype(np.float32)
    found, expected = both(Logmel("logmel/40").frames(samples), Voice().frames(samples))
    assert found.shape == (1, 2111)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(expected, Functionals()._frames(samples))


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5, 6, 124, 125, 126, 253, 256, 257, 381])
def test_lengths(n_frames: int) -> None:
    found, expected = both(*made(n_frames, RNG.uniform(size=n_frames)))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "voicing",
    [
        np.zeros(9),
        np.ones(9),
        BETWEEN,
        np.eye(1, 9, 4)[0],
        np.arange(9) < 3,
        np.arange(9) < 4,
        np.arange(9) >= 3,
        np.arange(9) % 2,
    ],
    ids=["none", "all", "at the bound", "one", "three", "four", "all but three", "every second"],
)
def test_voiced_frames(voicing: np.ndarray) -> None:
    found, expected = both(*made(len(voicing), voicing))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_frames_that_do_not_move() -> None:
    found, expected = both(np.full((8, 41), -23.025850, np.float32), np.full((5, len(FEATURES)), 0.25, np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
