"""Which single system is best on dev, and by what: the metric that a recipe chooses its networks by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from serkit import leads
from serkit.pipeline.run import Run
from serkit.predictions import Predictions

SELECT = "macro_f1"
BEST = "best_on_dev"


def metric_of(runs: Sequence[Run]) -> str:
    """Mean CCC or KL divergence where the networks of every system are chosen by it, else Macro-F1."""
    name = leads.chosen_by(runs[0].recipe.systems.values())
    if name not in leads.OF_RATERS or any(leads.lacking(name, run.manifest, "dev") for run in runs):
        return SELECT
    return name


def best_single(run: Run, metric: str) -> str:
    """The system of a run that is best on its dev; of equal ones the first of the recipe."""
    return max(
        run.recipe.systems,
        key=lambda n: (
            leads.sign(metric) * leads.measured(metric, [run.predictions(n, "dev")], [run.manifest], "dev").value
        ),
    )


def best_of_each(
    runs: Sequence[Run], scores: Mapping[str, Mapping[str, Sequence[Predictions]]], metric: str
) -> dict[str, list[Predictions]]:
    """Predictions of the single system that is best on each fold's own dev, under one name."""
    found: dict[str, list[Predictions]] = {}
    for k, run in enumerate(runs):
        for s, tables in scores[best_single(run, metric)].items():
            found.setdefault(s, []).append(dataclasses.replace(tables[k], system=BEST))
    return found
