"""Voice descriptors on vowels whose pitch, formants, noise and perturbation are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from vowels import PAIR, RATE, vowel

from serkit.encoders import _formants, _pitch
from serkit.encoders.voice import FEATURES, VOICED, Voice
from serkit.errors import SerkitError


@cache
def encoder() -> Voice:
    return Voice()


def measured(samples: np.ndarray, feature: str) -> float:
    return float(np.median(encoder()([samples])[0][5:-5, FEATURES.index(feature)]))


@pytest.mark.parametrize("f0", [70, 110, 160, 220, 330, 440, 600])
def test_pitch_of_a_vowel(f0: float) -> None:
    frames = encoder()([vowel(f0)])[0]
    error = frames[3:-3, FEATURES.index("f0_semitones")] - 12 * np.log2(f0 / 27.5)
    assert np.abs(error).max() < 0.1
    assert frames[:, FEATURES.index("voicing")].min() > 0.9


def test_a_gliding_pitch_is_followed_without_octave_jumps() -> None:
    t = np.arange(2 * RATE) / RATE
    f0 = 100 * 2 ** (1.5 * t / 2)
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = (0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))).astype(np.float32)
    found = _pitch.track(wave).f0_hz
    centre = (np.arange(len(found)) * 160 + 480) / RATE
    assert (found > 0).all()
    np.testing.assert_allclose(found, np.interp(centre, t, f0), rtol=0.01)


def test_noise_and_silence_have_no_voice() -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(2 * RATE)).astype(np.float32)
    assert (_pitch.track(noise).f0_hz > 0).mean() < 0.05
    assert not _pitch.track(np.zeros(RATE, np.float32)).f0_hz.any()
    quiet = np.concatenate([vowel(150), np.zeros(RATE, np.float32)])
    found = _pitch.track(quiet).f0_hz > 0
    assert found[:90].all()
    assert not found[105:].any()


@pytest.mark.parametrize(
    ("f0", "formants"),
    [
        (110, (730, 1090, 2440, 3400, 4500)),
        (110, (270, 2290, 3010, 3500, 4500)),
        (150, (530, 1840, 2480, 3500, 4500)),
        (220, (850, 1220, 2810, 3800, 4800)),
    ],
)
def test_formants_of_vowels(f0: float, formants: tuple[float, ...]) -> None:
    samples = vowel(f0, formants)
    for k in (1, 2, 3):
        assert 1000 * measured(samples, f"f{k}_khz") == pytest.approx(formants[k - 1], abs=40)
        assert 30 < 1000 * measured(samples, f"f{k}_bandwidth_khz") < 300


def test_the_predictor_solves_the_normal_equations() -> None:
    rng = np.random.default_rng(3)
    signal = rng.standard_normal((4, 500))
    correlation = np.stack([[row[: 500 - k] @ row[k:] for k in range(_formants.ORDER + 1)] for row in signal])
    found = _formants._predictor(correlation)
    for row, a in zip(correlation, found, strict=True):
        matrix = row[np.abs(np.subtract.outer(np.arange(_formants.ORDER), np.arange(_formants.ORDER)))]
        np.testing.assert_allclose(a, np.linalg.solve(matrix, -row[1:]), atol=1e-4)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_harmonics_to_noise_is_the_ratio_that_was_mixed(noise: float) -> None:
    expected = 20 * np.log10(np.std(vowel(150)) / noise)
    assert measured(vowel(150, noise=noise), "hnr_db") == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("f0", [110, 220])
def test_jitter_and_shimmer_are_those_put_in_and_apart(f0: float) -> None:
    def mean(samples: np.ndarray, feature: str) -> float:
        return float(encoder()([samples])[0][5:-5, FEATURES.index(feature)].mean())

    for sigma in (0.005, 0.02):
        assert mean(vowel(f0, jitter=sigma, seconds=2), "jitter") == pytest.approx(PAIR * sigma, rel=0.2)
    for sigma in (0.3, 1.2):
        shaken = vowel(f0, shimmer_db=sigma, seconds=2)
        assert mean(shaken, "shimmer_db") == pytest.approx(PAIR * sigma, rel=0.2)
        assert mean(shaken, "jitter") < 0.006
    assert mean(vowel(f0), "jitter") < 0.001
    assert mean(vowel(f0), "shimmer_db") < 0.05


def test_first_harmonics_are_the_amplitudes_put_in() -> None:
    t = np.arange(RATE) / RATE
    wave = sum(a * np.sin(2 * np.pi * 200 * k * t) for k, a in ((1, 0.2), (2, 0.1), (3, 0.05), (4, 0.05)))
    assert measured(wave.astype(np.float32), "h1_h2_db") == pytest.approx(20 * np.log10(2), abs=0.2)


def test_spectral_balance_by_definition() -> None:
    t = np.arange(RATE) / RATE
    wave = (0.2 * np.sin(2 * np.pi * 500 * t) + 0.02 * np.sin(2 * np.pi * 3000 * t)).astype(np.float32)
    assert measured(wave, "alpha_ratio_db") == pytest.approx(-20, abs=0.3)
    assert measured(wave, "hammarberg_db") == pytest.approx(20, abs=0.3)
    assert measured(wave, "energy_db") == pytest.approx(10 * np.log10((0.2**2 + 0.02**2) / 2), abs=0.1)
    assert measured(2 * wave, "loudness") == pytest.approx(2 ** (2 / 3) * measured(wave, "loudness"), rel=0.01)


def test_frames_without_voice_are_bridged_or_zero() -> None:
    rng = np.random.default_rng(1)
    gap = (0.01 * rng.standard_normal(RATE // 2)).astype(np.float32)
    clip = np.concatenate([vowel(110), gap, vowel(220)])
    bridged, zero = Voice()([clip])[0], Voice(unvoiced="zero")([clip])[0]
    columns = slice(len(FEATURES) - len(VOICED), None)
    silent = (zero[:, columns] == 0).all(axis=1)
    assert 20 < silent.sum() < 70
    np.testing.assert_array_equal(bridged[~silent], zero[~silent])
    f0 = bridged[:, FEATURES.index("f0_semitones")]
    assert 24 < f0[np.flatnonzero(silent)[len(np.flatnonzero(silent)) // 2]] < 36
    assert Voice().spec.fingerprint != Voice(unvoiced="zero").spec.fingerprint
    with pytest.raises(SerkitError, match="did you mean 'interpolate'"):
        Voice(unvoiced="interpolated")  # type: ignore[arg-type]


def test_slopes_can_follow() -> None:
    clip = vowel(110, seconds=0.3)
    both = Voice(deltas=True)([clip])[0]
    assert both.shape[1] == 2 * len(FEATURES)
    np.testing.assert_array_equal(both[:, : len(FEATURES)], encoder()([clip])[0])


def test_ten_minutes_are_like_ten_seconds() -> None:
    piece = np.concatenate([vowel(150, seconds=0.6, noise=0.01), np.zeros(RATE * 4 // 10, np.float32)])
    short, long = Voice()([np.tile(piece, 10), np.tile(piece, 60)])
    assert len(long) == 60 * 100 - 5
    assert np.isfinite(long).all()
    np.testing.assert_allclose(long[2050:2900], short[50:900], atol=0.02)


def test_a_frame_that_is_predicted_too_well_stays_finite() -> None:
    """Autocorrelation of a frame of resampled speech: rounding leaves it not quite positive definite."""
    first = [1.0, 0.9423155776, 0.7916480535, 0.5886774729, 0.3546037323, 0.0979933770]
    row = np.array([*first, -0.1544410861, -0.3616617823, -0.5041766504, -0.5949194709, -0.6495283735, -0.6649011754])
    plain = _formants._predictor(row[None])
    assert np.isfinite(plain).all()
    assert np.abs(plain).max() < 2.0**_formants.ORDER
