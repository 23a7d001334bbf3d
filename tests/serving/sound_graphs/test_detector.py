"""The states of the speech detectors in a graph are those of the encoder."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.silero import Silero
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import detector

from ..signals import voice
from .running import run

SOUNDS = {
    "speech": voice(2.0),
    "one window": voice(0.036)[:576],
    "silence": np.zeros(3000, dtype=np.float32),
    "loud and quiet": np.concatenate([voice(1.0), 1e-3 * voice(1.0, 3)]),
}


@pytest.mark.parametrize("name", ["silero", "silero/functionals", "silero/all", "silero/all/functionals"])
@pytest.mark.parametrize("sound", list(SOUNDS.values()), ids=list(SOUNDS))
def test_states(name: str, sound: np.ndarray) -> None:
    encoder = Silero(name)

    def build(graph: Graph, x: str) -> list[str]:
        found = detector.heard(graph, x, encoder.networks)
        return [detector.statistics(graph, found) if encoder.whole else detector.states(graph, found)]

    (found,) = run(build, x=sound)
    expected = encoder([sound])[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("n_spoken", [0, 2, 3, 5])
def test_frames_of_speech_are_summed_up_where_there_are_three(n_spoken: int) -> None:
    frames = np.random.default_rng(7).normal(size=(6, 320)).astype(np.float32)
    speech = np.where(np.arange(6) < n_spoken, 0.51, 0.5).astype(np.float32)
    (found,) = run(lambda graph, x, p: [detector.statistics(graph, [(x, p)])], x=frames, p=speech)
    kept = frames[:n_spoken] if n_spoken >= 3 else frames
    assert np.abs(found[0] - np.concatenate([kept.mean(0), kept.std(0)])).max() < 1e-6
