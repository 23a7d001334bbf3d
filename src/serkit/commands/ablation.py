"""``serkit ablate``: train a recipe without each of its parts, and compare in one table."""

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


@resumable()
def ablate(
    recipe: Recipe,
    corpus: Corpus,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over", help="What to vary: losses, augment or pooling; repeat for several [default: all that apply]."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Training runs per variant [default: 3; with --quick 1].", min=1)
    ] = None,
    root: Root = None,
    protocol: Protocol = None,
    fold: Annotated[
        str,
        typer.Option(
            "--fold", "--folds", help="A fold, several (comma-separated), or all: their test rows are pooled."
        ),
    ] = "1",
    test_on: TestOn = None,
    system: Annotated[str | None, typer.Option(help="The system to use, if the recipe has several.")] = None,
    option: Option = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder [default: runs/RECIPE-CORPUS-ablate(-quick)].")
    ] = None,
    store: Store = None,
    set_: Set = None,
    seed: Seed = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A quick first look: at most 12 epochs, one seed.")] = False,
) -> None:
    """Train a recipe without each of its parts (losses, augmentations, pooling) and compare. Run again to resume."""
    from serkit.pipeline import ablate as pipeline
    from serkit.readers import fold_numbers

    resolved = read_recipe(recipe, set_, seed)
    one = fold.isdecimal()  # which every corpus has or refuses, with a card or without one
    folds = [int(fold)] if one else fold_numbers(corpus, protocol, fold)
    chosen = pipeline.design(resolved, over=over or (), seeds=seeds, folds=folds, system=system, quick=quick)
    read = corpus_reader(corpus, root, protocol, option, resolved.seed, test_on)
    variants = chosen.plan.variants
    say(f"{len(variants)} variants, {len(chosen.runs)} networks: " + "; ".join(v.title for v in variants))
    for line in chosen.plan.left_out:
        say(f"not trained: {line}")
    name = f"{resolved.name}-{'+'.join(corpus)}{'-on-' + '+'.join(test_on) if test_on else ''}-ablate"
    folder = out or Path("runs") / f"{name}{'-quick' if quick else ''}"
    with watcher() as watch:
        page = pipeline.ablate(chosen, read, folder, machine(store, device, jobs), watch)
    _table(folder)
    say(f"report: {page}")


def _table(folder: Path) -> None:
    """Print a short table of an ablation's numbers."""
    from serkit.reporting.ablation_words import claim, detectable, difference, ended, headline, lead_metric, lead_split
    from serkit.reporting.lead_words import minus
    from serkit.reporting.text import LEAD_NAMES, between, intervals, signed
    from serkit.text_rows import json_object

    tree = json_object(folder / "report" / "ablation.json")
    split, metric = lead_split(tree), lead_metric(tree)
    beside = "macro_f1" if metric != "macro_f1" else "uar"
    width = max(len(v["title"]) for v in tree["variants"]) + 2
    heads = [f"dev {LEAD_NAMES[metric]}", f"{split} {LEAD_NAMES[metric]}", LEAD_NAMES[beside]]
    wide = [max(len(h) + 2, w) for h, w in zip(heads, (9, 16, 10), strict=True)]
    what = minus(metric, "full", "variant").replace("minus", "−")
    head = "".join(f"{h:>{w}}" for h, w in zip(heads, wide, strict=True))
    say(f"{'':{width}}{head}{what:>15}{'95% interval':>19}")
    for v in tree["variants"]:
        lead, other = (v["values"][split][m]["mean"] for m in (metric, beside))
        sd = v["values"][split][metric]["sd"]
        spread = f" ± {sd:.3f}" if sd is not None else ""
        dev = v["values"]["dev"][metric]["mean"]
        row = f"{v['title']:{width}}{dev:>z{wide[0]}.3f}{lead:>z{wide[1] - 8}.3f}{spread:<8}{other:>z{wide[2]}.3f}"
        d = difference(v, split, metric)
        if d:
            interval = between(d["low"], d["high"], signed)
            row += f"{signed(d['difference']):>15}{interval:>19}  {claim(v, ended(tree, d))}"
        say(row)
    for line in intervals(difference(v, split, metric) for v in tree["variants"]):
        say(line)
    say(f"{headline(tree)} {detectable(tree)}")


COMMANDS = (ablate,)
