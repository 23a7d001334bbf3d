"""Tones and music are told from voices, in any chunks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from serkit import audio
from serkit.segments import Segmenter, SegmentSettings
from serkit.serving.pieces import WindowCutter
from serkit.tones import Tones, is_melody, is_tonal
from serving.signals import RATE, find_speech, quiet, talk, voice

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def dial_tone(duration_s: float) -> np.ndarray:
    """350 and 440 Hz, on and off every two seconds, as a telephone gives it."""
    time = np.arange(round(duration_s * RATE)) / RATE
    on = np.sin(2 * np.pi * time / 4) > 0
    both = np.sin(2 * np.pi * 350 * time) + np.sin(2 * np.pi * 440 * time)
    return np.asarray(0.1 * on * both + quiet(duration_s), dtype=np.float32)


def chords(duration_s: float, seed: int = 0) -> np.ndarray:
    """Four chords of a struck instrument, a second each, over and over."""
    rng = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    sound = []
    for k in range(round(duration_s)):
        notes = [(0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16)][k % 4]
        waves = [
            np.sin(2 * np.pi * 196 * 2 ** (s / 12) * h * time + rng.uniform(0, 6)) / h
            for s in notes
            for h in range(1, 6)
        ]
        sound.append(0.05 * np.sum(waves, axis=0) * np.exp(-2 * time))
    return np.asarray(np.concatenate(sound) + quiet(len(sound), seed=seed), dtype=np.float32)


def melody(duration_s: float, seed: int = 0, length_s: float = 0.4) -> np.ndarray:
    """Notes of a blown instrument, one after the other, over faint noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(length_s * RATE)) / RATE
    edges = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)
    sound = []
    for _ in range(round(duration_s / length_s)):
        turns = 2 * np.pi * 294 * 2 ** (rng.integers(0, 14) / 12) * time
        sound.append(0.1 * edges * np.sum([np.sin(h * turns) / h for h in range(1, 5)], axis=0))
    found = np.concatenate(sound)
    return np.asarray(found + quiet(len(found) / RATE, seed=seed)[: len(found)], dtype=np.float32)


@pytest.mark.parametrize("sound", [dial_tone(8), chords(8), melody(8)], ids=["dial tone", "chords", "melody"])
def test_tones_and_chords_are_no_speech(sound: np.ndarray) -> None:
    assert list(find_speech([sound], SegmentSettings(drop_tones=False))) != []
    assert list(find_speech([sound])) == []


def test_voices_stay() -> None:
    for pitch_hz in (90.0, 140.0, 240.0):
        assert len(list(find_speech([np.concatenate([quiet(1), voice(4, 1, pitch_hz), quiet(1)])]))) == 1
    kept = list(find_speech([talk(4)]))
    assert kept == list(find_speech([talk(4)], SegmentSettings(drop_tones=False)))


def test_a_voice_beside_or_over_a_melody_is_speech() -> None:
    """One window of two seconds that may be a voice keeps the stretch."""
    tune = melody(8)
    assert is_melody(tune)
    spoken = voice(2, 3) * float(np.sqrt((tune**2).mean() / (voice(2, 3) ** 2).mean()))
    joined = np.concatenate([tune[: 4 * RATE], spoken])  # without a pause between them
    assert not is_melody(joined)
    assert list(find_speech([joined])) != []
    over = tune.copy()
    over[3 * RATE : 5 * RATE] += 1.8 * spoken
    assert not is_melody(over)
    assert list(find_speech([over])) != []
    assert not is_melody(tune[: 2 * RATE - 1])  # too short to tell


def test_melodies_are_left_out_of_windows_and_open_stretches() -> None:
    cutter = WindowCutter(3.0, 1.5, SegmentSettings())
    assert [*cutter.push(melody(8)), *cutter.finish()] == []
    segmenter = Segmenter()
    segmenter.push(melody(6))
    assert segmenter.open_from is None


def test_speech_after_a_tone_is_found() -> None:
    sound = np.concatenate([dial_tone(4)[: 2 * RATE], quiet(1.0), voice(2, 3), quiet(1.0)])
    (stretch,) = find_speech([sound])
    assert 2.5 < stretch.start_s < 3.2


@pytest.mark.parametrize("size", [1, 777, 16_000])
def test_chunks_change_nothing(size: int) -> None:
    sound = np.concatenate([chords(2)[:24_000], voice(1.5)])
    whole, parts = Tones(), Tones()
    whole.push(sound)
    step = max(size, 50)
    for k in range(0, len(sound), step):
        parts.push(sound[k : k + step])
    for start, end in ((0, 24_000), (24_000, 48_000), (3_000, 30_001)):
        assert parts.between(start, end) == whole.between(start, end)
    whole.forget(24_000)
    assert whole.between(25_600, 48_000) == parts.between(25_600, 48_000)
    assert whole.between(0, 48_000) == 0.0  # forgotten


def test_what_is_too_short_to_tell_is_a_voice() -> None:
    tones = Tones()
    tones.push(dial_tone(0.5))
    assert tones.between(0, RATE // 2) == 0.0
    assert not is_tonal(0.84, RATE)
    assert is_tonal(0.84, 6 * RATE)


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "n"), [("ravdess", 1080), ("ased", 1688), ("emodb_2s", 408)])
def test_hardly_any_real_speech_is_lost(corpus: str, n: int) -> None:
    files = sorted((DATA / corpus).rglob("*.flac"))
    if not files:
        pytest.skip(f"no recordings of {corpus} in {DATA} (SERKIT_DATA)")
    settings = SegmentSettings(drop_tones=False)
    lost = [p for p in files if list(find_speech([x := audio.load(p)], settings)) and not list(find_speech([x]))]
    assert len(files) == n
    assert len(lost) <= 0.005 * n, lost
