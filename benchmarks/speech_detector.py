"""What the speech detector takes for speech that is none, and which real speech it loses.

Run: ``python benchmarks/speech_detector.py [--files DIR …] [--clips 50] [--plain]``. Drums, claps, keys, engines,
weather and music are made here, twelve seconds each, loud and faint; real speech comes from ``--files`` and is heard
clean, in noise, over the telephone, faint, clipped, in a room, and whispered (its voice replaced by noise).
``--plain`` leaves ``drop_noises`` and ``drop_tones`` off.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from serkit import audio
from serkit.segments import Segmenter, SegmentSettings

RATE_HZ = 16_000
SECONDS = 12
Made = Callable[[np.random.Generator], np.ndarray]


def coloured(n: int, rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise whose power falls with frequency to the power of ``slope``: 0 white, 1 pink, 2 brown."""
    at_hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20)
    sound = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * at_hz ** (-slope / 2), n)
    return np.asarray(sound / sound.std())


def band(sound: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Fourth-order band pass without delay."""
    at_hz = np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE_HZ), 1e-3)
    gain = np.sqrt(1 / (1 + (low_hz / at_hz) ** 8) / (1 + (at_hz / high_hz) ** 8))
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))


def dying(rng: np.random.Generator, seconds: float, low_hz: float, high_hz: float) -> np.ndarray:
    """A burst of noise that dies away."""
    time = np.arange(round(6 * seconds * RATE_HZ)) / RATE_HZ
    return band(rng.standard_normal(len(time)), low_hz, high_hz) * np.exp(-time / seconds)


def kick(rng: np.random.Generator) -> np.ndarray:
    """A bass drum."""
    time = np.arange(RATE_HZ // 3) / RATE_HZ
    pitch_hz = rng.uniform(45, 60) + rng.uniform(60, 140) * np.exp(-time / 0.03)
    beater = 0.3 * rng.standard_normal(len(time)) * np.exp(-time / 0.002)
    return np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ) * np.exp(-time / rng.uniform(0.06, 0.25)) + beater


def snare(rng: np.random.Generator) -> np.ndarray:
    """A snare drum."""
    noise = dying(rng, rng.uniform(0.04, 0.1), 300, 7000)
    time = np.arange(len(noise)) / RATE_HZ
    return 0.6 * noise + 0.5 * np.sin(2 * np.pi * rng.uniform(170, 240) * time) * np.exp(-time / 0.05)


def hat(rng: np.random.Generator) -> np.ndarray:
    """A closed hi-hat."""
    return 0.3 * dying(rng, rng.uniform(0.015, 0.04), 4500, 7900)


def drop(rng: np.random.Generator) -> np.ndarray:
    """Of rain on a roof."""
    return rng.exponential() * dying(rng, 0.002, 0, 8000)


def hits(rng: np.random.Generator, gaps_s: tuple[float, float], *kinds: Made) -> np.ndarray:
    """One of the kinds after each gap."""
    sound, at_s = np.zeros(SECONDS * RATE_HZ), 0.3
    while at_s < SECONDS:
        one, start = rng.uniform(0.4, 1) * kinds[rng.integers(len(kinds))](rng), round(at_s * RATE_HZ)
        sound[start : start + len(one)] += one[: len(sound) - start]
        at_s += rng.uniform(*gaps_s)
    return sound


def notes(rng: np.random.Generator, length_s: float, shape: tuple[int, ...]) -> np.ndarray:
    """Chords or single notes of a struck instrument."""
    time, parts = np.arange(round(length_s * RATE_HZ)) / RATE_HZ, []
    for _ in range(round(SECONDS / length_s)):
        root = 196 * 2 ** (rng.integers(0, 12) / 12)
        waves = [np.sin(2 * np.pi * root * 2 ** (k / 12) * h * time) / h for k in shape for h in range(1, 6)]
        parts.append(np.sum(waves, axis=0) * np.minimum(time / 0.01, 1) * np.exp(-2 * time))
    return np.concatenate(parts)


def held(rng: np.random.Generator, lengths_s: tuple[float, float], harmonics: int, vibrato: float = 0.0) -> np.ndarray:
    """Blown or bowed notes, each as loud as the last; ``vibrato`` is a share of the pitch, 5.5 times a second."""
    sound, at = np.zeros(SECONDS * RATE_HZ), 0
    while at < len(sound):
        time = np.arange(min(round(rng.uniform(*lengths_s) * RATE_HZ), len(sound) - at)) / RATE_HZ
        pitch_hz = 294 * 2 ** (rng.integers(0, 14) / 12) * (1 + vibrato * np.sin(2 * np.pi * 5.5 * time))
        turns = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
        edges = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)
        sound[at : at + len(time)] = edges * np.sum([np.sin(h * turns) / h for h in range(1, harmonics)], axis=0)
        at += len(time)
    return sound


def engine(rng: np.random.Generator) -> np.ndarray:
    """A hum of thirty harmonics over noise."""
    n = SECONDS * RATE_HZ
    turns = 2 * np.pi * np.cumsum(rng.uniform(35, 110) * (1 + 0.03 * coloured(n, rng, 2))) / RATE_HZ
    return np.sum([np.sin(k * turns + rng.uniform(0, 6)) / k for k in range(1, 30)], axis=0) + coloured(n, rng, 1.5) / 3


def wind(rng: np.random.Generator) -> np.ndarray:
    """Low noise that swells and falls."""
    n = SECONDS * RATE_HZ
    knots = np.abs(rng.standard_normal(18))
    return band(coloured(n, rng, 1.5), 30, 1500) * np.interp(np.arange(n), np.linspace(0, n, 18), knots)


def printer(rng: np.random.Generator) -> np.ndarray:
    """Noise on and off."""
    n = SECONDS * RATE_HZ
    on = np.sin(2 * np.pi * np.arange(n) / RATE_HZ / rng.uniform(0.6, 1.2)) > 0
    return np.convolve(on, np.ones(160) / 160, "same") * band(coloured(n, rng, 0.5), 300, 5000)


SOUNDS: dict[str, Made] = {
    "drums": lambda r: hits(r, (0.1, 0.4), kick, snare, hat),
    "bass drum": lambda r: hits(r, (0.3, 0.8), kick),
    "hi-hat": lambda r: hits(r, (0.12, 0.35), hat),
    "keys": lambda r: hits(r, (0.08, 0.5), lambda q: dying(q, 0.006, 1000, 6000)),
    "claps": lambda r: hits(r, (0.3, 0.5), lambda q: dying(q, 0.02, 700, 3500)),
    "applause": lambda r: hits(r, (0.0, 0.035), lambda q: dying(q, 0.02, 700, 3500)),
    "thin applause": lambda r: hits(r, (0.0, 0.12), lambda q: dying(q, 0.02, 700, 3500)),
    "steps": lambda r: hits(r, (0.5, 0.6), lambda q: dying(q, 0.04, 80, 900) + dying(q, 0.04, 500, 4000) / 4),
    "doors": lambda r: hits(r, (1.5, 3.0), lambda q: dying(q, 0.12, 60, 2500)),
    "engine": engine,
    "white noise": lambda r: coloured(SECONDS * RATE_HZ, r, 0),
    "pink noise": lambda r: coloured(SECONDS * RATE_HZ, r, 1),
    "brown noise": lambda r: coloured(SECONDS * RATE_HZ, r, 2),
    "printer": printer,
    "rain": lambda r: coloured(SECONDS * RATE_HZ, r, 0.3) / 10 + hits(r, (0.0, 0.025), drop),
    "wind": wind,
    "chords": lambda r: notes(r, 1.0, (0, 4, 7)),
    "melody": lambda r: notes(r, 0.4, (0,)),
    "quick melody": lambda r: notes(r, 0.2, (0,)),
    "piano, two hands": lambda r: notes(r, 0.4, (0,)) + np.roll(notes(r, 0.8, (0, 7)), 3200),
    "flute": lambda r: held(r, (0.2, 0.8), 5) + 0.02 * coloured(SECONDS * RATE_HZ, r, 0),
    "strings, vibrato 1 %": lambda r: held(r, (0.3, 1.2), 15, 0.01),
    "band": lambda r: notes(r, 0.5, (0, 4, 7)) + notes(r, 0.25, (0,)) + hits(r, (0.24, 0.26), kick, snare, hat),
}


def whispered(sound: np.ndarray, rng: np.random.Generator, order: int = 18) -> np.ndarray:
    """The same words with noise in the place of the voice: linear prediction, frame by frame."""
    raised, window = np.append(sound[:1], sound[1:] - 0.97 * sound[:-1]), np.hanning(400)
    found, apart = np.zeros(len(sound)), np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    for at in range(0, len(sound) - 400, 160):
        frame = raised[at : at + 400] * window
        echo = np.correlate(frame, frame, "full")[399 : 400 + order]
        if echo[0] > 1e-9:
            taps = np.linalg.solve(echo[apart] + np.eye(order) * echo[0] * 1e-3, echo[1 : order + 1])
            gain = np.sqrt(max(echo[0] - taps @ echo[1 : order + 1], 0.0) / 150)
            throat = gain / np.fft.rfft(np.concatenate([[1.0], -taps]), 1024)
            found[at : at + 400] += np.fft.irfft(np.fft.rfft(rng.standard_normal(400), 1024) * throat)[:400] * window
    return 0.5 * found / max(float(np.abs(found).max()), 1e-9)


def in_noise(sound: np.ndarray, snr_db: float, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise so far below the louder half of the sound."""
    power = (sound[: len(sound) // 160 * 160].reshape(-1, 160) ** 2).mean(axis=1)
    loud = float(np.sort(power)[-len(power) // 2 :].mean())
    return sound + coloured(len(sound), rng, slope) * np.sqrt(loud / 10 ** (snr_db / 10))


def in_room(sound: np.ndarray, rng: np.random.Generator, seconds: float = 0.6) -> np.ndarray:
    """As much reverberation as sound."""
    tail = rng.standard_normal(round(seconds * RATE_HZ)) * np.exp(-6.9 * np.linspace(0, 1, round(seconds * RATE_HZ)))
    n = len(sound) + len(tail)
    late = np.fft.irfft(np.fft.rfft(sound, n) * np.fft.rfft(tail / np.sqrt((tail**2).sum()), n), n)
    return np.asarray(late + np.append(sound, np.zeros(len(tail))))


def heard(sound: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """The same words under every condition."""
    loudest = max(float(np.abs(sound).max()), 1e-9)
    yield "clean", sound
    for snr_db in (20, 10, 5):
        yield f"white noise, {snr_db} dB", in_noise(sound, snr_db, 0, rng)
        yield f"pink noise, {snr_db} dB", in_noise(sound, snr_db, 1, rng)
    yield "telephone, 300 to 3400 Hz", band(sound, 300, 3400)
    yield "telephone, pink noise, 10 dB", in_noise(band(sound, 300, 3400), 10, 1, rng)
    yield "faint, peak -40 dB", sound / loudest * 0.01
    yield "faint, peak -46 dB", sound / loudest * 0.005
    yield "shouted into clipping", np.clip(sound / loudest * 20, -1, 1)
    yield "room, 0.6 s", in_room(sound, rng)
    whisper = whispered(sound, rng)
    yield "whispered", whisper
    yield "whispered, faint, peak -40 dB", 0.02 * whisper
    yield "whispered, pink noise, 10 dB", in_noise(whisper, 10, 1, rng)
    yield "whispered, room, 0.6 s", in_room(whisper, rng)


def share(sound: np.ndarray, settings: SegmentSettings) -> float:
    """How much of a recording lies in stretches of speech."""
    samples = np.clip(sound, -1, 1).astype(np.float32)
    segmenter = Segmenter(settings)
    return sum(s.end - s.start for s in [*segmenter.push(samples), *segmenter.finish()]) / len(samples)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, nargs="*", default=[])
    parser.add_argument("--clips", type=int, default=50, help="of each folder")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--plain", action="store_true")
    asked = parser.parse_args()
    settings = SegmentSettings(drop_noises=not asked.plain, drop_tones=not asked.plain)
    print(f"{'no speech':30}  taken for it  seconds")
    for name, make in SOUNDS.items():
        found = []
        for seed in range(asked.seeds):
            rng = np.random.default_rng(seed)
            sound = make(rng)
            for level_db in (-20, -40):
                loud = sound / np.sqrt((sound**2).mean()) * 10 ** (level_db / 20)
                found.append(share(loud + 10**-3.6 * coloured(len(sound), rng, 1), settings))
        print(f"{name:30}  {np.mean([f > 0 for f in found]):12.2f}  {np.mean(found):7.2f}")
    files = []
    for folder in asked.files:
        inside = sorted(p for p in folder.rglob("*") if p.suffix in (".wav", ".flac"))
        files += random.Random(3).sample(inside, min(asked.clips, len(inside)))
    lost: dict[str, list[bool]] = {}
    for seed, path in enumerate(files):
        for name, sound in heard(audio.load(path).astype(np.float64), np.random.default_rng(seed)):
            lost.setdefault(name, []).append(share(sound, settings) == 0)
    for name, which in lost.items():
        print(f"{name:30}  {sum(which)} of {len(which)} clips lost")


if __name__ == "__main__":
    main()
