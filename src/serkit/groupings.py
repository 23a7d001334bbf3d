"""Which group each utterance is in: by gender, language, corpus, duration, or any column of a table.

A column of numbers with many values is cut into bins. Utterances without a value are a group of their own, `unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import ValidationError

from serkit.errors import SerkitError, did_you_mean
from serkit.evaluate_settings import Group
from serkit.types import ATTRIBUTES, Utterance

UNKNOWN = "unknown"
ALWAYS = ("gender", "language", "corpus", "duration")
FIELDS = (*ALWAYS, "speaker", "text", "channel", *ATTRIBUTES)
FEW_VALUES = 6  # a column of numbers with no more of them keeps each as a group
MOST_GROUPS = 40
_ABSENT = ("", "nan", "na", "n/a", "none", "null", UNKNOWN)


@dataclass(frozen=True)
class Grouping:
    """Rows by group.

    Attributes:
        name: the column. groups: their names, in the order in which they are shown, ``unknown`` last.
        index: (rows,) int64: position of each row's group in ``groups``.
    """

    name: str
    groups: tuple[str, ...]
    index: np.ndarray


def parse_groups(texts: Sequence[str]) -> tuple[Group, ...]:
    """Groups as the command line has them: ``accent``, or ``age=30,50`` with the edges of its bins.

    Raises:
        SerkitError: no name, edges that are not rising numbers, or a column twice.

    >>> parse_groups(["accent", "age=30,50"])[1].edges
    (30.0, 50.0)
    """
    found: dict[str, Group] = {}
    for text in texts:
        name, given, edges = text.partition("=")
        try:
            group = Group.model_validate({"name": name.strip(), "edges": edges.split(",") if given else ()})
        except ValidationError:
            raise SerkitError(
                f"--group '{text}': expected the name of a column, or a name with rising edges, such as age=30,50"
            ) from None
        if group.name in found:
            raise SerkitError(f"--group '{text}': the column '{group.name}' is given twice")
        found[group.name] = group
    return tuple(found.values())


def check(utterances: Sequence[Utterance], asked: Sequence[Group]) -> None:
    """Refuse columns that no utterance has, that cannot be cut at edges, or that have too many values.

    Raises:
        SerkitError: the first such column, with the nearest known one.
    """
    for group in asked:
        values = [_value(u, group.name) for u in utterances]
        if all(v is None for v in values):
            known = dict.fromkeys([*FIELDS, *(k for u in utterances for k in u.meta)])
            there = [name for name in known if any(_value(u, name) is not None for u in utterances)]
            raise SerkitError(
                f"no utterance has a value in the column '{group.name}'" + did_you_mean(group.name, there)
            )
        _grouped(group, values, _n_speakers(utterances))


def groupings(utterances: Sequence[Utterance], asked: Sequence[Group] = ()) -> tuple[Grouping, ...]:
    """Gender, language, corpus and third of duration, where utterances differ in them; then the columns asked for.

    Args:
        utterances: the rows. asked: further columns; one of the four replaces what is done without being asked.

    Raises:
        SerkitError: a column that cannot be cut at its edges, or has too many values.
    """
    wanted = {group.name: group for group in asked}
    found = []
    for name in dict.fromkeys((*ALWAYS, *wanted)):
        values = [_value(u, name) for u in utterances]
        if name in wanted:
            found.append(_grouped(wanted[name], values, _n_speakers(utterances)))
        else:
            grouping = _thirds(values) if name == "duration" else _by_value(name, values)
            if len(grouping.groups) > 1:
                found.append(grouping)
    return tuple(found)


def duration_s(utterance: Utterance) -> float | None:
    """Length of an utterance in seconds: from its times, else from ``meta["duration_s"]``, else ``None``."""
    if utterance.end_s is not None:
        return utterance.end_s - (utterance.start_s or 0.0)
    found = utterance.meta.get("duration_s")
    return float(found) if isinstance(found, int | float) else None


def _value(utterance: Utterance, name: str) -> Any:
    """What an utterance has in a column, ``None`` where it has nothing."""
    if name == "duration":
        return duration_s(utterance)
    found = getattr(utterance, name) if name in FIELDS else utterance.meta.get(name)
    if found is None or isinstance(found, list | tuple | dict) or str(found).strip().lower() in _ABSENT:
        return None
    return found


def _grouped(group: Group, values: Sequence[Any], n_speakers: int) -> Grouping:
    """A column that was asked for: bins of numbers, else a group for each value."""
    numbers = [_number(v) for v in values]
    known = sorted({n for n in numbers if n is not None})
    words = [v for v, n in zip(values, numbers, strict=True) if v is not None and n is None]
    if group.edges and words:
        raise SerkitError(f"group '{group.name}' has edges, but one of its values is '{words[0]}' and no number")
    edges = group.edges
    if not edges and len(known) > FEW_VALUES and not words and group.name != "speaker":  # whose numbers are names
        edges = _edges([n for n in numbers if n is not None], n_speakers)
    if edges:
        return _binned(group.name, numbers, edges)
    found = _by_value(group.name, values)
    if len(found.groups) > MOST_GROUPS:
        raise SerkitError(
            f"column '{group.name}' has {len(found.groups)} different values, such as '{found.groups[0]}'; groups need "
            f"a column of at most {MOST_GROUPS}, or of numbers"
        )
    return found


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _by_value(name: str, values: Sequence[Any]) -> Grouping:
    """A group for each value, numbers by size and words by alphabet."""
    texts = [UNKNOWN if v is None else _text(v) for v in values]
    numbers = {t: _number(t) for t in texts}
    order = sorted(numbers, key=lambda t: (t == UNKNOWN, numbers[t] is None, numbers[t] or 0.0, t))
    return _indexed(name, order, texts)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps comes as 1.0, 2.0
    return str(value).strip()


def _indexed(name: str, order: Iterable[str], texts: Sequence[str]) -> Grouping:
    """Rows by the names of their groups; groups without a row are left out."""
    there = set(texts)
    groups = tuple(group for group in order if group in there)
    place = {group: k for k, group in enumerate(groups)}
    return Grouping(name, groups, np.array([place[text] for text in texts], dtype=np.int64))


def _binned(name: str, numbers: Sequence[float | None], edges: Sequence[float]) -> Grouping:
    """Numbers by bin; a number that is an edge is in the bin above it."""
    marks = [_text(edge) for edge in edges]  # every digit: dates such as 20260131 must not be one group
    names = [f"below {marks[0]}", *(f"{a} to {b}" for a, b in pairwise(marks)), f"from {marks[-1]}"]
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), [n or 0.0 for n in numbers], side="right")
    texts = [UNKNOWN if n is None else names[p] for n, p in zip(numbers, places, strict=True)]
    return _indexed(name, [*names, UNKNOWN], texts)


def _edges(numbers: Sequence[float], n_speakers: int) -> tuple[float, ...]:
    """The edges of groups with about as many rows each: whole where all numbers are, else of three digits that differ.

    Four groups; three or two where fewer than 20 or 15 speakers are known, so that a group has five of them or more.
    """
    n = min(max(n_speakers // 5, 2), 4) if n_speakers else 4
    edges = np.quantile(numbers, np.arange(1, n) / n).tolist()
    whole, lowest, highest = all(x.is_integer() for x in numbers), min(numbers), max(numbers)
    digits = 3 + max(0, math.floor(math.log10(max(abs(lowest), abs(highest)) / (highest - lowest))))
    rounded = [float(math.ceil(e)) if whole else float(f"{e:.{digits}g}") for e in edges]
    return tuple(sorted({e for e in rounded if lowest < e <= highest}))


def _n_speakers(utterances: Sequence[Utterance]) -> int:
    return len({u.speaker for u in utterances} - {None})


def _thirds(values: Sequence[float | None]) -> Grouping:
    """Durations by third; one group where they do not differ."""
    known = [d for d in values if d is not None]
    low, high = np.quantile(known, [1 / 3, 2 / 3]) if known else (0.0, 0.0)
    if round(low, 2) >= round(high, 2):
        return _indexed("duration", [UNKNOWN], [UNKNOWN] * len(values))
    names = (f"1 below {low:.2f} s", f"2 {low:.2f} to {high:.2f} s", f"3 from {high:.2f} s")
    texts = [UNKNOWN if d is None else names[int(d >= low) + int(d >= high)] for d in values]
    return _indexed("duration", [*names, UNKNOWN], texts)
