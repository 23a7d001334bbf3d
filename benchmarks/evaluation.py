"""How long measuring takes at the size of MSP-Podcast: 25 258 dev utterances, 12 systems, 66 992 to stack.

Run: ``python benchmarks/evaluation.py [--train N]``. Goal: 1 000 bootstrap draws on 25 000 rows in < 2 s.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from serkit import bootstrap, metrics
from serkit.comparison import compare
from serkit.evaluation import evaluate
from serkit.predictions import Predictions
from serkit.stacking import LogisticStack, RandomForestStack
from serkit.types import Manifest, Utterance

LABELS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
SHARES = np.array([5836, 1459, 542, 326, 6344, 7423, 2341, 987]) / 25258  # dev counts of the published notebook


def corpus(n: int, speakers: int, split: str, seed: int) -> Manifest:
    """A manifest with the published class shares."""
    rng = np.random.default_rng(seed)
    label, who = rng.choice(8, size=n, p=SHARES), rng.integers(0, speakers, n)
    rows = [
        Utterance(
            f"{split}{k}", "x.wav", speaker=f"{split}{who[k]}", split=split, emotion=LABELS[label[k]],
            gender="female" if who[k] % 2 else "male", end_s=3.0 + (k % 80) / 10,
        )
        for k in range(n)
    ]  # fmt: skip
    return Manifest("shape", LABELS, tuple(rows))


def scores(manifest: Manifest, systems: int) -> dict[str, Predictions]:
    """Logits that know a little of the class."""
    found = {}
    for k in range(systems):
        z = np.random.default_rng(k).normal(size=(len(manifest), 8))
        z[np.arange(len(manifest)), manifest.label_index()] += 0.6
        n = len(manifest)
        found[f"s{k}"] = Predictions(f"s{k}", LABELS, "logit", manifest.ids, ("m",) * n, np.zeros(n, bool), z)
    return found


def timed(name: str, call: Callable[[], Any]) -> Any:
    """Print how long ``call`` takes."""
    start = time.perf_counter()
    found = call()
    print(f"{name:<66}{time.perf_counter() - start:8.2f} s")
    return found


def main() -> None:
    """Time each step and print the peak memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=int, default=66_992)
    arguments = parser.parse_args()
    dev = timed("manifest, 25 258 utterances of 700 speakers", lambda: corpus(25_258, 700, "dev", 0))
    asked = scores(dev, 12)
    truth, answer = dev.label_index(), asked["s0"].scores.argmax(axis=1)
    for kind, who in (("speakers", [u.speaker for u in dev]), ("unknown speakers", [None] * len(dev))):
        drawn = timed(
            f"1 000 draws, {kind}",
            lambda who=who: bootstrap.resampled_confusions(
                truth, answer, 8, bootstrap.clusters(who), draws=1000, seed=0
            ),
        )
        timed(
            f"four metrics of 1 000 draws, {kind}",
            lambda drawn=drawn: [metrics.measure(m, drawn) for m in metrics.METRICS],
        )
    timed("evaluate: whole report with slices", lambda: evaluate(asked["s0"], dev, split="dev"))
    timed("compare: four metrics", lambda: compare(asked["s0"], asked["s1"], dev, split="dev"))
    train = corpus(arguments.train, 1400, "train", 1)
    fitted = scores(train, 12)
    forest = timed("published forest: fit, 5 x 200 trees", lambda: RandomForestStack(decimals=4).fit(fitted, train))
    timed("published forest: predict dev", lambda: forest.predict(asked))
    logistic = timed("logistic stack: choose C and fit", lambda: LogisticStack().fit(fitted, train))
    print(f"chosen C {logistic.c_}; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
