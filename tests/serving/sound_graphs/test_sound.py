"""What an encoder hands to the networks in a graph is what the store keeps of it."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.voice import Voice
from serkit.encoders.waveform import Waveform
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.sound import Sound
from serkit.store import round_frames

from ..signals import quiet, voice
from .running import run


@pytest.mark.parametrize("loud", [1.0, 1e6])
def test_large_values_end_where_the_format_does(loud: float) -> None:
    encoder, sound = Waveform(dtype="float16"), (loud * voice(0.1)).astype(np.float32)
    (found,) = run(lambda graph, x: [Sound(graph, x).features("waveform", encoder)], x=sound)
    expected = round_frames(encoder([sound])[0], encoder.spec).astype(np.float32)
    assert np.array_equal(found, expected)
    assert (np.abs(found).max() == 30_000) == (loud > 1)


def test_what_two_encoders_share_is_there_once() -> None:
    def size(pools: list[int]) -> int:
        graph = Graph()
        sound = Sound(graph, graph.input("samples", ["samples"]))
        last = [sound.features("voice", Voice(pool=pool, pooling="mean+std", trim=True)) for pool in pools]
        return len(graph.to_bytes({f"out{k}": (name, None) for k, name in enumerate(last)}, {}))

    assert size([4, 8]) < 1.2 * size([4])


def test_trimmed_and_pooled() -> None:
    encoder = Voice(pool=8, pooling="mean+std", trim=True)
    sound = np.concatenate([quiet(0.5), voice(1.0, 4), quiet(0.5)])
    (found,) = run(lambda graph, x: [Sound(graph, x).features("voice", encoder)], x=sound)
    expected = round_frames(encoder([sound])[0], encoder.spec).astype(np.float32)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-2
