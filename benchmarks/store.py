"""Random-access reading: the feature store against one .npy file per clip, in one process.

    python benchmarks/store.py [--clips 4000] [--dim 256] [--rate-hz 25]

Both hold the same float16 features of clips with log-normal lengths (median 4.7 s, as spontaneous speech
corpora have), and every read ends as a float32 copy, which is what a network is given. The page cache is
warm for both. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serkit.encoding import EncoderSpec
from serkit.store import FeatureStore


def reads_per_s(read: Callable[[str], np.ndarray], order: list[str]) -> float:
    """Reads a second over ``order``; every value is touched."""
    start, total = time.perf_counter(), 0.0
    for key in order:
        total += float(read(key).astype(np.float32)[-1, -1])
    return len(order) / (time.perf_counter() - start)


def main() -> None:
    """Write both, read both three times in turns, print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rate-hz", type=float, default=25.0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    frames = np.clip(np.exp(rng.normal(np.log(4.7), 0.5, arguments.clips)) * arguments.rate_hz, 1, None).astype(int)
    keys = [f"{n:032x}" for n in range(arguments.clips)]
    noise = rng.normal(size=(int(frames.max()), arguments.dim)).astype(np.float16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = EncoderSpec("benchmark", "audio", dim=arguments.dim, window=640, hop=640)
        start = time.perf_counter()
        FeatureStore(folder / "store", spec).write((k, noise[:n]) for k, n in zip(keys, frames, strict=True))
        store_write_s = time.perf_counter() - start
        (folder / "files").mkdir()
        start = time.perf_counter()
        for key, n in zip(keys, frames, strict=True):
            np.save(folder / "files" / f"{key}.npy", noise[:n])
        files_write_s = time.perf_counter() - start
        start = time.perf_counter()
        store = FeatureStore(folder / "store", spec)
        open_s = time.perf_counter() - start
        rates: dict[str, list[float]] = {"store": [], "files": [], "store_frames": []}
        for _ in range(4):
            order = [keys[k] for k in rng.permutation(len(keys))]
            rates["store"].append(reads_per_s(store.get, order))
            rates["files"].append(reads_per_s(lambda k: np.load(folder / "files" / f"{k}.npy"), order))
            begin = time.perf_counter()
            for key in order:
                store.frames(key)
            rates["store_frames"].append(len(order) / (time.perf_counter() - begin))
        medians = {k: float(np.median(v[1:])) for k, v in rates.items()}  # the first round warms the cache
        shards = len(list(store.folder.glob("*.npy")))
        print(
            json.dumps(
                {
                    "clips": arguments.clips,
                    "megabytes": round(store.n_bytes / 1e6, 1),
                    "shards": shards,
                    "open_s": round(open_s, 4),
                    "store_write_s": round(store_write_s, 2),
                    "files_write_s": round(files_write_s, 2),
                    "store_reads_per_s": round(medians["store"]),
                    "files_reads_per_s": round(medians["files"]),
                    "ratio": round(medians["store"] / medians["files"], 2),
                    "store_lengths_per_s": round(medians["store_frames"]),
                }
            )
        )


if __name__ == "__main__":
    main()
