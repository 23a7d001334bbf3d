"""A model adapted to labelled clips: it is asked about each, a correction is fitted, a new bundle is written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serkit import comparison, conformal
from serkit.calibration import folds_by
from serkit.errors import SerkitError
from serkit.interrupts import resumable
from serkit.labels import on_answers
from serkit.predictions import Predictions
from serkit.probabilities import restricted
from serkit.processes import here_or_in_processes
from serkit.progress import Meter, ProgressCallback
from serkit.reporting.text import count, listed, trained_on_too, voices
from serkit.serving import adapting, measuring
from serkit.serving import own_labels as others
from serkit.serving.bundle import HELD_OUT, LABELLED, Bundle, open_bundle
from serkit.serving.bundle_files import check_new
from serkit.serving.bundle_parts import arrays_file, head_of, held_out_file, sureness
from serkit.serving.card_parts import sets_table
from serkit.serving.correcting import FOLDS, Clips, Fitted, cross_validated
from serkit.serving.correction import uniform
from serkit.serving.measuring import Measured
from serkit.serving.pieces import standing_for
from serkit.serving.predictor import Model
from serkit.serving.resuming import KeptAnswers
from serkit.serving.scorer import Scorer
from serkit.serving.shared_labels import ALL, shared_rows
from serkit.types import Manifest, Utterance

LEAST_CLIPS = 20  # fewer were not measured
DECIMALS = 4  # of what is kept of an embedding, whose length is 1
BY_CLIP = "speakers are unknown, or there is one: clips were held out instead, so new speakers are answered less well"

Job = tuple[str, float | None, float | None, str | None, *tuple[int, ...]]  # path, start, end, words; channel, if any


@dataclass(frozen=True)
class Taught:
    """A bundle adapted to labelled clips, not written yet.

    Attributes:
        head, files: for :func:`serkit.serving.bundle.write_bundle`.
        before, after: the answers of the original model, and cross-validated ones of the adapted model, measured on
            these clips; before is ``None`` where it does not have these labels. differences: of both, paired.
    """

    head: Mapping[str, object]
    files: Mapping[str, bytes]
    before: Measured | None
    after: Measured
    differences: tuple[comparison.Difference, ...]


def adapt(
    source: str | Path | Bundle,
    manifest: Manifest,
    *,
    split: str = ALL,
    labels: Sequence[str] | None = None,
    own_labels: bool = False,
    name: str | None = None,
    at_most: int = adapting.MOST_RECORDINGS,
    jobs: int = 1,
    draws: int = 1000,
    complain: Callable[[str], None] = lambda line: None,
    progress: ProgressCallback | None = None,
    keep: Path | None = None,
) -> Taught:
    """Learn a correction of a bundle's answers from labelled clips.

    No weight of a network is changed; see :mod:`serkit.serving.correction` for what is learned. Labels of the model
    without clips here are not moved; rows with a label that the model does not have are left out and counted.

    Args:
        source: the bundle, or its name or place. manifest: labelled clips; their order does not matter.
        split, labels: which rows and classes, as for :func:`serkit.serving.measuring.measure`.
        own_labels: the labels of the clips take the place of the model's, whatever these are.
        name: of the new bundle; ``NAME-adapted`` where ``None``.
        at_most: so many clips are heard, drawn at random, the same every time. jobs: processes; 0 is one per core.
        draws: bootstrap resamples of the intervals.
        complain: told in one line of a recording that cannot be read; the others count all the same.
        keep: file that keeps what was heard of each clip.

    Raises:
        SerkitError: a bundle that is corrected already, fewer than 20 clips or two classes, a class of its own with one
            clip, or clips that do not make the model better on clips that were held out.
    """
    bundle = source if isinstance(source, Bundle) else open_bundle(source)
    adapting.refuse_corrected(bundle)
    manifest = manifest if own_labels else others.divided(manifest, bundle)
    known = manifest.labels if own_labels else bundle.labels
    rows, shared, left_out = shared_rows(manifest, known, split, labels)
    ordered = sorted(rows, key=lambda u: u.id)
    chosen = [ordered[k] for k in _drawn(len(rows), at_most)]
    if len(chosen) < len(rows):
        left_out = {**left_out, f"beyond the {at_most} sampled": len(rows) - len(chosen)}
    places, channels = [manifest.audio_path(u) for u in chosen], [u.channel for u in chosen]
    adapting.tell_of_calls(bundle, source, places, complain, channels=channels)
    heard, failed = _heard(bundle, manifest, chosen, jobs, complain, progress, keep)
    kept = [u for u in chosen if u.id not in failed]
    classes = {u.emotion for u in kept}
    if len(kept) < LEAST_CLIPS or len(classes) < 2:
        adapting.forget(keep)
        raise SerkitError(
            f"{count(len(kept), 'labelled clip')} of {count(len(classes), 'class')} ({len(failed)} unreadable): "
            f"adapting with labels takes {LEAST_CLIPS} clips or more, of two classes or more"
        )
    if own_labels:
        shared = known = others.own(shared, kept)
    clips = _clips(bundle, kept, heard, known, own=own_labels)
    meter = Meter("fit", FOLDS + 1, progress, unit="fits")
    fitted = cross_validated(clips, meter.advance)
    if fitted.loss_after >= fitted.loss_before:
        adapting.forget(keep)
        aim, at_first = ("make the model better", "before") if not own_labels else ("tell them apart", "by chance")
        raise SerkitError(
            f"the {len(kept)} labelled clips do not {aim} on clips held out by {fitted.unit}: log loss "
            f"{fitted.loss_before:.3f} {at_first}, {fitted.loss_after:.3f} after; nothing was written. Add clips of "
            "more speakers" + ("" if own_labels else ", or keep the original model")
        )
    called = name or adapting.adapted_name(bundle.name)
    there = [label for label in shared if label in classes]
    columns = [known.index(label) for label in there]

    def measured(system: str, answers: np.ndarray) -> Measured:
        table = _table(system, bundle, there, kept, restricted(answers, columns))
        return measuring.measured(table, manifest, kept, bundle, draws=draws, left_out=left_out, failed=failed)

    before, after = None if own_labels else measured(bundle.name, clips.answered()), measured(called, fitted.held)
    paired = () if before is None else measuring.differences(after, before, draws=draws)
    head, files = _made(bundle, called, manifest, split, clips, fitted, known, before, after)
    return Taught(head, files, before, after, paired)


def adapt_to(source: str | Path | Bundle, manifest: Manifest, out: Path, **options: Any) -> tuple[Bundle, Taught]:
    """:func:`adapt`, written to ``out`` and opened; stopped and called again it goes on with what it has heard.

    Args:
        options: as for :func:`adapt`.

    Raises:
        SerkitError: as there; ``out`` is there already, or cannot be written.
    """
    check_new(out)
    keep = out.with_name(f".{out.name}.labelled")
    with resumable():
        taught = adapt(source, manifest, keep=keep, **options)
    return adapting.write((taught.head, dict(taught.files)), out, keep), taught


def lines(taught: Taught) -> list[str]:
    """What the clips changed, as text."""
    facts: Any = taught.head["labelled"]
    asked = {"before": taught.before, "after": taught.after}
    reports = {title: one.report for title, one in asked.items() if one is not None}
    after = taught.after.report
    classes = ", ".join(f"{label} {n}" for label, n in facts["classes"].items())
    found = [f"{count(facts['clips'], 'labelled clip')} of {voices(facts['speakers'])}: {classes}"]
    left = ", ".join(f"{n} {reason}" for reason, n in taught.after.left_out.items())
    found += [f"  left out: {left}"] if left else []
    found += [f"  {line}" for line in on_answers(taught.after.manifest)]
    if taught.before is None:
        found += [f"{after.system}, which answers these labels and no longer {', '.join(facts['instead_of'])},"]
        found += [f"{facts['measured']}; by chance UAR would be {1 / len(after.per_class):.3f}:"]
    else:
        found += [f"{taught.before.report.system} before, {after.system} {facts['measured']}:"]
    for key in ("uar", "macro_f1", "accuracy", "ece"):
        numbers = (report.metrics[key] for report in reports.values())
        spans = (f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in numbers)
        found.append(f"  {key:12} {'  '.join(spans)}  {after.metrics[key].interval}")
    found += [
        f"  {d.metric} difference {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}], p = {d.larger_p:.3f} "
        f"(bootstrap {d.p:.3f}, permuted {d.p_permutation:.3f})  {d.interval}"
        for d in taught.differences
        if d.metric == "uar"
    ]
    found += [f"  {trained_on_too(known)}"] if (known := taught.after.trained_on) else []
    for title, report in reports.items():
        recall = ", ".join(f"{label} {row['recall']:.2f}" for label, row in report.per_class.items())
        found.append(f"  {'recall' if taught.before is None else f'recall {title:6}'} {recall}")
    return [*found, f"  {BY_CLIP}"] if facts["unit"] == "clip" else found


def _drawn(n: int, at_most: int) -> list[int]:
    """Places of so many of n clips at most, drawn at random, ascending.

    Evenly spaced ones could be of one sort alone, as ids of two voices in turn are.

    >>> _drawn(4, 9), len(_drawn(9, 4))
    ([0, 1, 2, 3], 4)

    Raises:
        SerkitError: fewer than 1.
    """
    if at_most < 1:
        raise SerkitError(f"at most {at_most} clips: expected 1 or more")
    return sorted(np.random.default_rng(0).permutation(n)[:at_most].tolist())


def _clips(
    bundle: Bundle, rows: Sequence[Utterance], heard: Sequence[np.ndarray], labels: Sequence[str], *, own: bool
) -> Clips:
    """From (pieces, weight + classes + dim) of each clip; with labels of the clips' own nothing is known before."""
    every, n = np.concatenate(heard), len(bundle.labels)
    clip = np.repeat(np.arange(len(heard)), [len(pieces) for pieces in heard])
    weight = every[:, 0] / np.bincount(clip, every[:, 0])[clip]
    truth = np.array([labels.index(str(u.emotion)) for u in rows])
    embedded = every[:, 1 + n :].astype(np.float32)
    shares = uniform(len(every), len(labels)) if own else every[:, 1 : 1 + n]
    return Clips(shares, embedded, clip, weight, truth, tuple(u.speaker for u in rows))


def _table(
    system: str, bundle: Bundle, labels: Sequence[str], rows: Sequence[Utterance], shares: np.ndarray
) -> Predictions:
    ids, seen = tuple(u.id for u in rows), np.zeros(len(rows), dtype=bool)
    return Predictions(system, tuple(labels), "prob", ids, (bundle.name,) * len(ids), seen, shares)


def _made(
    bundle: Bundle,
    name: str,
    manifest: Manifest,
    split: str,
    clips: Clips,
    fitted: Fitted,
    labels: tuple[str, ...],
    before: Measured | None,
    after: Measured,
) -> tuple[dict[str, object], dict[str, bytes]]:
    """Head and files of the new bundle, which answers these labels."""
    files = bundle.contents()
    files[LABELLED] = arrays_file(fitted.correction.to_arrays())
    files[HELD_OUT] = held_out_file(fitted.held, clips.truth)
    reports = [one.report.metrics for one in (before, after) if one is not None]
    own = before is None
    named = sorted({u.corpus for u in after.manifest if u.corpus})
    facts = {
        "from": bundle.id,
        "manifest": manifest.fingerprint,
        "split": split,
        "clips": len(clips.truth),
        "speakers": len(set(clips.speakers) - {None}),
        "classes": {x: int(n) for x, n in zip(labels, np.bincount(clips.truth), strict=False) if n},
        "strength": fitted.strength,
        "unit": fitted.unit,
        "measured": f"cross-validated {folds_by(clips.speakers, fitted.folds)}",
        "log_loss": [fitted.loss_before, fitted.loss_after],
        "uar": [metrics["uar"].value for metrics in reports],
        "ece": [metrics["ece"].value for metrics in reports],
        **({"instead_of": list(bundle.labels)} if own else {}),
    }
    trained = dict(bundle.head.get("trained_on", {}))
    trained["corpus"] = "+".join(filter(None, dict.fromkeys([*str(trained.get("corpus", "")).split("+"), *named])))
    sets = conformal.crossed(fitted.held, clips.truth, labels, clips.speakers)
    head: dict[str, object] = {
        **head_of(bundle),
        "name": name,
        **({"labels": list(labels), "network_labels": list(bundle.scored)} if own else {}),
        "trained_on": trained,
        "labelled": facts,
        **sureness(fitted.held, clips.truth),
        "sets": sets,
    }
    told = _told(facts, before, after, sets)
    card = adapting.card_with(bundle, name, "Adapted with labels", told)
    files["card.md"] = (others.with_labels(card, bundle, labels) if own else card).encode()
    return head, files


def _told(facts: Mapping[str, Any], before: Measured | None, after: Measured, sets: Sequence[Mapping[str, Any]]) -> str:
    """The section of the card."""
    classes = listed([f"{label} {n}" for label, n in facts["classes"].items()])
    rows = ["| model | metric | value | interval | clips | speakers |", "|---|---|---|---|---|---|"]
    for title, one in (("before", before), ("adapted, cross-validated", after)):
        for key, called in (("uar", "UAR"), ("macro_f1", "Macro-F1"), ("accuracy", "Accuracy"), ("ece", "ECE")):
            if one is None:
                continue
            m = one.report.metrics[key]
            span = f"{m.low:.3f} to {m.high:.3f} ({m.interval})"
            rows.append(f"| {title} | {called} | {m.value:.3f} | {span} | {m.n} | {m.speakers} |")
    regression = f"logistic regression on the networks' embeddings (prior of strength {facts['strength']:g})"
    done = (
        f"the probabilities of these classes are corrected by a {regression}; no weights of the networks are changed, "
        "and other classes are not moved"
        if before is not None
        else f"these classes take the place of {listed(facts['instead_of'])}; their probabilities are a {regression}, "
        "which was fitted to these clips alone; no weights of the networks are changed"
    )
    return (
        f"To {count(facts['clips'], 'labelled clip')} of {voices(facts['speakers'])} ({classes}), from "
        f"`{facts['from']}`: {done}. Their licence applies to this bundle as well. Everything above was measured "
        "before that.\n\n"
        f"On these clips, among their classes ({facts['measured']}; the strength is chosen on the same folds):\n\n"
        + "\n".join(rows)
        + (f"\n\nNote: {BY_CLIP}." if facts["unit"] == "clip" else "")
        + (f"\n\nNote: {trained_on_too(after.trained_on)}." if after.trained_on else "")
        + "\n\nAnswers are marked unsure, and thresholds are measured, by the cross-validated answers to these clips."
        + (f"\n\n{sets_table(sets)}" if sets else "")
    )


def _heard(
    bundle: Bundle,
    manifest: Manifest,
    rows: Sequence[Utterance],
    jobs: int,
    complain: Callable[[str], None],
    progress: ProgressCallback | None,
    keep: Path | None,
) -> tuple[list[np.ndarray], dict[str, str]]:
    """(pieces, weight + classes + dim) of each clip that can be heard, and reasons by id of the others."""
    tasks: list[Job] = [
        (str(manifest.audio_path(u)), u.start_s, u.end_s, u.text, *(() if u.channel is None else (u.channel,)))
        for u in rows
    ]
    kept = KeptAnswers(keep, [bundle.fingerprint, DECIMALS], tasks)
    left = kept.left
    if len(left) < len(rows):
        complain(f"{len(rows) - len(left)} of {count(len(rows), 'recording')} are already processed")
    meter = Meter("adapt", len(left), progress, unit="recordings")
    failed: dict[str, str] = {}
    make = functools.partial(_listener, bundle.source)
    with closing(here_or_in_processes(make, _listen, [tasks[k] for k in left], jobs)) as answers:
        for k, found in zip(left, answers, strict=True):
            meter.advance(failed=int(isinstance(found, str)))
            if isinstance(found, str):
                failed[rows[k].id] = found
                complain(f"{rows[k].id}: {found}")
            else:
                kept.add(k, found.tolist())
    return [np.array(kept.found[k]) for k in sorted(kept.found)], failed


def _listener(source: str) -> Model:
    bundle = open_bundle(source)
    model = Model(bundle)
    model.scorer = Scorer(bundle, embeds=True)
    return model


def _listen(model: Model, task: Job) -> np.ndarray | str:
    """(pieces, weight + classes + dim) of a clip, or what is wrong with it in one line."""
    path, start_s, end_s, text, *heard = task
    found = []
    try:
        blocks = model.blocks(path, None, start_s=start_s, end_s=end_s, channel=heard[0] if heard else None)
        for weight, clip in standing_for(blocks, model.max_clip_s):
            features = model.scorer.heard(clip, text if model.reads_text else None)
            shares, embedded = model.scorer.embedded_answers([features])
            found.append(np.hstack([[[weight]], shares, np.round(embedded.astype(np.float64), DECIMALS)]))
    except SerkitError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
    return np.concatenate(found)
