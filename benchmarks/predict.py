"""What an answer costs: real-time factor of a model on one core, features included, and a cold start.

Run: ``OMP_NUM_THREADS=1 python benchmarks/predict.py [--model default] [--files DIR] [--clips 40]``. Without
``--files`` the recording that ships is answered. Goals: 0.02 of real time by processor time, 2 s for a cold start.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import serkit
from serkit import audio

RATE_HZ = 16_000
SHIFTS = itertools.count(1)


def cost(answer: Callable[[np.ndarray], object], clips: list[np.ndarray]) -> float:
    """Processor seconds per second of sound, the best of three passes after one clip to warm up."""
    answer(clips[0])
    seconds, best = sum(map(len, clips)) / RATE_HZ, float("inf")
    for _ in range(3):
        moved = [np.roll(clip, next(SHIFTS)) for clip in clips]  # so that nothing is remembered of any pass before
        start = time.process_time()
        for clip in moved:
            answer(clip)
        best = min(best, (time.process_time() - start) / seconds)
    return best


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--files", type=Path)
    parser.add_argument("--clips", type=int, default=40)
    asked = parser.parse_args()
    example = Path(serkit.example())
    files = sorted(p for p in asked.files.rglob("*") if p.is_file()) if asked.files else [example]
    files = files[:: max(1, len(files) // asked.clips)]
    model = serkit.load(asked.model)
    clips = [audio.load(path) for path in files]
    whole = np.concatenate(clips * max(1, round(60 * RATE_HZ / sum(map(len, clips)))))
    print(f"{len(clips)} clips, {sum(map(len, clips)) / RATE_HZ:.0f} s; the long one {len(whole) / RATE_HZ:.0f} s")
    print(f"clip      {cost(lambda x: model.predict(x, rate_hz=RATE_HZ, by='clip'), clips):.4f} of real time")
    print(f"timeline  {cost(lambda x: model.predict(x, rate_hz=RATE_HZ, by='segment'), clips):.4f}")
    print(f"long      {cost(lambda x: model.predict(x, rate_hz=RATE_HZ, by='segment'), [whole]):.4f}")
    command = [sys.executable, "-m", "serkit", "predict", str(files[0]), "--model", asked.model]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    print(f"cold start, one file, by the clock: {min(times):.2f} s at best of 5, {max(times):.2f} s at worst")


if __name__ == "__main__":
    main()
