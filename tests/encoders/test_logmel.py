from __future__ import annotations

import numpy as np
import pytest

from serkit import dsp
from serkit.encoders.logmel import Logmel
from serkit.encoding import n_frames, pool_frames
from serkit.errors import SerkitError

RATE = 16_000


def _reference_logmel(samples: np.ndarray, n_bands: int) -> np.ndarray:
    """One frame, one bin, one band at a time, in float64."""
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(8000.0), n_bands + 2)
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(np.float64)
        power = np.abs(np.fft.fft(np.append(frame * window, np.zeros(112)))) ** 2
        row = []
        for band in range(n_bands):
            total = 0.0
            for k in range(257):
                at = mel(k * RATE / 512)
                if edges[band] < at <= edges[band + 1]:
                    total += power[k] * (at - edges[band]) / (edges[band + 1] - edges[band])
                elif edges[band + 1] < at < edges[band + 2]:
                    total += power[k] * (edges[band + 2] - at) / (edges[band + 2] - edges[band + 1])
            row.append(np.log(max(total, 1e-10)))
        rows.append([*row, np.log(max(float((frame**2).sum()), 1e-10))])
    return np.array(rows)


@pytest.mark.parametrize("bands", [24, 80])
def test_equals_a_slow_reference(bands: int) -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(1_200)).astype(np.float32)
    found = Logmel(f"logmel/{bands}")([samples])[0]
    np.testing.assert_allclose(found, _reference_logmel(samples, bands), atol=2e-3)


def test_a_tone_lights_its_band_and_silence_is_the_floor() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE)).astype(np.float32)
    bands = Logmel("logmel/40")([tone])[0][:, :-1].mean(axis=0)
    edges = np.linspace(dsp.mel(20.0), dsp.mel(8000.0), 42)
    assert bands.argmax() == np.abs(edges[1:-1] - dsp.mel(1000.0)).argmin()
    np.testing.assert_allclose(Logmel()([np.zeros(RATE, np.float32)])[0], np.log(1e-10), rtol=1e-6)


def test_long_clips_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 40_000).astype(np.float32)
    whole = Logmel()([samples])[0]
    monkeypatch.setattr(dsp.chunks, "__defaults__", (7,))
    np.testing.assert_allclose(Logmel()([samples])[0], whole, atol=1e-4)


def test_pooling_and_trimming() -> None:
    rng = np.random.default_rng(2)
    samples = np.concatenate([np.zeros(8_000), 0.2 * rng.standard_normal(9_000), np.zeros(8_000)]).astype(np.float32)
    plain = Logmel("logmel/24")([samples])[0]
    pooled = Logmel("logmel/24", pool=4)([samples])[0]
    np.testing.assert_allclose(pooled, pool_frames(plain, 4), atol=1e-5)
    both = Logmel("logmel/24", pool=4, pooling="mean+std")
    assert both.spec.dim == 50
    given = both([samples])[0]
    np.testing.assert_allclose(given[:, :25], pooled, atol=1e-5)
    np.testing.assert_allclose(given[20, 25:], plain[80:84].std(axis=0), atol=1e-3)
    trimmed = Logmel("logmel/24", trim={"margin_s": 0.05})
    assert trimmed.spec.params["trim"] == {"threshold_db": -40.0, "margin_s": 0.05}
    kept = dsp.prepared(samples, trimmed.spec)
    assert len(kept) < 11_000
    np.testing.assert_array_equal(trimmed([samples])[0], Logmel("logmel/24")([kept])[0])
    assert len(trimmed([samples])[0]) == n_frames(len(kept), trimmed.spec)
    assert len({e.spec.fingerprint for e in (both, trimmed, Logmel("logmel/24"), Logmel("logmel/24", trim=True))}) == 4


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(SerkitError, match="did you mean 'logmel/80'"):
        Logmel("logmel/81")
    with pytest.raises(SerkitError, match="did you mean 'mean\\+std'"):
        Logmel(pooling="mean-std")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="did you mean 'margin_s'"):
        Logmel(trim={"margin": 1.0})
    with pytest.raises(SerkitError, match="expected \\(samples,\\)"):
        Logmel()([np.zeros((2, 800), np.float32)])
