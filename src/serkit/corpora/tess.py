"""TESS: two actresses, 200 words, seven emotions (Pichora-Fuller & Dupuis 2010)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError
from serkit.types import Manifest, Utterance

_READ = "University of Toronto, news on the corpus: 2800 files, 200 words, two actors, seven emotions"
_READ_EMOBOX = "counted in the file list of EmoBox (data/tess/tess.jsonl)"

CARD = Card(
    name="tess",
    title="Toronto Emotional Speech Set (TESS)",
    licence="CC BY-NC-ND 4.0 (remembered)",
    url="https://tspace.library.utoronto.ca/handle/1807/24487",
    citation="Pichora-Fuller MK, Dupuis K (2020). Toronto emotional speech set (TESS). doi:10.5683/SP2/E8H2MF",
    languages=("en",),
    kind="acted",
    label_map={
        "angry": "anger",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happiness",
        "neutral": "neutral",
        "sad": "sadness",
        "ps": "surprise",
    },
    labels=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    protocols=(
        Protocol(
            name="tess-5fold-word",
            version=1,
            folds=5,
            description="Speakers shared: both actresses are in train, dev and test. The 200 words, sorted, go to 5 "
            "folds in turn; test is fold k, dev the next. Numbers say nothing about unseen speakers.",
            speakers_shared=True,
        ),
        Protocol(
            name="tess-2fold-speaker",
            version=1,
            folds=2,
            description="Test is one actress, train and dev the other; dev is every fifth word. Dev shares its "
            "speaker with train, test does not.",
            speakers_shared=True,
        ),
    ),
    speakers=Count(2, _READ),
    utterances=Count(2800, _READ),
    counts={
        "anger": Count(400, _READ_EMOBOX),
        "disgust": Count(400, _READ_EMOBOX),
        "fear": Count(400, _READ_EMOBOX),
        "happiness": Count(400, _READ_EMOBOX),
        "neutral": Count(400, _READ_EMOBOX),
        "sadness": Count(400, _READ_EMOBOX),
        "surprise": Count(400, _READ_EMOBOX),
    },
    layout="OAF_angry … YAF_sad folders (any names) of OAF_back_angry.wav (speaker, word, emotion)",
    notes=("two speakers: no split into train, dev and test can keep speakers apart",),
)

_NAME = re.compile(r"(OAF?|YAF?)_([a-z'-]+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)
_AGES = {"OAF": 64, "YAF": 26}


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker = match[1].upper()[:2] + "F"  # one file of the release is called OA_bite_neutral
    word, label = match[2].lower(), match[3].lower()
    return Utterance(
        id=recordings.safe_id(f"{speaker}_{word}_{label}"),
        audio=str(path),
        speaker=speaker,
        emotion=CARD.label_map[label],
        text=f"Say the word {word}.",
        language="en",
        gender="female",
        corpus=CARD.name,
        meta={"label": label, "word": word, "age": _AGES[speaker]},
    )


def _split_by_word(rows: list[Utterance], fold: int, folds: int) -> list[Utterance]:
    fold_of = {word: k % folds + 1 for k, word in enumerate(sorted({u.meta["word"] for u in rows}))}
    if len(fold_of) < 3:
        raise SerkitError(f"tess: {len(fold_of)} words here; train, dev and test need at least three different words")
    name_of = {fold: "test", protocols.next_fold(fold, min(folds, len(fold_of))): "dev"}
    return [protocols.with_split(u, name_of.get(fold_of[u.meta["word"]], "train")) for u in rows]


def _split_by_speaker(rows: list[Utterance], fold: int) -> list[Utterance]:
    speakers = sorted({u.speaker for u in rows if u.speaker})
    if len(speakers) != 2:
        raise SerkitError(f"tess: protocol tess-2fold-speaker needs both speakers, only {speakers[0]} is here")
    dev = set(sorted({u.meta["word"] for u in rows})[::5])
    return [
        protocols.with_split(
            u, "test" if u.speaker == speakers[fold - 1] else "dev" if u.meta["word"] in dev else "train"
        )
        for u in rows
    ]


def tess(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read TESS; speakers are shared between splits, and every report says so.

    Args:
        root: folder of the corpus. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three words, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    folds = chosen.folds
    if chosen.name == "tess-2fold-speaker":
        protocols.check_fold(fold, folds, chosen.name)
        rows = _split_by_speaker(rows, fold)
    else:
        folds = min(folds, len({u.meta["word"] for u in rows}))
        protocols.check_fold(fold, folds, f"{chosen.name} on the words here")
        rows = _split_by_word(rows, fold, folds)
    return protocols.finish(CARD, rows, root=folder, protocol=chosen, fold=fold, folds=folds, extra=found)
