"""Drums, claps, keys and doors are told from voices; whispers, quiet and shouted speech stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serkit import audio
from serkit.noises import colour_change, has_pitch, is_noise, strikes
from serkit.segments import Segmenter, SegmentSettings
from serving.signals import RATE, find_speech, quiet, talk, voice

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def band(sound: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Only what lies between two frequencies."""
    spectrum, at = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.fft.irfft(spectrum * ((at >= low_hz) & (at <= high_hz)), len(sound))


def hits(times_s: np.ndarray, hit: Callable[[np.random.Generator], np.ndarray], duration_s: float) -> np.ndarray:
    """A hit at each time, over a floor of faint noise."""
    rng, sound = np.random.default_rng(4), np.zeros(round(duration_s * RATE))
    for at in (times_s[times_s < duration_s] * RATE).astype(int):
        one = rng.uniform(0.5, 1.0) * hit(rng)
        sound[at : at + len(one)] += one[: len(sound) - at]
    return np.asarray(0.3 * sound + quiet(duration_s), dtype=np.float32)


def dying(rng: np.random.Generator, seconds: float, low_hz: float, high_hz: float) -> np.ndarray:
    time = np.arange(round(6 * seconds * RATE)) / RATE
    return band(rng.standard_normal(len(time)), low_hz, high_hz) * np.exp(-time / seconds)


def kick(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(RATE // 3) / RATE
    pitch = 2 * np.pi * np.cumsum(50 + 100 * np.exp(-time / 0.03)) / RATE
    return np.sin(pitch) * np.exp(-time / 0.1) + 0.3 * rng.standard_normal(len(time)) * np.exp(-time / 0.002)


def drums(rng: np.random.Generator) -> np.ndarray:
    return [kick(rng), dying(rng, 0.07, 300, 7000), 0.5 * dying(rng, 0.03, 4500, 7900)][rng.integers(3)]


EIGHTHS = np.arange(0.1, 9.5, 0.25)
UNEVEN = np.cumsum(np.random.default_rng(2).uniform(0.08, 0.6, 25))


@pytest.mark.parametrize(
    "sound",
    [
        hits(EIGHTHS, drums, 10),
        hits(EIGHTHS, lambda rng: dying(rng, 0.03, 4500, 7900), 10),
        hits(UNEVEN, lambda rng: dying(rng, 0.006, 1000, 6000), 10),
        hits(np.arange(0.2, 9.5, 0.45), lambda rng: dying(rng, 0.02, 700, 3500), 10),
        hits(np.array([1.0, 4.0, 7.5]), lambda rng: dying(rng, 0.15, 60, 7900), 10),
    ],
    ids=["drums", "hi-hat", "keys", "claps", "doors"],
)
def test_what_strikes_is_no_speech(sound: np.ndarray) -> None:
    assert list(find_speech([sound], SegmentSettings(drop_noises=False))) != []
    assert list(find_speech([sound])) == []
    assert list(find_speech([0.02 * sound])) == []


def test_bursts_of_one_colour_are_no_speech() -> None:
    rng, time = np.random.default_rng(0), np.arange(8 * RATE) / RATE
    sound = 0.1 * rng.standard_normal(len(time)) * (np.sin(2 * np.pi * time / 3) > 0) + quiet(8)
    assert list(find_speech([sound.astype(np.float32)], SegmentSettings(drop_noises=False))) != []
    assert list(find_speech([sound.astype(np.float32)])) == []


def test_applause_is_no_speech_and_who_speaks_in_it_is() -> None:
    times = np.cumsum(np.random.default_rng(5).uniform(0, 0.035, 600))
    sound = hits(times, lambda rng: dying(rng, 0.02, 700, 3500), 9)
    assert list(find_speech([sound], SegmentSettings(drop_noises=False))) != []
    assert list(find_speech([sound])) == []
    sound[3 * RATE : 5 * RATE] += 2 * voice(2.0)
    assert list(find_speech([sound])) != []


def test_a_voice_over_drums_is_speech() -> None:
    both = hits(EIGHTHS, drums, 4) * 0.5
    both[RATE : 3 * RATE] += voice(2.0)
    assert list(find_speech([both])) != []


@pytest.mark.parametrize("pitch_hz", [80.0, 120.0, 240.0, 400.0])
def test_voices_stay_however_loud(pitch_hz: float) -> None:
    sound = np.concatenate([quiet(1), voice(2, 1, pitch_hz), quiet(1)])
    for gain in (0.003, 0.03, 1.0, 30.0):
        heard = np.clip(gain * sound, -1, 1).astype(np.float32)
        assert len(list(find_speech([heard]))) == 1
    assert has_pitch(voice(1, 1, pitch_hz), 0.5)


def test_faint_speech_is_found_and_faint_noise_is_not() -> None:
    sound = np.concatenate([quiet(1, 1e-6), 0.005 * voice(2), quiet(2, 1e-6)])
    assert float(np.abs(sound).max()) < 0.005
    assert len(list(find_speech([sound]))) == 1
    assert list(find_speech([quiet(5, 2e-5)])) == []


def test_whispered_syllables_stay() -> None:
    """Noise through resonances that move, as loud and soft as syllables are: no pitch at all."""
    rng, parts = np.random.default_rng(1), []
    for _ in range(12):
        n = round(rng.uniform(0.12, 0.25) * RATE)
        low, high = rng.uniform(300, 900), rng.uniform(1200, 4000)
        noise = rng.standard_normal(n)
        parts += [np.hanning(n) * (band(noise, low - 200, low + 200) + band(noise, high - 400, high + 400))]
        parts += [np.zeros(round(rng.uniform(0.02, 0.06) * RATE))]
    sound = np.concatenate([quiet(1), 0.1 * np.concatenate(parts), quiet(1)]).astype(np.float32)
    assert not has_pitch(sound, 0.5)
    assert len(list(find_speech([sound]))) >= 1
    assert colour_change(sound) > 4


def test_what_is_too_short_to_tell_is_a_voice() -> None:
    assert not is_noise(np.zeros(0, dtype=np.float32))
    assert not is_noise(hits(np.array([0.05]), drums, 0.19))
    assert strikes(np.zeros(100, dtype=np.float32)) == 0.0
    assert colour_change(voice(0.1)) == float("inf")


def test_chunks_change_nothing() -> None:
    settings = SegmentSettings(max_s=3.0)
    mixed = np.concatenate([hits(EIGHTHS, drums, 6), talk(2)])
    found = list(find_speech([mixed], settings))
    assert found == list(find_speech(np.array_split(mixed, 97), settings))
    assert all(s.start >= 5 * RATE for s in found)
    assert len(found) >= 2


def test_an_open_stretch_of_drums_is_not_shown_as_speech() -> None:
    segmenter = Segmenter()
    segmenter.push(hits(EIGHTHS, drums, 4))
    assert segmenter.open_from is None
    segmenter = Segmenter()
    segmenter.push(np.concatenate([quiet(1), voice(3)]))
    assert segmenter.open_from is not None


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "n"), [("ravdess", 1080), ("ased", 1688), ("emodb_2s", 408)])
def test_no_real_speech_is_lost(corpus: str, n: int) -> None:
    files = sorted((DATA / corpus).rglob("*.flac"))
    if not files:
        pytest.skip(f"no recordings of {corpus} in {DATA} (SERKIT_DATA)")
    without = SegmentSettings(drop_noises=False)
    lost = [p for p in files if list(find_speech([x := audio.load(p)])) != list(find_speech([x], without))]
    assert len(files) == n
    assert len(lost) <= 0.001 * n, lost
