"""``serkit tune``: try values of a recipe's keys, choose on dev, and measure the choice once on test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import (
    Corpus,
    Device,
    DeviceOption,
    Jobs,
    Option,
    Protocol,
    Recipe,
    Root,
    Seed,
    Set,
    Store,
    TestOn,
    corpus_reader,
    machine,
    read_recipe,
    say,
    watcher,
)
from serkit.interrupts import resumable

MOST_ROWS = 12


@resumable()
def tune(
    recipe: Recipe,
    corpus: Corpus,
    try_: Annotated[
        list[str] | None,
        typer.Option("--try", help="KEY=VALUE,VALUE: values of a key as --set takes it; repeat for several keys."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Combinations to draw at random [default: all of them].", min=1)
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What decides, on dev: macro_f1, uar, accuracy, weighted_f1, ccc or kl [default: train.select of the "
            "recipe, if all systems have the same, else macro_f1]."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training runs per trial.", min=1)] = 1,
    root: Root = None,
    protocol: Protocol = None,
    fold: Annotated[
        str,
        typer.Option("--fold", "--folds", help="A fold, several (comma-separated), or all: each chooses on its dev."),
    ] = "1",
    test_on: TestOn = None,
    option: Option = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: runs/RECIPE-CORPUS-tune].")] = None,
    store: Store = None,
    set_: Set = None,
    seed: Seed = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
) -> None:
    """Tune a recipe: try values of its keys, choose on dev, measure the choice once on test. Run again to resume."""
    from serkit.pipeline import tune as pipeline
    from serkit.readers import fold_numbers

    resolved = read_recipe(recipe, set_, seed)
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    folds = [int(fold)] if fold.isdecimal() else fold_numbers(corpus, protocol, fold)
    chosen = pipeline.search(recipe, overrides, try_ or (), trials=trials, seeds=seeds, folds=folds, metric=metric)
    read = corpus_reader(corpus, root, protocol, option, resolved.seed, test_on)
    n = len(chosen.trials)
    say(f"{n} trials, the recipe as it is among them; {len(chosen.runs)} runs")
    for line in chosen.left_out:
        say(f"not tried: {line}")
    name = f"{resolved.name}-{'+'.join(corpus)}{'-on-' + '+'.join(test_on) if test_on else ''}-tune"
    folder = out or Path("runs") / name
    with watcher() as watch:
        page = pipeline.tune(chosen, read, folder, machine(store, device, jobs), watch)
    _table(folder)
    say(f"recipe: {folder / pipeline.BEST}")
    say(f"report: {page}")


def _table(folder: Path) -> None:
    """Print the best trials and what the choice is worth."""
    from serkit.reporting.text import LEAD_NAMES, between, intervals, number, signed
    from serkit.reporting.tuning_words import headline, lead, ranked
    from serkit.text_rows import json_object

    tree = json_object(folder / "report" / "tuning.json")
    metric, rows = tree["metric"], ranked(tree)
    shown = [t for k, t in enumerate(rows) if k < MOST_ROWS or not t["settings"]]
    width = max(len(t["title"]) for t in shown) + 2
    say(f"{'':{width}}{'dev ' + LEAD_NAMES[metric]:>14}{'behind':>14}{'95% interval':>19}")
    for t in shown:
        m, d = t["values"][metric], t.get("behind")
        spread = f" ± {m['sd']:.3f}" if m["sd"] is not None else ""
        row = f"{t['title']:{width}}{number(m['mean']):>6}{spread:<8}"
        if d:
            row += f"{signed(d['difference']):>14}{between(d['low'], d['high'], signed):>19}"
        say(row.rstrip())
    if len(rows) > len(shown):
        say(f"{len(rows) - len(shown)} more in the report")
    for line in intervals(t.get("behind") or {} for t in shown):
        say(line)
    say(f"{headline(tree)} {lead(tree)}")


COMMANDS = (tune,)
