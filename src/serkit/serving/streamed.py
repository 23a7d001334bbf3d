"""How good the early answers of a stream are: a measured bundle's recordings heard once more, chunk by chunk."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit import evaluation, metrics
from serkit.bootstrap import Clusters, clusters, percentile_interval, resampled_means
from serkit.combining import allowed_classes
from serkit.errors import SerkitError
from serkit.predictions import Metric
from serkit.processes import cores
from serkit.progress import Meter, ProgressCallback
from serkit.serving.asking import Job, reads_text
from serkit.serving.bundle import for_calls, open_bundle
from serkit.serving.measuring import Measured
from serkit.serving.resuming import KeptAnswers
from serkit.serving.watched import Pace, Watched, watched

AFTER_S = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # seconds of speech at which the answer that stands there is measured
TOLERANCE = 1e-5  # between a probability at the end of a stream and that of the file
METRICS = ("uar", "accuracy", "macro_f1")
_KEPT_AS = "streamed 2"  # what is kept of a recording
_SPLIT = "test"  # as the rows of a measured bundle are called


@dataclass(frozen=True)
class Streamed:
    """What the streams of a bundle showed of labelled recordings.

    Attributes:
        system: the bundle. pace: how recordings were fed. n, audio_s, speech_s: how many, their seconds, and seconds
            in stretches of speech.
        heard: a row for each of :data:`AFTER_S`, and one for the end: ``after_s`` (``None``: the end), ``metrics``
            (of :data:`METRICS`; ``None`` without an answer), ``n`` (recordings with an answer), ``waiting`` (still
            without one), ``running`` (so much speech, or more), ``ended`` (less, so that their final answer counts),
            ``right_running`` (share of right answers of those that run and have one), ``as_final`` (share of the
            answers that have the label of the end), ``confidence``, ``unsure`` (shares; the mean over the answers).
        changes: of the label that is shown, the answer at the end included: ``each`` (of a recording), ``none`` (share
            of recordings without a change), ``per_minute`` (of speech), ``at_end`` (recordings whose label changes
            with the end), ``first_is_final`` (share of first labels that are that of the end), ``n`` (recordings with
            an answer before the end), ``silent`` (without one), and ``stable_s``: seconds from the begin of speech
            until the label is that of the end for good.
        first_s: when the first answer comes: ``audio`` from the begin of the recording, ``speech`` from that of speech.
        finals: against the answers to the files: ``n``, ``other`` (other labels), ``beyond`` (a probability differs by
            more than ``tolerance``), ``largest`` difference.
        failed: reason by id of recordings that a stream could not answer. reads: the model reads texts, and had all of
            a text from the begin.
        run: clock and hardware: milliseconds of computing for a chunk, by the clock and of processor time, which other
            work on the machine changes less; seconds of both for a second of sound; the processor.
    """

    system: str
    pace: Pace
    n: int
    audio_s: float
    speech_s: float
    heard: Sequence[Mapping[str, Any]]
    changes: Mapping[str, Any]
    first_s: Mapping[str, Any]
    finals: Mapping[str, Any]
    failed: Mapping[str, str]
    reads: bool
    run: Mapping[str, Any]

    @property
    def differs(self) -> int:
        """Recordings whose answer at the end is not that of the file, within the tolerance."""
        return int(self.finals["beyond"])

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return {
            "system": self.system, "chunk_s": self.pace.chunk_s, "partial_s": self.pace.partial_s, "n": self.n,
            "audio_s": self.audio_s, "speech_s": self.speech_s, "heard": [dict(row) for row in self.heard],
            "changes": dict(self.changes), "first_s": dict(self.first_s), "finals": dict(self.finals),
            "failed": dict(self.failed), "reads": self.reads, "run": dict(self.run),
        }  # fmt: skip


def stream(
    source: str | Path,
    one: Measured,
    pace: Pace,
    *,
    calls: str = "auto",
    jobs: int = 1,
    draws: int = 1000,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
) -> Streamed:
    """Feed the recordings of a measured bundle to its streams, and measure what these show.

    Args:
        source, calls: the bundle, as it was measured. one: its answers to the recordings as they are; only what it
            could answer is fed. pace: how. jobs: processes; 0 is one per core.
        draws, seed: of the bootstrap by speaker. progress: is told how many recordings are heard.
        keep: file that keeps what was shown of each recording, as for :func:`serkit.serving.measuring.measure_under`.

    Raises:
        SerkitError: no recording could be heard.
    """
    rows, bundle = [u for u in one.manifest if u.emotion is not None], open_bundle(source)
    companion = for_calls(bundle, source, calls)
    tasks = [
        Job(str(one.manifest.audio_path(u)), u.start_s, u.end_s, u.text, one.labels, channel=u.channel) for u in rows
    ]
    question = [
        _KEPT_AS, bundle.fingerprint, None if companion is None else companion.fingerprint, pace.chunk_s,
        pace.partial_s,
    ]  # fmt: skip
    kept = KeptAnswers(keep, question, [task.to_row() for task in tasks])
    meter = Meter("stream", len(tasks), progress, unit="recordings streamed")
    meter.advance(len(tasks) - len(kept.left))
    left, failed = list(kept.left), {}
    for k, found in zip(left, watched([tasks[k] for k in left], pace, str(source), calls, jobs), strict=True):
        if isinstance(found, Watched):
            kept.add(k, found.to_row())
        else:
            failed[rows[k].id] = found
        meter.advance(failed=int(isinstance(found, str)))
    if not kept.found:
        raise SerkitError(f"none of {len(rows)} recordings could be streamed; the first: {next(iter(failed.values()))}")
    places = sorted(kept.found)
    seen = [Watched.of(kept.found[k]) for k in places]
    ids = [rows[k].id for k in places]
    return measured(one, ids, seen, pace, draws=draws, seed=seed, failed=failed, reads=reads_text(bundle))


def measured(
    one: Measured,
    ids: Sequence[str],
    seen: Sequence[Watched],
    pace: Pace,
    *,
    draws: int,
    seed: int,
    failed: Mapping[str, str],
    reads: bool = False,
) -> Streamed:
    """The numbers of what was shown of some rows of a measured bundle, by id, in their order."""
    among = set(ids)
    files = one.predictions.take(ids).scores
    manifest = one.manifest.where(lambda u: u.id in among)
    decided = evaluation.decide(one.predictions.take([u.id for u in manifest]), manifest, split=_SPLIT)
    possible = allowed_classes(ids, manifest)
    finals = np.array([w.final for w in seen])
    heard = []
    for after_s in (*AFTER_S, None):
        heard.append(_heard(after_s, decided, possible, seen, finals, pace, draws=draws, seed=seed))
    away = np.abs(finals - files).max(axis=1)
    return Streamed(
        one.report.system, pace, len(seen), float(sum(w.duration_s for w in seen)),
        float(sum(e - s for w in seen for s, e in w.speech_s)), heard,
        _changes(seen, decided.speakers, draws, seed), _first(seen),
        {
            "n": len(seen), "other": int((finals.argmax(axis=1) != files.argmax(axis=1)).sum()),
            "beyond": int((away > TOLERANCE).sum()), "largest": float(away.max()), "tolerance": TOLERANCE,
        },
        failed, reads, _run(seen),
    )  # fmt: skip


def _heard(
    after_s: float | None,
    decided: evaluation.Decisions,
    possible: np.ndarray,
    seen: Sequence[Watched],
    finals: np.ndarray,
    pace: Pace,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The answers that stand there after so much speech: see :attr:`Streamed.heard`."""
    place = [None if after_s is None else w.shown_after(after_s, pace.chunk_s) for w in seen]
    scores = np.array(
        [f if k is None else w.shown[k] if k >= 0 else f for k, w, f in zip(place, seen, finals, strict=True)]
    )
    there = np.array([k is None or k >= 0 for k in place])
    running = np.array([k is not None for k in place])
    unsure = np.array(
        [w.abstain == "unsure" if k is None else k >= 0 and w.unsure[k] for k, w in zip(place, seen, strict=True)]
    )
    answer = np.where(possible, scores, -np.inf).argmax(axis=1)
    shown = replace(decided, answer=answer).where(there)
    found: dict[str, Any] = {
        "after_s": after_s, "metrics": None, "n": int(there.sum()), "waiting": int((~there).sum()),
        "running": int(running.sum()), "ended": int((~running).sum()), "right_running": None, "as_final": None,
        "confidence": None, "unsure": None,
    }  # fmt: skip
    if not there.any():
        return found
    counted = metrics.counted_when_drawn(decided.possible, decided.confusion(), shown.confusion())
    numbers = evaluation.classification(shown, clusters(shown.speakers), counted, draws=draws, seed=seed)
    early = there & running
    right = (answer == decided.truth)[early]
    return found | {
        "metrics": {name: numbers[name].to_row() for name in METRICS},
        "right_running": float(right.mean()) if len(right) else None,
        "as_final": float((scores.argmax(axis=1) == finals.argmax(axis=1))[there].mean()),
        "confidence": float(scores.max(axis=1)[there].mean()),
        "unsure": float(unsure[there].mean()),
    }


def _changes(seen: Sequence[Watched], speakers: Sequence[str | None], draws: int, seed: int) -> dict[str, Any]:
    """How often the label changes, and from when on it does not: see :attr:`Streamed.changes`."""
    labels = [[int(np.argmax(p)) for p in (*w.shown, w.final)] for w in seen]
    n_changes = np.array([sum(a != b for a, b in itertools.pairwise(one)) for one in labels])
    early = np.array([len(one) > 1 for one in labels])
    stable = []
    for w, one in zip(seen, labels, strict=True):
        if len(one) > 1 and w.speech_s:
            moments = (*w.at_s, w.duration_s)
            last = max((k for k, label in enumerate(one) if label != one[-1]), default=-1)
            stable.append(moments[last + 1] - w.speech_s[0][0])
    minutes = sum(e - s for w in seen for s, e in w.speech_s) / 60
    first = np.array([one[0] == one[-1] for one in labels])
    groups, answered = clusters(speakers), [s for s, yes in zip(speakers, early, strict=True) if yes]
    return {
        "each": _mean(n_changes, groups, draws, seed).to_row(),
        "none": _mean(n_changes == 0, groups, draws, seed).to_row(),
        "per_minute": float(n_changes.sum() / minutes) if minutes else None,
        "at_end": int(sum(len(one) > 1 and one[-1] != one[-2] for one in labels)),
        "first_is_final": _mean(first[early], clusters(answered), draws, seed).to_row() if early.any() else None,
        "n": int(early.sum()),
        "silent": int((~early).sum()),
        "stable_s": _spread(stable, (50, 90, 95)),
    }


def _first(seen: Sequence[Watched]) -> dict[str, Any]:
    """When the first answer comes: see :attr:`Streamed.first_s`."""
    early = [w for w in seen if w.at_s]
    return {
        "audio": _spread([w.at_s[0] for w in early], (50, 90, 95)),
        "speech": _spread([w.at_s[0] - w.speech_s[0][0] for w in early if w.speech_s], (50, 90, 95)),
    }


def _run(seen: Sequence[Watched]) -> dict[str, Any]:
    """What the computing took, on what."""
    every = np.array([us for w in seen for us in w.chunks_us]).reshape(-1, 2) / 1000
    answered = np.array([yes for w in seen for yes in w.answered], dtype=bool)
    ends = np.array([w.end_us for w in seen]) / 1000
    wall_s, cpu_s = (every.sum(axis=0) + ends.sum(axis=0)) / 1000
    audio_s = sum(w.duration_s for w in seen)
    percents = (50, 95, 99)
    taken = {"chunk": every, "answering": every[answered], "end": ends}
    return {
        **{f"{name}_ms": _spread(ms[:, 0], percents) for name, ms in taken.items()},
        **{f"{name}_processor_ms": _spread(ms[:, 1], percents) for name, ms in taken.items()},
        "real_time_factor": float(wall_s / audio_s),
        "processor_per_s": float(cpu_s / audio_s),
        "processor": processor(),
        "cores": cores(),
        "processes": max(w.processes for w in seen),
    }


def processor() -> str:
    """The name of this machine's processor, as far as the system says it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())


def _mean(values: np.ndarray, groups: Clusters, draws: int, seed: int) -> Metric:
    """The mean of (rows,) values with its interval by speaker."""
    table = np.asarray(values, dtype=np.float64)[:, None]
    low, high = percentile_interval(resampled_means(table, groups, draws=draws, seed=seed)[:, 0])
    return Metric(float(table.mean()), low, high, len(table), groups.speakers, groups.interval(draws))


def _spread(values: Sequence[float] | np.ndarray, percents: Sequence[int]) -> dict[str, float | int] | None:
    """Percentiles and the largest of some values, with their number; ``None`` of none."""
    if not len(values):
        return None
    found = np.percentile(np.asarray(values, dtype=np.float64), percents)
    named = {f"p{p}": float(v) for p, v in zip(percents, found, strict=True)}
    return {**named, "largest": float(np.max(values)), "n": len(values)}
