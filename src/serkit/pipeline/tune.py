"""Tuning: trials of a recipe, chosen between on dev, and the chosen one measured once on test.

Every trial, fold and seed is a run of its own (``OUT/trials/SETTINGS/foldK-seedS``) whose test clips are in no split:
no trial reads them. The chosen trial and the recipe as it is are then trained as any run is (``OUT/test/SETTINGS/…``),
and these two are measured on test. With several folds each one's choice is made on its own dev alone, because a fold's
dev speakers are another fold's test speakers: the number on test is then that of choosing so. What is finished is never
done again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit import across, comparison, leads, metrics
from serkit.errors import SerkitError
from serkit.files import write_text
from serkit.pipeline.elsewhere import check_recordings
from serkit.pipeline.measure import provenance, split_sizes, write_tree
from serkit.pipeline.run import Machine, Run, refuse_others
from serkit.pipeline.side_by_side import Runs, begin_all, extract_all
from serkit.pipeline.stages import (
    Listener,
    StageBegins,
    fit,
    run_all,
    stack_run,
    tell_left_out,
    train_run,
)
from serkit.pipeline.trials import AS_IT_IS, Search, search
from serkit.pipeline.workers import Task, train_many
from serkit.predictions import Predictions
from serkit.progress import Meter
from serkit.reporting.text import count
from serkit.types import Manifest

__all__ = ["search", "tune"]

FORMAT = 1
BEST = "best.yaml"


def tune(
    chosen: Search,
    read: Callable[[int], Manifest],
    folder: Path,
    machine: Machine,
    listener: Listener | None = None,
) -> Path:
    """Train every trial, choose one on dev, measure it and the recipe as it is on test, and write the page.

    Args:
        chosen: of :func:`serkit.pipeline.trials.search`. read: makes the manifest of a fold. folder: of all runs, the
            report, and ``best.yaml``, the chosen recipe. machine: its jobs are networks side by side.
        listener: as for :func:`serkit.pipeline.run_all`.

    Returns:
        The HTML page, ``FOLDER/report/tuning.html``; tuning.json and tuning.md lie beside it.

    Raises:
        SerkitError: a folder that holds something else, or anything a run raises.
    """
    from serkit.reporting import write_tuning

    refuse_others(folder, "a search")
    whole = {fold: read(fold) for fold in chosen.folds}
    has_test = any(u.split == "test" and u.emotion is not None for manifest in whole.values() for u in manifest)
    if not has_test:
        whole = {fold: without_test(manifest) for fold, manifest in whole.items()}
    fitted = [fit(chosen.trials[0].recipe, manifest) for manifest in whole.values()]
    _refuse_unmeasurable(chosen.metric, whole)
    by_key = {t.key: t for t in chosen.trials}
    recipes = {key: t.recipe for key, t in by_key.items()}
    runs = begin_all(recipes, whole, chosen.seeds, folder / "trials", without_test)
    tell_left_out(fitted, listener)
    for manifest in fitted:
        check_recordings(manifest, machine, listener)  # the trials see none of test: the end would refuse it
    total = sum(run.n_networks for run in runs.values())
    _trained(runs, count(len(chosen.trials), "trial"), machine, listener, side_by_side=total)
    tree = _on_dev(chosen, runs, machine)
    write_text(folder / BEST, by_key[tree["best"]].recipe.to_yaml())
    if has_test:
        tested: dict[tuple[str, int, int], Run] = {}
        for fold, key in tree["chosen"].items():
            both = {key: by_key[key].recipe for key in (AS_IT_IS, key)}
            tested |= begin_all(both, {int(fold): whole[int(fold)]}, chosen.seeds, folder / "test")
        _trained(tested, "the chosen trial and the recipe as it is", machine, listener, side_by_side=total)
        meter = Meter("measure", len(tested), listener, unit="runs")
        for run in tested.values():
            run_all(run, machine)
            meter.advance()
        tree |= _on_test(chosen, tree["chosen"], tested, machine)
        compared = {AS_IT_IS, *tree["chosen"].values()}
        measured = {place.parent.name for place in (folder / "test").glob("*/fold*-seed*")}
        tree["test"]["before"] = sorted(measured - compared)
    write_tree(folder, tree, "tuning.json")
    return write_tuning(folder / "report")


def _refuse_unmeasurable(metric: str, manifests: Mapping[int, Manifest]) -> None:
    """Refuse a metric for which dev or test has nothing to compare with, before anything is trained."""
    for fold, manifest in manifests.items():
        for split in ("dev", "test"):
            lacking = leads.lacking(metric, manifest, split)
            if lacking:
                raise SerkitError(
                    f"--metric {metric}: split '{split}' of '{manifest.corpus}' (fold {fold}) has {lacking}; choose "
                    "another metric, such as --metric macro_f1"
                )


def _metrics(chosen: Search) -> tuple[str, ...]:
    """What is measured of each trial: the label metrics, and what decides."""
    return tuple(dict.fromkeys((*metrics.METRICS, chosen.metric)))


def without_test(manifest: Manifest) -> Manifest:
    """The same rows, those of test in no split: they are neither trained on nor measured.

    A test on other corpora is not told of any more: what remains is a run on the training corpora.
    """
    rows = tuple(dataclasses.replace(u, split=None) if u.split == "test" else u for u in manifest)
    info: dict[str, Any] = {**manifest.info, "no_test": True}
    info.pop(across.KEY, None)
    if "corpora" in info:
        info["corpora"] = {name: {**part, "no_test": True} for name, part in info["corpora"].items()}
    return dataclasses.replace(manifest, utterances=rows, info=info)


def _trained(runs: Runs, what: str, machine: Machine, listener: Listener | None, *, side_by_side: int) -> None:
    """Features, networks side by side, and stack of every run that is not finished.

    ``side_by_side`` networks decide the threads of each: those of the trials also for what is measured on test, which
    else would be rounded otherwise.
    """
    extract_all(runs, machine, listener)
    pending = [
        (run, Task(system, model, (key, _called(run, system, model, fold, seed))))
        for (key, fold, seed), run in runs.items()
        for model in run.models
        for system in run.recipe.systems
        if not run.is_trained(system, model)
    ]
    total = sum(run.n_networks for run in runs.values())
    if listener is not None:
        listener(StageBegins("train", f"{len(pending)} of {total} networks: {what}"))
    train_many(pending, machine, total=side_by_side, listener=listener)
    for run in runs.values():
        if not run.done("train"):
            train_run(run, machine)  # gathers the scores
        if not run.done("stack"):
            stack_run(run)


def _called(run: Run, system: str, model: str, fold: int, seed: int) -> str:
    """What progress calls a network, after its trial."""
    own = [system] if len(run.recipe.systems) > 1 else []
    return "/".join([*own, *([model] if model != "full" else []), f"fold{fold}-seed{seed}"])


def _scores(chosen: Search, runs: Runs, key: str) -> list[list[Predictions]]:
    """What a trial answers with on dev: for each seed, that of every fold."""
    found = []
    for seed in chosen.seeds:
        tables = [_answers(runs[key, fold, seed], "dev") for fold in chosen.folds]
        found.append([dataclasses.replace(table, system=key) for table in tables])
    return found


def _on_dev(chosen: Search, runs: Runs, machine: Machine) -> dict[str, Any]:
    """Every trial on dev, which of them is chosen, and each against it."""
    manifests = [runs[AS_IT_IS, fold, chosen.seeds[0]].manifest for fold in chosen.folds]
    scores = {t.key: _scores(chosen, runs, t.key) for t in chosen.trials}
    values = {key: leads.over_seeds(tables, manifests, "dev", _metrics(chosen)) for key, tables in scores.items()}
    best = _best(chosen, scores, manifests)
    gaps = _against(chosen, best, scores, manifests, "dev")
    by_fold = {str(fold): _best(chosen, scores, manifests, k) for k, fold in enumerate(chosen.folds)}
    first = [runs[best, fold, chosen.seeds[0]] for fold in chosen.folds]
    rows = []
    for t in chosen.trials:
        row = {"key": t.key, "title": t.title, "settings": dict(t.settings), "values": values[t.key]}
        row["tried"] = dict(t.values)
        rows.append({**row, "behind": gaps.get(t.key), "fingerprint": t.recipe.fingerprint})
    recipe = chosen.trials[0].recipe
    return {
        "format": FORMAT,
        "name": recipe.name,
        "description": recipe.description,
        "corpus": manifests[0].corpus,
        "labels": list(manifests[0].labels),
        "metric": chosen.metric,
        "keys": {key: list(found) for key, found in chosen.keys.items()},
        "combinations": chosen.combinations,
        "drawn": chosen.drawn,
        "left_out": list(chosen.left_out),
        "seeds": list(chosen.seeds),
        "folds": list(chosen.folds),
        "draws": recipe.evaluate.draws,
        "trials": rows,
        "best": best,
        "chosen": by_fold,
        "test": None,
        **split_sizes(manifests, ("train", "dev")),
        "provenance": provenance(first, machine),
    }


def _best(
    chosen: Search,
    scores: Mapping[str, list[list[Predictions]]],
    manifests: Sequence[Manifest],
    fold: int | None = None,
) -> str:
    """The trial that is best on dev, of one fold or of all together; of equal ones the first."""
    where = slice(None) if fold is None else slice(fold, fold + 1)
    means = {}
    for key, tables in scores.items():
        found = leads.over_seeds([each[where] for each in tables], manifests[where], "dev", [chosen.metric])
        means[key] = leads.sign(chosen.metric) * found[chosen.metric]["mean"]
    return max(means, key=lambda key: means[key])


def _against(
    chosen: Search,
    best: str,
    scores: Mapping[str, list[list[Predictions]]],
    manifests: Sequence[Manifest],
    split: str,
) -> dict[str, dict[str, Any]]:
    """How much better the best is than each other trial, by the metric that decides; Holm over all of them."""
    settings = chosen.trials[0].recipe.evaluate
    others = [key for key in scores if key != best]
    found = [
        leads.compare_seeds(
            chosen.metric, scores[best], scores[key], manifests,
            split=split, draws=settings.draws, seed=settings.seed,
        )
        for key in others
    ]  # fmt: skip
    adjusted = comparison.with_holm(found) if found else ()
    return {key: dataclasses.replace(d, a=best, b=key).to_row() for key, d in zip(others, adjusted, strict=True)}


def _on_test(chosen: Search, by_fold: Mapping[str, str], runs: Runs, machine: Machine) -> dict[str, Any]:
    """The recipe as it is and what was chosen on test, and the difference where they are two."""
    keys = {"chosen": by_fold} | (
        {AS_IT_IS: dict.fromkeys(by_fold, AS_IT_IS)} if set(by_fold.values()) != {AS_IT_IS} else {}
    )
    first = [runs[key, int(fold), chosen.seeds[0]] for fold, key in by_fold.items()]
    manifests = [run.manifest for run in first]
    scores = {
        name: [
            [dataclasses.replace(_answers(runs[key, int(fold), seed], "test"), system=name) for fold, key in of.items()]
            for seed in chosen.seeds
        ]
        for name, of in keys.items()
    }
    values = {name: leads.over_seeds(tables, manifests, "test", _metrics(chosen)) for name, tables in scores.items()}
    gaps = _against(chosen, "chosen", scores, manifests, "test")
    return {
        "test": {"values": values, "difference": gaps.get(AS_IT_IS)},
        **split_sizes(manifests, ("train", "dev", "test")),
        "provenance": provenance(first, machine),
    }


def _answers(run: Run, split: str) -> Predictions:
    """What a run answers with on a split."""
    return run.predictions(str(run.lead), split)
