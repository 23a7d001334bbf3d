"""Do length buckets and masks cost accuracy? Dev Macro-F1 over seeds, both ways, on a corpus.

Each seed trains the same network twice: as serkit does (length-bucketed batches, masked), and as the plain loop
does (random order, padding encoded, attended to and pooled like speech). Prints both means, the standard
deviation over seeds, the paired difference and the ratio of training speeds, from one process.

    python benchmarks/bucketing.py --root DIR [--corpus ravdess] [--seeds 5] [--epochs 20]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from serkit.extraction import extract
from serkit.labels import apply_labels
from serkit.networks import NetworkConfig
from serkit.pipeline.inputs import make_encoder
from serkit.readers import read_corpora
from serkit.recipe import Recipe, parse_recipe
from serkit.sampling import Examples
from serkit.training import train_network

RECIPE = """
name: bucketing
systems:
  one:
    features:
      - {name: logmel/40, pool: 8, pooling: mean+std}
      - {name: voice, pool: 8, pooling: mean+std}
    model: {name: cross_attention, hidden: 64, normalize: train}
    losses: [{name: cross_entropy, class_weights: inverse_frequency}]
    train: {batch_size: 32, lr: 1.0e-3, lr_min: 1.0e-5, weight_decay: 1.0e-2, schedule: cosine, clip_norm: 5.0}
crossfit: null
stack: null
"""
WAYS = {"buckets and masks": (True, True), "random order, no masks": (False, False)}


def main() -> None:
    """Train both ways for every seed and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="ravdess")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = parse_recipe(RECIPE, [f"train.epochs={given.epochs}"])
    manifest = apply_labels(read_corpora([given.corpus], [given.root]), recipe)
    with tempfile.TemporaryDirectory() as scratch:
        store = given.store or Path(scratch)
        sources = extract(manifest, {k: make_encoder(f) for k, f in recipe.features.items()}, store, jobs=1)
        train, dev = (Examples.of(manifest.split(s), sources) for s in ("train", "dev"))
        best: dict[str, list[float]] = {way: [] for way in WAYS}
        spent = dict.fromkeys(WAYS, 0.0)
        for seed in range(given.seeds):
            for way, (bucket, masked) in WAYS.items():
                folder = Path(scratch) / f"{seed}-{bucket}"
                begun = time.process_time()
                best[way].append(_train(recipe, manifest.labels, train, dev, folder, seed, bucket, masked))
                spent[way] += time.process_time() - begun
                print(f"seed {seed}  {way:24} dev Macro-F1 {best[way][-1]:.4f}", flush=True)
    _tell(best, spent, len(train), len(dev))


def _train(
    recipe: Recipe, labels: tuple[str, ...], train: Examples, dev: Examples, folder: Path, seed: int,
    bucket: bool, masked: bool,
) -> float:  # fmt: skip
    one = recipe.systems["one"]
    system = one.model_copy(update={"train": one.train.model_copy(update={"bucket": bucket})})
    model = {"name": one.model.name, **one.model.parameters, "masked": masked}
    dims = {key: int(source.get(train.ids[0]).shape[1]) for key, source in train.sources.items()}
    config = NetworkConfig("one", model, dims, {}, labels, seed, {"bucket": bucket})
    train_network(system, config, train, dev, folder, device="cpu")
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return max(row["dev_macro_f1"] for row in rows)


def _tell(best: dict[str, list[float]], spent: dict[str, float], n_train: int, n_dev: int) -> None:
    ours, plain = (best[way] for way in WAYS)
    for way, values in best.items():
        print(f"{way:24} mean {statistics.mean(values):.4f}, sd over seeds {statistics.stdev(values):.4f}")
    gaps = [a - b for a, b in zip(ours, plain, strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    first, second = (spent[way] for way in WAYS)
    print(f"difference {statistics.mean(gaps):+.4f} ± {error:.4f} (standard error, {len(gaps)} seeds, paired)")
    print(f"processor time {first:.0f} s against {second:.0f} s: {second / first:.2f} × as fast; "
          f"{n_train} train, {n_dev} dev utterances")  # fmt: skip


if __name__ == "__main__":
    main()
