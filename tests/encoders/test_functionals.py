"""Statistics of a clip against scipy, numpy and signals whose modulation is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.fft import dct

from serkit.encoders._offline import _Recent
from serkit.encoders.functionals import MODULATION_HZ, Functionals, _modulation
from serkit.encoders.logmel import Logmel
from serkit.encoders.voice import FEATURES, Voice
from serkit.encoding import n_frames

RATE = 16_000


def syllables(duration_s: float, rate_hz: float = 5.0, seed: int = 0) -> np.ndarray:
    """A buzz of 150 Hz that swells ``rate_hz`` times a second."""
    t = np.arange(int(duration_s * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    swell = 0.5 - 0.45 * np.cos(2 * np.pi * rate_hz * t)
    return (0.1 * swell * buzz + 0.001 * noise).astype(np.float32)


def test_one_frame_whatever_the_length() -> None:
    encoder = Functionals()
    for duration_s in (0.01, 0.5, 30.0):
        samples = syllables(duration_s)
        assert encoder([samples])[0].shape == (1, 2111)
        assert n_frames(len(samples), encoder.spec) == 1


def test_statistics_of_logmel_are_those_of_numpy_and_scipy() -> None:
    samples = syllables(2.0)
    frames = Logmel("logmel/40")([samples])[0].astype(np.float64)
    found = Functionals()([samples])[0][0]
    width, slope = frames.shape[1], np.diff(frames, axis=0)
    expected = [
        frames.mean(0),
        frames.std(0),
        *np.percentile(frames, [5, 20, 50, 80, 95], axis=0),
        np.abs(slope).mean(0),
        slope.std(0),
        np.diff(slope, axis=0).std(0),
    ]
    np.testing.assert_allclose(found[: 10 * width], np.concatenate(expected), rtol=1e-4, atol=1e-4)
    steady = frames.std(0) > 1.0  # elsewhere the floor under the spread shows
    np.testing.assert_allclose(
        found[10 * width : 11 * width][steady], stats.skew(frames, axis=0)[steady], rtol=0.05, atol=0.02
    )
    thirds = [part.mean(0) - frames.mean(0) for part in np.array_split(frames, 3)]
    np.testing.assert_allclose(found[11 * width : 14 * width], np.concatenate(thirds), rtol=1e-3, atol=1e-3)


def test_contours_and_shares_of_voice() -> None:
    samples = syllables(2.0)
    voice = Voice()([samples])[0].astype(np.float64)
    found = Functionals()([samples])[0][0]
    columns = [FEATURES.index(name) for name in ("energy_db", "loudness", "voicing", "f0_semitones")]
    at = np.linspace(0, len(voice) - 1, 32)
    points = np.stack([np.interp(at, np.arange(len(voice)), voice[:, c]) for c in columns], axis=1)
    terms = dct(points, axis=0, norm="ortho")[:8].ravel()
    np.testing.assert_allclose(found[-3 - 78 - 32 : -3 - 78], terms, rtol=1e-4, atol=1e-3)
    voicing = voice[:, FEATURES.index("voicing")]
    assert found[-3] == pytest.approx((voicing > 0.5).mean())
    assert found[-1] == pytest.approx(len(voice) / 100)


@pytest.mark.parametrize(("rate_hz", "octave"), [(1.2, 0), (3.0, 1), (6.0, 2), (12.0, 3), (24.0, 4)])
def test_modulation_is_found_in_its_octave(rate_hz: float, octave: int) -> None:
    wave = np.sin(2 * np.pi * rate_hz * np.arange(512) / 100.0)[:, None]
    energy = _modulation(wave)[:, 0]
    assert len(energy) == len(MODULATION_HZ)
    assert int(energy.argmax()) == octave


def test_silence_at_the_ends_can_be_cut() -> None:
    samples = syllables(1.0)
    quiet = np.zeros(RATE, dtype=np.float32)
    length = [
        Functionals(trim=True)([np.concatenate([quiet, samples, quiet])])[0][0, -1],
        Functionals()([samples])[0][0, -1],
    ]
    assert length[0] == pytest.approx(length[1], abs=0.3)


def test_descriptors_are_computed_once_for_all_who_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = syllables(1.1, seed=5)
    calls: list[int] = []
    plain = Voice._frames

    def counted(self: Voice, x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(Voice, "_frames", counted)
    once = Functionals()([samples])[0]
    pooled = Voice(pool=4)([samples])[0]
    whole = Voice()([samples])[0]
    assert len(calls) == 1
    np.testing.assert_allclose(pooled[0], whole[:4].mean(0), rtol=1e-4, atol=1e-4)
    whole[:] = 0.0  # one's own copy
    np.testing.assert_array_equal(Functionals()([samples])[0], once)
    Voice(unvoiced="zero")([samples])
    assert len(calls) == 2


def test_what_is_remembered_is_bounded() -> None:
    recent = _Recent(1000)
    made = [recent.get("x", np.full(4, k, dtype=np.float32), lambda x: np.tile(x, 15)) for k in range(40)]
    assert recent._bytes <= 1000
    assert recent.get("x", np.full(4, 39, dtype=np.float32), lambda x: x * 0) is made[-1]
    assert recent.get("x", np.zeros(4, dtype=np.float32), lambda x: x + 7)[0] == 7
