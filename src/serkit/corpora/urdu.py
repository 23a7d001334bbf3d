"""URDU: 400 utterances of Urdu talk shows (Latif et al. 2018)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.types import Manifest, Utterance

_EMOBOX = "counted in the file list of EmoBox (data/urdu/urdu.jsonl)"
_LABELS = ("anger", "happiness", "neutral", "sadness")

CARD = Card(
    name="urdu",
    title="URDU dataset: cross-lingual speech emotion recognition, Urdu versus Western languages",
    licence="unknown",
    url="https://github.com/siddiquelatif/urdu-dataset",
    citation="Latif S, Qayyum A, Usman M, Qadir J (2018). Cross lingual speech emotion recognition: Urdu vs. Western "
    "languages. International Conference on Frontiers of Information Technology (FIT), 88-93.",
    languages=("ur",),
    kind="broadcast",
    label_map={"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"},
    labels=_LABELS,
    protocols=(
        Protocol(
            name="urdu-4fold-speaker",
            version=1,
            folds=4,
            description="Whole speakers are assigned to four folds, gender and emotions spread as evenly as possible; "
            "test is fold k, dev the next. (Of five, one would have no anger.)",
        ),
    ),
    speakers=Count(29, _EMOBOX),
    utterances=Count(400, _EMOBOX),
    counts={label: Count(100, _EMOBOX) for label in _LABELS},
    layout="Angry/, Happy/, Neutral/, Sad/ with SM1_F10_A010.wav (speaker, file, emotion and number)",
    notes=(
        "the paper counts 38 speakers (remembered); 29 are in the file names",
        "speakers differ much in size and some speak one emotion only: classes are uneven in every fold",
        "the folds that EmoBox publishes share 18 of 19 test speakers with train; these do not",
    ),
)
_NAME = re.compile(r"(S([MF])\d+)_F(\d+)_([AHNS])(\d+)", re.IGNORECASE)


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, gender, number, letter, _ = (group.upper() for group in match.groups())
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=CARD.label_map[letter],
        language="ur",
        gender="male" if gender == "M" else "female",
        corpus=CARD.name,
        meta={"label": letter, "file": int(number)},
    )


def urdu(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read the URDU dataset; speaker, gender and emotion stand in the file names.

    Args:
        root: folder holding the four emotion folders. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds depend on the speakers present only.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three speakers, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    counts = protocols.speaker_counts(rows)
    folds = protocols.fold_of_speakers(counts, chosen.folds, counts)
    return protocols.finish(
        CARD,
        protocols.split_by_speaker(rows, fold, folds),
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=max(folds.values()),
        extra=found,
    )
