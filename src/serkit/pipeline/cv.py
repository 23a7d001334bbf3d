"""Cross-validation over a corpus's own folds, or over corpora: a run for each, and one report of their test rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serkit import across
from serkit.errors import SerkitError
from serkit.pipeline.elsewhere import is_matrix, matrix
from serkit.pipeline.measure import measure, provenance, write_tree
from serkit.pipeline.run import Machine, Run, refuse_others
from serkit.pipeline.stages import Listener, StageBegins, begin, fit, run_all, tell_left_out
from serkit.recipe import Recipe
from serkit.types import Manifest


def cross_validate(
    recipe: Recipe,
    read: Callable[[int], Manifest],
    folds: Sequence[int],
    folder: Path,
    machine: Machine,
    listener: Listener | None = None,
) -> Path:
    """Run a recipe on each fold and measure the folds together.

    Each fold is a run of its own under ``FOLDER/foldK``, resumable and readable alone; the pooled report is
    ``FOLDER/report``. Numbers are of the pooled rows, never means of the folds' metrics, which stand beside them.
    Where each fold tests on a corpus of its own (:func:`leave_out`), the report leads with the numbers of each.

    Args:
        recipe: resolved. read: makes the manifest of a fold. folds: their numbers, from 1.
        folder: of all runs. machine, listener: as for :func:`serkit.pipeline.run_all`.

    Returns:
        The HTML page of the pooled report.

    Raises:
        SerkitError: fewer than two folds, a folder that holds something else, a fold that the recipe cannot use
            (before any is trained), or anything a run raises.
    """
    if len(folds) < 2:
        raise SerkitError(f"cross-validation needs at least two folds, got {list(folds)}; use run for one")
    refuse_others(folder, "a cross-validation")
    tell = listener or (lambda event: None)
    tell(StageBegins("prepare", f"folds {', '.join(map(str, folds))}"))
    fitted = {fold: _fit(recipe, read, fold) for fold in folds}  # all, before anything is written
    runs = {fold: begin(recipe, manifest, folder / f"fold{fold}") for fold, manifest in fitted.items()}
    tell_left_out([run.manifest for run in runs.values()], listener)
    for fold, run in runs.items():
        tell(StageBegins("fold", f"{fold} of {', '.join(map(str, folds))}{_trained_on(run)}"))
        run_all(run, machine, listener)
    return pool_runs(list(runs.values()), folder, machine)


def leave_out(joined: Manifest, *, others: bool = False) -> Callable[[int], Manifest]:
    """The manifest of each fold where a corpus is a fold, for :func:`cross_validate`.

    Args:
        joined: several corpora. Fold k tests on the k-th of them, and the others train.
        others: the k-th trains alone instead; all others are test, and its own test speakers too.

    Raises:
        SerkitError: one corpus only.
    """
    names = list(joined.info.get("corpora") or [joined.corpus])

    def fold(number: int) -> Manifest:
        own = names[number - 1]
        tested = [name for name in names if (name != own) == others]
        made = across.with_test_corpora(joined, tested, keep_own_test=others)
        return dataclasses.replace(made, info={**made.info, "fold": own})

    fold(1)
    return fold


def _trained_on(run: Run) -> str:
    """``: trained on ravdess, ased`` where a corpus is a fold."""
    said = run.manifest.info.get(across.KEY)
    return f": trained on {', '.join(said['trained_on'])}" if said else ""


def _fit(recipe: Recipe, read: Callable[[int], Manifest], fold: int) -> Manifest:
    try:
        return fit(recipe, read(fold))
    except SerkitError as error:
        if type(error) is not SerkitError:
            raise
        raise SerkitError(f"fold {fold}: {error}") from None


def pool_runs(runs: Sequence[Run], folder: Path, machine: Machine | None = None) -> Path:
    """Measure finished runs of several folds together; writes ``folder/report`` and returns its page.

    Where each was measured on every corpus, no rows are pooled: the page is a table of train by test.
    """
    from serkit.reporting import write_matrix, write_report

    if is_matrix(runs):
        write_tree(folder, matrix(runs, provenance(runs, machine)), "matrix.json")
        return write_matrix(folder / "report")
    tree: dict[str, Any] = measure(runs, machine)
    write_tree(folder, tree)
    return write_report(folder / "report")


def runs_of(folder: Path) -> list[Run]:
    """The run in a folder, or the folds of the cross-validation in it, in order.

    Raises:
        SerkitError: it holds neither.
    """
    found = [p.parent for p in folder.glob("fold*/recipe.yaml") if p.parent.name.removeprefix("fold").isdecimal()]
    if (folder / "recipe.yaml").is_file() or not found:
        return [Run(folder)]
    return [Run(p) for p in sorted(found, key=lambda p: int(p.name.removeprefix("fold")))]
