"""Ablation: a recipe and the same recipe without each of its parts, with several seeds, as one table.

Every variant, fold and seed is a run of its own (``OUT/runs/VARIANT/foldK-seedS``), made by the stages that make any
other run, on the same rows and the same features. What is finished is never done again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serkit.pipeline.ablation_numbers import measure_ablation
from serkit.pipeline.measure import write_tree
from serkit.pipeline.run import Machine, refuse_others
from serkit.pipeline.side_by_side import Runs, begin_all, extract_all
from serkit.pipeline.stages import Listener, StageBegins, run_all, tell_left_out
from serkit.pipeline.variants import Design, design
from serkit.pipeline.workers import Task, train_many
from serkit.progress import Meter
from serkit.reporting.text import count
from serkit.types import Manifest

__all__ = ["ablate", "design"]


def ablate(
    chosen: Design,
    read: Callable[[int], Manifest],
    folder: Path,
    machine: Machine,
    listener: Listener | None = None,
) -> Path:
    """Train and measure every variant, and write the page.

    Args:
        chosen: of :func:`design`. read: makes the manifest of a fold. folder: of all runs and the report.
        machine: its jobs are networks side by side. listener: as for :func:`serkit.pipeline.run_all`.

    Returns:
        The HTML page, ``FOLDER/report/ablation.html``; ablation.json and ablation.md lie beside it.

    Raises:
        SerkitError: a folder that holds something else, or anything a run raises.
    """
    from serkit.reporting import write_ablation

    refuse_others(folder, "an ablation")
    recipes = {variant.key: variant.recipe for variant in chosen.plan.variants}
    runs = begin_all(recipes, {fold: read(fold) for fold in chosen.folds}, chosen.seeds, folder / "runs")
    tell_left_out([run.manifest for run in runs.values()], listener)
    extract_all(runs, machine, listener)
    _train(chosen, runs, machine, listener)
    meter = Meter("measure", len(runs), listener, unit="runs")
    for run in runs.values():
        run_all(run, machine)
        meter.advance()
    tree = measure_ablation(chosen, runs, machine)
    write_tree(folder, tree, "ablation.json")
    return write_ablation(folder / "report")


def _train(chosen: Design, runs: Runs, machine: Machine, listener: Listener | None) -> None:
    """Every network that is not finished, side by side."""
    system = chosen.plan.system
    same = _hearing_the_same(chosen) if machine.workers * 2 <= len(runs) else set()
    pending = [
        (run, Task(system, "full", (key, f"fold{fold}-seed{seed}"), key in same))
        for (key, fold, seed), run in runs.items()
        if not run.is_trained(system, "full")
    ]
    if listener is not None:
        sizes = [count(len(chosen.plan.variants), "variant"), count(len(chosen.seeds), "seed")]
        if len(chosen.folds) > 1:
            sizes.append(count(len(chosen.folds), "fold"))
        listener(StageBegins("train", f"{len(pending)} of {len(runs)} networks: {' × '.join(sizes)}"))
    train_many(pending, machine, total=len(runs), listener=listener)


def _hearing_the_same(chosen: Design) -> set[str]:
    """Variants with the augmentation of the full recipe: with one seed they train on the same clips, made once."""
    steps = chosen.plan.variants[0].system.augment
    return {v.key for v in chosen.plan.variants if v.system.augment == steps}
