"""CREMA-D: 91 actors, 12 sentences, six emotions, rated by a crowd (Cao et al. 2014)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError, check_known
from serkit.text_rows import csv_rows
from serkit.types import Manifest, Utterance

_READ = "README of github.com/CheyneyComputerScience/CREMA-D"
_READ_EMOBOX = "counted in the file list of EmoBox (data/cremad/cremad.jsonl)"

CARD = Card(
    name="crema_d",
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D), audio",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    url="https://github.com/CheyneyComputerScience/CREMA-D",
    citation="Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). CREMA-D: Crowd-sourced Emotional "
    "Multimodal Actors Dataset. IEEE Trans. Affective Computing 5(4), 377-390. doi:10.1109/TAFFC.2014.2336244",
    languages=("en",),
    kind="acted",
    label_map={
        "ANG": "anger",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happiness",
        "NEU": "neutral",
        "SAD": "sadness",
    },
    labels=("anger", "disgust", "fear", "happiness", "neutral", "sadness"),
    protocols=(
        Protocol(
            name="crema-d-5fold-actor",
            version=1,
            folds=5,
            description="Actors are assigned to 5 folds so that gender and emotions are spread evenly; test is fold k, "
            "dev the next. The label is the emotion the actor intended, or with labels=perceived the voice-only vote.",
        ),
    ),
    speakers=Count(91, _READ),
    utterances=Count(7442, _READ),
    counts={
        "anger": Count(1271, _READ_EMOBOX),
        "disgust": Count(1271, _READ_EMOBOX),
        "fear": Count(1271, _READ_EMOBOX),
        "happiness": Count(1271, _READ_EMOBOX),
        "neutral": Count(1087, _READ_EMOBOX),
        "sadness": Count(1271, _READ_EMOBOX),
    },
    layout="AudioWAV/1001_DFA_ANG_XX.wav; beside it processedResults/tabulatedVotes.csv (or finishedResponses.csv), "
    "processedResults/summaryTable.csv and VideoDemographics.csv where there are votes and genders to read",
    notes=(
        "labels are the emotions the actors intended: listeners heard the same in 40.9 % of the voice-only ratings "
        "(Cao et al. 2014)",
        "1076_MTI_SAD_XX reportedly contains no audible speech (remembered)",
    ),
)

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(XX?|LO|MD|HI)")  # one file is called 1040_ITH_SAD_X
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high"}
_LETTERS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
_TEXTS = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}


def _row(path: PurePosixPath) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match[3] not in CARD.label_map:
        return None
    actor, sentence, label, level = match.groups()
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=actor,
        emotion=CARD.label_map[label],
        text=_TEXTS.get(sentence),
        language="en",
        corpus=CARD.name,
        meta={"label": label, "sentence": sentence, "intensity": _LEVELS.get(level, "unspecified")},
    )


def _find_table(folder: Path, name: str) -> Path | None:
    homes = (folder, folder.parent) if folder.name.lower().startswith("audio") else (folder,)
    for home in homes:
        for place in (home / name, home / "processedResults" / name):
            if place.is_file():
                return place
    return None


def _voice_votes(folder: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Votes of the voice-only ratings by clip, and the file they are from (``""`` where there is none).

    In ``tabulatedVotes.csv`` the rows numbered 1xxxxx are voice, 2xxxxx face, 3xxxxx both (read: their
    votes are the VoiceVote column of ``summaryTable.csv``); ``finishedResponses.csv`` has one row per
    response with queryType 1 for voice.
    """
    votes: dict[str, dict[str, float]] = {}
    tabulated = _find_table(folder, "tabulatedVotes.csv")
    if tabulated is not None:
        needed = ("", "a", "d", "f", "h", "n", "s", "filename")
        for number, line in csv_rows(tabulated, needed, lower=True):
            if not line[""].startswith("1"):
                continue
            try:
                counts = {name: float(line[letter.lower()]) for letter, name in _LETTERS.items()}
            except ValueError:
                raise SerkitError(f"{tabulated}, line {number}: a vote is not a number") from None
            if sum(counts.values()) > 0:
                votes[line["filename"]] = {name: n for name, n in counts.items() if n}
        return votes, tabulated.name
    responses = _find_table(folder, "finishedResponses.csv")
    if responses is None:
        return {}, ""
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for _, line in csv_rows(responses, ("querytype", "respemo", "clipname"), lower=True):
        name = _LETTERS.get(line["respemo"].strip()[:1].upper())
        if line["querytype"].strip() == "1" and name is not None:
            tally[PurePosixPath(line["clipname"].strip()).stem][name] += 1
    return {clip: {n: float(k) for n, k in sorted(counts.items())} for clip, counts in tally.items()}, responses.name


def _genders(folder: Path) -> dict[str, str]:
    table = _find_table(folder, "VideoDemographics.csv")
    if table is None:
        return {}
    rows = csv_rows(table, ("actorid", "sex"), lower=True)
    return {row["actorid"]: row["sex"].strip().lower() for _, row in rows}


def _heard(folder: Path) -> dict[str, str]:
    table = _find_table(folder, "summaryTable.csv")
    if table is None:
        return {}
    rows = csv_rows(table, ("filename", "voicevote"), lower=True)
    return {row["filename"]: row["voicevote"] for _, row in rows}


def _perceived(votes: Mapping[str, float] | None, letters: str) -> str | None:
    """The one emotion most raters heard; ``None`` for a tie or for no rating."""
    if votes:
        best = max(votes.values())
        winners = [name for name, n in votes.items() if n == best]
    else:
        winners = [_LETTERS[letter] for letter in letters.split(":") if letter in _LETTERS]
    return winners[0] if len(winners) == 1 else None


def _with_ratings(folder: Path, rows: list[Utterance], labels: str) -> tuple[list[Utterance], dict[str, Any]]:
    votes, source = _voice_votes(folder)
    genders, heard = _genders(folder), _heard(folder)
    if labels == "perceived" and not votes and not heard:
        raise SerkitError(
            f"crema_d: labels=perceived needs tabulatedVotes.csv, finishedResponses.csv or summaryTable.csv in {folder}"
            " or its processedResults folder"
        )
    out = []
    for u in rows:
        fields = u.to_row()
        fields["votes"] = votes.get(u.id)
        fields["gender"] = genders.get(u.speaker or "")
        if u.id in heard:
            fields["meta"] = {**u.meta, "voice_vote": heard[u.id]}
        if labels == "perceived":
            fields["emotion"] = _perceived(votes.get(u.id), heard.get(u.id, ""))
        out.append(Utterance(**fields))
    n_votes = sum(u.votes is not None for u in out)
    return out, {"votes_source": source or None, "rows_with_votes": n_votes, "labels_are": labels}


def crema_d(
    root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0, labels: str = "intended"
) -> Manifest:
    """Read CREMA-D audio with its voice-only crowd votes.

    Args:
        root: folder of the repository (or of ``AudioWAV``). protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are fixed by the clips present.
        labels: ``intended`` by the actor, or ``perceived``: the most frequent voice-only vote, a tie is ``None``.

    Raises:
        SerkitError: no folder, nothing recognised, fewer than three actors, no such protocol, fold or labels,
            or perceived labels without a file of votes.
    """
    check_known(labels, ("intended", "perceived"), f"crema_d: no labels '{labels}'")
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    rows, found = recordings.recognise(folder, CARD, _row)
    rows, ratings = _with_ratings(folder, rows, labels)
    # Dealt by the intended emotion, so that both kinds of labels have the same folds.
    counts = protocols.speaker_counts(rows, lambda u: (u.gender, u.meta["label"]))
    folds = protocols.fold_of_speakers(counts, chosen.folds, counts)
    rows = protocols.split_by_speaker(rows, fold, folds)
    notes = [] if ratings["votes_source"] else ["no file of votes here: rows have no rater distribution"]
    return protocols.finish(
        CARD,
        rows,
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=max(folds.values()),
        notes=notes,
        extra={**found, **ratings},
    )
