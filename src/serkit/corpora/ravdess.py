"""RAVDESS: 24 actors, two sentences, eight emotions (Livingstone & Russo 2018)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError
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
        Protocol(
            name="ravdess-holdout-19to24",
            version=1,
            folds=1,
            description="Test is actors 19-24, dev 16-18, train 1-15.",
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
        "every sentence is spoken with every emotion: the words carry no information",
        "clips have about a second of silence at both ends",
    ),
)

_HELD_OUT, _HELD_OUT_DEV = ("19", "20", "21", "22", "23", "24"), ("16", "17", "18")
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
    actors = sorted({u.speaker for u in rows if u.speaker})
    if chosen.folds == 1:
        protocols.check_fold(fold, 1, f"protocol '{chosen.name}'")
        if actors[-1] < _HELD_OUT[0]:
            raise SerkitError(f"protocol '{chosen.name}' tests on actors 19-24, and {folder} has {len(actors)} others")
        folds = {who: 1 if who in _HELD_OUT else 2 if who in _HELD_OUT_DEV else 3 for who in actors}
    else:
        folds = protocols.fold_of_speakers(actors, chosen.folds)
    rows = protocols.split_by_speaker(rows, fold, folds)
    return protocols.finish(
        CARD,
        rows,
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=1 if chosen.folds == 1 else max(folds.values()),
        version="1.0.0 (speech, audio only)",
        extra=found,
    )
