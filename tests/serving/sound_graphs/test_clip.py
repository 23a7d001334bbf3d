"""What is done to a clip's samples in a graph is what numpy does."""

from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.clip import trimmed, without_offset

from ..signals import voice
from .running import run

RNG = np.random.default_rng(7)
QUIET = np.zeros(4000, dtype=np.float32)
WITH_ENDS = np.concatenate([QUIET, voice(0.5), 1e-4 * QUIET, voice(0.3, 1), QUIET[:2100]])


@pytest.mark.parametrize("offset", [0.0, 0.001, 0.3, -0.3])
def test_an_offset_goes_where_it_is_large(offset: float) -> None:
    sound = voice(0.2) + np.float32(offset)
    (found,) = run(lambda graph, x: [without_offset(graph, x)], x=sound)
    assert np.abs(found - dsp.without_offset(sound)).max() < 1e-7


@pytest.mark.parametrize(
    "sound",
    [
        WITH_ENDS,
        voice(0.5),
        QUIET,
        QUIET[:100],
        np.ones(1, dtype=np.float32),
        np.r_[QUIET[:160], voice(0.02)[:160]],
        voice(0.06)[:481],
        np.r_[QUIET, np.float32(1.0), QUIET],
        np.r_[QUIET[:1600], voice(0.2), QUIET[:77]],
    ],
    ids=["ends", "speech", "silence", "short silence", "one sample", "two blocks", "three blocks", "click", "uneven"],
)
@pytest.mark.parametrize(("threshold_db", "margin_s"), [(-40.0, 0.1), (-25.0, 0.0)])
def test_silence_at_the_ends_goes(sound: np.ndarray, threshold_db: float, margin_s: float) -> None:
    def build(graph: Graph, x: str) -> list[str]:
        return [trimmed(graph, x, threshold_db=threshold_db, margin_s=margin_s)]

    sound = sound.astype(np.float32)
    (found,) = run(build, x=sound)
    assert np.array_equal(found, dsp.trim_silence(sound, threshold_db=threshold_db, margin_s=margin_s))
