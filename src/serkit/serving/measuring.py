"""A bundle on labelled recordings: answered as anybody's would be, and measured as a run is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit import comparison, evaluation, gaps, groupings
from serkit.concordance import rating_scale
from serkit.conformal import Covered, covered, members
from serkit.errors import SerkitError
from serkit.evaluate_settings import Group
from serkit.files import fingerprint
from serkit.labels import on_answers, with_voted
from serkit.predictions import Predictions, Report
from serkit.progress import Meter, ProgressCallback
from serkit.reporting.text import NOT_KNOWN, OWN
from serkit.serving.asking import Answer, Job, answers_to, remarked, silent_rows
from serkit.serving.bundle import Bundle, for_calls, open_bundle
from serkit.serving.conditions import Condition
from serkit.serving.resuming import KeptAnswers
from serkit.serving.shared_labels import ALL, as_divided, learned_votes, shared_rows
from serkit.serving.thresholds import Thresholds
from serkit.types import ATTRIBUTES, Manifest, Utterance

PACKAGES = ("serkit", "numpy", "onnxruntime", "soundfile", "soxr")  # whose versions can move a number
_KEPT_AS = 3  # what is kept of an answer
_SPLIT = "test"  # what rows of every split are called while they are measured


@dataclass(frozen=True)
class Measured:
    """A bundle measured on labelled recordings.

    Attributes:
        report: its numbers. predictions: calibrated probabilities among the shared labels, and attributes.
        manifest: the rows that were measured. labels: those that the model and the rows share.
        left_out: number of rows by reason. failed: reason by id of recordings that could not be answered.
        trained_on: corpora of these rows that the bundle says it was trained on; of an imported one ``NOT_KNOWN``.
        condition: what was done to the recordings; ``None``: nothing. confidence: the mean over the rows.
        abstained: number of rows that are ``no_speech`` and ``unsure``. answered_by: number of rows by model id.
        gaps: between the groups of each column (:func:`serkit.gaps.gaps`).
        mistakes: the most confident wrong answers, a row each (:func:`serkit.evaluation.mistake_rows`).
        sets: how often the sets of classes hold the true one; ``None`` where no coverage was asked for.
        scales: of the ratings that the bundle learned and of these, if both are known and differ: then there is no CCC.
        no_text: rows without a text, of a bundle that reads texts.
        remarked: ids by what is wrong with recordings that were answered all the same.
    """

    report: Report
    predictions: Predictions
    manifest: Manifest
    labels: tuple[str, ...]
    left_out: Mapping[str, int]
    failed: Mapping[str, str]
    trained_on: tuple[str, ...]
    condition: Condition | None
    confidence: float
    abstained: Mapping[str, int]
    answered_by: Mapping[str, int]
    gaps: Mapping[str, gaps.Gaps]
    mistakes: Sequence[Mapping[str, Any]]
    sets: Covered | None = None
    scales: tuple[tuple[float, float], tuple[float, float]] | None = None
    no_text: int = 0
    remarked: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Of its predictions, without a suffix: the system and the condition, with what no file name can have as _."""
        system = _in_file_name(self.predictions.models[0])
        if self.condition is None:
            return system
        name = _in_file_name(self.condition.name)
        short = name if len(name) <= 80 else name[:60] + fingerprint(self.condition.to_row())
        return f"{system}.{short}"

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row: report, gaps, labels, what was left out, how sure the answers are, and mistakes."""
        more: dict[str, Any] = {} if self.sets is None else {"sets": self.sets.to_row()}
        more |= {} if self.scales is None else {"scales": [list(scale) for scale in self.scales]}
        more |= {"no_text": self.no_text} if self.no_text else {}
        more |= {"answers": answers} if (answers := on_answers(self.manifest)) else {}
        more |= {"remarked": {k: list(ids) for k, ids in self.remarked.items()}} if self.remarked else {}
        return {
            **self.report.to_row(), "left_out": dict(self.left_out), "failed": dict(self.failed),
            "trained_on": list(self.trained_on), "confidence": self.confidence, "abstained": dict(self.abstained),
            "answered_by": dict(self.answered_by), "gaps": {k: one.to_row() for k, one in self.gaps.items()},
            "mistakes": [dict(row) for row in self.mistakes], **more,
        }  # fmt: skip


def measure(source: str | Path, manifest: Manifest, **options: Any) -> Measured:
    """:func:`measure_under` without a condition: the recordings as they are."""
    return measure_under(source, manifest, (), **options)[0]


def measure_under(
    source: str | Path,
    manifest: Manifest,
    conditions: Sequence[Condition],
    *,
    split: str = ALL,
    labels: Sequence[str] | None = None,
    coverage: float | None = None,
    calls: str = "auto",
    jobs: int = 1,
    draws: int = 1000,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
    groups: Sequence[Group] = (),
    votes: bool = True,
) -> tuple[Measured, ...]:
    """Ask a bundle for every labelled recording, as it is and under each condition, and measure the answers.

    Each answer is one of the labels that model and rows share, as ``serkit predict --labels`` gives it; rows with
    another label, or none, are left out and counted. Of a bundle that learned rater votes, rows have the labels that
    were voted for too, and those without agreement count in the closeness to votes. Numbers on a corpus that the
    bundle was trained on are of speakers that it may know.

    Args:
        source, calls: the bundle, see :func:`serkit.serving.predictor.load`. manifest: labelled recordings.
        conditions: what else is done to the recordings, see :func:`serkit.serving.conditions.parse`.
        split: which rows; ``all`` by default. labels: only these classes. jobs: processes; 0 is one per core.
        coverage: of the sets to measure; ``None``: none.
        draws: bootstrap resamples. seed: of these, and of what is random in conditions.
        progress: is told how many recordings are answered, each once for every condition.
        keep: file that keeps each answer (JSONL); recordings that are in it, unchanged, are not asked again.
        groups: further columns whose values are groups.
        votes: of a bundle that learned rater votes, what was voted for counts; False, as for a pair of which one did
            not: labels alone.

    Returns:
        The recordings as they are, then under each condition.

    Raises:
        SerkitError: an unknown label, split or column, fewer than two shared labels, no recording that can be
            answered, or too few held-out clips for a coverage.
    """
    bundle = open_bundle(source)
    manifest = as_divided(manifest, bundle)
    given = manifest.fingerprint
    voted = votes and learned_votes(bundle) and any(u.votes for u in manifest)
    manifest = with_voted(manifest) if voted else manifest
    rows, shared, left_out = shared_rows(manifest, bundle.labels, split, labels, voted=voted)
    groupings.check(rows, groups)
    scales = _other_scales(bundle, manifest)
    companion = for_calls(bundle, source, calls)
    asking = [one for one in (bundle, companion) if one is not None and coverage is not None]
    least = {one.id: Thresholds(one).in_set_from(shared, coverage or 0.0) for one in asking}
    question = [_KEPT_AS, bundle.fingerprint, None if companion is None else companion.fingerprint]
    asked = (None, *conditions)
    tasks = [
        Job(str(manifest.audio_path(u)), u.start_s, u.end_s, u.text, shared, condition, seed, u.channel)
        for condition in asked
        for u in rows
    ]
    kept = KeptAnswers(keep, question, [task.to_row() for task in tasks])
    meter = Meter("measure", len(tasks), progress, unit="answers" if conditions else "recordings")
    answers = _answered(kept, tasks, str(source), calls, jobs, meter)
    told = Meter("measure", len(asked), progress if conditions else None, unit="conditions measured")
    found = []
    for number, condition in enumerate(asked):
        of_rows = answers[number * len(rows) : (number + 1) * len(rows)]
        there, heard, failed = _parted(rows, of_rows, condition)
        table = _table(bundle, condition, shared, [u.id for u in there], np.array([a.numbers for a in heard]))
        one = measured(
            table if scales is None else replace(table, attributes=None), manifest, there, bundle, draws=draws,
            seed=seed, left_out=left_out, failed=failed, condition=condition, answers=heard, groups=groups, given=given,
        )  # fmt: skip
        silent = silent_rows(bundle, [u for u in there if u.emotion is not None])
        one = replace(one, scales=scales, no_text=silent, remarked=remarked([u.id for u in there], heard))
        if coverage is not None:
            one = replace(one, sets=_sets(one, coverage, [least[a.model] for a in heard], draws, seed))
        found.append(one)
        told.advance()
    return tuple(found)


def _parted(
    rows: Sequence[Utterance], answers: Sequence[Answer | str], condition: Condition | None
) -> tuple[list[Utterance], list[Answer], dict[str, str]]:
    """The rows that were answered, their answers, and reasons by id for the others.

    Raises:
        SerkitError: none was answered.
    """
    there: list[Utterance] = []
    heard: list[Answer] = []
    failed: dict[str, str] = {}
    for u, answer in zip(rows, answers, strict=True):
        if isinstance(answer, str):
            failed[u.id] = answer
        else:
            there.append(u)
            heard.append(answer)
    if not there:
        first = next(iter(failed.values()))
        raise SerkitError(f"none of {len(rows)} recordings could be answered{_under(condition)}; the first: {first}")
    return there, heard, failed


def _under(condition: Condition | None) -> str:
    return "" if condition is None else f" under '{condition.name}'"


def _other_scales(bundle: Bundle, manifest: Manifest) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The scale of ratings that a bundle learned, and that of a manifest, if both are known and differ."""
    learned, given = bundle.head.get("rating_scale"), rating_scale(manifest)
    if not bundle.attributes or learned is None or given is None or tuple(learned) == given:
        return None
    return (float(learned[0]), float(learned[1])), given


def _answered(
    kept: KeptAnswers, tasks: Sequence[Job], source: str, calls: str, jobs: int, meter: Meter
) -> list[Answer | str]:
    """The answer to each task, asked for where it is not kept yet, or why there is none."""
    meter.advance(len(tasks) - len(kept.left))
    failed: dict[int, str] = {}
    left = list(kept.left)
    for k, answer in zip(left, answers_to([tasks[k] for k in left], source, calls, jobs), strict=True):
        if isinstance(answer, Answer):
            kept.add(k, answer.to_row())
        else:
            failed[k] = answer
        meter.advance(failed=int(k in failed))
    return [failed[k] if k in failed else Answer.of(kept.found[k]) for k in range(len(tasks))]


def measured(
    table: Predictions,
    manifest: Manifest,
    rows: Sequence[Utterance],
    bundle: Bundle,
    *,
    draws: int,
    left_out: Mapping[str, int],
    failed: Mapping[str, str],
    seed: int = 0,
    condition: Condition | None = None,
    answers: Sequence[Answer] = (),
    groups: Sequence[Group] = (),
    given: str | None = None,
) -> Measured:
    """The numbers of answers to some rows of a manifest.

    Args:
        table: probabilities among some labels, of these rows. bundle: which says what it was trained on.
        answers: what the rows were answered, where it was by ``predict``. groups: further columns to slice by.
        given: fingerprint of the manifest before labels that were voted for came in; ``None``: of this one.
    """
    shown = replace(
        manifest,
        utterances=tuple(replace(u, split=_SPLIT) for u in rows),
        labels=table.labels,
        class_sets={k: tuple(x for x in v if x in table.labels) for k, v in manifest.class_sets.items()},
        speakers_shared=True,
    )
    report = evaluation.evaluate(table, shown, split=_SPLIT, draws=draws, seed=seed, groups=groups)
    decided = evaluation.decide(table, shown, split=_SPLIT)
    corpora = set(str(bundle.head.get("trained_on", {}).get("corpus", "")).split("+")) - {OWN}
    trained = tuple(sorted(corpora & {u.corpus for u in rows if u.corpus}))
    trained = (NOT_KNOWN, *trained) if "imported" in bundle.head else trained
    taught = bundle.head.get("labelled", {})
    if taught.get("manifest") == (given or manifest.fingerprint) and any(
        taught.get("split", ALL) in (ALL, u.split) for u in rows
    ):
        trained = (*trained, "these clips")
    abstained = Counter(answer.abstain for answer in answers)
    return Measured(
        report, table, shown, table.labels, left_out, failed, trained, condition,
        float(decided.probabilities.max(axis=1).mean()),
        {reason: abstained[reason] for reason in ("no_speech", "unsure")},
        dict(Counter(answer.model for answer in answers).most_common()),
        gaps.gaps(decided, groups, draws=draws, seed=seed), evaluation.mistake_rows(decided),
    )  # fmt: skip


def _sets(one: Measured, coverage: float, least: Sequence[float], draws: int, seed: int) -> Covered:
    """How often sets hold the true class, each made from its own (rows,) least probability."""
    labelled = [k for k, u in enumerate(one.manifest) if u.emotion is not None]
    rows = [one.manifest.utterances[k] for k in labelled]
    truth = np.array([one.labels.index(str(u.emotion)) for u in rows])
    inside = members(one.predictions.scores, np.array(least)[:, None])[labelled]
    speakers = [u.speaker for u in rows]
    return covered(coverage, inside, truth, one.labels, speakers, draws=draws, seed=seed)


def _table(
    bundle: Bundle, condition: Condition | None, labels: tuple[str, ...], ids: Sequence[str], values: np.ndarray
) -> Predictions:
    """(rows, labels + attributes) answers as predictions of the bundle, under a condition if there is one."""
    attributes = None
    if bundle.attributes:
        attributes = np.full((len(ids), len(ATTRIBUTES)), np.nan)
        attributes[:, [ATTRIBUTES.index(name) for name in bundle.attributes]] = values[:, len(labels) :]
    seen, scores = np.zeros(len(ids), dtype=bool), values[:, : len(labels)]
    system = bundle.id + _under(condition)
    return Predictions(system, labels, "prob", tuple(ids), (bundle.id,) * len(ids), seen, scores, attributes)


def differences(
    one: Measured, other: Measured, *, draws: int = 1000, seed: int = 0
) -> tuple[comparison.Difference, ...]:
    """Paired differences between two bundles, or a bundle's answers under two conditions, over rows that have both.

    Raises:
        SerkitError: they were not asked for the same labels.
    """
    if set(one.labels) != set(other.labels):
        raise SerkitError(
            f"'{one.report.system}' was measured on {', '.join(one.labels)}, '{other.report.system}' on "
            f"{', '.join(other.labels)}; ask both for the labels that they share"
        )
    both = set(one.predictions.ids) & set(other.predictions.ids)
    manifest = one.manifest.where(lambda u: u.id in both)
    ids = [u.id for u in manifest]
    tables = [m.predictions.take(ids) for m in (one, other)]
    if one.labels != other.labels:  # the same, in another order
        tables[1] = tables[1].among(one.labels)
    found = comparison.compare(tables[0], tables[1], manifest, split=_SPLIT, draws=draws, seed=seed)
    rated = comparison.compare_attributes([tables[0]], [tables[1]], [manifest], split=_SPLIT, draws=draws, seed=seed)
    return (*found, *rated)


def _in_file_name(name: str) -> str:
    """A name that a bundle or a user gave, as part of one file name: it leads to no other folder, and is not hidden."""
    return re.sub(r"^\.+|[^\w=,.+@-]", "_", name)
