"""A bundle on labelled recordings: answered as anybody's would be, and measured as a run is."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit import audio, comparison, evaluation
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean
from serkit.predictions import Metric, Predictions, Report
from serkit.processes import cores, in_processes
from serkit.progress import Meter, ProgressCallback
from serkit.remarks import Remarks
from serkit.serving.bundle import Bundle, for_calls, open_bundle
from serkit.serving.predictor import Model, load
from serkit.serving.resuming import KeptAnswers
from serkit.types import ATTRIBUTES, SPLITS, Manifest, Utterance

ALL = "all"
OWN = "table"  # a name that says nothing of which recordings they are
_SPLIT = "test"  # what rows of every split are called while they are measured
_MODELS: list[Model] = []

Job = tuple[str, float | None, float | None, str | None, tuple[str, ...]]  # path, start, end, words, labels


@dataclass(frozen=True)
class Measured:
    """A bundle measured on labelled recordings.

    Attributes:
        report: its numbers. predictions: calibrated probabilities among the shared labels, and attributes.
        manifest: the rows that were measured. labels: those that the model and the rows share.
        left_out: number of rows by reason. failed: reason by id of recordings that could not be answered.
        trained_on: corpora of these rows that the bundle says it was trained on.
    """

    report: Report
    predictions: Predictions
    manifest: Manifest
    labels: tuple[str, ...]
    left_out: Mapping[str, int]
    failed: Mapping[str, str]
    trained_on: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row: the report, the labels, and what was left out."""
        return {**self.report.to_row(), "left_out": dict(self.left_out), "failed": dict(self.failed),
                "trained_on": list(self.trained_on)}  # fmt: skip


def measure(
    source: str | Path,
    manifest: Manifest,
    *,
    split: str = ALL,
    labels: Sequence[str] | None = None,
    calls: str = "auto",
    jobs: int = 1,
    draws: int = 1000,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
) -> Measured:
    """Ask a bundle for every labelled recording, and measure the answers.

    Each answer is one of the labels that model and rows share, as ``serkit predict --labels`` gives it; rows with
    another label, or none, are left out and counted. Numbers on a corpus that the bundle was trained on are of speakers
    that it may know.

    Args:
        source, calls: the bundle, see :func:`serkit.serving.predictor.load`. manifest: labelled recordings.
        split: which rows; ``all`` by default. labels: only these classes. jobs: processes; 0 is one per core.
        draws: bootstrap resamples. progress: is told how many recordings are answered.
        keep: file that keeps each answer (JSONL); recordings that are in it, unchanged, are not asked again.

    Raises:
        SerkitError: an unknown label or split, fewer than two shared labels, or no recording that can be answered.
    """
    bundle = open_bundle(source)
    rows, shared, left_out = shared_rows(manifest, bundle.labels, split, labels)
    companion = for_calls(bundle, source, calls)
    question = [bundle.fingerprint, None if companion is None else companion.fingerprint]
    tasks = [(str(manifest.audio_path(u)), u.start_s, u.end_s, u.text, shared) for u in rows]
    answers = KeptAnswers(keep, question, tasks)
    meter = Meter("measure", len(rows), progress, unit="recordings")
    meter.advance(len(rows) - len(answers.left))
    failed: dict[str, str] = {}
    for k, found in zip(
        answers.left, _answers(str(source), calls, [tasks[k] for k in answers.left], jobs), strict=True
    ):
        if isinstance(found, str):
            failed[rows[k].id] = found
        else:
            answers.add(k, found)
        meter.advance(failed=int(isinstance(found, str)))
    kept = [u for u in rows if u.id not in failed]
    if not kept:
        raise SerkitError(f"none of {len(rows)} recordings could be answered; the first: {next(iter(failed.values()))}")
    table = _table(bundle, shared, [u.id for u in kept], np.stack(answers.found))
    return measured(table, manifest, kept, bundle, draws=draws, left_out=left_out, failed=failed)


def measured(
    table: Predictions,
    manifest: Manifest,
    rows: Sequence[Utterance],
    bundle: Bundle,
    *,
    draws: int,
    left_out: Mapping[str, int],
    failed: Mapping[str, str],
) -> Measured:
    """The numbers of answers to some rows of a manifest.

    Args:
        table: probabilities among some labels, of these rows. bundle: which says what it was trained on.
    """
    shown = replace(
        manifest,
        utterances=tuple(replace(u, split=_SPLIT) for u in rows),
        labels=table.labels,
        class_sets={k: tuple(x for x in v if x in table.labels) for k, v in manifest.class_sets.items()},
        speakers_shared=True,
    )
    report = evaluation.evaluate(table, shown, split=_SPLIT, draws=draws)
    corpora = set(str(bundle.head.get("trained_on", {}).get("corpus", "")).split("+")) - {OWN}
    trained = tuple(sorted(corpora & {u.corpus for u in rows if u.corpus}))
    if bundle.head.get("labelled", {}).get("manifest") == manifest.fingerprint:
        trained = (*trained, "these clips")
    return Measured(report, table, shown, table.labels, left_out, failed, trained)


def _table(bundle: Bundle, labels: tuple[str, ...], ids: Sequence[str], values: np.ndarray) -> Predictions:
    """(rows, labels + attributes) answers as predictions of the bundle."""
    attributes = None
    if bundle.attributes:
        attributes = np.full((len(ids), len(ATTRIBUTES)), np.nan)
        attributes[:, [ATTRIBUTES.index(name) for name in bundle.attributes]] = values[:, len(labels) :]
    name = f"{bundle.name}@{bundle.fingerprint[:12]}"
    seen = np.zeros(len(ids), dtype=bool)
    return Predictions(name, labels, "prob", tuple(ids), (name,) * len(ids), seen, values[:, : len(labels)], attributes)


def differences(one: Measured, other: Measured, *, draws: int = 1000) -> tuple[comparison.Difference, ...]:
    """Paired differences between two bundles, over the recordings that both answered.

    Raises:
        SerkitError: they were not asked for the same labels.
    """
    if one.labels != other.labels:
        raise SerkitError(
            f"'{one.report.system}' was measured on {', '.join(one.labels)}, '{other.report.system}' on "
            f"{', '.join(other.labels)}; ask both for the labels that they share"
        )
    both = set(one.predictions.ids) & set(other.predictions.ids)
    manifest = one.manifest.where(lambda u: u.id in both)
    ids = [u.id for u in manifest]
    tables = [m.predictions.take(ids) for m in (one, other)]
    found = comparison.compare(tables[0], tables[1], manifest, split=_SPLIT, draws=draws)
    rated = comparison.compare_attributes([tables[0]], [tables[1]], [manifest], split=_SPLIT, draws=draws)
    return (*found, *rated)


def shared_labels(sources: Sequence[str | Path]) -> list[str]:
    """The labels that all of some bundles have, in the order of the first."""
    known = [open_bundle(source).labels for source in sources]
    return [label for label in known[0] if all(label in labels for labels in known)]


def lines(measured: Measured) -> list[str]:
    """The numbers of a bundle as text."""
    report = measured.report
    n = report.metrics["uar"].n
    left = ", ".join(f"{count} {reason}" for reason, count in measured.left_out.items())
    found = [f"{report.system}: n = {n}, {len(measured.labels)} classes ({', '.join(measured.labels)})"]
    found += [f"  left out: {left}"] if left else []
    if measured.trained_on:
        found.append(f"  trained on {', '.join(measured.trained_on)} too: these numbers may be of speakers it knows")
    found += [f"  {name:12} {_number(m)}" for name, m in report.metrics.items()]
    found += [
        "  by class     " + ", ".join(f"{k} {v['recall']:.2f}" for k, v in report.per_class.items()) + " (recall)"
    ]
    for field, values in report.slices.items():
        part = "; ".join(f"{value} {m['uar'].value:.3f} (n = {m['uar'].n})" for value, m in values.items())
        found.append(f"  by {field}: UAR {part}")
    return found


def _number(metric: Metric) -> str:
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]  {metric.interval}"


def shared_rows(
    manifest: Manifest, known: Sequence[str], split: str, asked: Sequence[str] | None
) -> tuple[list[Utterance], tuple[str, ...], dict[str, int]]:
    """The rows to ask for, the labels they share with the model, and how many rows are left out, by reason.

    Args:
        known: labels of the model. split: ``all``, or one of the splits. asked: only these labels.

    Raises:
        SerkitError: an unknown label or split, or fewer than two shared labels.
    """
    if split != ALL and split not in SPLITS:
        raise SerkitError(f"no split '{split}'" + did_you_mean(split, (*SPLITS, ALL)))
    for label in asked or ():
        if label not in known:
            raise SerkitError(f"the model has no label '{label}'" + did_you_mean(label, known))
    chosen = [u for u in manifest if split in (ALL, u.split)]
    there = {u.emotion for u in chosen}
    shared = tuple(x for x in known if x in there and (asked is None or x in asked))
    if len(shared) < 2:
        raise SerkitError(
            f"model and recordings share {len(shared)} labels ({', '.join(shared) or 'none'}), two are needed; the "
            f"model has {', '.join(known)}, the recordings {', '.join(sorted(x for x in there if x)) or 'none'}"
        )
    left_out: dict[str, int] = {}
    for u in chosen:
        if u.emotion not in shared:
            reason = "without a label" if u.emotion is None else f"of '{u.emotion}'"
            left_out[reason] = left_out.get(reason, 0) + 1
    return [u for u in chosen if u.emotion in shared], shared, left_out


def _answers(source: str, calls: str, tasks: Sequence[Job], jobs: int) -> Iterator[np.ndarray | str]:
    n = min(jobs or cores(), len(tasks))
    if n > 1:
        yield from in_processes(_work, tasks, jobs=n, begin=functools.partial(_start, source, calls))
        return
    model = load(source, calls=calls)
    yield from (_answer(model, task) for task in tasks)


def _start(source: str, calls: str) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _MODELS[:] = [load(source, calls=calls)]


def _work(task: Job) -> np.ndarray | str:
    return _answer(_MODELS[0], task)


def _answer(model: Model, task: Job) -> np.ndarray | str:
    """(labels + attributes,) of a recording, or what is wrong with it in one line."""
    path, start_s, end_s, text, labels = task
    try:
        words = text if model.reads_text else None
        if start_s is None and end_s is None:
            found = model.predict(path, labels=labels, text=words, by="clip")
        else:
            remarks = Remarks()
            samples = audio.load(path, start_s=start_s, end_s=end_s, remarks=remarks)
            found = model.for_rate(remarks.rate_hz).predict(
                samples, rate_hz=SAMPLE_RATE_HZ, labels=labels, text=words, by="clip"
            )
    except SerkitError as error:
        return str(error)
    return np.array(found.numbers)
