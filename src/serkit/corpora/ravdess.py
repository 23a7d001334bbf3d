"""RAVDESS: 24 actors, two sentences, eight emotions (Livingstone & Russo 2018)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.types import Manifest, Utterance

_READ_EMOBOX = "counted in the file list of EmoBox (data/ravdess/ravdess.jsonl)"
_READ_ZENODO = "zenodo.org/record/1188976: 60 trials per actor x 24 actors"

CARD = Card(
    name="ravdess",
    title="The Ryerson Audio-Visual Database of Emotional Speech and Song (speech, audio only)",
    licence="CC BY-NC-SA 4.0",
    url="https://zenodo.org/record/1188976",
    citation="Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song "
    "(RAVDESS). PLoS ONE 13(5): e0196391. doi:10.1371/journal.pone.0196391",
    languages=("en",),
    kind="acted",
    label_map={
        "neutral": "neutral",
        "calm": "calm",
        "happy": "happiness",
        "sad": "sadness",
        "angry": "anger",
        "fearful": "fear",
        "disgust": "disgust",
        "surprised": "surprise",
    },
    labels=("anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    protocols=(
        Protocol(
            name="ravdess-6fold-actor",
            version=1,
            folds=6,
            description="Test of fold k is the k-th run of 4 consecutive actors (2 women, 2 men), dev the next "
            "run, train the other 16. Fewer actors make shorter runs.",
            source="6 folds of 4 actors as in multi-loss learning (arXiv 2512.04551); dev fold: serkit",
        ),
    ),
    speakers=Count(24, _READ_ZENODO),
    utterances=Count(1440, _READ_ZENODO),
    counts={
        "anger": Count(192, _READ_EMOBOX),
        "calm": Count(192, _READ_EMOBOX),
        "disgust": Count(192, _READ_EMOBOX),
        "fear": Count(192, _READ_EMOBOX),
        "happiness": Count(192, _READ_EMOBOX),
        "neutral": Count(96, _READ_EMOBOX),
        "sadness": Count(192, _READ_EMOBOX),
        "surprise": Count(192, _READ_EMOBOX),
    },
    layout="Actor_NN/03-01-EE-II-SS-RR-AA.wav (audio-only speech; the folders may have other names)",
    notes=(
        "every sentence is spoken with every emotion: the words carry nothing",
        "clips have about a second of silence at both ends",
    ),
)

_WORDS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_TEXTS = {1: "Kids are talking by the door.", 2: "Dogs are sitting by the door."}
_NAME = re.compile(r"03-01-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    emotion, intensity, statement, repetition, actor = (int(group) for group in match.groups())
    word = _WORDS[emotion - 1]
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=f"{actor:02d}",
        emotion=CARD.label_map[word],
        text=_TEXTS[statement],
        language="en",
        gender="male" if actor % 2 else "female",
        corpus=CARD.name,
        meta={
            "label": word,
            "intensity": "strong" if intensity == 2 else "normal",
            "statement": statement,
            "repetition": repetition,
        },
    )


def ravdess(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read RAVDESS speech (``03-01-…``); song and video files are counted as not recognised.

    Args:
        root: folder holding ``Actor_NN`` folders. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three actors, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    folds = protocols.fold_of_speakers((u.speaker for u in rows if u.speaker), chosen.folds)
    rows = protocols.split_by_speaker(rows, fold, folds)
    return protocols.finish(
        CARD,
        rows,
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=max(folds.values()),
        version="1.0.0 (speech, audio only)",
        extra=found,
    )
