"""What a run measured, as one JSON tree: every system and ensemble on every split, and what the stack adds."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serkit import across, comparison, evaluation, gaps, leads, metrics, regions
from serkit.evaluate_settings import Published
from serkit.extras import versions
from serkit.files import write_json
from serkit.pipeline import elsewhere
from serkit.pipeline.best_on_dev import BEST, SELECT, best_of_each, best_single, metric_of
from serkit.pipeline.confidence import scaled
from serkit.pipeline.run import Machine, Run, device_of
from serkit.predictions import Predictions, Report
from serkit.processes import cores
from serkit.recipe import Recipe
from serkit.settings import System
from serkit.stacking import ENSEMBLES
from serkit.text_rows import json_object
from serkit.types import Manifest

FORMAT = 1
_NOT_COMPARED = ("mean_probability",)
Scores = dict[str, dict[str, list[Predictions]]]
PACKAGES = ("serkit", "numpy", "torch", "scikit-learn", "transformers", "soundfile", "soxr")


def measure_run(run: Run, machine: Machine | None = None) -> dict[str, Any]:
    """Evaluate a run and write ``report/report.json``; see :func:`measure`."""
    tree = measure([run], machine)
    write_tree(run.folder, tree)
    return tree


def write_tree(folder: Path, tree: dict[str, Any], name: str = "report.json") -> None:
    """Write ``report/report.json`` of a run or of a cross-validation, or another file of that folder."""
    write_json(folder / "report" / name, tree)


def measure(runs: Sequence[Run], machine: Machine | None = None) -> dict[str, Any]:
    """Everything measured of one run, or of the folds of a cross-validation with their rows pooled.

    The tree holds ``systems.NAME.SPLIT.METRIC`` (value, low, high, n, speakers, interval), details by the
    same names (per class, confusion, draws, slices, reliability), ``lead`` (what a bundle of the run answers with:
    the stack, else the mean logit, else the only system), ``gaps`` (its gaps between groups, by split and column),
    ``scaled`` (its ECE and reliability after temperature scaling), training curves, its paired comparisons, the most
    confident mistakes, and the provenance, whose clock and hardware stand apart under ``run``.
    Of several folds, dev and test are pooled (each speaker is in each of them once) and ``folds`` holds the
    folds' own numbers; of several systems ``best_on_dev`` answers each fold with the one that is best on its dev.
    Best is by Macro-F1, or by ``best_by`` where the recipe chooses every network by CCC or KL divergence.
    Where whole corpora are test, ``across`` has the numbers of each; of several such runs dev is not pooled, as the
    speakers of a corpus are dev in several of them.

    Raises:
        SerkitError: folds of different recipes or labels, or an utterance in the test of two folds.
    """
    first, settings = runs[0], runs[0].recipe.evaluate
    labels = elsewhere.common_labels(runs)
    manifests = [elsewhere.manifest_among(r, labels) for r in runs]
    names = [*first.recipe.systems, *first.ensembles]
    splits = [s for s in first.splits if len(runs) == 1 or s != "train"]
    pooled = [s for s in splits if s != "dev"] if len(runs) > 1 and across.KEY in first.manifest.info else splits
    scores: Scores = {
        n: {s: [elsewhere.predictions_among(r, n, s, labels) for r in runs] for s in splits} for n in names
    }
    best_by = metric_of(runs)
    chosen_by_fold = len(runs) > 1 and len(first.recipe.systems) > 1
    if chosen_by_fold:
        scores[BEST] = best_of_each(runs, scores, best_by)
        names.append(BEST)
    reports = {n: _reports(first, manifests, {s: scores[n][s] for s in pooled}) for n in names}
    best = BEST if chosen_by_fold else best_single(first, best_by)
    lead = first.lead if first.lead in first.ensembles else best
    tree: dict[str, Any] = {
        "format": FORMAT,
        "name": first.recipe.name,
        "description": first.recipe.description,
        "corpus": first.manifest.corpus,
        "labels": list(labels),
        "lead": lead,
        "best_on_dev": best,
        **({"best_by": best_by} if best_by != SELECT else {}),
        "systems": {n: {s: _numbers(r) for s, r in reports[n].items()} for n in names},
        "details": {n: {s: _details(r) for s, r in reports[n].items()} for n in names},
        "gaps": {lead: _gaps(first, manifests, {s: scores[lead][s] for s in reports[lead]})},
        "scaled": {lead: scaled(scores[lead], manifests, pooled, draws=settings.draws, seed=settings.seed)},
        **told_by_authors(first.recipe, first.manifest, names),
        "design": {n: _design(first, n) for n in first.recipe.systems},
        "curves": {n: _curves(runs, n) for n in first.recipe.systems},
        "comparisons": _comparisons(manifests, runs, scores, reports, lead, best, best_by),
        "stack": _stack(first) if len(runs) == 1 else {"kept_by_fold": [_stack(r).get("kept") for r in runs]},
        "mistakes": _mistakes(manifests, scores, reports, lead),
        **split_sizes(manifests, pooled),
        "provenance": provenance(runs, machine),
    }
    if len(runs) > 1:
        tree["folds"] = _by_fold(runs, manifests, names, scores)
    if across.KEY in first.manifest.info:
        of_test = {n: scores[n]["test"] for n in names}
        tree["across"] = elsewhere.measured(runs, of_test, manifests, draws=settings.draws, seed=settings.seed)
    return tree


def _reports(first: Run, manifests: Sequence[Manifest], tables: dict[str, list[Predictions]]) -> dict[str, Report]:
    """The report of one system by split, of those that have labels; ``first`` says how it is measured."""
    settings, in_sample = first.recipe.evaluate, first.recipe.crossfit is None
    return {
        s: evaluation.evaluate(
            of_split,
            manifests,
            split=s,
            draws=settings.draws,
            seed=settings.seed,
            in_sample=in_sample and s == "train",
            groups=settings.groups,
        )
        for s, of_split in tables.items()
        if any(u.emotion is not None for u in first.manifest.split(s))
    }


def published(recipe: Recipe, manifest: Manifest) -> list[str]:
    """Figures of the recipe's authors on this corpus; those of emotions only where it has as many classes of them."""
    return [p.text for p in _of_authors(recipe, manifest)]


def _of_authors(recipe: Recipe, manifest: Manifest) -> list[Published]:
    classes = len(manifest.labels) if regions.KEY not in manifest.info else 0
    return [p for p in recipe.published if p.corpus_in_reports == manifest.corpus and p.classes in (None, classes)]


def told_by_authors(recipe: Recipe, manifest: Manifest, names: Sequence[str]) -> dict[str, Any]:
    """The figures of the recipe's authors, and which row they are of if it is not what the report leads with."""
    found = _of_authors(recipe, manifest)
    answers = [p.answer for p in found if p.answer in names]
    return {
        **({"published": [p.text for p in found]} if found else {}),
        **({"published_answer": answers[0]} if answers else {}),
    }


def _gaps(
    first: Run, manifests: Sequence[Manifest], tables: Mapping[str, list[Predictions]]
) -> dict[str, dict[str, Any]]:
    """By split and column, the gaps of one system between groups."""
    settings = first.recipe.evaluate
    found = {}
    for s, of_split in tables.items():
        rows = evaluation.gather(of_split, manifests, split=s, in_sample=s == "train")
        columns = gaps.gaps(rows, settings.groups, draws=settings.draws, seed=settings.seed)
        found[s] = {column: one.to_row() for column, one in columns.items()}
    return found


def _by_fold(
    runs: Sequence[Run], manifests: Sequence[Manifest], names: Sequence[str], scores: Scores
) -> list[dict[str, Any]]:
    """Each fold's own numbers on test, without intervals: WA is accuracy, UA is UAR."""
    found = []
    for k, run in enumerate(runs):
        row: dict[str, Any] = {"fold": run.manifest.info.get("fold", k + 1), "split_hash": run.manifest.split_hash}
        row["speakers"] = sorted({u.speaker for u in run.manifest.split("test") if u.speaker is not None})
        row["systems"] = {}
        for n in names:
            rows = evaluation.decide(scores[n]["test"][k], manifests[k], split="test")
            confusion = rows.confusion()
            row["systems"][n] = {
                name: float(metrics.measure(name, confusion, rows.possible)) for name in metrics.METRICS
            }
        found.append(row)
    return found


def _curves(runs: Sequence[Run], system: str) -> dict[str, Any]:
    if len(runs) == 1:
        return dict(runs[0].history(system))
    return {f"{k + 1}.{model}": rows for k, run in enumerate(runs) for model, rows in run.history(system).items()}


def split_sizes(manifests: Sequence[Manifest], splits: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Labelled clips of each class, clips without a label, and speakers of each split, of all folds together."""
    sizes: dict[str, dict[str, Any]] = {"counts": {}, "unlabelled": {}, "speakers": {}}
    for s in splits:
        rows = [u for m in manifests for u in m.split(s)]
        n_by = Counter(u.emotion for u in rows)
        sizes["counts"][s] = {label: n_by[label] for label in manifests[0].labels}
        sizes["unlabelled"][s] = n_by[None]
        sizes["speakers"][s] = len({u.speaker for u in rows} - {None})
    return sizes


def _numbers(report: Report) -> dict[str, Any]:
    return {name: metric.to_row() for name, metric in report.metrics.items()}


def _details(report: Report) -> dict[str, Any]:
    row = report.to_row()
    return {k: row[k] for k in ("per_class", "confusion", "draws", "slices", "reliability")}


def _solved(system: System) -> str:
    """What a network without epochs minimises, in words."""
    return {"ridge": "squares, solved", "fitted": "cross-entropy, solved"}.get(
        str(system.model.parameters.get("start")), "none"
    )


def _design(run: Run, name: str) -> dict[str, Any]:
    system = run.recipe.systems[name]
    return {
        "features": [f.key for f in system.features],
        "model": system.model.name,
        "weights": run.n_weights(name),
        **(_losses(system) if system.train.epochs else {"losses": [_solved(system)]}),
        "balance": system.balance,
        "augment": [step.name for step in system.augment],
        **_stages(system),
    }


def _losses(system: System) -> dict[str, Any]:
    """Names of the losses, and each with its weight and parameters."""
    written = [loss.model_dump(mode="json") for loss in system.losses]
    return {"losses": [loss.name for loss in system.losses], "loss_settings": written}


def _stages(system: System) -> dict[str, Any]:
    """What a second stage and a soup add to the design of a system."""
    found: dict[str, Any] = {}
    if len(system.stages) > 1 and system.second_stage is not None:
        later = system.stages[1]
        found["second_stage"] = {
            **system.second_stage.model_dump(mode="json", include={"after_epochs", "lr"}),
            **_losses(later),
            "balance": later.balance,
        }
    if system.train.soup is not None:
        found["soup"] = system.train.soup
    return found


def _comparisons(
    manifests: Sequence[Manifest],
    runs: Sequence[Run],
    scores: Scores,
    reports: Mapping[str, Mapping[str, Report]],
    lead: str,
    best: str,
    best_by: str,
) -> list[dict[str, Any]]:
    """The stack and the published forest, or the mean logit, against the system best on dev and the ensembles.

    What every fold kept as its stack is the stack under another name, and is not compared once more. The mean
    probability is not compared either: each comparison more makes Holm's adjustment of all others stricter. By
    ``best_by``, where that is no label metric, the lead is compared with the system best on dev alone.
    """
    if lead == best:
        return []
    kept = {_stack(r).get("kept") for r in runs} if lead == "stack" else set()
    alias = kept.pop() if len(kept) == 1 else None
    others = [best, *(e for e in ENSEMBLES if e in scores and e not in (lead, alias, *_NOT_COMPARED))]
    settings = runs[0].recipe.evaluate
    found = []
    for split in ("dev", "test"):
        if split not in reports[lead]:
            continue
        for metric in ("macro_f1", "uar"):
            rows: list[comparison.Difference] = []
            for one in dict.fromkeys((lead, "random_forest")):
                if one not in scores or one == alias:
                    continue
                rivals = [n for n in others if n != one]
                rows += comparison.against_all(
                    one, {n: scores[n][split] for n in (one, *rivals)}, list(manifests), split=split, metric=metric,
                    draws=settings.draws, seed=settings.seed,
                )  # fmt: skip
            found += [{"split": split, **d.to_row()} for d in comparison.with_holm(rows)]
        if best_by in leads.OF_RATERS and not any(leads.lacking(best_by, m, split) for m in manifests):
            d = leads.compare_seeds(
                best_by, [scores[lead][split]], [scores[best][split]], manifests,
                split=split, draws=settings.draws, seed=settings.seed,
            )  # fmt: skip
            row = {k: v for k, v in comparison.with_holm([d])[0].to_row().items() if k != "by_seed"}
            found.append({"split": split, **row})
    return found


def _stack(run: Run) -> dict[str, Any]:
    path = run.folder / "stack" / "choice.json"
    if not path.is_file():
        return {}
    found = json_object(path)
    settings = run.recipe.stack
    return {**found, "settings": settings.model_dump(mode="json") if settings is not None else None}


def _mistakes(
    manifests: Sequence[Manifest], scores: Scores, reports: Mapping[str, Mapping[str, Report]], lead: str
) -> dict[str, Any]:
    """The most confident mistakes of the leading system on test, or on dev where test has no labels."""
    split = "test" if "test" in reports[lead] else "dev"
    rows = evaluation.gather(scores[lead][split], list(manifests), split=split)
    return {"system": lead, "split": split, "rows": evaluation.mistake_rows(rows)}


def provenance(runs: Sequence[Run], machine: Machine | None) -> dict[str, Any]:
    """Everything a reader needs to get the same numbers; clock and hardware apart, under ``run``.

    ``run.rounding_error`` stands there as well: it is of a whole store, which other runs fill too.
    """
    run = runs[0]
    features: dict[str, dict[str, Any]] = {}
    for key, found in run.features.items():
        spec = found.spec
        features[key] = {
            "fingerprint": spec.fingerprint,
            "dim": spec.dim,
            "source": spec.source,
            "revision": spec.revision,
            "licence": spec.licence,
            "note": spec.note,
        }
    for name, system in run.recipe.systems.items():
        path = run.network(name, run.models[0]) / "config.json"
        for key in system.backbones if path.is_file() else ():  # a pretrained network inside one of the run's own
            found_there = json_object(path)[key]
            row = {k: found_there[k] for k in ("source", "revision", "licence", "note")}
            features[f"{found_there['name']} (trained in {name})"] = row
    return {
        "recipe": run.recipe.model_dump(mode="json"),
        "recipe_fingerprint": run.recipe.fingerprint,
        "manifest_fingerprint": run.manifest.fingerprint if len(runs) == 1 else [r.manifest.fingerprint for r in runs],
        "split_hash": run.manifest.split_hash if len(runs) == 1 else [r.manifest.split_hash for r in runs],
        "corpus_info": json.loads(json.dumps(_corpus_info(runs), default=str)),
        "folds": len(runs),
        "speakers_shared": any(r.manifest.speakers_shared for r in runs),
        "features": features,
        "transcripts": _texts(run),
        "seed": run.recipe.seed,
        "models": list(run.models),
        "versions": versions(PACKAGES),
        "run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "platform": platform.platform(),
            "cores": cores(),
            "memory_gib": _memory_gib(),
            "device": device_of(machine) if machine is not None else "unknown",
            "jobs": machine.workers if machine is not None else 0,
            "rounding_error": {key: found.store.rounding_error for key, found in run.features.items()},
        },
    }


def _corpus_info(runs: Sequence[Run]) -> Mapping[str, Any]:
    """What is known of the corpus; of several folds the thin classes of each, by fold where not all have them.

    Where each fold has test corpora of its own, each corpus as it is where it is test.
    """
    first = runs[0].manifest.info
    if len(runs) > 1 and across.KEY in first:
        infos = [r.manifest.info for r in runs]
        as_test = {c: info["corpora"][c] for info in infos for c in info[across.KEY]["tested_on"]}
        return {**first, "corpora": {**first["corpora"], **as_test}}
    if len(runs) == 1 or "class_findings" not in first:
        return first
    found: dict[str, list[str]] = {}
    for run in runs:
        for line in run.manifest.info["class_findings"]:
            found.setdefault(line, []).append(str(run.manifest.info.get("fold")))
    lines = [
        line if len(folds) == len(runs) else f"fold{'s' * (len(folds) > 1)} {', '.join(folds)}: {line}"
        for line, folds in found.items()
    ]
    return {**first, "class_findings": lines}


def _texts(run: Run) -> dict[str, Any] | None:
    """What extraction noted about the texts, where the run has any."""
    path = run.folder / "transcripts.json"
    return json_object(path) if path.is_file() else None


def _memory_gib() -> float:
    if not hasattr(os, "sysconf"):
        return 0.0
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
