"""A manifest of the size of MSP-Podcast: made, written, read, sampled and cut into batches, without features.

Prints seconds of each step and the peak memory, for 66 992 train and 25 258 dev utterances whose lengths follow
``benchmarks/data/msp_podcast_lengths.csv``.

    python benchmarks/manifest.py
"""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from serkit.sampling import Examples, Loader
from serkit.types import Manifest, Utterance

N_TRAIN, N_DEV, N_SPEAKERS, FRAMES_S = 66_992, 25_258, 1500, 50
T = TypeVar("T")
LABELS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
# training clips by class, read in the code of ABHINAYA (arXiv 2505.18217)
SHARES = np.array([6728, 2495, 1432, 1120, 16712, 29239, 6303, 2948], dtype=np.float64)
LENGTHS = Path(__file__).parent / "data" / "msp_podcast_lengths.csv"


class Lengths:
    """Frames without features: what the sampler asks for before a batch is made."""

    def __init__(self, frames: dict[str, int]) -> None:
        self._frames = frames

    def frames(self, utterance_id: str) -> int:
        """Frames of one utterance."""
        return self._frames[utterance_id]

    def get(self, utterance_id: str) -> np.ndarray:
        """A single zero per frame."""
        return np.zeros((self._frames[utterance_id], 1), dtype=np.float16)


def main() -> None:
    """Time each step once."""
    rng = np.random.default_rng(0)
    with LENGTHS.open(newline="") as file:
        table = [(float(row[0]), float(row[1])) for row in csv.reader(file) if row[0][:1].isdigit()]
    values, weights = (np.array(column) for column in zip(*table, strict=True))
    n = N_TRAIN + N_DEV
    lengths_s = rng.choice(values, n, p=weights / weights.sum())
    emotions = rng.choice(len(LABELS), n, p=SHARES / SHARES.sum())

    def rows() -> Manifest:
        found = []
        for k in range(n):
            split = "train" if k < N_TRAIN else "dev"
            speaker = f"{split}{k % N_SPEAKERS}"
            found.append(Utterance(f"u{k:06d}", f"{k}.wav", 0.0, float(lengths_s[k]), speaker, split,
                                   LABELS[emotions[k]], {LABELS[emotions[k]]: 4, "neutral": 1}))  # fmt: skip
        return Manifest("size", LABELS, tuple(found))

    manifest = _timed("make the rows", rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.jsonl"
        _timed("write", lambda: manifest.save(path))
        manifest = _timed("read", lambda: Manifest.load(path))
    _timed("fingerprint", lambda: manifest.fingerprint)
    source = Lengths({u.id: max(1, round((u.end_s or 0) * FRAMES_S)) for u in manifest})
    examples = _timed("examples", lambda: Examples.of(manifest.split("train"), {"a": source, "b": source}))
    loader = Loader(examples, 64, balance="neutral")
    batches = _timed("an epoch of batches", lambda: loader.batch_rows(0))
    longest = [examples.lengths[b].max() for b in batches]
    real = sum(int(examples.lengths[b].max(axis=1).sum()) for b in batches)
    padded = sum(len(b) * int(m) for b, m in zip(batches, longest, strict=True))
    print(f"{len(batches)} batches, {100 * (padded / real - 1):.1f} % padding")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _timed(what: str, step: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = step()
    print(f"{what:22}{time.perf_counter() - begun:8.2f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
