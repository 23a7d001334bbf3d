"""The rows of a table of recordings: its columns, their words and numbers, and ids where it has none."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit import recordings
from serkit.corpora._cells import ALIASES, Cells, read_cells
from serkit.errors import SerkitError, did_you_mean
from serkit.files import fingerprint
from serkit.types import ATTRIBUTES, Utterance

NAME = "table"
LAYOUT = (
    "a .csv, .tsv, .jsonl or .parquet file with the columns path and emotion (or votes, or ratings: arousal, valence, "
    "dominance), and optionally id, speaker, split, text, start_s, end_s, channel, gender, language, arousal, valence, "
    "dominance, votes; paths relative to the file (file, filename or audio for path, and label for emotion, are "
    "understood too)"
)

_NUMBERS = ("start_s", "end_s", "arousal", "valence", "dominance")
_TEXTS = ("speaker", "text", "language")
_KNOWN = ("path", "emotion", "id", "split", "channel", "gender", "votes", *_NUMBERS, *_TEXTS)
_SPLIT_WORDS = {
    "train": "train", "training": "train", "dev": "dev", "development": "dev", "val": "dev", "valid": "dev",
    "validation": "dev", "test": "test", "": None,
}  # fmt: skip
_GENDER_WORDS = {
    "f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male",
    "other": "other", "o": "other", "": None, "unknown": None,
}  # fmt: skip
_SIDES = {"left": "1", "right": "2"}
_ABSENT = ("", "nan", "na", "n/a", "none", "null")


def _text(value: Any) -> str:
    """A cell as text; absent, null and NaN are ``""``."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with gaps comes as 1.0, 2.0
    return str(value).strip()


def _word(value: Any, words: Mapping[str, str | None], column: str, where: str) -> str | None:
    text = _text(value).lower()
    if text not in words:
        raise SerkitError(f"{where}: {column} is '{_text(value)}'" + did_you_mean(text, [w for w in words if w]))
    return words[text]


def _number(value: Any, column: str, where: str) -> float | None:
    text = _text(value)
    if text.lower() in _ABSENT:
        return None
    try:
        return float(text)
    except ValueError:
        raise SerkitError(f"{where}: {column} is '{text}', expected a number with a decimal point") from None


def _channel(value: Any, where: str) -> int | None:
    """Which channel, 1 the first."""
    text = _text(value).lower()
    if text in _ABSENT:
        return None
    try:
        number = float(_SIDES.get(text, text))
    except ValueError:
        number = 0.0
    if not (number >= 1 and number.is_integer()):
        raise SerkitError(
            f"{where}: channel is '{_text(value)}', expected 1 for the first channel, 2 and so on, or left or right; "
            "rename a column that says something else"
        )
    return int(number)


def _votes(value: Any, where: str) -> dict[str, float] | None:
    """Votes as given (a JSON object, a mapping, or Parquet's list of pairs), by canonical label."""
    if value is None or (not isinstance(value, Mapping | list) and not _text(value)):
        return None
    try:
        pairs = dict(json.loads(value) if isinstance(value, str) else value)
        out: dict[str, float] = {}
        for word, weight in pairs.items():
            label = recordings.canonical_label(str(word))
            if label is not None and weight is not None:
                out[label] = out.get(label, 0.0) + float(weight)
    except (ValueError, TypeError):
        raise SerkitError(
            f'{where}: votes is {str(value)[:60]!r}, expected a JSON object such as {{"anger": 2}}'
        ) from None
    return out or None


def _most(votes: Mapping[str, float] | None) -> str | None:
    """The class with most votes; ``None`` where several share the first place."""
    first = max((votes or {}).values(), default=0.0)
    leading = [label for label, weight in (votes or {}).items() if weight == first and first > 0]
    return leading[0] if len(leading) == 1 else None


def _id_of(row: Mapping[str, Any], path: str, start: float | None, end: float | None, channel: int | None) -> str:
    given = _text(row.get("id"))
    if given:
        return recordings.safe_id(given)
    head, dot, suffix = path.rpartition(".")
    stem = head if dot and "/" not in suffix else path
    part = "" if start is None and end is None else f"_{start or 0:g}-{'end' if end is None else format(end, 'g')}"
    part += "" if channel is None else f"_channel{channel}"
    return recordings.safe_id(stem.lstrip("./") + part)


def _row(row: Mapping[str, Any], where: str) -> Utterance:
    path = _text(row.get("path")).replace("\\", "/")
    if not path:
        raise SerkitError(f"{where} has no path")
    numbers: dict[str, Any] = {name: _number(row.get(name), name, where) for name in _NUMBERS}
    texts: dict[str, Any] = {name: _text(row.get(name)) or None for name in _TEXTS}
    channel = _channel(row.get("channel"), where)
    label = _text(row.get("emotion"))
    meta: dict[str, Any] = {"label": label} if label else {}
    given = row.get("meta")
    if isinstance(given, Mapping):
        meta = {**given, **meta, "label": given.get("label", label)}
    meta.update({k: v for k, v in row.items() if k not in (*_KNOWN, "meta", "audio", "corpus") and _text(v)})
    try:
        return Utterance(
            id=_id_of(row, path, numbers["start_s"], numbers["end_s"], channel),
            audio=path,
            channel=channel,
            split=_word(row.get("split"), _SPLIT_WORDS, "split", where),
            emotion=recordings.canonical_label(label),
            votes=_votes(row.get("votes"), where),
            gender=_word(row.get("gender"), _GENDER_WORDS, "gender", where),
            corpus=NAME,
            meta=meta,
            **numbers,
            **texts,
        )
    except SerkitError as error:
        raise SerkitError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def read_rows(path: Path) -> tuple[list[Utterance], list[str], list[str], list[str]]:
    """The rows, of each where it is in the file (``line 2``), lines on how columns were read, and on answers there."""
    cells = read_cells(path, _KNOWN)
    if not cells.rows:
        raise SerkitError(f"table: {path} has no rows; expected {LAYOUT}")
    columns = list(dict.fromkeys(k for row in cells.rows for k in row))
    counted = "votes" in columns and "emotion" not in columns
    rated = "emotion" not in columns and not counted and _any_rating(cells.rows)
    _refuse_missing(path, columns, ("path",) if counted or rated else ("path", "emotion"))
    made = (
        _row(row, f"table: {path.name}, {cells.unit} {number}")
        for number, row in zip(cells.numbers, cells.rows, strict=True)
    )
    if counted:
        made = (dataclasses.replace(u, emotion=_most(u.votes)) for u in made)
    answers = _corrected(path, cells)
    if answers:  # ratings beside them are answers, too
        made = (dataclasses.replace(u, arousal=None, valence=None, dominance=None) for u in made)
    rows = _told_apart(path, cells, made)
    notes = [f"column '{column}' is used as '{name}'" for name, column in cells.renamed.items()]
    if counted:
        open_ones = sum(u.emotion is None for u in rows)
        notes.append(
            f"no emotion column: the label is the class with most votes; {open_ones} rows have a tie or no vote"
        )
    if rated:
        n = sum(u.is_rated for u in rows)
        notes.append(f"no emotion column: {n} of {len(rows)} rows have ratings, and none has a label of its own")
    return rows, [f"{cells.unit} {number}" for number in cells.numbers], notes, answers


def _corrected(path: Path, cells: Cells) -> list[str]:
    """Lines on how many labels differ from the answers of ``serkit predict`` in the same table; none without answers.

    Raises:
        SerkitError: none does: labels that a model gave itself teach it nothing, and measure it as always right.
    """
    if cells.renamed.get("emotion") != "label" or not all({"confidence", "abstain"} <= set(row) for row in cells.rows):
        return []
    labelled = [row for row in cells.rows if _text(row["emotion"])]
    answers = [row["probabilities"] if isinstance(row.get("probabilities"), Mapping) else row for row in labelled]
    shares = [_text(answer.get(_text(row["emotion"]))) for answer, row in zip(answers, labelled, strict=True)]
    if not any(shares):  # no column is called as a label is: a table of somebody's own
        return []
    given = [share == _text(row["confidence"]) for share, row in zip(shares, labelled, strict=True)]
    if all(given):
        raise SerkitError(
            f"table: {path.name} holds answers of serkit predict as they were given, which are no labels: listen to "
            "some, correct their 'label', and leave out the other rows (if all were right, name that column emotion)"
        )
    lines = [f"{given.count(False)} of {len(given)} labels differ from the answers of serkit predict beside them"]
    if _any_rating(cells.rows):
        lines.append(
            "the ratings are answers of serkit predict, and left out: if they are corrected, name the column 'label' "
            "emotion"
        )
    return lines


def _refuse_missing(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in columns:
            expected = f"'{name}' (or one of {', '.join(ALIASES[name])})"
            meant = ("emotion", "votes") if name == "emotion" else (name,)
            near = [column for word in meant for column in difflib.get_close_matches(word, columns, n=1)]
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise SerkitError(f"table: {path} has no column {expected}, it has {', '.join(columns)[:200]}{hint}")


def _told_apart(path: Path, cells: Cells, made: Iterable[Utterance]) -> list[Utterance]:
    """The rows, each with an id of its own; ids that were made of the same path are made longer.

    Raises:
        SerkitError: the same stretch twice, or the same id given twice.
    """
    rows: list[Utterance] = []
    seen: dict[str, int] = {}
    stretch: dict[tuple[str | float | None, ...], int] = {}
    for number, row, u in zip(cells.numbers, cells.rows, made, strict=True):
        key = (u.audio, u.start_s, u.end_s, *([] if u.channel is None else [u.channel]))
        if key in stretch:
            raise SerkitError(
                f"table: {path.name}, {cells.unit}s {stretch[key]} and {number} are the same stretch of {u.audio}: "
                "keep one, or give start_s and end_s, or channel"
            )
        stretch[key] = number
        if u.id in seen:
            if _text(row.get("id")):
                raise SerkitError(
                    f"table: {path.name}, {cells.unit}s {seen[u.id]} and {number} have the same id '{u.id}'"
                )
            u = dataclasses.replace(u, id=f"{u.id[:180]}_{fingerprint(key, 8)}")
        seen[u.id] = number
        rows.append(u)
    return rows


def _any_rating(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a row has something in a column of arousal, valence or dominance."""
    return any(_text(row.get(name)).lower() not in _ABSENT for row in rows for name in ATTRIBUTES)


def mistyped_columns(rows: Iterable[Utterance]) -> list[str]:
    """A line for each column that was not read and is nearly called like one that no row has anything of."""
    strange = dict.fromkeys(column for u in rows for column in u.meta)
    absent = [k for k in _KNOWN if all(getattr(u, "audio" if k == "path" else k) is None for u in rows)]
    near = {column: difflib.get_close_matches(column, absent, n=1, cutoff=0.8) for column in strange}
    return [f"column '{c}' was kept but not used; did you mean '{found[0]}'?" for c, found in near.items() if found]
