"""SAVEE: four men, seven emotions, 120 TIMIT sentences each (Haq & Jackson, University of Surrey)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.types import Manifest, Utterance

_READ_EMOBOX = "counted in the file list of EmoBox (data/savee/savee.jsonl)"

CARD = Card(
    name="savee",
    title="Surrey Audio-Visual Expressed Emotion (SAVEE)",
    licence="free for research on registration; no licence text found",
    url="http://kahlan.eps.surrey.ac.uk/savee/",
    citation="Haq S, Jackson PJB (2010). Multimodal Emotion Recognition. In: Machine Audition, IGI Global, 398-423",
    languages=("en",),
    kind="acted",
    label_map={
        "a": "anger",
        "d": "disgust",
        "f": "fear",
        "h": "happiness",
        "n": "neutral",
        "sa": "sadness",
        "su": "surprise",
    },
    labels=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    protocols=(
        Protocol(
            name="savee-4fold-speaker",
            version=1,
            folds=4,
            description="Test of fold k is the k-th of DC, JE, JK, KL, dev the next, train the other two.",
            source="leave one speaker out is usual (arXiv 2512.04551 among others); dev speaker: serkit",
        ),
    ),
    speakers=Count(4, "page of the corpus: DC, JE, JK, KL"),
    utterances=Count(480, "page of the corpus: 480 British English utterances"),
    counts={
        "anger": Count(60, _READ_EMOBOX),
        "disgust": Count(60, _READ_EMOBOX),
        "fear": Count(60, _READ_EMOBOX),
        "happiness": Count(60, _READ_EMOBOX),
        "neutral": Count(120, _READ_EMOBOX),
        "sadness": Count(60, _READ_EMOBOX),
        "surprise": Count(60, _READ_EMOBOX),
    },
    layout="AudioData/DC/a01.wav (speaker folders DC, JE, JK, KL) or ALL/DC_a01.wav",
    notes=(
        "four speakers, all men: intervals by speaker are rough",
        "most sentences belong to one emotion: a system that uses the words may score too high",
    ),
)

_NAME = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d\d)")
_SPEAKERS = ("DC", "JE", "JK", "KL")


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    prefix, code, number = match.groups()
    speaker = prefix or path.parent.name
    if speaker not in _SPEAKERS:
        return None
    return Utterance(
        id=f"{speaker}_{code}{number}",
        audio=str(path),
        speaker=speaker,
        emotion=CARD.label_map[code],
        language="en",
        gender="male",
        corpus=CARD.name,
        meta={"label": code, "number": int(number)},
    )


def savee(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read SAVEE in either of its two layouts (speaker folders, or speaker in the file name).

    Args:
        root: folder of the corpus. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three speakers, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    folds = protocols.fold_of_speakers((u.speaker for u in rows if u.speaker), chosen.folds)
    rows = protocols.split_by_speaker(rows, fold, folds)
    return protocols.finish(CARD, rows, root=folder, protocol=chosen, fold=fold, folds=max(folds.values()), extra=found)
