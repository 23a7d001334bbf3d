"""Sounds that tests share: made of sines and a seeded generator, the same everywhere."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from serkit.segments import Segmenter, SegmentSettings, Stretch

if TYPE_CHECKING:
    from serkit.serving.predictor import Model

RATE = 16_000
GOLDEN = Path(__file__).parent / "golden" / "tiny.zip"


def voice(duration_s: float, seed: int = 0, pitch_hz: float = 120.0) -> np.ndarray:
    """A buzz whose loudness moves four times a second: what a detector calls speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(duration_s * RATE)) / RATE
    pitch = pitch_hz * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 25))
    loud = 0.05 + np.maximum(0, np.sin(2 * np.pi * 4 * time)) ** 2
    return np.asarray(0.2 * loud * sound + 1e-4 * rng.standard_normal(len(time)), dtype=np.float32)


def wide(duration_s: float, seed: int = 0, pitch_hz: float = 120.0) -> np.ndarray:
    """:func:`voice` with breath: unlike that one, it has sound above 4 kHz, as all but calls have."""
    rng = np.random.default_rng(seed)
    found = voice(duration_s, seed, pitch_hz)
    return np.asarray(found + 0.005 * rng.standard_normal(len(found)), dtype=np.float32)


def quiet(duration_s: float, level: float = 1e-4, seed: int = 1) -> np.ndarray:
    """Noise too soft to be speech."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(duration_s * RATE))).astype(np.float32)


def talk(n: int = 4, seed: int = 0) -> np.ndarray:
    """``n`` utterances of one to two seconds with pauses, at different pitches."""
    parts = [quiet(0.8)]
    for k in range(n):
        parts += [voice(1.0 + 0.25 * (k % 4), seed + k, 100.0 + 45.0 * (k % 4)), quiet(0.9, seed=k)]
    return np.concatenate(parts)


def wav(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def most_memory(
    model: Model, path: Path, block: np.ndarray, rate: int, minutes: float, *, parts: int, **options: Any
) -> int:
    """Bytes that Python holds at most while a model answers a recording made of one block of sound, again and again.

    Args:
        path: of the recording, which is written. block: (samples,) or (samples, channels) with speech.
        parts: more parts than so many a minute are answered.
    """
    with soundfile.SoundFile(path, "w", rate, 1 if block.ndim == 1 else block.shape[1], format="FLAC") as file:
        for _ in range(round(minutes * 60 * rate / len(block))):
            file.write(block)
    tracemalloc.start()
    try:
        found = model.predict(path, **options)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.segments) > parts * minutes
    return most


def find_speech(blocks: Iterable[np.ndarray], settings: SegmentSettings | None = None) -> Iterator[Stretch]:
    """The stretches of speech of a recording, given in blocks of any size."""
    segmenter = Segmenter(settings)
    for block in blocks:
        yield from segmenter.push(block)
    yield from segmenter.finish()
