"""What a run on other corpora than its training ones needs: no recording on both sides, and numbers of each corpus."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serkit import across, evaluation
from serkit.bootstrap import clusters
from serkit.errors import SerkitError
from serkit.hashes import ContentHashes
from serkit.labels import teaching
from serkit.metrics import with_truth
from serkit.pipeline.run import Machine, Run
from serkit.predictions import Predictions
from serkit.progress import Meter
from serkit.recordings import order_labels
from serkit.text_rows import json_object
from serkit.types import Manifest

FORMAT = 1  # of a table of train by test


def check_recordings(manifest: Manifest, machine: Machine, tell: Callable[[Any], None] | None = None) -> None:
    """Refuse a recording that is in a test corpus and in training too, by the content of the files.

    Files are read once: their hashes are kept in the store, where extraction needs them anyway. A copy that was
    converted has other bytes; ``serkit audit`` compares the sound.

    Raises:
        SerkitError: there is one; the line names the corpora and what to do.
    """
    said = manifest.info.get(across.KEY)
    if not said:
        return
    rows = manifest.where(lambda u: u.split is not None)
    paths = {u.id: rows.audio_path(u) for u in rows}
    meter = Meter("compare recordings", len(set(paths.values())), tell, unit="files")
    hashes = ContentHashes(machine.store / "hashes.jsonl").of(list(paths.values()), jobs=machine.workers, meter=meter)
    heard: dict[str, str] = {}
    tested = []
    for u in rows:
        content = hashes[paths[u.id]]
        if isinstance(content, SerkitError):
            continue  # extraction names what cannot be read
        if u.corpus in said["tested_on"]:
            tested.append((content, u))
        else:
            heard.setdefault(content, u.id)
    twice = [(u, heard[content]) for content, u in tested if content in heard]
    if twice:
        first, other = twice[0]
        raise SerkitError(
            f"{len(twice)} test clips of '{first.corpus}' are recordings of the training corpora too (such as "
            f"'{first.id}' and '{other}'): a test on them measures nothing; leave one of these corpora out, or name "
            "the clips under exclude in the recipe"
        )


def common_labels(runs: Sequence[Run]) -> tuple[str, ...]:
    """All labels of runs that are measured together; of runs with a test corpus each, they are of all of them."""
    sets = {r.manifest.labels for r in runs}
    if len(sets) == 1 or any(across.KEY not in r.manifest.info for r in runs):
        return runs[0].manifest.labels
    return order_labels(label for r in runs for label in r.manifest.labels)


def manifest_among(run: Run, labels: tuple[str, ...]) -> Manifest:
    """The rows of a run with a test corpus under :func:`common_labels`; any other run's as they are."""
    if run.manifest.labels == labels or across.KEY not in run.manifest.info:
        return run.manifest
    return dataclasses.replace(run.manifest, labels=labels)


def predictions_among(run: Run, system: str, split: str, labels: tuple[str, ...]) -> Predictions:
    """Scores of a system of the run under the labels of :func:`manifest_among`."""
    table = run.predictions(system, split)
    return table if manifest_among(run, labels) is run.manifest else table.among(labels)


def measured(
    runs: Sequence[Run],
    tables: Mapping[str, Sequence[Predictions]],
    manifests: Sequence[Manifest],
    *,
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each test corpus of each run, with the metrics of every system; nothing of ordinary runs.

    Args:
        runs: finished ones. tables: scores on test by system, one for each run. manifests: of the runs, with the
            labels of these tables. draws, seed: of the bootstrap.

    Returns:
        ``trained_on`` and ``tested_on`` (corpora), ``own`` (the test speakers of a training corpus), ``shared`` and
        ``untested`` (classes; those that training has and the test corpus has not), ``left_out`` (clips by label),
        ``train`` (clips that teach, speakers), ``n``, ``speakers``, and ``systems.NAME.METRIC``. Answers are among the
        shared classes alone, and macro averages run over those with a clip: all of them, but for own test speakers.
    """
    found = []
    for k, (run, manifest) in enumerate(zip(runs, manifests, strict=True)):
        if across.KEY in manifest.info:
            of_run = {name: each[k] for name, each in tables.items()}
            for corpus in _measured_corpora(manifest):
                row = _row(manifest, corpus, of_run, draws, seed)
                train = teaching(run.manifest.split("train"), run.recipe)
                row["train"] = {"clips": len(train), "speakers": len({u.speaker for u in train} - {None})}
                row["untested"] = [label for label in run.manifest.labels if label not in row["shared"]]
                found.append(row)
    return found


def _measured_corpora(manifest: Manifest) -> list[str]:
    """The corpora with labelled test clips, those that are test as a whole first."""
    there = {u.corpus for u in manifest.split("test") if u.emotion is not None}
    said = manifest.info[across.KEY]
    return [c for c in (*said["tested_on"], *said["trained_on"]) if c in there]


def _row(manifest: Manifest, corpus: str, tables: Mapping[str, Predictions], draws: int, seed: int) -> dict[str, Any]:
    said = manifest.info[across.KEY]
    systems: dict[str, Any] = {}
    for name, table in tables.items():
        rows = evaluation.decide(table, manifest, split="test")
        rows = rows.where(np.array([u.corpus == corpus for u in rows.utterances]))
        groups, counted = clusters(rows.speakers), with_truth(rows.confusion())
        numbers = evaluation.classification(rows, groups, counted, draws=draws, seed=seed)
        systems[name] = {metric: value.to_row() for metric, value in numbers.items()}
    shared = [label for label in manifest.labels if label in manifest.class_sets[corpus]]
    return {
        "trained_on": list(said["trained_on"]),
        "tested_on": corpus,
        "own": corpus in said["trained_on"],
        "shared": shared,
        "left_out": dict(said["left_out"].get(corpus) or {}),
        "n": len(rows.truth),
        "speakers": groups.speakers,
        "systems": systems,
    }


def is_matrix(runs: Sequence[Run]) -> bool:
    """Whether runs are the rows of a table of train by test: each measured on all corpora."""
    return len(runs) > 1 and all((r.manifest.info.get(across.KEY) or {}).get("own_test") for r in runs)


def matrix(runs: Sequence[Run], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A table of train by test as a JSON tree: ``rows`` as of :func:`measured`, with the system that ``lead`` names.

    Args:
        runs: one for each training corpus, each measured. provenance: of all of them.
    """
    trees = [json_object(r.folder / "report" / "report.json") for r in runs]
    rows = [
        {**{k: v for k, v in row.items() if k != "systems"}, "lead": tree["lead"], **row["systems"][tree["lead"]]}
        for tree in trees
        for row in tree["across"]
    ]
    return {
        "format": FORMAT,
        "name": runs[0].recipe.name,
        "description": runs[0].recipe.description,
        "corpora": [name for r in runs for name in r.manifest.info[across.KEY]["trained_on"]],
        "rows": rows,
        "provenance": dict(provenance),
    }
