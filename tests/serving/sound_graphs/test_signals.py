"""Frames and spectra in a graph are those of serkit.dsp."""

from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import signals

from .running import run

RNG = np.random.default_rng(7)
SOUND = (0.1 * RNG.normal(size=5000)).astype(np.float32)


def test_spectra_of_frames() -> None:
    def build(graph: Graph, x: str) -> list[str]:
        frames = signals.framed(graph, x, 400, 160)
        windowed = graph.times(frames, signals.hann(graph, 400))
        return [frames, signals.power_spectrum(graph, windowed, 400, 512)]

    frames, power = run(build, x=SOUND)
    assert np.array_equal(frames, dsp.framed(SOUND, 400, 160))
    expected = dsp.power_spectrum(frames * dsp.hann(400), 512)
    assert np.abs(power - expected).max() < 1e-6 * expected.max()


@pytest.mark.parametrize("n", [1, 399, 400, 401])
def test_short_clips_get_zeros(n: int) -> None:
    (found,) = run(lambda graph, x: [signals.at_least(graph, x, 400)], x=SOUND[:n])
    assert np.array_equal(found, dsp.at_least(SOUND[:n], 400))


def test_slices() -> None:
    def build(graph: Graph, x: str) -> list[str]:
        end = signals.size(graph, x)
        return [
            signals.sliced(graph, x, 2, end),
            signals.sliced(graph, x, 0, -1),
            signals.sliced(graph, x, 1, 9, step=3),
        ]

    found = run(build, x=SOUND[:10])
    for part, expected in zip(found, (SOUND[2:10], SOUND[:9], SOUND[1:9:3]), strict=True):
        assert np.array_equal(part, expected)


def test_decibel() -> None:
    (found,) = run(lambda graph, x: [signals.decibel(graph, x, 1e-6)], x=np.array([0.0, 1.0, 100.0]))
    assert found == pytest.approx([-60, 0, 20], abs=1e-4)


@pytest.mark.parametrize("backwards", [False, True])
def test_scan_carries_a_state(backwards: bool) -> None:
    def build(graph: Graph, x: str) -> list[str]:
        def step(states: list[str], items: list[str]) -> tuple[list[str], list[str]]:
            total = graph.add(states[0], items[0])
            return [total], [total]

        return graph.scan([graph.constant(np.zeros(3))], [x], step, backwards=backwards)

    given = RNG.normal(size=(5, 3)).astype(np.float32)
    last, every = run(build, x=given)
    expected = np.cumsum(given[::-1], axis=0)[::-1] if backwards else np.cumsum(given, axis=0)
    assert np.allclose(every, expected, atol=1e-6)
    assert np.allclose(last, expected[0 if backwards else -1], atol=1e-6)


@pytest.mark.parametrize("n", [3, 30])
def test_one_of_two_branches(n: int) -> None:
    def build(graph: Graph, x: str) -> list[str]:
        long = graph("Greater", signals.size(graph, x), signals.number(graph, 10))
        return graph.either(long, lambda: [graph.times(x, graph.constant(2.0)), x], lambda: [x, graph("Neg", x)])

    first, second = run(build, x=SOUND[:n])
    assert np.array_equal(first, SOUND[:n] * (2 if n > 10 else 1))
    assert np.array_equal(second, SOUND[:n] * (1 if n > 10 else -1))
