"""What a run's networks make of worse recordings: over the telephone, of 8 kHz, another microphone's colour, in noise.

    python benchmarks/degraded.py RUN BUNDLE… [--under CONDITION …] [--every 1] [--jobs 2]

RUN has cross-fitting and no test split. Each BUNDLE was made of it, or of another run with the same clips and folds.
Each clip is answered by those networks that did not hear its speaker (a mean of their logits), once as it is and once
in each condition, and scored among the classes of its corpus. How sure a bundle is, by its calibration and among all
classes, is compared with how often it is right. The conditions are those of `serkit measure --under`, drawn from a seed
of the clip; four of them unless told otherwise. That command measures any bundle, with all of its networks: it cannot
leave out those that heard a speaker, so the scoring here is its own. `--every 3` takes each third clip, in the order of
ids: with 2, of RAVDESS those of the men alone.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from egemaps import interval
from serkit import audio, metrics, registry
from serkit.augment import Augmentation, Example
from serkit.pipeline import Run
from serkit.reporting.conditions import UNCHANGED
from serkit.serving import inputs
from serkit.serving.conditions import parse
from serkit.serving.predictor import Model, load
from serkit.types import Utterance

CONDITIONS = ("telephone", "8khz", "equalizer", "noise:10")


@functools.cache
def chains(conditions: tuple[str, ...]) -> tuple[tuple[Augmentation, ...], ...]:
    """The augmentations of each condition."""
    return tuple(
        tuple(registry.find("augment", name)(**parameters) for name, parameters in condition.parts)
        for condition in parse(conditions)
    )


@functools.cache
def model(bundle: str) -> Model:
    """The bundle, loaded once in each process."""
    return load(bundle)


def answered(bundles: Sequence[str], conditions: tuple[str, ...], path: Path, fold: str, seed: int) -> np.ndarray:
    """(bundles, 1 + conditions, classes) mean logits of the networks of a fold, first of the clip as it is."""
    clean = np.asarray(audio.load(path), dtype=np.float32)
    found = []
    for steps in ((), *chains(conditions)):
        example, rng = Example(np.array([1.0]), clean), np.random.default_rng(seed)
        for step in steps:
            example = step(example, rng)
        found.append([mean_logits(model(bundle), np.asarray(example.samples), fold) for bundle in bundles])
    return np.stack(found, axis=1)


def mean_logits(asked: Model, samples: np.ndarray, fold: str) -> np.ndarray:
    """(classes,) of the networks of a fold."""
    features = asked.scorer.features(samples, None)
    logits = [
        session.run(["emotion"], inputs.feed([features], asked.scorer.entries[key].features))[0][0]
        for key, session in asked.scorer.sessions.items()
        if key[1] == fold
    ]
    return np.asarray(np.mean(logits, axis=0))


def shares(logits: np.ndarray) -> np.ndarray:
    """Softmax of (rows, classes) logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def main() -> None:
    """Print UAR by bundle, corpus and condition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--under", nargs="+", default=CONDITIONS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    run, conditions = Run(given.run), tuple(given.under)
    chains(conditions)  # a name that is not known is told before any work
    for bundle in given.bundles:
        if lacking := sorted(set(run.models) - {key[1] for key in model(bundle).scorer.sessions}):
            raise SystemExit(
                f"{bundle} has no network '{lacking[0]}' of {given.run}: clips are answered by the networks of the "
                "fold that held out its speaker, which a bundle has where the recipe has no crossfit.refit"
            )
    unheard: dict[str, str] = {}
    for split in run.splits:
        table = run.predictions(next(iter(run.recipe.systems)), split)
        unheard |= {i: m for i, m, seen in zip(table.ids, table.models, table.seen, strict=True) if not seen}
    rows = [u for u in run.manifest if u.id in unheard and u.emotion is not None][:: given.every]
    paths = [run.manifest.audio_path(u) for u in rows]
    with ProcessPoolExecutor(given.jobs) as pool:
        ask = functools.partial(answered, tuple(given.bundles), conditions)
        scores = np.stack(list(pool.map(ask, paths, [unheard[u.id] for u in rows], range(len(rows)), chunksize=16)))
    for k, bundle in enumerate(given.bundles):
        print(f"{bundle}:")
        tell(model(bundle), rows, run.manifest.labels, scores[:, k], (UNCHANGED, *conditions))


def tell(
    asked: Model, rows: Sequence[Utterance], labels: Sequence[str], scores: np.ndarray, names: Sequence[str]
) -> None:
    """Print the numbers of (rows, conditions, classes) logits of one bundle."""
    for corpus in sorted({u.corpus or "" for u in rows}):
        at = [k for k, u in enumerate(rows) if u.corpus == corpus]
        classes = sorted({labels.index(rows[k].emotion or "") for k in at})
        truth = np.array([classes.index(labels.index(rows[k].emotion or "")) for k in at])
        speakers = [rows[k].speaker or rows[k].id for k in at]
        print(f"{corpus}: {len(at)} clips, {len(set(speakers))} speakers, {len(classes)} classes")
        for c, name in enumerate(names):
            answer = scores[at, c][:, classes].argmax(axis=1)
            matrix = metrics.confusion_matrix(truth, answer, len(classes))
            low, high = interval(truth, answer, speakers, len(classes))
            print(f"  {name:22} UAR {metrics.measure('uar', matrix):.3f} [{low:.3f}, {high:.3f}]")
    truth = np.array([labels.index(u.emotion or "") for u in rows])
    print("all clips, among all classes: mean confidence, share right, expected calibration error")
    for c, name in enumerate(names):
        sure = asked.bundle.calibration.apply(shares(scores[:, c]))
        right = float((sure.argmax(axis=1) == truth).mean())
        print(f"  {name:22} {sure.max(axis=1).mean():.3f}  {right:.3f}  {metrics.ece(sure, truth):.3f}")


if __name__ == "__main__":
    main()
