"""Formants in a graph are the roots that exact eigenvalues give, and those of the numpy encoder to its rounding."""

from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.encoders import _formants
from serkit.encoders._voice_tables import N_FFT
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import formants, signals

from .. import signals as sounds
from .running import run

RNG = np.random.default_rng(11)


def spectra(samples: np.ndarray) -> np.ndarray:
    return dsp.power_spectrum(dsp.framed(samples, 400, 160) * dsp.hann(400), N_FFT) / np.float32(200**2)


def resonant(n: int, seed: int) -> np.ndarray:
    """(n, N_FFT // 2 + 1) power spectra of five resonances at random places, as a vowel's."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(200, 5000, (n, 1, 5))
    width = rng.uniform(40, 400, (n, 1, 5))
    hz = np.arange(N_FFT // 2 + 1)[None, :, None] * 16_000 / N_FFT
    return np.asarray(1e-3 / (((hz - at) ** 2 + width**2) / 1e6).prod(axis=2), dtype=np.float32)


def correlated(power: np.ndarray) -> np.ndarray:
    """(frames, ORDER + 1) float32, of 1 at lag 0."""
    basis = _formants.to_correlation(N_FFT)
    correlation = power[:, : len(basis)] @ basis
    return np.asarray(correlation / np.maximum(correlation[:, :1], 1e-20))


def exact(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and bandwidths by eigenvalues in float64."""
    found = np.full((2, len(correlation), 3), np.nan)
    for k, row in enumerate(_formants._predictor(correlation.astype(np.float64))):
        roots = np.roots(np.append(1.0, row))
        frequency = np.angle(roots) * _formants.BAND_HZ / np.pi
        bandwidth = -np.log(np.maximum(np.abs(roots), 1e-6)) * 2 * _formants.BAND_HZ / np.pi
        good = (frequency > 120) & (frequency < 5000) & (bandwidth < 1200)
        order = np.argsort(frequency[good])[:3]
        found[0, k, : len(order)], found[1, k, : len(order)] = frequency[good][order], bandwidth[good][order]
    return found[0], found[1]


def in_graph(power: np.ndarray) -> list[np.ndarray]:
    return run(formants.formants, power=power)


SPEECH = [
    pytest.param(spectra(sounds.wide(1.0)), id="voice with breath"),
    pytest.param(spectra((0.1 * RNG.normal(size=8000)).astype(np.float32)), id="noise"),
]
SPIKE = np.where(np.arange(N_FFT // 2 + 1) == 30, 1.0, 0.0).astype(np.float32)


@pytest.mark.parametrize(
    "power", [*SPEECH, pytest.param(resonant(200, seed=3), id="vowels"), pytest.param(SPIKE[None], id="tone")]
)
def test_resonances_are_exact_roots(power: np.ndarray) -> None:
    def build(graph: Graph, x: str) -> list[str]:
        return list(formants._resonances(graph, graph.cast(x, np.float64)))

    given = correlated(power)
    for part, true in zip(run(build, x=given), exact(given), strict=True):
        assert part.shape == (len(power), 3)
        assert part.dtype == np.float32
        assert np.array_equal(np.isnan(part), np.isnan(true))
        assert np.nanmax(np.abs(part - true)) < 2e-3  # Hz


@pytest.mark.parametrize("power", SPEECH)
def test_as_numpy_to_its_rounding(power: np.ndarray) -> None:
    for part, near in zip(in_graph(power), _formants.formants(power, N_FFT), strict=True):
        assert np.array_equal(np.isnan(part), np.isnan(near))
        assert np.nanmax(np.abs(part - near)) < 2.0  # Hz; 0.01 where products are added in numpy's order
        assert np.nanmedian(np.abs(part - near)) < 5e-3


def test_a_frame_is_alone() -> None:
    power = resonant(20, seed=5)
    for one, of_all in zip(in_graph(power[7:8]), in_graph(power), strict=True):
        assert one == pytest.approx(of_all[7:8], abs=1e-3, nan_ok=True)


def test_silence_and_a_click() -> None:
    power = np.stack([np.zeros_like(SPIKE), np.full_like(SPIKE, 1e-4), np.full_like(SPIKE, 1e-25)])
    found, expected = in_graph(power), _formants.formants(power, N_FFT)
    for part, near in zip(found, expected, strict=True):
        assert np.isnan(part[0]).all()
        assert part == pytest.approx(near, abs=0.1, nan_ok=True)


def hard_polynomials() -> dict[str, np.ndarray]:
    """(rows, 12) real factors, the highest first, all roots within the unit circle."""

    def of_reflections(reflections: np.ndarray) -> np.ndarray:
        row = np.ones((len(reflections), 1))
        for k in range(reflections.shape[1]):
            zero = np.zeros((len(row), 1))
            row = np.concatenate([row, zero], 1) + reflections[:, k : k + 1] * np.concatenate([zero, row[:, ::-1]], 1)
        return row

    def of_resonances(gap_hz: float) -> np.ndarray:
        at, width = RNG.uniform(300, 4500, (100, 5)), RNG.uniform(30, 300, (100, 5))
        at[:, 1], width[:, 1] = at[:, 0] + gap_hz, width[:, 0]
        roots = np.exp(np.pi * (-width + 2j * at) / (2 * _formants.BAND_HZ))
        real = RNG.uniform(-0.9, 0.9, (100, 1))
        return np.stack([np.poly(row).real for row in np.concatenate([roots, roots.conj(), real], axis=1)])

    only_last = np.zeros((2, 11))
    only_last[:, -1] = 0.9999, -0.9999
    return {
        "any": of_reflections(RNG.uniform(-1, 1, (500, 11))),
        "nothing predicted": of_reflections(np.zeros((1, 11))),
        "a ring of roots": of_reflections(only_last),
        "two resonances together": of_resonances(5.0),
        "two resonances in one": of_resonances(0.0),
    }


@pytest.mark.parametrize("kind", hard_polynomials())
def test_roots_of_hard_polynomials(kind: str) -> None:
    rows = hard_polynomials()[kind]

    def build(graph: Graph, x: str) -> list[str]:
        return list(formants._roots(graph, graph.cast(x, np.float64)))

    given = rows.astype(np.float32)
    real, imaginary = run(build, x=given)
    found = real + 1j * imaginary
    expected = np.stack([np.roots(row) if row[1:].any() else np.zeros(11) for row in given.astype(np.float64)])
    distance = np.abs(expected[:, :, None] - found[:, None, :])
    narrow, met = np.abs(expected) > 0.7, np.abs(found) > 0.7  # the others are wider than a formant may be
    assert np.isfinite(found).all()
    assert np.where(narrow, distance.min(axis=2), 0).max() < 1e-5
    assert np.where(met, distance.min(axis=1), 0).max() < 1e-5


def test_no_frames_at_all() -> None:
    def build(graph: Graph, x: str) -> list[str]:
        return list(formants.formants(graph, signals.sliced(graph, x, 0, 0)))

    frequency, bandwidth = run(build, x=resonant(2, seed=1))
    assert frequency.shape == bandwidth.shape == (0, 3)
