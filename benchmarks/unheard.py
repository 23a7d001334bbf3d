"""A model on a corpus of which it heard nothing, beside the field's simple baseline.

    python benchmarks/unheard.py MODEL --corpus ased --root DIR [--beside RUN] [--adapt N …] [--jobs 2]

Every clip with one of the model's labels is answered by `predict`, as a user would have it, and scored as the best of
the classes that the corpus and the model share; intervals are by speaker bootstrap. With `--beside`, eGeMAPS and
logistic regression, fitted on all labelled clips of that run (of which the model was made), answer the same clips
(needs `serkit[opensmile]`, whose licence is for research). With `--adapt N`, the model is adapted to N recordings of
every second speaker, without labels, and plain and adapted model answer the clips of the other speakers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
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


def in_parts(model: str, asked: Manifest, labels: list[str], jobs: int) -> list[str]:
    """The model's label of each clip, asked in several processes."""
    paths = [asked.audio_path(u) for u in asked]
    with ProcessPoolExecutor(jobs) as pool:
        found = list(pool.map(answers, [model] * jobs, [paths[k::jobs] for k in range(jobs)], [labels] * jobs))
    return [found[k % jobs][k // jobs] for k in range(len(paths))]


def adapted(model: str, n: int, asked: Manifest, said: list[str], labels: list[str], jobs: int) -> None:
    """Print what the model and the adapted one make of every other speaker, the rest being adapted to."""
    from serkit.serving import adapting

    names = sorted({u.speaker or u.id for u in asked})
    told = set(names[::2])
    own = [asked.audio_path(u) for u in asked if (u.speaker or u.id) in told]
    rest = asked.where(lambda u: (u.speaker or u.id) not in told)
    truth = [str(u.emotion) for u in rest]
    plain = [label for label, u in zip(said, asked, strict=True) if (u.speaker or u.id) not in told]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "adapted.zip"
        facts = adapting.write(adapting.adapt(model, own, at_most=n, jobs=jobs), out).head["adapted"]
        others = len(names) - len(told)
        print(f"adapted to {facts['pieces']} clips of {len(told)} speakers; {len(truth)} clips of the other {others}:")
        show("  plain", truth, plain, rest, labels)
        show("  adapted", truth, in_parts(str(out), rest, labels, jobs), rest, labels)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--adapt", type=int, nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    known = set(serkit.load(given.model).labels)
    manifest = read_corpora([given.corpus], [given.root])
    asked = manifest.where(lambda u: u.emotion in known)
    labels = [label for label in manifest.labels if label in known and asked.counts()[label]]
    truth = [str(u.emotion) for u in asked]
    print(f"{given.corpus}: n = {len(asked)}, {len({u.speaker for u in asked})} speakers, {len(labels)} classes")
    said = in_parts(given.model, asked, labels, given.jobs)
    show(Path(given.model).stem, truth, said, asked, labels)
    if given.beside:
        show("eGeMAPS + LR", truth, baseline(Run(given.beside), asked, labels, given.jobs), asked, labels)
    for n in given.adapt:
        adapted(given.model, n, asked, said, labels, given.jobs)


if __name__ == "__main__":
    main()
