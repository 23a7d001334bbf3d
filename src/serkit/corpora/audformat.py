"""Any database in audformat (tables, schemes and splits; audEERING), read through the package of that name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from serkit import protocols, recordings
from serkit.cards import Card, Protocol
from serkit.errors import SerkitError, did_you_mean, in_one_line
from serkit.extras import optional
from serkit.types import SPLITS, Manifest, Utterance

CARD = Card(
    name="audformat",
    title="Any audformat database",
    licence="that of the database (in info)",
    url="https://audeering.github.io/audformat/",
    citation="that of the database",
    languages=(),
    kind="any",
    label_map={},
    labels=(),
    protocols=(
        Protocol(
            name="audformat-official",
            version=1,
            folds=1,
            description="The train, dev and test tables of the database. Without dev tables dev is 15 % of the train "
            "clips, whole speakers; speakers in two splits are detected and reported.",
            source="the database",
        ),
        Protocol(
            name="audformat-5fold-speaker",
            version=1,
            folds=5,
            description="Whole speakers are assigned to five folds, gender and emotions spread evenly; test is fold k, "
            "dev the next. The splits of the database are not used.",
        ),
    ),
    layout="db.yaml, db.*.csv (or .parquet, .pkl) and the media they list",
)


def audformat(
    root: Path,
    *,
    protocol: str | None = None,
    fold: int = 1,
    seed: int = 0,
    column: str = "emotion",
    table: str = "",
    speaker: str = "speaker",
    text: str = "transcription",
    own_labels: str | Sequence[str] = (),
    rating_scale: str | Sequence[float] = (),
) -> Manifest:
    """Read an audformat database; needs ``serkit[audformat]``.

    Args:
        root: folder holding ``db.yaml``. protocol, fold: see ``CARD.protocols``.
        seed: draws dev where the database has none.
        column: column of the emotion. table: read only tables whose name begins so.
        speaker, text: columns of the speaker and the transcript, in any table.
        own_labels: labels (a list, or text with commas) that are meant as they stand although they are very near
            to a known emotion, or to one another.
        rating_scale: lowest and highest rating that the raters could give (a list, or text with a comma).

    Raises:
        MissingExtra: audformat is not installed.
        SerkitError: no database, no such column, no splits, no media, a label that looks mistyped.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    if not (folder / "db.yaml").is_file():
        raise SerkitError(f"audformat: no db.yaml in {folder}; expected {CARD.layout}")
    library = optional("audformat", "audformat", "reading an audformat database")
    db = _load(library, folder)
    tables = _tables(db, column, table)
    rows, missing, twice = _rows(db, folder, tables, column, speaker, text)
    if not rows:
        raise SerkitError(f"audformat: none of the {len(missing)} listed media is under {folder}; copy them there")
    ordered = [rows[key] for key in sorted(rows)]
    recordings.refuse_mistyped(
        ordered, recordings.as_names(own_labels), "audformat",
        lambda k: f"{ordered[k].audio} in table {ordered[k].meta['table']}",
    )  # fmt: skip
    notes: list[str] = []
    ordered, n = _splits(ordered, chosen, fold, seed, notes)
    return protocols.finish(
        CARD,
        ordered,
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=n,
        seed=seed,
        labels=recordings.order_labels(u.emotion for u in ordered if u.emotion is not None),
        speakers_shared=any(protocols.shared_speakers(ordered).values()),
        notes=notes,
        extra={
            **recordings.as_scale(rating_scale),
            "database": str(db.name),
            "licence": str(db.license or "unknown"),
            "tables": list(tables),
            "label_map": {u.meta["label"]: u.emotion for u in ordered if u.meta["label"] is not None},
            "missing_audio": recordings.counted(missing),
            "duplicate_names": recordings.counted(twice),
        },
    )


def _load(library: Any, folder: Path) -> Any:
    """The database of a folder; the package raises all of these where a file of it is damaged.

    Raises:
        SerkitError: it cannot be read.
    """
    try:
        return library.Database.load(str(folder), load_data=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, yaml.YAMLError) as error:
        said = in_one_line(error)
        raise SerkitError(f"audformat: the database in {folder} cannot be read, is it damaged? {said}") from None


def _rows(
    db: Any, folder: Path, tables: list[str], column: str, speaker: str, text: str
) -> tuple[dict[str, Utterance], list[str], list[str]]:
    """Rows by id, files that are not there, and rows that stand in two tables (the first is taken)."""
    speakers, people = _by_file(db, speaker), _people(db, speaker)
    genders, texts = _by_file(db, "gender"), _by_file(db, text)
    spoken = db.languages[0] if len(db.languages or ()) == 1 else None
    rows: dict[str, Utterance] = {}
    missing: list[str] = []
    twice: list[str] = []
    for name in tables:
        split = _split(db, name)
        for key, file, start_s, end_s, values in _records(db, name):
            if not (folder / file).is_file():
                missing.append(file)
                continue
            if key in rows:
                twice.append(f"{key} in {name}")
                continue
            word = _plain(values.get(column))
            who = _plain(values.get(speaker)) or speakers.get(file)
            said = {"gender": genders.get(file), "language": spoken, **people.get(who or "", {})}
            rows[key] = Utterance(
                id=key,
                audio=file,
                start_s=start_s,
                end_s=end_s,
                speaker=who,
                split=split,
                emotion=None if word is None else recordings.canonical_label(word),
                arousal=_number(values.get("arousal")),
                valence=_number(values.get("valence")),
                dominance=_number(values.get("dominance")),
                text=_plain(values.get(text)) or texts.get(file),
                language=_plain(said["language"]),
                gender=_gender(values.get("gender"), said["gender"]),
                corpus=CARD.name,
                meta={"label": word, "table": name},
            )
    return rows, missing, twice


def _splits(
    rows: list[Utterance], chosen: Protocol, fold: int, seed: int, notes: list[str]
) -> tuple[list[Utterance], int]:
    if chosen.name == "audformat-5fold-speaker":
        counts = protocols.speaker_counts(rows)
        folds = protocols.fold_of_speakers(counts, chosen.folds, counts)
        return protocols.split_by_speaker(rows, fold, folds), max(folds.values())
    protocols.check_fold(fold, 1, chosen.name)
    there = {u.split for u in rows}
    if not {"train", "test"} <= there:
        raise SerkitError(
            f"audformat: the tables have the splits {sorted(map(str, there))}, expected train and test; take protocol "
            "audformat-5fold-speaker"
        )
    if "dev" not in there:
        by_utterance = len({u.speaker for u in rows if u.split == "train"} - {None}) < 2
        notes.append("dev is 15 % of train: " + ("clips, blind to speakers" if by_utterance else "whole speakers"))
        rows = protocols.carve_dev(rows, seed, by_utterance=by_utterance)
    return rows, 1


def _tables(db: Any, column: str, prefix: str) -> list[str]:
    names = [name for name in db.tables if name.startswith(prefix)]
    found = [name for name in names if column in db[name].columns]
    if not found:
        known = {c for name in names for c in db[name].columns}
        where = f"tables beginning with '{prefix}'" if prefix else "any table"
        raise SerkitError(f"audformat: no column '{column}' in {where}" + did_you_mean(column, known))
    return sorted(found)


def _split(db: Any, name: str) -> str | None:
    split = db[name].split_id
    kind = str(db.splits[split].type) if split is not None else ""
    return kind if kind in SPLITS else None


def _records(db: Any, name: str) -> Iterator[tuple[str, str, float | None, float | None, dict[str, Any]]]:
    """Id, file, start, end (seconds, ``None`` for the whole file) and values of every row of a table."""
    frame = db[name].df
    segmented = db[name].type == "segmented"
    for index, values in zip(frame.index, frame.to_dict("records"), strict=True):
        file, start, end = index if segmented else (index, None, None)
        start_s = None if start is None or start.total_seconds() == 0 else start.total_seconds()
        end_s = None if end is None or end != end else end.total_seconds()  # NaT differs from itself
        stretch = "" if start_s is None and end_s is None else f"_{start_s or 0:.3f}-{end_s or 0:.3f}"
        yield recordings.safe_id(file.rsplit(".", 1)[0] + stretch), file, start_s, end_s, values


def _by_file(db: Any, column: str) -> dict[str, str]:
    """Values of a column of the filewise tables, by file."""
    found: dict[str, str] = {}
    for name in db.tables:
        if db[name].type == "filewise" and column in db[name].columns:
            for file, value in db[name].df[column].items():
                if (word := _plain(value)) is not None:
                    found.setdefault(file, word)
    return found


def _people(db: Any, column: str) -> dict[str, dict[str, Any]]:
    """What the scheme of speakers says of each: gender, language, age…"""
    labels = db.schemes[column].labels if column in db.schemes else None
    if not isinstance(labels, dict):
        return {}
    return {str(name): about for name, about in labels.items() if isinstance(about, dict)}


def _plain(value: Any) -> str | None:
    word = "" if value is None else str(value).strip()
    return None if word in ("", "nan", "NaT", "<NA>") else word


def _gender(*values: Any) -> str | None:
    words = [word.lower() for value in values if (word := _plain(value))]
    return next((word for word in words if word in ("female", "male", "other")), None)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
