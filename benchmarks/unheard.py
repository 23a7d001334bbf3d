"""A model on a corpus of which it heard nothing, beside the field's simple baseline.

    python benchmarks/unheard.py MODEL --corpus ased --root DIR [--beside RUN] [--adapt N …] [--jobs 2]

Every clip with one of the model's labels is answered by `predict`, as a user would have it, and scored as the best of
the classes that the corpus and the model share; intervals are by speaker bootstrap. With `--beside`, eGeMAPS and
logistic regression, fitted on all labelled clips of that run (of which the model was made), answer the same clips
(needs `serkit[opensmile]`, whose licence is for research). With `--adapt N`, the model is adapted to N recordings of
every second speaker, without labels, and plain and adapted model answer the clips of the other speakers.

With `--labelled N`, N labelled clips of a random half of the speakers are drawn `--draws` times, and the clips of the
other half are answered by: the model as it is; adapted with labels; logistic regression on features of these N clips
alone; and with `--also-unlabelled`, which takes long, adapted to these clips without labels, and both, one after the
other. Printed are mean, least and largest UAR of the draws. With `--other-sentences`, for corpora whose readers know
the sentence: the N clips are of sentences spoken with one emotion, the answered ones of sentences spoken with several,
whose words give no label away.
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
from serkit import audio, metrics
from serkit.pipeline import Run
from serkit.probabilities import restricted
from serkit.readers import read_corpora
from serkit.serving import adapting, inputs
from serkit.serving.bundle import Bundle, open_bundle
from serkit.serving.correcting import Clips, cross_validated
from serkit.serving.scorer import Features, Scorer
from serkit.types import Manifest

SEED = 0
METHODS = ("plain", "with labels", "these clips only", "without labels", "without, then with")


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


def features_of(model: str, paths: list[Path]) -> list[Features]:
    """The features of each recording as the model hears them; those that are longer than it takes as one: refused."""
    loaded = serkit.load(model)
    found = []
    for path in paths:
        clip = inputs.whole(audio.blocks(path), loaded.max_clip_s)
        if clip is None:
            raise SystemExit(f"{path} is longer than {loaded.max_clip_s:g} s")
        found.append(loaded.scorer.heard(clip, None))
    return found


def answered(bundle: Bundle, rows: list[Features], truth: np.ndarray, speakers: list[str]) -> Clips:
    """Clips as a bundle answers them."""
    scorer = Scorer(bundle, embeds=True, threads=os.cpu_count() or 1)
    parts = [scorer.embedded_answers(rows[k : k + 32]) for k in range(0, len(rows), 32)]
    shares, embedded = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Clips(shares, embedded, np.arange(len(rows)), np.ones(len(rows)), truth, tuple(speakers))


def summary(features: Features) -> np.ndarray:
    """Means over frames, and deviations of features that have frames."""
    wide = [values.astype(np.float64) for values in features.values()]
    return np.concatenate([part for v in wide for part in ([v.mean(0), v.std(0)] if len(v) > 1 else [v[0]])])


class Few:
    """What few labelled clips are worth.

    Args:
        asked: labelled clips. labels: their classes. given: the arguments of the command line.
    """

    def __init__(self, asked: Manifest, labels: list[str], given: argparse.Namespace) -> None:
        model, jobs = given.model, given.jobs
        self.bundle, self.labels = open_bundle(model), labels
        self.other_sentences, self.unlabelled = given.other_sentences, given.also_unlabelled
        self.paths = [asked.audio_path(u) for u in asked]
        with ProcessPoolExecutor(jobs) as pool:
            parts = list(pool.map(features_of, [model] * jobs, [self.paths[k::jobs] for k in range(jobs)]))
        self.rows = [parts[k % jobs][k // jobs] for k in range(len(self.paths))]
        self.summaries = np.stack([summary(row) for row in self.rows])
        self.speakers = [u.speaker or u.id for u in asked]
        self.truth = np.array([self.bundle.labels.index(u.emotion or "") for u in asked])
        self.columns = [self.bundle.labels.index(label) for label in labels]
        emotions: dict[str, set[str]] = {}
        for u in asked:
            emotions.setdefault(str(u.meta.get("sentence")), set()).add(str(u.emotion))
        self.alone = np.array([len(emotions[str(u.meta.get("sentence"))]) == 1 for u in asked])
        self.clips = answered(self.bundle, self.rows, self.truth, self.speakers)

    def drawn(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the labelled clips and of those that are answered."""
        rng = np.random.default_rng([SEED, seed])
        names = rng.permutation(sorted(set(self.speakers)))
        told = np.isin(self.speakers, names[: len(names) // 2])
        own, rest = np.flatnonzero(told), np.flatnonzero(~told)
        if self.other_sentences:
            own, rest = own[self.alone[own]], rest[~self.alone[rest]]
        if len(own) < n:
            raise SystemExit(f"{len(own)} clips of half of the speakers, and {n} were asked for")
        return np.sort(rng.choice(own, n, replace=False)), rest

    def uar(self, shares: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
        """UAR and calibration error of (rows, classes) probabilities among the labels of the corpus."""
        found = restricted(shares, self.columns)
        truth = np.array([self.columns.index(k) for k in self.truth[rows]])
        matrix = metrics.confusion_matrix(truth, found.argmax(axis=1), len(self.labels))
        return metrics.measure("uar", matrix), metrics.ece(found, truth)

    def draw(self, n: int, seed: int) -> tuple[np.ndarray, bool]:
        """(methods, 2) UAR and calibration error of each, and whether `serkit adapt` would refuse these clips."""
        own, rest = self.drawn(n, seed)
        learned = cross_validated(self.clips.take(own))
        asked = self.clips.take(rest)
        scores = fitted(self.summaries[own], self.truth[own], len(self.bundle.labels), self.summaries[rest])
        answers = [asked.answered(), asked.answered(learned.correction), scores]
        if self.unlabelled:
            answers += self.moved(own, rest)
        kept = learned.loss_after >= learned.loss_before
        return np.array([self.uar(shares, rest) for shares in answers]), kept

    def moved(self, own: np.ndarray, rest: np.ndarray) -> list[np.ndarray]:
        """(rest, classes) probabilities adapted to clips without labels, and then with their labels."""
        with tempfile.TemporaryDirectory() as folder:
            made = adapting.adapt(self.bundle, [self.paths[k] for k in own], at_most=len(own))
            bundle = adapting.write(made, Path(folder) / "adapted.zip")
            again, asked = (
                answered(bundle, [self.rows[k] for k in some], self.truth[some], [self.speakers[k] for k in some])
                for some in (own, rest)
            )
        return [asked.answered(), asked.answered(cross_validated(again).correction)]

    def show(self, n: int, draws: int) -> None:
        """Print all methods."""
        found = [self.draw(n, seed) for seed in range(draws)]
        values, kept = np.stack([one for one, _ in found]), sum(k for _, k in found)
        rest = [len(self.drawn(n, seed)[1]) for seed in range(draws)]
        print(f"{n} labelled clips, {draws} draws, {min(rest)} to {max(rest)} clips of others; refused in {kept}")
        for k, name in enumerate(METHODS[: values.shape[1]]):
            uar, error = values[:, k, 0], values[:, k, 1]
            better = (uar > values[:, 0, 0]).sum()
            print(
                f"  {name:20} UAR {uar.mean():.3f} [{uar.min():.3f}, {uar.max():.3f}], above plain in {better}; "
                f"ECE {error.mean():.3f}"
            )


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--adapt", type=int, nargs="*", default=[])
    parser.add_argument("--labelled", type=int, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--other-sentences", action="store_true")
    parser.add_argument("--also-unlabelled", action="store_true")
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
    few = Few(asked, labels, given) if given.labelled else None
    for n in given.labelled if few is not None else ():
        few.show(n, given.draws)


if __name__ == "__main__":
    main()
