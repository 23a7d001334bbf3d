"""MELD: utterances of the series Friends with text (Poria et al. 2019); official splits, which share speakers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError, check_known
from serkit.suffixes import CONTAINERS, SOUND
from serkit.text_rows import csv_rows
from serkit.types import Manifest, Utterance

_CSV = "counted in data/MELD/*_sent_emo.csv of github.com/declare-lab/MELD"

CARD = Card(
    name="meld",
    title="Multimodal EmotionLines Dataset",
    licence="GPL-3.0 on the annotations (remembered); the recordings belong to the series' owners",
    url="https://affective-meld.github.io",
    citation="Poria S, Hazarika D, Majumder N, et al. (2019). MELD: A multimodal multi-party dataset for emotion "
    "recognition in conversations. ACL 2019.",
    languages=("en",),
    kind="broadcast",
    label_map={
        "anger": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "joy": "happiness",
        "neutral": "neutral",
        "sadness": "sadness",
        "surprise": "surprise",
    },
    labels=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    protocols=(
        Protocol(
            name="meld-official",
            version=1,
            folds=1,
            description="The published train, dev and test dialogues. Speakers shared: the six friends speak in all "
            "three, 69 of 100 test speakers also in train.",
            speakers_shared=True,
            source="Poria et al. 2019",
        ),
    ),
    speakers=Count(304, _CSV),
    utterances=Count(13_708, _CSV),
    counts={
        "anger": Count(1607, _CSV),
        "disgust": Count(361, _CSV),
        "fear": Count(358, _CSV),
        "happiness": Count(2308, _CSV),
        "neutral": Count(6436, _CSV),
        "sadness": Count(1002, _CSV),
        "surprise": Count(1636, _CSV),
    },
    layout="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv, and dia0_utt0.mp4 (or .wav, .flac) in "
    "train_splits/, dev_splits_complete/, output_repeated_splits_test/",
    notes=(
        "audience laughter and music are in the audio",
        "some names are not a single person (All, Both, Man, Woman…)",
        "the clips are videos: decoding .mp4 needs ffmpeg, or convert them to .wav keeping their names",
    ),
)

_CLIP = re.compile(r"dia(\d+)_utt(\d+)")
_SUFFIXES = (*SOUND, *CONTAINERS)


def meld(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read MELD from its three tables; a clip is looked for in the folders of its split.

    Args:
        root: folder that holds the tables (at any depth) and the clips.
        protocol, fold: the official split is the only one. seed: not used.

    Raises:
        SerkitError: a table or all clips are missing, a column or an emotion is not known.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    protocols.check_fold(fold, chosen.folds, chosen.name)
    folder = recordings.corpus_root(root, CARD)
    tables, clips = _listing(folder)
    rows: list[Utterance] = []
    missing: list[str] = []
    for split in ("train", "dev", "test"):
        for line, row in _table(tables, split, folder):
            where = f"{tables[split]}, line {line}"
            key = (split, _number(row, "Dialogue_ID", where), _number(row, "Utterance_ID", where))
            name = f"{split}_dia{key[1]}_utt{key[2]}"
            word = row["Emotion"].strip().lower()
            check_known(word, CARD.label_map, f"{where}: {name} has the emotion '{word}'")
            if key not in clips:
                missing.append(name)
                continue
            rows.append(
                Utterance(
                    id=name,
                    audio=clips[key],
                    speaker=row["Speaker"].strip() or None,
                    split=split,
                    emotion=CARD.label_map[word],
                    text=row["Utterance"].strip() or None,
                    language="en",
                    corpus=CARD.name,
                    meta={"label": word, "sentiment": row.get("Sentiment"), "dialogue": f"{split}_{key[1]}"},
                )
            )
    if not rows:
        raise SerkitError(f"meld: none of {len(missing)} rows has its clip under {folder}; expected {CARD.layout}")
    rows.sort(key=lambda u: u.id)
    extra = {"missing_audio": recordings.counted(missing)}
    return protocols.finish(CARD, rows, root=folder, protocol=chosen, fold=fold, folds=1, extra=extra)


def _listing(folder: Path) -> tuple[dict[str, Path], dict[tuple[str, int, int], str]]:
    """Tables by split, and paths of clips by split, dialogue and utterance (sound before video)."""
    tables: dict[str, Path] = {}
    clips: dict[tuple[str, int, int], tuple[int, str]] = {}
    for at, subfolders, names in os.walk(folder, followlinks=True):
        subfolders.sort()
        base = Path(at).relative_to(folder)
        for name in sorted(names):
            stem, suffix = Path(name).stem, Path(name).suffix
            split = _split_of([*base.parts, name] if suffix == ".csv" else list(base.parts))
            if split and name == f"{split}_sent_emo.csv":
                tables.setdefault(split, Path(at) / name)
            clip = _CLIP.fullmatch(stem)
            if split and clip and suffix.lower() in _SUFFIXES:
                key = (split, int(clip[1]), int(clip[2]))
                rank = (_SUFFIXES.index(suffix.lower()), (base / name).as_posix())
                clips[key] = min(clips.get(key, rank), rank)
    return tables, {key: path for key, (_, path) in clips.items()}


def _split_of(parts: list[str]) -> str | None:
    for part in reversed(parts):
        for split in ("train", "dev", "test"):
            if split in part.lower():
                return split
    return None


def _number(row: dict[str, str], column: str, where: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise SerkitError(f"{where}: {column} is '{row[column]}', expected a whole number") from None


def _table(tables: dict[str, Path], split: str, folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if split not in tables:
        raise SerkitError(f"meld: no {split}_sent_emo.csv under {folder}; expected {CARD.layout}")
    needed = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
    return csv_rows(tables[split], needed, replace=True)  # a sign of another encoding costs that sign alone
