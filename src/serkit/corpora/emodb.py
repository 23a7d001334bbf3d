"""EmoDB: Berlin Database of Emotional Speech, German, ten actors, ten sentences (Burkhardt et al. 2005)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.types import Manifest, Utterance

_READ_EMOBOX = "counted in the file list of EmoBox (data/emodb/emodb.jsonl)"

CARD = Card(
    name="emodb",
    title="Berlin Database of Emotional Speech (EmoDB)",
    licence="free for research; no licence text found",
    url="http://emodb.bilderbar.info/docu/",
    citation="Burkhardt F, Paeschke A, Rolfes M, Sendlmeier WF, Weiss B (2005). A Database of German Emotional "
    "Speech. Interspeech 2005, 1517-1520. doi:10.21437/Interspeech.2005-446",
    languages=("de",),
    kind="acted",
    label_map={
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "N": "neutral",
        "T": "sadness",
    },
    labels=("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"),
    protocols=(
        Protocol(
            name="emodb-5fold-speaker",
            version=1,
            folds=5,
            description="Speakers are assigned to 5 folds of two so that gender and emotions are spread evenly; test "
            "is fold k, dev the next, train the other three.",
        ),
        Protocol(
            name="emodb-10fold-speaker",
            version=1,
            folds=10,
            description="Leave one speaker out: test is the k-th speaker, dev the next, train the other eight.",
        ),
    ),
    speakers=Count(10, "emodb.bilderbar.info: 5 female and 5 male actors"),
    utterances=Count(535, _READ_EMOBOX),
    counts={
        "anger": Count(127, _READ_EMOBOX),
        "boredom": Count(81, _READ_EMOBOX),
        "disgust": Count(46, _READ_EMOBOX),
        "fear": Count(69, _READ_EMOBOX),
        "happiness": Count(71, _READ_EMOBOX),
        "neutral": Count(79, _READ_EMOBOX),
        "sadness": Count(62, _READ_EMOBOX),
    },
    layout="wav/SSTTTEv.wav (speaker, text, emotion letter, version), such as 03a01Fa.wav",
    notes=("every sentence is spoken with every emotion: the words carry no information",),
)

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
# Speakers and texts as in the documentation of the corpus (read in audformat's EmoDB example).
_AGES = {"03": 31, "08": 34, "09": 21, "10": 32, "11": 26, "12": 30, "13": 32, "14": 35, "15": 25, "16": 31}
_WOMEN = ("08", "09", "13", "14", "16")
_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match[1] not in _AGES:
        return None
    speaker, text, letter, version = match.groups()
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=CARD.label_map[letter],
        text=_TEXTS.get(text),
        language="de",
        gender="female" if speaker in _WOMEN else "male",
        corpus=CARD.name,
        meta={"label": letter, "sentence": text, "version": version, "age": _AGES[speaker]},
    )


def emodb(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read EmoDB by its file names.

    Args:
        root: folder holding ``wav``, or the wav files. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed by the clips present.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three speakers, no such protocol or fold.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    counts = protocols.speaker_counts(rows) if chosen.name == "emodb-5fold-speaker" else None
    folds = protocols.fold_of_speakers((u.speaker for u in rows if u.speaker), chosen.folds, counts)
    rows = protocols.split_by_speaker(rows, fold, folds)
    return protocols.finish(
        CARD, rows, root=folder, protocol=chosen, fold=fold, folds=max(folds.values()), version="2005", extra=found
    )
