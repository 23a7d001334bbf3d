"""Is the mean of several networks' weights worth their training? Against one of them, and the mean of their logits.

Trains the systems of a recipe on some folds of a corpus. Of a system with `train.soup` it measures the soup, each of
its networks alone, and the mean of their logits, which costs as much training and answers so many times more slowly; of
any other its network. Prints Macro-F1 and UAR of the pooled test rows, and paired differences: of everything to the
first network of the first soup, and of each soup to the mean logit of its networks, adjusted together (Holm). What is
finished in OUT is kept.

    python benchmarks/soup.py RECIPE.yaml --corpus ravdess --root DIR --out OUT [--folds 1,2,3] [--seed 7]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serkit.combining import MeanLogit
from serkit.comparison import compare, with_holm
from serkit.console import Watcher
from serkit.evaluation import evaluate
from serkit.examples import Examples
from serkit.networks import load_network
from serkit.pipeline import Machine, Run, prepare
from serkit.pipeline.inputs import sources_of
from serkit.pipeline.stages import extract_run, train_run
from serkit.predictions import Predictions
from serkit.readers import read_corpora
from serkit.recipe import Recipe, load_recipe
from serkit.scoring import score
from serkit.training import MEMBERS, EpochEnd

SHOWN = ("macro_f1", "uar")
LOGITS = "mean logit"


def keep_members(run: Run, event: EpochEnd) -> None:
    """Score the test rows with each network of a soup that was just made."""
    rows = run.manifest.split("test")
    examples = Examples.of(rows, sources_of(run, run.recipe.systems[event.system]), targets="all")
    for k in range(event.members):
        network, _ = load_network(run.network(event.system, event.model) / MEMBERS / str(k + 1))
        table = score(network, examples, system=f"{event.system}.{k + 1}", model=event.model)
        table.save(member_path(run, event.system, k + 1))


def member_path(run: Run, system: str, member: int) -> Path:
    """Where the scores of one network of a soup lie."""
    return run.folder / "predictions" / f"{system}.{member}.test.parquet"


def trained(recipe: Recipe, options: argparse.Namespace, fold: int) -> Run:
    """The run of one fold, trained."""
    manifest = read_corpora([options.corpus], [options.root], fold=fold)
    run = prepare(recipe, manifest, options.out / f"fold{fold}")
    with Watcher() as watcher:

        def listen(event: Any) -> None:
            watcher(event)
            if isinstance(event, EpochEnd) and event.last and event.members > 1:
                keep_members(run, event)

        machine = Machine(options.store or options.out / "store", "cpu", jobs=1)
        if not run.done("extract"):
            extract_run(run, machine, listen)
        train_run(Run(run.folder), machine, listen)
    return Run(run.folder)


def tables(run: Run) -> dict[str, Predictions]:
    """Scores of the test rows by what is compared."""
    found = {}
    for name, system in run.recipe.systems.items():
        if system.train.soup is not None:
            numbers = range(1, system.train.soup + 1)
            each = {f"{name}.{k}": Predictions.load(member_path(run, name, k)) for k in numbers}
            found |= each
            found[f"{name}: {LOGITS}"] = MeanLogit().fit(each, run.manifest).predict(each, run.manifest)
        found[name] = run.predictions(name, "test")
    return found


def main() -> None:
    """Parse the options, train what is missing, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--corpus", default="ravdess")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--folds", default="1,2,3")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, [f"seed={options.seed}"])
    runs = [trained(recipe, options, int(fold)) for fold in options.folds.split(",")]
    manifests, by_fold = [run.manifest for run in runs], [tables(run) for run in runs]
    scores = {name: [fold[name] for fold in by_fold] for name in by_fold[0]}
    for name, each in scores.items():
        report = evaluate(each, manifests, split="test")
        cells = [f"{m} {x.value:.3f} [{x.low:.3f}, {x.high:.3f}]" for m, x in report.metrics.items() if m in SHOWN]
        print(f"{name:24s} {'  '.join(cells)}  n {sum(len(table.ids) for table in each)}")
    soups = [name for name, system in recipe.systems.items() if system.train.soup is not None]
    first = f"{soups[0]}.1"
    pairs = [(name, first) for name in scores if not name.startswith(f"{soups[0]}.")]
    pairs += [(name, f"{name}: {LOGITS}") for name in soups]
    for metric in SHOWN:
        rows = [compare(scores[a], scores[b], manifests, split="test", metrics=[metric])[0] for a, b in pairs]
        for (a, b), d in zip(pairs, with_holm(rows), strict=True):
            print(f"{metric} of {a} - {b}: {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p:.3f}, "
                  f"Holm {d.p_holm:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
