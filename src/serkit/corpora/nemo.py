"""nEMO: nine Polish actors, six emotions, 90 sentences (Christop 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError, check_known
from serkit.text_rows import csv_rows
from serkit.types import Manifest, Utterance

_TSV = "counted in data.tsv of github.com/amu-cai/nEMO"

CARD = Card(
    name="nemo",
    title="nEMO: Dataset of Emotional Speech in Polish",
    licence="CC BY-NC-SA 4.0",
    url="https://github.com/amu-cai/nEMO",
    citation="Christop I (2024). nEMO: Dataset of emotional speech in Polish. LREC-COLING 2024. arXiv 2404.06292.",
    languages=("pl",),
    kind="acted",
    label_map={
        "anger": "anger",
        "fear": "fear",
        "happiness": "happiness",
        "neutral": "neutral",
        "sadness": "sadness",
        "surprised": "surprise",
    },
    labels=("anger", "fear", "happiness", "neutral", "sadness", "surprise"),
    protocols=(
        Protocol(
            name="nemo-9fold-speaker",
            version=1,
            folds=9,
            description="Test of fold k is the k-th actor by name, dev the next, train the other seven.",
        ),
    ),
    speakers=Count(9, _TSV),
    utterances=Count(4481, _TSV),
    counts={
        "anger": Count(749, _TSV),
        "fear": Count(736, _TSV),
        "happiness": Count(749, _TSV),
        "neutral": Count(809, _TSV),
        "sadness": Count(769, _TSV),
        "surprise": Count(669, _TSV),
    },
    layout="data.tsv and samples/SPEAKER_EMOTION_SENTENCE.wav, as on GitHub (not the Parquet of the hub)",
    notes=("every sentence is spoken with every emotion: the words carry no information",),
)


def nemo(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read nEMO from its table.

    Args:
        root: folder holding ``data.tsv``. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are the actors.

    Raises:
        SerkitError: no table, a column or an emotion is not known, no recording, fewer than three actors.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    audio = recordings.audio_by_stem(folder, CARD)
    rows: list[Utterance] = []
    missing: list[str] = []
    table = folder / "data.tsv"
    for line, row in _table(table):
        stem, word = Path(row["file_id"]).stem, row["emotion"]
        check_known(word, CARD.label_map, f"{table}, line {line}: '{stem}' has the emotion '{word}'")
        if stem not in audio:
            missing.append(stem)
            continue
        rows.append(
            Utterance(
                id=recordings.safe_id(stem),
                audio=str(audio[stem]),
                speaker=row["speaker_id"] or None,
                emotion=CARD.label_map[word],
                text=row["raw_text"] or None,
                language="pl",
                gender=row["gender"] if row["gender"] in ("female", "male") else None,
                corpus=CARD.name,
                meta={"label": word, "age": row.get("age"), "sentence": stem.rsplit("_", 1)[-1]},
            )
        )
    if not rows:
        raise SerkitError(f"nemo: none of {len(missing)} rows has its recording under {folder}; expected {CARD.layout}")
    rows.sort(key=lambda u: u.id)
    folds = protocols.fold_of_speakers((u.speaker for u in rows if u.speaker), chosen.folds)
    extra: dict[str, Any] = {"missing_audio": recordings.counted(missing)}
    return protocols.finish(
        CARD,
        protocols.split_by_speaker(rows, fold, folds),
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=max(folds.values()),
        extra=extra,
    )


def _table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of the table; its fields carry stray blanks (speaker ids begin with several)."""
    if not path.is_file():
        raise SerkitError(f"nemo: no {path.name} in {path.parent}; expected {CARD.layout}")
    needed = ("file_id", "emotion", "raw_text", "speaker_id", "gender")
    for line, row in csv_rows(path, needed, delimiter="\t", quoted=False):
        yield line, {column: cell.strip() for column, cell in row.items()}
