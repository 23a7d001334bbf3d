"""Real-time factor of every descriptor encoder on one core, and of openSMILE in the same process.

Run: ``OMP_NUM_THREADS=1 python benchmarks/descriptors.py [SECONDS]``. The signal is generated: syllables
of a gliding voice with noise and pauses, cut into 5-s clips. The best of three passes counts.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from serkit.encoders.logmel import Logmel
from serkit.encoders.mfcc import Mfcc
from serkit.encoders.opensmile import Opensmile
from serkit.encoders.voice import Voice
from serkit.errors import MissingExtra

RATE = 16_000


def voice_like(seconds: float, seed: int) -> np.ndarray:
    """(samples,) float32: about 55 % voiced, like the recordings of RAVDESS and ASED without their margins."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(150 + 50 * np.sin(2 * np.pi * 0.5 * t + seed)) / RATE
    envelope = np.maximum(0.0, np.sin(2 * np.pi * 1.5 * t + 0.3))
    voice = sum(np.sin(k * phase) / k for k in range(1, 25)) * envelope
    return np.asarray(0.1 * voice + 0.002 * rng.standard_normal(len(t)), dtype=np.float32)


def real_time_factor(encoder: Any, clips: list[np.ndarray]) -> float:
    """Processor seconds per second of sound: the best of three passes after a warm-up."""
    encoder.load()
    encoder(clips[:1])
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        encoder(clips)
        best = min(best, time.process_time() - start)
    return best / (sum(map(len, clips)) / RATE)


def main() -> None:
    """Print one line an encoder, and the sum of the permissively licensed ones."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    clips = [voice_like(5.0, seed) for seed in range(max(1, round(seconds / 5)))]
    own: list[Any] = [Logmel("logmel/80", pool=4), Mfcc("mfcc/20", pool=4), Voice(pool=4, deltas=True)]
    theirs: list[Any] = [Opensmile("opensmile/egemaps", pool=4), Opensmile("opensmile/compare", pool=4)]
    print(f"{len(clips)} clips of 5 s, one core; processor seconds per second of sound")
    total = 0.0
    for encoder in own:
        factor = real_time_factor(encoder, clips)
        total += factor
        print(f"  {encoder.spec.name:20s} {factor:.5f}   ({1 / factor:5.0f} times real time)")
    print(f"  {'together':20s} {total:.5f}   ({1 / total:5.0f} times real time; aim: 0.01)")
    for encoder in theirs:
        try:
            factor = real_time_factor(encoder, clips)
        except MissingExtra as missing:
            print(f"  {encoder.spec.name:20s} {missing}")
            continue
        print(f"  {encoder.spec.name:20s} {factor:.5f}   ({1 / factor:5.0f} times real time)")


if __name__ == "__main__":
    main()
