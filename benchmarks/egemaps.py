"""A run beside the field's simple baseline, on the same rows: eGeMAPS functionals and logistic regression.

    python benchmarks/egemaps.py RUN [--system mean_logit] [--jobs 2]

The baseline is fitted on the run's own cross-fitting folds and scored where the run's networks were: on train out of
fold, on dev (out of fold too, where the run dealt it into its folds) and, where there is one, on test. Every corpus is
scored among its own classes. Needs `serkit[opensmile]`
(its licence is for research); recordings are read from the root in the run's manifest.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from serkit import audio, evaluation, metrics
from serkit.crossfit import crossfit_folds
from serkit.pipeline import Run
from serkit.pipeline.networks_of_run import learned_from
from serkit.types import Manifest, Utterance

SEED = 0


def functionals(row: tuple[Path, Utterance]) -> np.ndarray:
    """(88,) float32 eGeMAPSv02 functionals of an utterance."""
    import opensmile

    path, utterance = row
    samples = audio.load(path, start_s=utterance.start_s, end_s=utterance.end_s)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    return np.asarray(smile.process_signal(samples, 16_000).to_numpy()[0], dtype=np.float32)


def fitted(features: np.ndarray, labels: np.ndarray, n_classes: int, asked: np.ndarray) -> np.ndarray:
    """(asked rows, classes) probabilities of a class-balanced logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
    model.fit(features, labels)
    scores = np.zeros((len(asked), n_classes))
    scores[:, model.classes_] = model.predict_proba(asked)
    return scores


def interval(truth: np.ndarray, answer: np.ndarray, speakers: list[str], n_classes: int) -> tuple[float, float]:
    """95 % of the UAR by speaker bootstrap, 1 000 draws; (rows,) class numbers and the rows' speakers."""
    names, index = np.unique(np.array(speakers), return_inverse=True)
    of = np.stack(
        [metrics.confusion_matrix(truth[index == k], answer[index == k], n_classes) for k in range(len(names))]
    )
    rng = np.random.default_rng(SEED)
    counted = np.bincount(truth, minlength=n_classes) > 0
    draws = [metrics.measure("uar", of[rng.integers(0, len(of), len(of))].sum(axis=0), counted) for _ in range(1000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    """Print UAR of both by split and corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--system", default="mean_logit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    run = Run(asked.run)
    manifest = run.manifest.where(lambda u: u.split is not None and u.emotion is not None)
    with ProcessPoolExecutor(asked.jobs) as pool:
        rows = list(pool.map(functionals, [(manifest.audio_path(u), u) for u in manifest], chunksize=32))
    features = dict(zip(manifest.ids, rows, strict=True))
    for split in run.splits:
        report(run, manifest, split, features, asked.system)
    if "dev" not in run.scored_splits:
        report(run, manifest, "train+dev", features, asked.system)


def report(run: Run, manifest: Manifest, split: str, features: dict[str, np.ndarray], system: str) -> None:
    """Print one split, or those that the run dealt into its folds as one."""
    train = learned_from(manifest, run.recipe)
    rows = train if split == "train+dev" else manifest.split(split)
    place = {label: k for k, label in enumerate(manifest.labels)}
    settings = run.recipe.crossfit
    if settings is None:
        raise SystemExit("the run has no cross-fitting, so that train has no out-of-fold scores")
    fold = crossfit_folds(train, settings.folds, settings.seed)
    x, y = np.stack([features[i] for i in train.ids]), np.array([place[u.emotion or ""] for u in train])
    asked = np.stack([features[i] for i in rows.ids])
    scores = np.zeros((len(rows), len(place)))
    place_of = {i: int(k) for i, k in zip(train.ids, fold, strict=True)}
    held_by = np.array([place_of.get(i, -1) for i in rows.ids])
    for k in range(settings.folds):
        heard = fold != k
        if (held_by >= 0).all():
            mine = held_by == k
            scores[mine] = fitted(x[heard], y[heard], len(place), asked[mine])
        else:
            scores += fitted(x[heard], y[heard], len(place), asked) / settings.folds
    answers: dict[str, int] = {}
    for part in split.split("+"):
        ours = evaluation.decide(run.predictions(system, part), run.manifest, split=part)
        answers |= dict(zip((u.id for u in ours.utterances), ours.answer, strict=True))
    corpora = np.array([u.corpus for u in rows])
    for corpus in sorted(set(corpora)):
        mine = corpora == corpus
        truth = np.array([place[u.emotion or ""] for u in rows])[mine]
        can = [place[label] for label in run.manifest.class_sets.get(corpus, run.manifest.labels)]
        theirs = np.array(can)[scores[mine][:, can].argmax(axis=1)]
        own = np.array([answers[u.id] for u in rows if u.corpus == corpus])
        counted = np.isin(np.arange(len(place)), can)
        both = [
            metrics.measure("uar", metrics.confusion_matrix(truth, answer, len(place)), counted)
            for answer in (own, theirs)
        ]
        speakers = [u.speaker or u.id for u in rows if u.corpus == corpus]
        low, high = interval(truth, own, speakers, len(place))
        print(
            f"{split:9} {corpus:10} n={len(truth):5} speakers={len(set(speakers)):3}  {system} UAR {both[0]:.3f} "
            f"[{low:.3f}, {high:.3f}]   "
            f"eGeMAPS + LR UAR {both[1]:.3f}"
        )


if __name__ == "__main__":
    main()
