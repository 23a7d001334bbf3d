"""Any table of recordings: CSV, TSV, JSONL or Parquet, with columns ``path`` and ``emotion``, ``votes`` or ratings."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Protocol
from serkit.corpora._cells import ALIASES, read_cells
from serkit.errors import SerkitError, did_you_mean
from serkit.files import fingerprint
from serkit.types import ATTRIBUTES, SPLITS, Manifest, Utterance

CARD = Card(
    name="table",
    title="A table of your own",
    licence="the user's own",
    url="",
    citation="",
    languages=(),
    kind="any",
    label_map=dict(recordings.LABEL_SYNONYMS),
    labels=(),
    protocols=(
        Protocol(
            name="table-as-given",
            version=1,
            folds=1,
            description="The splits of the split column (dev is made of train speakers where there is none); without "
            "that column speakers are assigned at random by the seed: 70 % of the clips train, 15 % dev, 15 % test.",
        ),
        Protocol(
            name="table-5fold-speaker",
            version=1,
            folds=5,
            description="The split column is ignored: speakers are assigned to 5 folds so that gender and emotions are "
            "spread evenly; test is fold k, dev the next.",
        ),
    ),
    layout="a .csv, .tsv, .jsonl or .parquet file with the columns path and emotion (or votes, or ratings: arousal, "
    "valence, dominance), and optionally id, speaker, split, text, start_s, end_s, channel, gender, language, arousal, "
    "valence, dominance, votes; paths relative to the file (file, filename or audio for path, and label for emotion, "
    "are understood too)",
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
            corpus=CARD.name,
            meta=meta,
            **numbers,
            **texts,
        )
    except SerkitError as error:
        raise SerkitError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _rows(path: Path) -> tuple[list[Utterance], list[str], list[str]]:
    """The rows, of each where it is in the file (``line 2``), and lines on how columns were read."""
    cells = read_cells(path, _KNOWN)
    if not cells.rows:
        raise SerkitError(f"table: {path} has no rows; expected {CARD.layout}")
    columns = list(dict.fromkeys(k for row in cells.rows for k in row))
    counted = "votes" in columns and "emotion" not in columns
    rated = "emotion" not in columns and not counted and _any_rating(cells.rows)
    for needed in ("path",) if counted or rated else ("path", "emotion"):
        if needed not in columns:
            expected = f"'{needed}' (or one of {', '.join(ALIASES[needed])})"
            meant = ("emotion", "votes") if needed == "emotion" else (needed,)
            near = [column for name in meant for column in difflib.get_close_matches(name, columns, n=1)]
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise SerkitError(f"table: {path} has no column {expected}, it has {', '.join(columns)[:200]}{hint}")
    rows: list[Utterance] = []
    seen: dict[str, int] = {}
    stretch: dict[tuple[str | float | None, ...], int] = {}
    for number, row in zip(cells.numbers, cells.rows, strict=True):
        u = _row(row, f"table: {path.name}, {cells.unit} {number}")
        if counted:
            u = dataclasses.replace(u, emotion=_most(u.votes))
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
    notes = [f"column '{column}' is used as '{name}'" for name, column in cells.renamed.items()]
    if counted:
        open_ones = sum(u.emotion is None for u in rows)
        notes.append(
            f"no emotion column: the label is the class with most votes; {open_ones} rows have a tie or no vote"
        )
    if rated:
        n = sum(u.is_rated for u in rows)
        notes.append(f"no emotion column: {n} of {len(rows)} rows have ratings, and none has a label of its own")
    return rows, [f"{cells.unit} {number}" for number in cells.numbers], notes


def _any_rating(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a row has something in a column of arousal, valence or dominance."""
    return any(_text(row.get(name)).lower() not in _ABSENT for row in rows for name in ATTRIBUTES)


def _mistyped_columns(rows: Iterable[Utterance]) -> list[str]:
    """A line for each column that was not read and is nearly called like one that no row has anything of."""
    strange = dict.fromkeys(column for u in rows for column in u.meta)
    absent = [k for k in _KNOWN if all(getattr(u, "audio" if k == "path" else k) is None for u in rows)]
    near = {column: difflib.get_close_matches(column, absent, n=1, cutoff=0.8) for column in strange}
    return [f"column '{c}' was kept but not used; did you mean '{found[0]}'?" for c, found in near.items() if found]


def _check_files(path: Path, rows: list[Utterance]) -> dict[str, Any]:
    missing = recordings.missing_audio(path.parent, rows)
    if missing and len(missing) == len({u.audio for u in rows}):
        raise SerkitError(
            f"table: none of the {len(missing)} recordings exists, the first would be {path.parent / missing[0]}; "
            "paths are relative to the folder of the table"
        )
    return {"missing_audio": {"count": len(missing), "examples": missing[:5], "rows_kept": True}}


def _split(
    rows: list[Utterance], seed: int, by_utterance: bool, shared: bool, needed: Sequence[str]
) -> tuple[list[Utterance], str]:
    """The rows with splits, of which those ``needed`` have rows, and one line on how they came about."""
    given = Counter(u.split for u in rows if u.split)
    if not given:
        known = [] if shared else [u for u in rows if u.speaker is not None]
        if not known:
            why = "speakers shared" if shared else "speakers unknown"
            n = len({u.recording for u in rows})
            if n < min(3, len(rows)):
                raise SerkitError(
                    f"table: the {len(rows)} rows are stretches of {n} recording{'s'[: n > 1]}, and train, dev and "
                    "test need one each: give a split column"
                )
            split_rows = protocols.random_utterance_split(rows, seed)
            return split_rows, f"no split column: split made by utterance ({why}), with seed {seed}"
        split = {u.id: u.split for u in protocols.random_speaker_split(known, seed)}
        unknown = [u for u in rows if u.speaker is None]
        split.update({u.id: u.split for u in protocols.random_utterance_split(unknown, seed)})
        how = "by speaker" + (f", {len(unknown)} rows without one by utterance" if unknown else "")
        out = [protocols.with_split(u, split[u.id]) for u in rows]
        return out, f"no split column: split made {how}, with seed {seed}"
    absent = [name for name in needed if not given[name]]
    if absent == ["dev"]:
        alone = shared or (by_utterance and all(u.speaker is None for u in rows if u.split == "train"))
        made = f"no dev rows: dev made of train {'rows' if alone else 'speakers'}, with seed {seed}"
        return protocols.carve_dev(rows, seed, by_utterance=alone), made
    if absent:
        raise SerkitError(
            f"table: the split column has no {' and no '.join(absent)} rows ({dict(given)}); give "
            f"{' and '.join(name for name in needed if name != 'dev')} at least, or leave the column out"
        )
    return rows, "splits as given in the table"


def _apart(rows: Iterable[Utterance]) -> int:
    """How many recordings have stretches of unknown speakers in several splits."""
    where: dict[str, set[str]] = {}
    for u in rows:
        if u.split is not None and u.speaker is None:
            where.setdefault(u.recording, set()).add(u.split)
    return sum(len(splits) > 1 for splits in where.values())


def _check_speakers(path: Path, rows: Iterable[Utterance], places: Sequence[str], assume_speakers: str | None) -> None:
    if assume_speakers not in (None, "utterance"):
        raise SerkitError(f"table: assume_speakers is '{assume_speakers}', expected 'utterance' or nothing")
    unknown = [place for place, u in zip(places, rows, strict=True) if u.speaker is None]
    if unknown and assume_speakers is None:
        raise SerkitError(
            f"table: {len(unknown)} rows of {path.name} have no speaker (first: {unknown[0]}), so it is unknown "
            "whether a test speaker was trained on: add a speaker column, or set assume_speakers=utterance explicitly"
        )


def table(
    root: Path,
    *,
    protocol: str | None = None,
    fold: int = 1,
    seed: int = 0,
    assume_speakers: str | None = None,
    speakers_shared: bool | str = False,
    own_labels: str | Sequence[str] = (),
    test_only: bool | str = False,
    train_only: bool | str = False,
    rating_scale: str | Sequence[float] = (),
) -> Manifest:
    """Read a table; see ``CARD.layout`` for its columns. Columns it does not know are kept in ``meta``.

    Args:
        root: the file itself; audio paths are relative to its folder.
        protocol, fold: see ``CARD.protocols``. seed: of the split where one is made.
        assume_speakers: ``utterance`` states explicitly that speakers are not known: such rows are split, and
            later bootstrapped, by utterance.
        speakers_shared: allows speakers to be in several splits: those of the split column are
            taken as they are, and without one the split is made by utterance.
        own_labels: labels (a list, or text with commas) that are meant as they stand although they are very near
            to a known emotion, or to one another.
        test_only: rows that the split column does not place elsewhere are test, and speakers may be unknown: to measure
            a trained model, not to train.
        train_only: the split column needs no test rows: nothing of this table is measured.
        rating_scale: lowest and highest rating of arousal, valence and dominance that the raters could give (a list,
            or text with a comma: ``1,7``); ``labels: quadrants`` and ``octants`` divide it in the middle.

    Raises:
        SerkitError: the file or a row does not hold (which, what was expected), a row has no speaker and that
            was not stated, a label that looks mistyped, fewer than three speakers to split, a speaker in two
            splits.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    path = Path(root).expanduser().absolute()
    if not path.exists():
        raise SerkitError(f"table: no file {path}; --root is the table itself: {CARD.layout}")
    if path.is_dir():
        raise SerkitError(f"table: {path} is a folder; --root is the table itself: {CARD.layout}")
    shared = recordings.as_flag(speakers_shared, "speakers_shared")
    rows, places, notes = _rows(path)
    measured = recordings.as_flag(test_only, "test_only")
    if not measured:  # where nothing is trained, nobody can be on both sides
        _check_speakers(path, rows, places, assume_speakers)
    own = recordings.as_names(own_labels)
    scale = recordings.as_scale(rating_scale)
    recordings.refuse_mistyped(rows, own, f"table: {path.name}", places.__getitem__)
    found = _check_files(path, rows)
    mistyped = _mistyped_columns(rows)
    found.update({"mistyped_columns": mistyped} if mistyped else {})
    folds = 1
    if chosen.name == "table-5fold-speaker":
        of = protocols.fold_of_speakers(
            (u.speaker for u in rows if u.speaker), chosen.folds, protocols.speaker_counts(rows)
        )
        folds = max(of.values())
        rows, how = protocols.split_by_speaker(rows, fold, of), "folds by speaker"
    elif measured:
        protocols.check_fold(fold, folds, chosen.name)
        rows = [u if u.split else protocols.with_split(u, "test") for u in rows]
        how = "rows without a split are test"
    else:
        protocols.check_fold(fold, folds, chosen.name)
        needed = [name for name in SPLITS if name != "test" or not recordings.as_flag(train_only, "train_only")]
        rows, how = _split(rows, seed, assume_speakers == "utterance", shared, needed)
    words = {u.meta["label"]: u.emotion for u in rows if u.meta.get("label")}
    labels = recordings.order_labels(u.emotion for u in rows if u.emotion is not None)
    if len(labels) < 2 and not any(u.is_rated for u in rows):
        raise SerkitError(
            f"table: {path.name} has {len(labels)} class ({', '.join(labels) or 'none'}); at least two are needed"
        )
    languages = sorted({u.language for u in rows if u.language})
    if apart := _apart(rows):
        notes.append(
            f"{apart} recording{'s' * (apart > 1)} of unknown speakers in several splits: "
            "test has voices and rooms that training heard"
        )
    return protocols.finish(
        CARD,
        rows,
        root=path.parent,
        protocol=chosen,
        fold=fold,
        folds=folds,
        seed=seed,
        labels=labels,
        speakers_shared=shared,
        notes=[how, *notes, *mistyped],
        extra={**found, **scale, "table": path.name, "languages": languages, "label_map": dict(sorted(words.items()))},
    )
