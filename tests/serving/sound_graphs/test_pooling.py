"""Pooled frames in a graph are those of the encoders."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.mfcc import Mfcc
from serkit.encoding import pool_frames
from serkit.serving.sound_graphs.pooling import pooled

from .running import run

RNG = np.random.default_rng(3)


def means_and_spreads(frames: np.ndarray, pool: int) -> np.ndarray:
    """What a descriptor encoder with ``mean+std`` makes of these frames."""
    encoder = Mfcc("mfcc/13", pool=pool, pooling="mean+std")
    vars(encoder)["frames"] = lambda samples: frames
    return encoder._one(np.zeros(400, dtype=np.float32))


@pytest.mark.parametrize("pool", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("time", [1, 2, 7, 8, 9, 48])
def test_means(time: int, pool: int) -> None:
    frames = (RNG.normal(size=(time, 5)) * 10 - 3).astype(np.float32)
    (found,) = run(lambda graph, x: [pooled(graph, x, pool, spread=False)], x=frames)
    np.testing.assert_allclose(found, pool_frames(frames, pool), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", [2, 3, 8, 9, 10, 16, 17, 40])
def test_adds_in_the_order_of_numpy(pool: int) -> None:
    frames = (RNG.normal(size=(5 * pool, 27)) * 10 - 3).astype(np.float32)
    (found,) = run(lambda graph, x: [pooled(graph, x, pool, spread=False)], x=frames)
    np.testing.assert_array_equal(found, pool_frames(frames, pool))


@pytest.mark.parametrize("pool", [1, 2, 8])
@pytest.mark.parametrize("time", [1, 2, 7, 8, 9, 48])
def test_means_and_spreads(time: int, pool: int) -> None:
    frames = (RNG.normal(size=(time, 5)) * 10 - 3).astype(np.float32)
    (found,) = run(lambda graph, x: [pooled(graph, x, pool, spread=True)], x=frames)
    expected = means_and_spreads(frames, pool)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :5], expected[:, :5])
    np.testing.assert_allclose(found[:, 5:], expected[:, 5:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", [8, 16])
@pytest.mark.parametrize("level", [0.0, -23.025850, 87.654321, 1e4])
def test_frames_that_do_not_move(level: float, pool: int) -> None:
    frames = np.full((3 * pool + 3, 3), level, dtype=np.float32)
    (found,) = run(lambda graph, x: [pooled(graph, x, pool, spread=True)], x=frames)
    np.testing.assert_array_equal(found, means_and_spreads(frames, pool))  # what rounding leaves, too
