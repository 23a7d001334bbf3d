"""What an ablation measured, as one JSON tree: every variant over its seeds, and against the full recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from serkit import comparison, leads, metrics
from serkit.pipeline.measure import provenance, split_sizes
from serkit.pipeline.run import Machine, Run
from serkit.pipeline.side_by_side import Runs
from serkit.pipeline.variants import FULL, Design, Variant
from serkit.predictions import Predictions
from serkit.types import Manifest

FORMAT = 1
LEAD = "uar"  # where the recipe chooses by nothing: it keeps the last epoch
SPLITS = ("dev", "test")


def measure_ablation(chosen: Design, runs: Runs, machine: Machine | None = None) -> dict[str, Any]:
    """Everything measured of an ablation whose runs are finished.

    ``variants`` holds for each variant, by split and metric, ``values`` (mean, standard deviation over seeds, and each
    seed's number) and ``differences`` (full recipe minus the variant: :class:`serkit.comparison.SeededDifference`, with
    both p adjusted over all variants of the same split and metric). Rows of several folds are pooled, seed by seed.
    ``metric`` leads the page: what the networks of the recipe are chosen by, where every split measured has it.

    Args:
        chosen: what was trained. runs: by variant, fold and seed. machine: for the provenance.
    """
    first = [runs[FULL, fold, chosen.seeds[0]] for fold in chosen.folds]
    manifests = [r.manifest for r in first]
    splits = [s for s in SPLITS if all(any(m.split(s).counts().values()) for m in manifests)]
    metric = _lead(chosen, manifests, splits)
    names = tuple(dict.fromkeys((metric, *metrics.ABLATED)))
    scores = {v.key: {s: _scores(chosen, runs, v.key, s) for s in splits} for v in chosen.plan.variants}
    differences = {s: _differences(chosen, scores, manifests, s, first[0], names) for s in splits}
    rows = []
    for variant in chosen.plan.variants:
        values = {s: leads.over_seeds(scores[variant.key][s], manifests, s, names) for s in splits}
        found = {s: d[variant.key] for s, d in differences.items()} if variant.key != FULL else {}
        rows.append({**_described(variant), "values": values, "differences": found})
    return {
        "format": FORMAT,
        "name": first[0].recipe.name,
        "description": first[0].recipe.description,
        "corpus": manifests[0].corpus,
        "labels": list(manifests[0].labels),
        "system": chosen.plan.system,
        "metric": metric,
        "over": list(chosen.plan.over),
        "left_out": list(chosen.plan.left_out),
        "seeds": list(chosen.seeds),
        "folds": list(chosen.folds),
        "quick": {"epochs": chosen.epochs[1], "of": chosen.epochs[0]} if chosen.epochs else None,
        "draws": first[0].recipe.evaluate.draws,
        "variants": rows,
        "curves": {v.key: _curves(chosen, runs, v.key) for v in chosen.plan.variants},
        **split_sizes(manifests, ("train", *splits)),
        "provenance": provenance(first, machine),
    }


def _lead(chosen: Design, manifests: Sequence[Manifest], splits: Sequence[str]) -> str:
    """What the networks of the system are chosen by; UAR where that is nothing, or cannot be measured on a split."""
    name = leads.chosen_by([chosen.plan.variants[0].system])
    if name is None or any(leads.lacking(name, m, s) for m in manifests for s in splits):
        return LEAD
    return name


def _scores(chosen: Design, runs: Runs, key: str, split: str) -> list[list[Predictions]]:
    """Predictions of a variant: for each seed, those of every fold."""
    system = chosen.plan.system
    return [[runs[key, fold, seed].predictions(system, split) for fold in chosen.folds] for seed in chosen.seeds]


def _differences(
    chosen: Design,
    scores: Mapping[str, Mapping[str, Sequence[Sequence[Predictions]]]],
    manifests: Sequence[Manifest],
    split: str,
    run: Run,
    names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """How much better the full recipe is than each variant, by variant and metric; Holm over the variants."""
    settings = run.recipe.evaluate
    keys = [v.key for v in chosen.plan.variants if v.key != FULL]
    of_labels = [name for name in names if name in metrics.METRICS]
    found: dict[str, dict[str, comparison.SeededDifference]] = {}
    for key in keys:
        sides = (scores[FULL][split], scores[key][split], manifests)
        rows = comparison.compare_seeds(
            *sides, split=split, metrics=of_labels, draws=settings.draws, seed=settings.seed
        )
        found[key] = dict(zip(of_labels, rows, strict=True))
        for name in set(names) - set(of_labels):
            found[key][name] = leads.compare_seeds(name, *sides, split=split, draws=settings.draws, seed=settings.seed)
    table: dict[str, dict[str, Any]] = {key: {} for key in keys}
    for name in names:
        adjusted = comparison.with_holm([found[key][name] for key in keys])
        for key, difference in zip(keys, adjusted, strict=True):
            table[key][name] = dataclasses.replace(difference, a=FULL, b=key).to_row()
    return table


def _described(variant: Variant) -> dict[str, Any]:
    system = variant.system
    return {
        "key": variant.key,
        "over": variant.over,
        "title": variant.title,
        "part": variant.part,
        "instead": variant.instead,
        "losses": [loss.name for loss in system.losses],
        "augment": [step.name for step in system.augment],
        "model": system.model.model_dump(mode="json"),
        "epochs": system.train.epochs,
        "fingerprint": variant.recipe.fingerprint,
    }


def _curves(chosen: Design, runs: Runs, key: str) -> dict[str, list[dict[str, Any]]]:
    """Training curves by seed, and by fold where there are several."""
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in chosen.seeds:
        for fold in chosen.folds:
            name = f"seed{seed}" if len(chosen.folds) == 1 else f"fold{fold}-seed{seed}"
            rows = runs[key, fold, seed].history(chosen.plan.system)
            found |= {name + model.removeprefix("full"): each for model, each in rows.items()}
    return found
