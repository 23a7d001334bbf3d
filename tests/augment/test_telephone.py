from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.telephone import Telephone, _passed
from serkit.errors import SerkitError


def tone(hz: float, level: float = 0.1) -> Example:
    return Example(np.array([1.0]), (level * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)).astype(np.float32))


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples[2000:-2000], dtype=np.float64))))


def line(low: float = 300, high: float = 3400, codec: str = "none") -> Telephone:
    return Telephone(low_from_hz=low, low_to_hz=low, high_from_hz=high, high_to_hz=high, codec=codec)


@pytest.mark.parametrize(
    ("hz", "gain_db", "within"),
    [(1000, 0, 0.05), (2000, 0, 0.05), (300, -3, 0.3), (3400, -3, 0.5), (150, -24, 1.5), (7000, -120, 60)],
)
def test_band_passes_and_its_edges_are_at_half_power(hz: float, gain_db: float, within: float) -> None:
    heard = line()(tone(hz), np.random.default_rng(0)).samples
    assert len(heard) == 16000
    assert 20 * np.log10(max(rms(heard), 1e-12) / rms(tone(hz).samples)) == pytest.approx(gain_db, abs=within)


def test_nothing_is_shifted_in_time() -> None:
    click = np.zeros(8000, dtype=np.float32)
    click[4000] = 0.5
    heard = line()(Example(np.array([1.0]), click), np.random.default_rng(0)).samples
    assert abs(int(np.argmax(np.abs(heard))) - 4000) <= 1


@pytest.mark.parametrize("codec", ["mu-law", "a-law"])
def test_companding_has_the_noise_of_eight_bits_at_every_level(codec: str) -> None:
    rng = np.random.default_rng(0)
    for level_db in (-30, -20, -10):
        clean = np.clip(10 ** (level_db / 20) * rng.standard_normal(20000) / 3, -1, 1)
        noise = _passed(clean, codec) - clean
        ratio_db = 10 * np.log10(np.mean(clean**2) / np.mean(noise**2))
        assert 30 <= ratio_db <= 40  # about 38 dB over 40 dB of level by theory; libsndfile truncates


@pytest.mark.parametrize("codec", ["mu-law", "a-law"])
def test_companding_has_the_levels_of_eight_bits_and_clips(codec: str) -> None:
    levels = np.unique(_passed(np.linspace(-1, 1, 200001), codec))
    assert 250 <= len(levels) <= 256
    assert levels[-1] == pytest.approx(1.0, abs=0.03)
    assert _passed(np.array([3.0]), codec).tolist() == _passed(np.array([1.0]), codec).tolist()


def test_gsm_keeps_length_and_timing_and_is_coarser_than_g711() -> None:
    time = np.arange(8005) / 16000
    clip = Example(np.ones(1), (0.1 * np.sign(np.sin(2 * np.pi * 150 * time)) * np.hanning(8005)).astype(np.float32))
    clean, companded, mobile = (
        line(codec=c)(clip, np.random.default_rng(0)).samples for c in ("none", "mu-law", "gsm")
    )
    assert len(mobile) == 8005
    both = np.correlate(mobile.astype(float), clean.astype(float), "full")
    assert abs(int(np.argmax(both)) - 8004) <= 1
    errors = [rms(one - clean) / rms(clean) for one in (companded, mobile)]
    assert errors[0] < 0.05 < 0.1 < errors[1] < 0.6


def test_codec_none_changes_nothing_in_the_band_and_any_draws_all_three() -> None:
    middle = line()(tone(1000), np.random.default_rng(0)).samples
    assert middle[2000:-2000] == pytest.approx(tone(1000).samples[2000:-2000], abs=1e-4)
    rng = np.random.default_rng(3)
    errors = [np.abs(line(codec="any")(tone(1000), rng).samples - middle)[2000:-2000].max() for _ in range(60)]
    exact = sum(error < 1e-4 for error in errors)
    assert 8 <= exact <= 32


def test_what_has_nothing_in_the_band_stays() -> None:
    rumble = Example(np.array([1.0]), np.full(4000, 0.25, dtype=np.float32))
    narrow = Telephone(low_from_hz=300, low_to_hz=300, codec="none")(rumble, np.random.default_rng(0))
    assert np.isfinite(narrow.samples).all()
    assert np.abs(narrow.samples).max() <= 0.3


def test_edges_that_cross_are_refused() -> None:
    with pytest.raises(SerkitError, match="expected a band between"):
        Telephone(low_to_hz=4000.0)
    with pytest.raises(SerkitError, match="'mu-low'"):
        Telephone(codec="mu-low")  # type: ignore[arg-type]
