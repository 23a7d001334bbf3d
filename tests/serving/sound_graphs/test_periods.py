"""Jitter and shimmer of the graph are those of serkit.encoders._pitch."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders import _pitch
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import periods, pitch

from ..signals import quiet, talk
from .running import run


def trembling(duration_s: float, pitch_hz: float, sign: int = 1, seed: int = 0) -> np.ndarray:
    """Pulses that ring, uneven in period (1 %) and in height (5 %)."""
    rng = np.random.default_rng(seed)
    n = round(duration_s * 16_000)
    at = np.cumsum(16_000 / pitch_hz * (1 + 0.01 * rng.standard_normal(round(duration_s * pitch_hz))))
    t = np.arange(n)
    sound = 1e-4 * rng.standard_normal(n)
    for start in at:
        after = np.maximum(t - start, 0) / 16_000
        ring = np.exp(-300 * after) * np.sin(2 * np.pi * 700 * after)
        sound += sign * 0.3 * (1 + 0.05 * rng.standard_normal()) * ring * (t > start)
    return sound


def spoken(sound: np.ndarray) -> np.ndarray:
    """As a file of 16 bits has it."""
    return (np.round(sound * 2**15) / 2**15).astype(np.float32)


SOUNDS = {
    "trembling": trembling(1.0, 110),
    "upside down and high": trembling(0.8, 260, -1, 1),
    "not a whole number of steps": trembling(0.5, 170, seed=2)[:7987],
    "voices and pauses": talk(2),
    "a voice in silence": np.concatenate([np.zeros(9000), trembling(0.4, 140), np.zeros(9000)]),
    "a tone": 0.3 * np.sin(2 * np.pi * 140 * np.arange(8000) / 16_000),
    "one window": trembling(0.06, 150),
    "silence": np.zeros(4000),
    "noise": quiet(0.5, 0.1),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_perturbation_is_that_of_the_encoder(name: str) -> None:
    samples = spoken(SOUNDS[name])
    f0 = _pitch.track(samples).f0_hz
    expected = _pitch.perturbation(samples, f0)
    for found, known in zip(run(periods.perturbation, x=samples, f0=f0), expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-6)


def test_the_sounds_tremble() -> None:
    samples = spoken(SOUNDS["trembling"])
    jitter, shimmer = _pitch.perturbation(samples, _pitch.track(samples).f0_hz)
    assert (jitter > 1e-3).mean() > 0.9
    assert (shimmer > 0.05).mean() > 0.9


@pytest.mark.parametrize("voiced", [[], [0], [30], [93], [10, 60], list(range(20, 94))])
def test_few_frames_are_voiced(voiced: list[int]) -> None:
    samples = spoken(SOUNDS["trembling"])
    f0 = np.zeros(95, dtype=np.float32)
    f0[voiced] = 110
    expected = _pitch.perturbation(samples, f0)
    assert (expected[0] > 0).sum() <= len(voiced)
    for found, known in zip(run(periods.perturbation, x=samples, f0=f0), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [np.zeros(1600), np.full(1600, 0.1), np.arange(1600) / 1600])
def test_a_voice_without_periods_has_no_perturbation(samples: np.ndarray) -> None:
    f0 = np.full(5, 55.0, dtype=np.float32)
    expected = _pitch.perturbation(samples.astype(np.float32), f0)
    for found, known in zip(run(periods.perturbation, x=samples, f0=f0), expected, strict=True):
        np.testing.assert_array_equal(known, 0)
        np.testing.assert_array_equal(found, 0)


def test_the_graph_s_own_track_serves() -> None:
    def build(graph: Graph, x: str) -> list[str]:
        return list(periods.perturbation(graph, x, pitch.track(graph, x)[0]))

    samples = spoken(SOUNDS["voices and pauses"])
    expected = _pitch.perturbation(samples, _pitch.track(samples).f0_hz)
    for found, known in zip(run(build, x=samples), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-3, atol=1e-5)
