"""UAR of one bundle or several on the clips that they keep as held out, corpus by corpus, beside each other.

    python benchmarks/held_out.py MODEL… --run RUN

RUN, which needs to be prepared only, says who speaks in these clips and of which corpus they are; a bundle keeps its
answers to them, each by the networks that were not trained on its speaker. With ``crossfit.refit`` these are not the
networks of the bundle, which learned from all of these speakers: a line says so. Every corpus is scored among its own
classes. Intervals are by speaker bootstrap; of a model after the first, also the difference from the first one, on the
same draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from prediction_sets import held_out
from serkit import metrics
from serkit.pipeline import Run
from serkit.serving.bundle import open_bundle

DRAWS = 2000


def uar(answers: np.ndarray, truth: np.ndarray, n: int) -> float:
    """Mean recall of the classes that are there."""
    return float(metrics.measure("uar", metrics.confusion_matrix(truth, answers, n)))


def main() -> None:
    """Print a line for each corpus and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--run", type=Path, required=True)
    given = parser.parse_args()
    run = Run(given.run)
    bundles = [open_bundle(model) for model in given.models]
    rows = [held_out(bundle, run) for bundle in bundles]
    for model, bundle in zip(given.models, bundles, strict=True):
        if all(network.model.startswith("full") for network in bundle.networks):
            print(f"{model}: measured are its networks of the folds, not those on all of train, by which it answers")
    _, truth, speakers, corpora = rows[0]
    for corpus in np.unique(corpora):
        at = np.flatnonzero(corpora == corpus)
        classes = np.unique(truth[at])
        right = np.searchsorted(classes, truth[at])
        answers = [probabilities[at][:, classes].argmax(axis=1) for probabilities, *_ in rows]
        names = np.array(speakers)[at]
        of = {name: np.flatnonzero(names == name) for name in np.unique(names)}
        print(f"{corpus}: n = {len(at)}, {len(of)} speakers, {len(classes)} classes")
        draws = np.random.default_rng(7).choice(list(of), (DRAWS, len(of)))
        found = np.array(
            [
                [uar(answer[some], right[some], len(classes)) for answer in answers]
                for some in (np.concatenate([of[name] for name in draw]) for draw in draws)
            ]
        )
        for k, model in enumerate(given.models):
            low, high = np.quantile(found[:, k], (0.025, 0.975))
            line = f"  {model:24} UAR {uar(answers[k], right, len(classes)):.3f} [{low:.3f}, {high:.3f}]"
            if k:
                low, high = np.quantile(found[:, k] - found[:, 0], (0.025, 0.975))
                more = uar(answers[k], right, len(classes)) - uar(answers[0], right, len(classes))
                line += f", {more:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(line)


if __name__ == "__main__":
    main()
