from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.logmel import Logmel
from serkit.encoders.waveform import Waveform
from serkit.errors import SerkitError
from serkit.extraction import compute
from serkit.store import FeatureStore


def clip(n: int = 8_000) -> np.ndarray:
    return np.asarray(0.3 * np.random.default_rng(0).standard_normal(n), dtype=np.float32).clip(-1, 1)


def test_a_frame_is_a_sample_and_nothing_is_lost_in_the_store(tmp_path) -> None:
    encoder, samples = Waveform(), clip()
    store = FeatureStore(tmp_path, encoder.spec)
    store.write([("k", encoder([samples])[0])])
    again = np.asarray(store.get("k"))
    assert again.shape == (8_000, 1)
    assert np.array_equal(again[:, 0], samples)
    mel = Logmel("logmel/24")
    assert np.array_equal(compute(samples, [mel])["logmel/24"], compute(again[:, 0], [mel])["logmel/24"])


def test_half_precision_is_75_db_down() -> None:
    samples = clip()
    kept = compute(samples, {"w": Waveform(dtype="float16")})["w"][:, 0].astype(np.float64)
    noise = float(np.mean((kept - samples) ** 2) / np.mean(samples.astype(np.float64) ** 2))
    assert -80.0 < 10 * np.log10(noise) < -73.0
    assert Waveform(dtype="float16").spec.fingerprint != Waveform().spec.fingerprint


def test_silence_at_the_ends_can_be_cut() -> None:
    padded = np.concatenate([np.zeros(16_000, dtype=np.float32), clip(), np.zeros(16_000, dtype=np.float32)])
    trimmed = Waveform(trim={"margin_s": 0.1})([padded])[0]
    assert 8_000 <= len(trimmed) <= 8_000 + 2 * 1_600 + 800


def test_a_choice_it_does_not_have_is_refused() -> None:
    with pytest.raises(SerkitError, match="no encoder 'waveform/16'; did you mean 'waveform'"):
        Waveform("waveform/16")
