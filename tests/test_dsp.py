"""Shared signal processing, each against a slow reference written another way."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from serkit import dsp
from serkit.encoding import EncoderSpec, n_frames

RATE = 16_000


@pytest.mark.parametrize("n", [400, 559, 560, 16_000])
def test_frames_follow_the_rule(n: int) -> None:
    frames = dsp.framed(np.arange(n, dtype=np.float32), 400, 160)
    assert len(frames) == n_frames(n, EncoderSpec("x", "audio", dim=1, window=400, hop=160))
    for k in (0, len(frames) - 1):
        np.testing.assert_array_equal(frames[k], np.arange(160 * k, 160 * k + 400))


def test_chunks_are_the_whole_in_order() -> None:
    frames = np.arange(25.0).reshape(25, 1)
    np.testing.assert_array_equal(np.concatenate(list(dsp.chunks(frames, 10))), frames)


def test_power_spectrum_is_the_transform_by_its_definition() -> None:
    frames = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    np.testing.assert_allclose(dsp.power_spectrum(frames, 512), np.abs(frames @ basis.T) ** 2, rtol=2e-4, atol=2e-3)


def test_mel_filters_are_triangles_on_the_mel_scale() -> None:
    weights = dsp.mel_weights(40, 512)
    assert weights.shape == (257, 40)
    step = (2595 * np.log10(1 + 8000 / 700) - 2595 * np.log10(1 + 20 / 700)) / 41
    for band in (0, 17, 39):
        centre = 2595 * np.log10(1 + 20 / 700) + (band + 1) * step
        for k in range(257):
            at = 2595 * np.log10(1 + k * 31.25 / 700)
            assert weights[k, band] == pytest.approx(max(0.0, 1 - abs(at - centre) / step), abs=1e-5)


def test_cosine_basis_is_orthonormal() -> None:
    basis = dsp.cosine_basis(26, 26).astype(np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(26), atol=1e-6)


def test_deltas_are_regression_slopes() -> None:
    frames = np.random.default_rng(1).standard_normal((30, 2))
    found = dsp.deltas(frames)
    for t in (2, 11, 27):
        slope = np.polyfit(np.arange(-2, 3), frames[t - 2 : t + 3], 1)[0]
        np.testing.assert_allclose(found[t], slope, atol=1e-9)
    np.testing.assert_allclose(dsp.deltas(np.full((5, 1), 3.0)), 0.0)
    assert dsp.deltas(np.ones((1, 4))).shape == (1, 4)


def burst(lead_s: float, sound_s: float, tail_s: float) -> np.ndarray:
    rng = np.random.default_rng(2)
    lead, sound, tail = (round(part * RATE) for part in (lead_s, sound_s, tail_s))
    clip = 1e-4 * rng.standard_normal(lead + sound + tail)
    clip[lead : lead + sound] += 0.3 * rng.standard_normal(sound)
    return clip.astype(np.float32)


def test_trimming_leaves_the_sound_and_a_margin() -> None:
    kept = dsp.trim_silence(burst(1.0, 0.5, 0.8), threshold_db=-40.0, margin_s=0.1)
    assert len(kept) / RATE == pytest.approx(0.7, abs=0.025)
    assert np.abs(kept[1_700:9_500]).mean() > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_trimming_twice_is_trimming_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = burst(rng.uniform(0, 1), rng.uniform(0.05, 1), rng.uniform(0, 1))
    once = dsp.trim_silence(clip)
    assert len(once) < len(clip)
    np.testing.assert_array_equal(dsp.trim_silence(once), once)


def test_trimming_leaves_what_has_no_silence_or_no_sound() -> None:
    for clip in (
        np.zeros(8_000, np.float32),
        np.full(8_000, 0.3, np.float32),
        burst(0, 0.5, 0),
        np.ones(7, np.float32),
    ):
        np.testing.assert_array_equal(dsp.trim_silence(clip), clip)


def test_prepared_follows_the_spec() -> None:
    clip = burst(1.0, 0.5, 0.8)
    plain = EncoderSpec("x", "audio", dim=1, window=400, hop=160)
    trimming = EncoderSpec("x", "audio", dim=1, window=400, hop=160, params={"trim": {"margin_s": 0.0}})
    assert dsp.prepared(clip, plain) is clip
    assert len(dsp.prepared(clip, trimming)) == pytest.approx(0.5 * RATE, abs=330)


def test_the_feature_path_loads_numpy_soundfile_and_soxr_only() -> None:
    code = (
        "import sys, numpy as np\n"
        "from serkit import audio\n"
        "from serkit.encoders.logmel import Logmel\n"
        "from serkit.encoders.mfcc import Mfcc\n"
        "from serkit.encoders.voice import Voice\n"
        "from serkit.encoders.hashed_text import HashedText\n"
        "x = audio.to_mono_16k(np.sin(np.arange(22050) / 9), 22050)\n"
        "for e in (Logmel(), Mfcc(), Voice()): e([x])\n"
        "HashedText()(['yes'])\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'numba', 'pandas', 'opensmile', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_an_offset_that_matters_is_taken_away():
    rng = np.random.default_rng(0)
    sound = rng.normal(size=16_000).astype(np.float32) * 0.1
    assert dsp.without_offset(sound) is sound
    moved = dsp.without_offset(sound + np.float32(0.3))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, sound - sound.mean(), atol=1e-6)
    assert dsp.without_offset(np.zeros(0, np.float32)).shape == (0,)
    assert not dsp.without_offset(np.full(9, 0.5, np.float32)).any()
