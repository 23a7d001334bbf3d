"""A model on a corpus of which it heard nothing, beside the field's simple baseline.

    python benchmarks/unheard.py MODEL --corpus ased --root DIR [--beside RUN] [--jobs 2]

Every clip with one of the model's labels is answered by `predict`, as a user would have it, and scored as the best of
the classes that the corpus and the model share; intervals are by speaker bootstrap. With `--beside`, eGeMAPS and
logistic regression, fitted on all labelled clips of that run (of which the model was made), answer the same clips
(needs `serkit[opensmile]`, whose licence is for research).
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import serkit
from egemaps import fitted, functionals, interval
from serkit import metrics
from serkit.pipeline import Run
from serkit.readers import read_corpora
from serkit.types import Manifest


def answers(model: str, paths: list[Path], labels: list[str]) -> list[str]:
    """The model's label of each recording, among ``labels``."""
    loaded = serkit.load(model)
    return [str(found.label) for found in loaded.predict_many(paths, labels=labels)]  # type: ignore[union-attr]


def baseline(run: Run, asked: Manifest, labels: list[str], jobs: int) -> list[str]:
    """What eGeMAPS and logistic regression, fitted on the run's clips, say of the same recordings."""
    heard = run.manifest.where(lambda u: u.split is not None and u.emotion is not None)
    names = list(run.manifest.labels)
    with ProcessPoolExecutor(jobs) as pool:
        rows = [(m.audio_path(u), u) for m in (heard, asked) for u in m]
        found = np.stack(list(pool.map(functionals, rows, chunksize=32)))
    known = np.array([names.index(u.emotion or "") for u in heard])
    scores = fitted(found[: len(heard)], known, len(names), found[len(heard) :])
    can = [names.index(label) for label in labels]
    return [labels[k] for k in scores[:, can].argmax(axis=1)]


def show(name: str, truth: list[str], said: list[str], asked: Manifest, labels: list[str]) -> None:
    """Print UAR with its interval, and recall by class."""
    place = {label: k for k, label in enumerate(labels)}
    gold, answer = (np.array([place[x] for x in column]) for column in (truth, said))
    matrix = metrics.confusion_matrix(gold, answer, len(labels))
    low, high = interval(gold, answer, [u.speaker or u.id for u in asked], len(labels))
    recall = ", ".join(f"{label} {matrix[k, k] / matrix[k].sum():.2f}" for k, label in enumerate(labels))
    print(f"{name:14} UAR {metrics.measure('uar', matrix):.3f} [{low:.3f}, {high:.3f}]   recall: {recall}")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    known = set(serkit.load(given.model).labels)
    manifest = read_corpora([given.corpus], [given.root])
    asked = manifest.where(lambda u: u.emotion in known)
    labels = [label for label in manifest.labels if label in known and asked.counts()[label]]
    truth = [str(u.emotion) for u in asked]
    print(f"{given.corpus}: n = {len(asked)}, {len({u.speaker for u in asked})} speakers, {len(labels)} classes")
    paths = [asked.audio_path(u) for u in asked]
    with ProcessPoolExecutor(given.jobs) as pool:
        parts = [paths[k :: given.jobs] for k in range(given.jobs)]
        found = list(pool.map(answers, [given.model] * len(parts), parts, [labels] * len(parts)))
    said = [found[k % given.jobs][k // given.jobs] for k in range(len(paths))]
    show(Path(given.model).stem, truth, said, asked, labels)
    if given.beside:
        show("eGeMAPS + LR", truth, baseline(Run(given.beside), asked, labels, given.jobs), asked, labels)


if __name__ == "__main__":
    main()
