"""What the numbers of measured bundles say in words: the headline, the findings, and what to know before trusting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serkit.reporting.group_words import gap_of, is_found, sentences, title
from serkit.reporting.svg import cut
from serkit.reporting.tables import mixed_up
from serkit.reporting.text import (
    NOT_KNOWN,
    NOT_NAMED,
    OWN,
    between,
    capital,
    count,
    finite,
    listed,
    number,
    other_scales,
    spaced,
    trained_on_too,
    voices,
    whole,
    without_text,
)
from serkit.reporting.verdict import outcome
from serkit.row_checks import THIN_CLIPS

ENOUGH_SPEAKERS = 20  # below, an interval is called rough
ROOM = 20  # characters of a name in a drawing
KINDS = ("stack", "best")  # how the first and the second bundle are drawn
MANY = 5  # reasons are not listed one by one
Model = Mapping[str, Any]


def names(models: Sequence[Model]) -> list[str]:
    """The bundles by name, without the hash where the names differ."""
    systems = [str(m["system"]) for m in models]
    found = [system.partition("@")[0] for system in systems]
    return found if len(set(found)) == len(found) else systems


def short_names(models: Sequence[Model]) -> list[str]:
    """The same for a drawing: of at most :data:`ROOM` characters, still with the hash where only that differs."""
    parts = [name.rpartition("@") for name in names(models)]
    return [f"{cut(name, ROOM - 6)}@{ending[:5]}" if name else cut(ending, ROOM) for name, _, ending in parts]


def metric(model: Model, name: str) -> Mapping[str, Any]:
    """``{value, low, high, n, speakers, interval}``, empty where it was not measured."""
    found = (model.get("metrics") or {}).get(name)
    return found if isinstance(found, dict) and finite(found.get("value")) is not None else {}


def difference_in(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The paired difference in one metric, with its own p where it was not adjusted: it is then the only one."""
    found = next((d for d in rows if d.get("metric") == name), {})
    return found if not found or found.get("p_holm") is not None else {**found, "p_holm": found.get("p")}


def about(tree: Mapping[str, Any]) -> str:
    """How many recordings, speakers and classes, in a line."""
    first = tree["models"][0]
    uar = metric(first, "uar")
    return f"{count(uar.get('n'), 'recording')}, {voices(uar.get('speakers'))}, {count(len(first['labels']), 'class')}"


def headline(tree: Mapping[str, Any]) -> str:
    """The UAR of a bundle with its interval, or how two of them compare, in a sentence; and who may know the voices."""
    models = tree["models"]
    uar = metric(models[0], "uar")
    knowing = [n for n, m in zip(names(models), models, strict=True) if {*(m.get("trained_on") or ())} - {NOT_KNOWN}]
    if len(models) == 1:
        reached = f"UAR {number(uar.get('value'))} {between(uar.get('low'), uar.get('high'))}".strip()
        known = " that it may know" if knowing else ""
        return f"{reached} on {count(uar.get('n'), 'recording')} of {voices(uar.get('speakers'))}{known}"
    one, other = names(models)
    d = difference_in(tree.get("differences") or [], "uar")
    values = [d.get("value_a"), d.get("value_b")] if d else [metric(m, "uar").get("value") for m in models]
    words = {
        "better": f"{one} is better than {other}",
        "worse": f"{one} is worse than {other}",
        "leaning+": f"{one} is ahead of {other}, but not with certainty",
        "leaning-": f"{one} is behind {other}, but not with certainty",
        "open": f"{one} is not distinguishable from {other}",
    }[outcome(d)]
    known = f", on speakers that {'both' if len(knowing) == len(models) else knowing[0]} may know" if knowing else ""
    return f"{words}: UAR {number(values[0])} against {number(values[1])}{known}"


def lead(tree: Mapping[str, Any]) -> str:
    """What the headline rests on: chance, and how the intervals came about."""
    first = tree["models"][0]
    n, uar = len(first["labels"]), metric(first, "uar")
    guess = f"Guessing among {count(n, 'class')} reaches a UAR of {number(1 / n)}. " if n and not absent(first) else ""
    return f"{guess}Intervals: {uar.get('interval', 'none')}."


def findings(tree: Mapping[str, Any]) -> list[str]:
    """What each bundle mixes up, which classes it recalls, how sure it is, which groups differ, what sets hold."""
    return told(tree["models"], _findings)


def cautions(tree: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting a number."""
    models = tree["models"]
    return [*told(models, trained), *told(models, _answers), *told(models[:1], _rows), *rough(models[0])]


def trained(model: Model) -> list[str]:
    """That a bundle was trained on these speakers too, or may have been; on other ratings; had no texts.

    And that labels were answers before they were corrected.
    """
    corpora = str((model.get("provenance") or {}).get("corpus") or "").split("+")
    known = [trained_on_too(model["trained_on"])] if model.get("trained_on") else [NOT_NAMED] * (OWN in corpora)
    known += [other_scales(model["scales"])] if model.get("scales") else []
    known += [str(line) for line in model.get("answers") or []]
    n = int(finite(model.get("no_text")) or 0)
    return known + ([without_text(n, int(finite(metric(model, "uar").get("n")) or n))] if n else [])


def rough(model: Model) -> list[str]:
    """That intervals are of few speakers, or of unknown ones."""
    speakers = finite(metric(model, "uar").get("speakers")) or 0
    if speakers >= ENOUGH_SPEAKERS:
        return []
    if speakers:
        return [f"The recordings are of {voices(speakers)}: intervals are rough."]
    return ["The recordings are of unknown speakers: intervals are rough, and too narrow if a voice has several clips."]


def absent(model: Model) -> list[str]:
    """The classes without a clip."""
    return [label for label, scores in (model.get("per_class") or {}).items() if not finite(scores.get("support"))]


def told(models: Sequence[Model], lines_of: Callable[[Model], list[str]]) -> list[str]:
    """Lines of each bundle, with its name where there are two that say different things."""
    found = [lines_of(model) for model in models]
    if all(lines == found[0] for lines in found):
        return [_ended(capital(line)) for line in found[0]]
    return [_ended(f"{who}: {line}") for who, lines in zip(names(models), found, strict=True) for line in lines]


def _ended(line: str) -> str:
    return line if line.endswith(".") else f"{line}."


def _findings(model: Model) -> list[str]:
    mixed = mixed_up(model.get("confusion") or [], list(map(str, model["labels"])))
    found = [f"mixed up most: {mixed}"] if mixed else []
    recalls = {k: finite(v.get("recall")) for k, v in (model.get("per_class") or {}).items()}
    known = {k: v for k, v in recalls.items() if v is not None}
    if len(set(known.values())) > 1:
        high, low = max(known, key=lambda k: known[k]), min(known, key=lambda k: known[k])
        most, least = number(known[high], 2), number(known[low], 2)
        found.append(f"recall is highest for {high} ({most}), lowest for {low} ({least})")
    found += [*_sureness(model), *_gaps(model)]
    sets = model.get("sets")
    if isinstance(sets, dict):
        held, size = sets["held"], sets["size"]["value"]
        found.append(
            f"sets at {sets['coverage']:g} hold the true class for {number(held['value'])} "
            f"{between(held['low'], held['high'])} of the recordings, with {number(size, 2)} classes in a set"
        )
    return found


def _sureness(model: Model) -> list[str]:
    share = metric(model, "accuracy")
    sure, right, low, high = (finite(x) for x in (model.get("confidence"), *map(share.get, ("value", "low", "high"))))
    found = []
    if sure is not None and right is not None:
        said = f"the model is {'more' if sure > right else 'less'} sure than it is right"
        if low is None or high is None:
            said = "that share has no interval"
        elif low <= sure <= high:
            said = f"the interval of that share, [{number(low, 2)}, {number(high, 2)}], holds the confidence"
        found.append(
            f"confidence is {number(sure, 2)} on average, and {number(right, 2)} of the answers are right: {said}"
        )
    abstained = {k: int(finite(n) or 0) for k, n in (model.get("abstained") or {}).items()}
    if any(abstained.values()):
        told = listed([f"{whole(n)} {spaced(reason)}" for reason, n in abstained.items() if n])
        found.append(f"answers that abstain ({told}) count in every number all the same")
    return found


def _gaps(model: Model) -> list[str]:
    """The groups of a column that differ by more than chance explains."""
    gaps = {column: row for column, row in (model.get("gaps") or {}).items() if isinstance(row, dict)}
    return [f"by {title(k).lower()}: {sentences(row)[0]}" for k, row in gaps.items() if is_found(gap_of(row, "uar"))]


def _answers(model: Model) -> list[str]:
    """Who answered instead, what could not be answered, and classes that lost every clip by that."""
    by = {str(k): int(finite(n) or 0) for k, n in (model.get("answered_by") or {}).items()}
    found = [
        f"{whole(n)} of {whole(sum(by.values()))} recordings were taken for calls and answered by {who}"
        for who, n in by.items()
        if who != model["system"]
    ]
    failed = model.get("failed") or {}
    if failed:
        found.append(
            f"{count(len(failed), 'recording')} could not be answered, left out of every number: see What failed"
        )
    remarked = model.get("remarked") or {}
    for remark, ids in list(remarked.items())[:MANY]:
        found.append(f"{count(len(ids), 'recording')}, such as {ids[0]}: {remark}")
    if len(remarked) > MANY:
        found.append(f"{count(len(remarked) - MANY, 'other remark')} on recordings: see “remarked” in report.json")
    gone = absent(model)
    if gone:
        limit = number(1 - len(gone) / len(model["labels"]))
        found.append(f"no clip of {listed(gone)}: counted as 0 in Macro-F1 and UAR, which cannot exceed {limit}")
    return found


def _rows(model: Model) -> list[str]:
    """The rows that were left out, and classes of few clips."""
    left = {str(k): int(finite(n) or 0) for k, n in (model.get("left_out") or {}).items()}
    found = []
    if left:
        told = [f"{whole(n)} {reason}" for reason, n in sorted(left.items(), key=lambda row: -row[1])]
        few = listed(told) if len(told) <= MANY else f"{', '.join(told[:MANY])}, and others"
        found.append(f"{count(sum(left.values()), 'row')} left out: {few}")
    support = {k: int(finite(v.get("support")) or 0) for k, v in (model.get("per_class") or {}).items()}
    thin = {k: n for k, n in support.items() if 0 < n < THIN_CLIPS}
    if thin:
        least = min(thin, key=lambda k: thin[k])
        told = [f"{label} ({whole(n)})" for label, n in thin.items()]
        found.append(
            f"fewer than {THIN_CLIPS} clips of {listed(told)}: one clip of {least} is "
            f"{100 / thin[least]:.0f} points of its recall"
        )
    return found
