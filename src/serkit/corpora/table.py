"""Any table of recordings: CSV, TSV, JSONL or Parquet, with columns ``path`` and ``emotion``, ``votes`` or ratings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Protocol
from serkit.corpora._table_rows import LAYOUT, NAME, mistyped_columns, read_rows
from serkit.errors import SerkitError
from serkit.types import SPLITS, Manifest, Utterance

CARD = Card(
    name=NAME,
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
    layout=LAYOUT,
)


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
        return _made_split(rows, seed, shared)
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


def _made_split(rows: list[Utterance], seed: int, shared: bool) -> tuple[list[Utterance], str]:
    """The rows with splits by speaker, or by utterance where speakers are unknown or ``shared``, and how in a line."""
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
    rows, places, notes, answers = read_rows(path)
    measured = recordings.as_flag(test_only, "test_only")
    if not measured:  # where nothing is trained, nobody can be on both sides
        _check_speakers(path, rows, places, assume_speakers)
    own = recordings.as_names(own_labels)
    scale = recordings.as_scale(rating_scale)
    recordings.refuse_mistyped(rows, own, f"table: {path.name}", places.__getitem__)
    found = _check_files(path, rows)
    mistyped = mistyped_columns(rows)
    found.update({"mistyped_columns": mistyped} if mistyped else {})
    found.update({"answers": answers} if answers else {})
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
        notes=[how, *notes, *answers, *mistyped],
        extra={**found, **scale, "table": path.name, "languages": languages, "label_map": dict(sorted(words.items()))},
    )
