"""How often sets of classes hold the true one, and how large they are, on speakers that they were not made from.

    python benchmarks/prediction_sets.py MODEL --run RUN
    python benchmarks/prediction_sets.py MODEL --corpus NAME --root DIR [--labelled N …] [--other-sentences]

With `--run`, the run (prepared is enough) says who speaks in the held-out clips that the bundle keeps. The speakers are
divided into five parts, `--draws` times: a cut measured on four of them is asked for sets of the fifth. Compared are
kinds of sets, and cuts that weigh speakers instead of clips. The kinds are `serkit predict --coverage` itself; sums of
the probabilities down to a class (APS, Romano, Sesia and Candès 2020) with and without that class, never drawn at
random; the same with a penalty of 0.01 or 0.1 for every class beyond two (RAPS, Angelopoulos et al. 2021); and the
ratio to the most probable class.

With `--corpus`, a corpus that the model was not trained on is answered among the classes that both have. With
`--labelled N`, N labelled clips of a random half of the speakers adapt the model, as `serkit adapt --corpus` does, and
the sets, whose cut is then measured on these clips, are of the clips of the other half; `--other-sentences` as in
unheard.py.
"""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serkit import conformal
from serkit.combining import speaker_folds
from serkit.pipeline import Run
from serkit.probabilities import restricted
from serkit.readers import read_corpora
from serkit.serving.bundle import Bundle, open_bundle
from serkit.serving.correcting import cross_validated
from unheard import Few

COVERAGES = (0.8, 0.9, 0.95)
FOLDS = 5
Scores = Callable[[np.ndarray], np.ndarray]  # (rows, classes) probabilities to how far a class is from the set
Cut = Callable[[np.ndarray, list[str], float], float]  # scores of the true classes, speakers, coverage


def one_cut(p: np.ndarray) -> np.ndarray:
    """What :mod:`serkit.conformal` does: the most probable class is nearest, the others by their probability."""
    scores = 1.0 - p
    scores[np.arange(len(p)), p.argmax(axis=1)] = 0.0
    return scores


def down_to(p: np.ndarray, *, own: bool, penalty: float = 0.0) -> np.ndarray:
    """Probabilities of the classes that are more probable, added up; with the class itself where ``own``."""
    order = np.argsort(-p, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    total = np.take_along_axis(np.cumsum(np.take_along_axis(p, order, axis=1), axis=1), rank, axis=1)
    return total - (0.0 if own else 1.0) * p + penalty * np.maximum(0, rank - 1)


KINDS: dict[str, Scores] = {
    "one cut": one_cut,
    "APS": lambda p: down_to(p, own=True),
    "APS without the class": lambda p: down_to(p, own=False),
    "RAPS 0.01": lambda p: down_to(p, own=False, penalty=0.01),
    "RAPS 0.1": lambda p: down_to(p, own=False, penalty=0.1),
    "ratio": lambda p: 1.0 - p / p.max(axis=1, keepdims=True),
}


def by_clip(own: np.ndarray, speakers: list[str], coverage: float) -> float:
    """Every clip weighs the same."""
    k = int(np.ceil(round((len(own) + 1) * coverage, 9)))
    return float(np.sort(own)[k - 1]) if k <= len(own) else np.inf


def by_speaker(own: np.ndarray, speakers: list[str], coverage: float, more: int = 0) -> float:
    """Every speaker weighs the same; ``more`` speakers of whom the worst is assumed (Lee, Barber and Willett 2023)."""
    names, place, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    order = np.argsort(own, kind="stable")
    reached = np.cumsum(1.0 / counts[place][order]) / (len(names) + more)
    k = int(np.searchsorted(reached, coverage - 1e-9))
    return float(own[order][k]) if k < len(own) else np.inf


CUTS: dict[str, Cut] = {
    "every clip the same": by_clip,
    "every speaker the same": by_speaker,
    "and one more speaker": lambda own, speakers, coverage: by_speaker(own, speakers, coverage, more=1),
}


def held_out(bundle: Bundle, run: Run) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Probabilities, truth, speakers and corpora of the clips that a bundle keeps: dev, then train, in their order."""
    probabilities, truth = bundle.held_out
    rows = [u for split in ("dev", "train") for u in run.manifest if u.split == split and u.emotion is not None]
    if [bundle.labels.index(str(u.emotion)) for u in rows] != truth.tolist():
        raise SystemExit(f"the held-out clips of {bundle.source} are not those of {run.folder}")
    return probabilities, truth, [str(u.speaker) for u in rows], np.array([str(u.corpus) for u in rows])


def crossed(
    kind: Scores, cut: Cut, coverage: float, rows: tuple[np.ndarray, np.ndarray, list[str], np.ndarray], draws: int
) -> list[np.ndarray]:
    """(rows, classes) sets by cuts that were measured on other speakers, for each draw."""
    p, truth, speakers, _ = rows
    scores, names = kind(p), np.array(speakers)
    own = scores[np.arange(len(truth)), truth]
    found = []
    for draw in range(draws):
        fold, inside = speaker_folds(truth, speakers, FOLDS, draw), np.zeros(p.shape, dtype=bool)
        for k in np.unique(fold):
            rest = fold != k
            inside[~rest] = scores[~rest] <= cut(own[rest], names[rest].tolist(), coverage)
        found.append(inside)
    return found


def told(title: str, sets: list[np.ndarray], truth: np.ndarray, speakers: list[str], groups: np.ndarray) -> None:
    """Print the means over draws: of the share of sets with the true class, and of the number of classes."""
    right = np.mean([inside[np.arange(len(truth)), truth] for inside in sets], axis=0)
    size = np.mean([inside.sum(axis=1) for inside in sets], axis=0)
    names, counts = np.array(speakers), np.concatenate([inside.sum(axis=1) for inside in sets])
    shares = np.sort([right[names == name].mean() for name in np.unique(names)])
    low = shares[: int(np.ceil(conformal.LOW_SPEAKERS * len(shares)))].mean()
    classes = [right[truth == k].mean() for k in np.unique(truth)]
    print(
        f"  {title:24} held {right.mean():.3f}, classes {size.mean():.2f}, alone {(counts == 1).mean():.2f}, empty "
        f"{(counts == 0).mean():.3f}; by speaker {shares.mean():.3f}, lowest tenth {low:.3f}; lowest class "
        f"{min(classes):.3f}"
    )
    each = [f"{g} {right[groups == g].mean():.3f} ({size[groups == g].mean():.2f})" for g in np.unique(groups)]
    print(f"  {'':24} " + ", ".join(each))


def on_held_out(bundle: Bundle, run: Run, draws: int) -> None:
    """Print what sets are worth on speakers of the training corpora."""
    rows = held_out(bundle, run)
    _, truth, speakers, corpora = rows
    print(f"{bundle.source}: {len(truth)} clips, {len(set(speakers))} speakers, {draws} draws of {FOLDS} folds")
    for coverage in COVERAGES:
        print(f"at {coverage:g}")
        for name, kind in KINDS.items():
            told(name, crossed(kind, by_clip, coverage, rows, draws), truth, speakers, corpora)
        for name, cut in CUTS.items():
            told(name, crossed(one_cut, cut, coverage, rows, draws), truth, speakers, corpora)
        sets = crossed(one_cut, by_clip, coverage, rows, draws)
        classes = np.array([bundle.labels[k] for k in truth])
        told("by class", sets, truth, speakers, classes)


def shown(coverage: float, title: str, found: list[conformal.Covered]) -> None:
    """Print the mean over draws, with the least and the largest share."""
    held = [one.held.value for one in found]
    low, classes = (np.mean([f(one) for one in found]) for f in (_lowest_speakers, _lowest_class))
    size = np.mean([one.size.value for one in found])
    print(
        f"  {coverage:<5g} {title:12} held {np.mean(held):.3f} [{min(held):.3f}, {max(held):.3f}], classes {size:.2f}; "
        f"lowest tenth of speakers {low:.3f}, lowest class {classes:.3f}"
    )


def _lowest_speakers(one: conformal.Covered) -> float:
    return one.by_speaker.get("low", float("nan"))


def _lowest_class(one: conformal.Covered) -> float:
    return min(row["held"] for row in one.by_class.values())


def on_others(bundle: Bundle, given: Namespace) -> None:
    """Print what sets are worth on a corpus that the model does not know, and after adapting to some of its clips."""
    manifest = read_corpora([given.corpus], [given.root])
    asked = manifest.where(lambda u: u.emotion in bundle.labels)
    labels = [label for label in manifest.labels if label in bundle.labels and asked.counts()[label]]
    few = Few(asked, labels, Namespace(**vars(given), also_unlabelled=False))
    clips, columns = few.clips, few.columns
    place = {column: k for k, column in enumerate(columns)}
    own, own_truth = bundle.held_out
    kept = np.isin(own_truth, columns)
    known = restricted(own[kept], columns), np.array([place[k] for k in own_truth[kept]])
    truth = np.array([place[k] for k in clips.truth])

    def measured(shares: np.ndarray, rows: np.ndarray, coverage: float, cut: float) -> conformal.Covered:
        inside = conformal.members(restricted(shares, columns), cut)
        return conformal.covered(coverage, inside, truth[rows], labels, [clips.speakers[k] for k in rows], draws=1000)

    every = np.arange(len(truth))
    print(f"{given.corpus}: n = {len(truth)}, {len(set(clips.speakers))} speakers, {len(labels)} classes")
    for coverage in COVERAGES:
        one = measured(clips.answered(), every, coverage, conformal.least_probability(coverage, *known))
        shown(coverage, "as it is", [one])
        print(f"{'':20} held [{one.held.low:.3f}, {one.held.high:.3f}] {one.held.interval}; {one.by_class}")
    for n in given.labelled:
        print(f"{n} labelled clips, {given.draws} draws")
        draws = [few.drawn(n, seed) for seed in range(given.draws)]
        learned = [cross_validated(clips.take(told)) for told, _ in draws]
        for coverage in COVERAGES:
            if np.ceil(round((n + 1) * coverage, 9)) > n:
                continue
            pairs = [(clips.take(rest), rest) for _, rest in draws]
            cut = conformal.least_probability(coverage, *known)
            shown(coverage, "as it is", [measured(some.answered(), rest, coverage, cut) for some, rest in pairs])
            found = []
            for (told_, _), fit, (some, rest) in zip(draws, learned, pairs, strict=True):
                cut = conformal.least_probability(coverage, restricted(fit.held, columns), truth[told_])
                found.append(measured(some.answered(fit.correction), rest, coverage, cut))
            shown(coverage, "adapted", found)


def main() -> None:
    """Print either, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--corpus")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--labelled", type=int, nargs="*", default=[])
    parser.add_argument("--other-sentences", action="store_true")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    bundle = open_bundle(given.model)
    if given.run:
        on_held_out(bundle, Run(given.run), given.draws)
    if given.corpus:
        on_others(bundle, given)


if __name__ == "__main__":
    main()
