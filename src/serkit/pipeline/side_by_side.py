"""The runs of an ablation or a search: one for each recipe, fold and seed, begun and given their features together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from serkit.pipeline.inputs import needed_features
from serkit.pipeline.run import Machine, Run
from serkit.pipeline.stages import Listener, begin, extract_run, fit, lacks_features
from serkit.recipe import Recipe
from serkit.types import Manifest

Runs = Mapping[tuple[str, int, int], Run]
"""By recipe, fold and seed."""


def begin_all(
    recipes: Mapping[str, Recipe],
    manifests: Mapping[int, Manifest],
    seeds: Iterable[int],
    folder: Path,
    shown: Callable[[Manifest], Manifest] = lambda fitted: fitted,
) -> dict[tuple[str, int, int], Run]:
    """The folder of every run, all recipes with one seed before the next seed; they are checked before one is made.

    ``shown`` makes of a manifest with a recipe's labels the one that the run is given.
    """
    fitted = {
        (key, fold): shown(fit(recipe, manifest))
        for fold, manifest in manifests.items()
        for key, recipe in recipes.items()
    }
    runs = {}
    for seed in seeds:
        for key, fold in fitted:
            recipe = recipes[key].model_copy(update={"seed": seed})
            runs[key, fold, seed] = begin(recipe, fitted[key, fold], folder / key / f"fold{fold}-seed{seed}")
    return runs


def extract_all(runs: Runs, machine: Machine, listener: Listener | None) -> None:
    """Features of every run; after the first run of its kind they are in the store, and nobody needs to be told."""
    told: set[tuple[int, str]] = set()
    for (_, fold, _), run in runs.items():
        if lacks_features(run, machine, listener):
            kind = fold, repr([*needed_features(run.recipe), *run.recipe.copies])
            extract_run(run, machine, None if kind in told else listener)
            told.add(kind)
