"""What a measured bundle says in a terminal: its numbers, and what could not be answered."""

from __future__ import annotations

from collections.abc import Sequence

from serkit import regions
from serkit.conformal import Covered
from serkit.labels import on_answers
from serkit.predictions import Metric
from serkit.reporting.group_words import gap_lines
from serkit.reporting.text import NOT_NAMED, OWN, count, other_scales, trained_on_too, whole, without_text
from serkit.serving.measuring import Measured
from serkit.serving.streamed import Streamed

REMARKS = 10  # that are told in a terminal


def lines(measured: Measured) -> list[str]:
    """The numbers of a bundle as text."""
    report = measured.report
    n = report.metrics["uar"].n
    left = ", ".join(f"{n_out} {reason}" for reason, n_out in measured.left_out.items())
    found = [f"{report.system}: n = {n}, {len(measured.labels)} classes ({', '.join(measured.labels)})"]
    found += [f"  left out: {left}"] if left else []
    notes = [*regions.lines(measured.manifest), *on_answers(measured.manifest)]
    disputed = sum(u.emotion is None for u in measured.manifest)
    notes += [f"{count(disputed, 'clip')} without a label: counted in the closeness to votes alone"] if disputed else []
    notes += [without_text(measured.no_text, n)] if measured.no_text else []
    notes += [] if measured.scales is None else [other_scales(measured.scales)]
    if measured.trained_on:
        notes.append(trained_on_too(measured.trained_on))
    elif any(u.corpus == OWN for u in measured.manifest):
        notes.append(NOT_NAMED)
    found += [f"  {line}" for line in notes]
    found += [f"  {name:12} {_number(m)}" for name, m in report.metrics.items()]
    unsure, silent = (measured.abstained[reason] for reason in ("unsure", "no_speech"))
    found.append(f"  confidence   {measured.confidence:.3f} on average; {unsure} unsure, {silent} no_speech")
    found += [] if measured.sets is None else _set_lines(measured.sets)
    found += [
        "  by class     " + ", ".join(f"{k} {v['recall']:.2f}" for k, v in report.per_class.items()) + " (recall)"
    ]
    for field, values in report.slices.items():
        part = "; ".join(f"{value} {m['uar'].value:.3f} (n = {m['uar'].n})" for value, m in values.items())
        found.append(f"  by {field}: UAR {part}")
        found += [f"    {line}" for line in gap_lines(measured.gaps[field].to_row())]
    return found


def _set_lines(sets: Covered) -> list[str]:
    """What sets are worth, as text."""
    found = [
        f"  sets at {sets.coverage:g}: the share that holds the true class is {_number(sets.held)}",
        f"    {sets.size.value:.2f} classes in a set on average; {sets.alone:.0%} of the sets have one class",
        "    share by class: " + ", ".join(f"{k} {v['held']:.2f}" for k, v in sets.by_class.items()),
    ]
    if sets.by_speaker:
        mean, low = sets.by_speaker["mean"], sets.by_speaker["low"]
        found.append(f"    share by speaker: {mean:.2f} on average, {low:.2f} for the tenth with the lowest shares")
    return found


def failures(found: Sequence[Measured]) -> list[str]:
    """A line for each recording that could not be answered, once with its conditions if it fails under these alone."""
    told = [f"{name}: {reason}" for name, reason in found[0].failed.items()]
    for one in found[1:]:
        where = "" if one.condition is None else f" (under {one.condition.name})"
        told += [f"{i}{where}: {reason}" for i, reason in one.failed.items() if i not in found[0].failed]
    return told


def remarks(found: Sequence[Measured]) -> list[str]:
    """What is wrong with recordings that were answered all the same, each remark once, with the first that has it."""
    told = [
        f"note: {ids[0]}{f' and {whole(len(ids) - 1)} more' if len(ids) > 1 else ''}: {remark}"
        for remark, ids in found[0].remarked.items()
    ]
    more = len(told) - REMARKS
    return told if more <= 0 else [*told[:REMARKS], f"note: {count(more, 'other remark')}: see --out, or --json"]


def stream_complaints(found: Streamed) -> list[str]:
    """A line for each recording that no stream could answer, and one if streams end otherwise than the files."""
    told = [f"{name} (streamed): {reason}" for name, reason in found.failed.items()]
    if found.differs:
        told.append(
            f"{found.system}: {found.differs} of {found.n} streams end with other probabilities than the file's "
            f"(largest difference {found.finals['largest']:.1g}, tolerance {found.finals['tolerance']:g})"
        )
    return told


def _number(metric: Metric) -> str:
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]  {metric.interval}"
