"""The encoder ``voice`` in a graph gives the frames of the one in numpy; pitch and periods are numpy's here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from serkit.encoders import _pitch
from serkit.encoders import voice as encoders
from serkit.encoders.voice import FEATURES, SPECTRAL, VOICED, Voice
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import voice

from .. import signals as sounds
from .running import run

RNG = np.random.default_rng(5)
OF_FORMANTS = [name == "h1_a3_db" or name[:2] in ("f1", "f2", "f3") for name in FEATURES]
LEAST = np.array([1e-6 if name == "spectral_flux" else 5e-5 for name in FEATURES])  # where a column stands still
SPEECH = np.concatenate([sounds.quiet(0.3), sounds.wide(1.0), sounds.quiet(0.4), sounds.wide(0.7, 2, pitch_hz=210)])


def click(n: int = 8000) -> np.ndarray:
    found = np.zeros(n, dtype=np.float32)
    found[n // 2] = 0.5
    return found


def both(samples: np.ndarray, encoder: Voice, pitch: _pitch.Pitch) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the graph and of the encoder, of one pitch track."""
    jitter, shimmer = _pitch.perturbation(samples, pitch.f0_hz)

    def build(graph: Graph, x: str, f0: str, height: str, power: str, jitter: str, shimmer: str) -> list[str]:
        def track(graph: Graph, samples: str) -> tuple[str, str, str]:
            assert samples == x
            return f0, height, power

        def periods(graph: Graph, samples: str, f0_hz: str) -> tuple[str, str]:
            assert (samples, f0_hz) == (x, f0)
            return jitter, shimmer

        return [voice.voice(graph, x, encoder, track, periods)]

    fed = {"height": pitch.harmonicity, "power": pitch.power, "jitter": jitter, "shimmer": shimmer}
    (found,) = run(build, x=samples, f0=pitch.f0_hz, **fed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pitch, "track", lambda _: pitch)
        return found, encoder._frames(samples)


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """All within 1e-4 of a column's spread, but what follows formants in 1 % of frames."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    away, twice = np.abs(found - expected), expected.shape[1] // len(FEATURES)
    near = away <= 1e-4 * expected.std(axis=0) + np.tile(LEAST, twice)
    rounded = np.array(OF_FORMANTS * twice)
    assert near[:, ~rounded].all()
    close = away <= 1e-2 * expected.std(axis=0) + 2e-3
    assert close[:, rounded].all(axis=1).mean() >= 0.99


@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("unvoiced", ["interpolate", "zero"])
def test_speech(unvoiced: Literal["interpolate", "zero"], deltas: bool) -> None:
    encoder = Voice(unvoiced=unvoiced, deltas=deltas)
    pitch = _pitch.track(SPEECH)
    assert 0.3 < (pitch.f0_hz > 0).mean() < 0.9
    found, expected = both(SPEECH, encoder, pitch)
    assert found.shape[1] == encoder.spec.dim
    check(found, expected)


@pytest.mark.parametrize("unvoiced", ["interpolate", "zero"])
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(8000, dtype=np.float32), id="silence"),
        pytest.param(click(), id="click"),
        pytest.param(sounds.quiet(0.5), id="noise"),
        pytest.param(sounds.wide(0.06), id="60 ms"),
        pytest.param(sounds.wide(0.07)[:1119], id="one frame and nearly two"),
        pytest.param(sounds.wide(0.07), id="two frames"),
        pytest.param(np.zeros(960, dtype=np.float32), id="60 ms of silence"),
    ],
)
def test_edge_cases(samples: np.ndarray, unvoiced: Literal["interpolate", "zero"]) -> None:
    found, expected = both(samples, Voice(unvoiced=unvoiced, deltas=True), _pitch.track(samples))
    check(found, expected)


@pytest.mark.parametrize("unvoiced", ["interpolate", "zero"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(lambda n: np.zeros(n, dtype=bool), id="none"),
        pytest.param(lambda n: np.arange(n) == 0, id="the first"),
        pytest.param(lambda n: np.arange(n) == n // 2, id="one"),
        pytest.param(lambda n: np.arange(n) == n - 1, id="the last"),
        pytest.param(lambda n: np.ones(n, dtype=bool), id="all"),
        pytest.param(lambda n: np.arange(n) % 3 == 1, id="each third"),
    ],
)
def test_voiced_frames(where: Callable[[int], np.ndarray], unvoiced: Literal["interpolate", "zero"]) -> None:
    samples = SPEECH[4000:20000]
    pitch = _pitch.track(samples)
    chosen = where(len(pitch.f0_hz))
    f0 = np.where(chosen, np.where(pitch.f0_hz > 0, pitch.f0_hz, 130.0), 0.0).astype(np.float32)
    found, expected = both(samples, Voice(unvoiced=unvoiced), dataclasses.replace(pitch, f0_hz=f0))
    check(found, expected)
    if not chosen.any():
        assert not found[:, -len(VOICED) :].any()


def test_spectral_features_of_loud_and_faint_sound() -> None:
    for gain in (1e-4, 1.0, 30.0):
        samples = (gain * SPEECH[8000:16000]).astype(np.float32)
        voiced = np.ones(1 + (len(samples) - 960) // 160, dtype=bool)
        expected, power = encoders._spectral(samples, voiced)
        found = run(lambda graph, x: list(voice._spectral(graph, x)), x=samples)
        assert found[0].shape == (len(voiced), len(SPECTRAL))
        assert (np.abs(found[0] - expected) <= 1e-4 * expected.std(axis=0) + LEAST[: len(SPECTRAL)]).all()
        assert np.abs(found[1] / power - 1).max() < 1e-3


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_absent_values_become_the_median(n: int) -> None:
    values = RNG.normal(size=(n, 3)).astype(np.float32)
    values[0, 0] = np.nan
    values[:, 1] = np.nan
    values[n // 2 :: 2, 2] = np.nan
    default = (500.0, 1500.0, 2500.0)
    (found,) = run(lambda graph, x: [voice._filled(graph, x, default)], x=values)
    assert np.array_equal(found, encoders._filled(values, default))


def test_rows_between_known_ones() -> None:
    for share in (0.05, 0.3, 0.7):
        known = RNG.random(60) < share
        known[17] = True
        frames = RNG.normal(size=(60, 4)).astype(np.float32)

        def build(graph: Graph, rows: str, voiced: str) -> list[str]:
            at = graph.squeeze(graph("NonZero", voiced), 0)
            return [voice._interpolated(graph, rows, at, voiced), voice._with_zeros(graph, rows, at, voiced)]

        between, zeros = run(build, rows=frames[known], voiced=known)
        assert between == pytest.approx(encoders._interpolated(frames, known), abs=1e-6)
        assert np.array_equal(zeros, frames * known[:, None])


def test_peaks_near_a_frequency() -> None:
    power = (RNG.random((40, _pitch.HARMONIC_BINS)) ** 8).astype(np.float32)
    power[3] = 0.0
    hz = np.linspace(0, 6000, 40).astype(np.float32)  # beyond the last bin, too
    hz[:4] = np.array([0.5, 1.5, 2.5, 7.5]) * _pitch.BIN_HZ  # halves go to the even bin
    for reach in (2, 8):
        (found,) = run(lambda graph, x, f, reach=reach: [voice._peak_db(graph, x, f, reach)], x=power, f=hz)
        assert found == pytest.approx(encoders._peak_db(power, hz, np.arange(-reach, reach + 1)), abs=1e-4)
