"""ASED: Amharic, 65 speakers, five emotions, 27 sentences of which 25 belong to one emotion (Retta et al. 2022)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.types import Manifest, Utterance

_READ = "README of github.com/Ethio2021/ASED_V1 and arXiv 2201.02710"
_READ_EMOBOX = "counted in the file list of EmoBox (data/ased/ased.jsonl)"

CARD = Card(
    name="ased",
    title="Amharic Speech Emotional Dataset (ASED) v1",
    licence="published for research; no licence text found",
    url="https://github.com/Ethio2021/ASED_V1",
    citation="Retta EA, Almekhlafi E, Sutcliffe R, Mhamed M, Ali H, Feng J (2022). A New Amharic Speech Emotion "
    "Dataset and Classification Benchmark. ACM TALLIP. doi:10.1145/3529759",
    languages=("am",),
    kind="acted",
    label_map={"neutral": "neutral", "fearful": "fear", "happy": "happiness", "sad": "sadness", "angry": "anger"},
    labels=("anger", "fear", "happiness", "neutral", "sadness"),
    protocols=(
        Protocol(
            name="ased-5fold-speaker",
            version=1,
            folds=5,
            description="Speakers are assigned to 5 folds so that gender and emotions are spread evenly; test is fold "
            "k, dev the next. The words reveal the emotion: 25 of the 27 sentences have one emotion only.",
        ),
        Protocol(
            name="ased-5fold-speaker-unseen-sentence",
            version=1,
            folds=5,
            description="The same folds; train has the 25 sentences of one emotion, dev and test of other speakers "
            "only the two sentences spoken with every emotion. All other clips are left out.",
        ),
    ),
    speakers=Count(65, _READ),
    utterances=Count(2474, _READ),
    counts={
        "anger": Count(486, _READ_EMOBOX),
        "fear": Count(510, _READ_EMOBOX),
        "happiness": Count(486, _READ_EMOBOX),
        "neutral": Count(522, _READ_EMOBOX),
        "sadness": Count(470, _READ_EMOBOX),
    },
    layout="01Neutral … 05Angry folders of xn-yy-aa-gg-bb.wav (emotion, sentence, take, gender, speaker)",
    notes=(
        "25 of the 27 sentences are spoken with one emotion only: a system that uses the words scores too high "
        "unless the protocol is ased-5fold-speaker-unseen-sentence",
    ),
)

_WORDS = {"n1": "neutral", "f2": "fearful", "h3": "happy", "s4": "sad", "a5": "angry"}
_NAME = re.compile(r"([a-z]\d)-(\d\d)-(\d\d)-(0[12])-(\d\d)", re.IGNORECASE)
_N_COMMON = 2  # sentences 01 and 02 are common to all emotions; 03 … 07 are the emotion's own


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    code, sentence, take, gender, speaker = match.groups()
    word = _WORDS.get(code.lower())
    if word is None:
        return None
    common = int(sentence) <= _N_COMMON
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=CARD.label_map[word],
        language="am",
        gender="female" if gender == "01" else "male",
        corpus=CARD.name,
        meta={
            "label": word,
            "sentence": f"common-{sentence}" if common else f"{word}-{sentence}",
            "repetition": int(take),
        },
    )


def ased(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read ASED v1; ``meta["sentence"]`` names one of the 27 sentences.

    Args:
        root: folder holding the five emotion folders. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed by the clips present.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three speakers, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    folds = protocols.fold_of_speakers(
        (u.speaker for u in rows if u.speaker), chosen.folds, protocols.speaker_counts(rows)
    )
    rows = protocols.split_by_speaker(rows, fold, folds)
    if chosen.name == "ased-5fold-speaker-unseen-sentence":
        rows = [
            u if u.meta["sentence"].startswith("common") == (u.split != "train") else protocols.with_split(u, None)
            for u in rows
        ]
    return protocols.finish(
        CARD, rows, root=folder, protocol=chosen, fold=fold, folds=max(folds.values()), version="1", extra=found
    )
