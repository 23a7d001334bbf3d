"""What a run measured, as one JSON tree: every system and ensemble on every split, and what the stack adds."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serkit import comparison, evaluation
from serkit.files import write_text
from serkit.pipeline.run import Machine, Run, cores
from serkit.predictions import Predictions, Report

FORMAT = 1
ENSEMBLES = ("stack", "random_forest", "logistic", "vote", "mean_logit")
SELECT = "macro_f1"
PACKAGES = ("serkit", "numpy", "torch", "scikit-learn", "transformers", "soundfile", "soxr")


def measure_run(run: Run, machine: Machine | None = None) -> dict[str, Any]:
    """Evaluate a run and write ``report/report.json``.

    The tree holds ``systems.NAME.SPLIT.METRIC`` (value, low, high, n, speakers, interval), details by the
    same names (per class, confusion, draws, slices), training curves, paired comparisons of the stack,
    the most confident mistakes, and the provenance, whose clock and hardware stand apart under ``run``.
    """
    settings = run.recipe.evaluate
    names = [*run.recipe.systems, *(e for e in ENSEMBLES if run.predictions_path(e, "dev").is_file())]
    in_sample = run.recipe.crossfit is None
    scores: dict[str, dict[str, Predictions]] = {}
    reports: dict[str, dict[str, Report]] = {}
    for name in names:
        scores[name] = {s: run.predictions(name, s) for s in run.splits}
        reports[name] = {
            s: evaluation.evaluate(
                p, run.manifest, split=s, draws=settings.draws, seed=settings.seed, in_sample=in_sample and s == "train"
            )
            for s, p in scores[name].items()
            if any(u.emotion is not None for u in run.manifest.split(s))
        }
    best = max(run.recipe.systems, key=lambda n: reports[n]["dev"].metrics[SELECT].value)
    tree: dict[str, Any] = {
        "format": FORMAT,
        "name": run.recipe.name,
        "description": run.recipe.description,
        "corpus": run.manifest.corpus,
        "labels": list(run.manifest.labels),
        "best_on_dev": best,
        "systems": {
            n: {s: {k: m.to_row() for k, m in r.metrics.items()} for s, r in reports[n].items()} for n in names
        },
        "details": {n: {s: _details(r) for s, r in reports[n].items()} for n in names},
        "design": {n: _design(run, n) for n in run.recipe.systems},
        "curves": {n: run.history(n) for n in run.recipe.systems},
        "comparisons": _comparisons(run, scores, reports, best),
        "stack": _stack(run),
        "mistakes": _mistakes(run, scores, reports, best),
        "counts": {s: run.manifest.split(s).counts() for s in run.splits},
        "speakers": {s: len({u.speaker for u in run.manifest.split(s)} - {None}) for s in run.splits},
        "provenance": _provenance(run, machine),
    }
    write_text(run.folder / "report" / "report.json", json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
    return tree


def _numbers(report: Report) -> dict[str, Any]:
    return {name: metric.to_row() for name, metric in report.metrics.items()}


def _details(report: Report) -> dict[str, Any]:
    row = report.to_row()
    return {k: row[k] for k in ("per_class", "confusion", "draws", "slices")}


def _design(run: Run, name: str) -> dict[str, Any]:
    system = run.recipe.systems[name]
    return {
        "features": [f.key for f in system.features],
        "model": system.model.name,
        "losses": [loss.name for loss in system.losses],
        "balance": system.balance,
        "augment": [step.name for step in system.augment],
    }


def _comparisons(
    run: Run, scores: dict[str, dict[str, Predictions]], reports: dict[str, dict[str, Report]], best: str
) -> list[dict[str, Any]]:
    """The stack against the single system that is best on dev, the vote, the mean logit, the other stack."""
    if "stack" not in scores:
        return []
    kept = _stack(run).get("kept")
    others = [best, *(e for e in ENSEMBLES if e in scores and e not in ("stack", kept))]
    found = []
    for split in ("dev", "test"):
        if split not in reports["stack"]:
            continue
        tables = {n: scores[n][split] for n in ("stack", *others)}
        for metric in ("macro_f1", "uar"):
            rows = comparison.against_all(
                "stack",
                tables,
                run.manifest,
                split=split,
                metric=metric,
                draws=run.recipe.evaluate.draws,
                seed=run.recipe.evaluate.seed,
            )
            found += [{"split": split, **d.to_row()} for d in rows]
    return found


def _stack(run: Run) -> dict[str, Any]:
    path = run.folder / "stack" / "choice.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    settings = run.recipe.stack
    return {**found, "settings": settings.model_dump(mode="json") if settings is not None else None}


def _mistakes(
    run: Run, scores: dict[str, dict[str, Predictions]], reports: dict[str, dict[str, Report]], best: str
) -> dict[str, Any]:
    """The most confident mistakes of the stack (or the best system) on test, or on dev without labels."""
    name = "stack" if "stack" in scores else best
    split = "test" if "test" in reports[name] else "dev"
    rows = evaluation.decide(scores[name][split], run.manifest, split=split)
    worst = [m.to_row() for m in evaluation.most_confident_mistakes(rows, 20)]
    return {"system": name, "split": split, "rows": worst}


def _provenance(run: Run, machine: Machine | None) -> dict[str, Any]:
    """Everything a reader needs to get the same numbers; clock and hardware apart, under ``run``."""
    features = {}
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
    return {
        "recipe": run.recipe.model_dump(mode="json"),
        "recipe_fingerprint": run.recipe.fingerprint,
        "manifest_fingerprint": run.manifest.fingerprint,
        "split_hash": run.manifest.split_hash,
        "corpus_info": json.loads(json.dumps(run.manifest.info, default=str)),
        "speakers_shared": run.manifest.speakers_shared,
        "features": features,
        "seed": run.recipe.seed,
        "models": list(run.models),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "platform": platform.platform(),
            "cores": cores(),
            "memory_gib": _memory_gib(),
            "device": machine.device if machine is not None else "unknown",
            "jobs": machine.workers if machine is not None else 0,
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _memory_gib() -> float:
    if not hasattr(os, "sysconf"):
        return 0.0
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
