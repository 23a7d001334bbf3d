"""IEMOCAP: ten actors in five dyadic sessions, scripted and improvised (Busso et al. 2008)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError
from serkit.types import Manifest, Utterance

_EMOBOX = "counted in the file list of EmoBox (data/iemocap/iemocap.jsonl), which holds the four classes"
_FOUR = ("anger", "happiness", "neutral", "sadness")
_ALL = (
    "anger", "disgust", "excitement", "fear", "frustration", "happiness", "neutral", "other", "sadness", "surprise",
)  # fmt: skip
_FOLDS = "Test of fold k is session k (one woman, one man), dev the next session, train the other three."

CARD = Card(
    name="iemocap",
    title="Interactive Emotional Dyadic Motion Capture database",
    licence="IEMOCAP release agreement of the University of Southern California, research only (remembered)",
    url="https://sail.usc.edu/iemocap/",
    citation="Busso C, Bulut M, Lee C-C, et al. (2008). IEMOCAP: Interactive emotional dyadic motion capture "
    "database. Language Resources and Evaluation 42:335-359.",
    languages=("en",),
    kind="elicited",
    label_map={
        "ang": "anger",
        "dis": "disgust",
        "exc": "excitement",
        "fea": "fear",
        "fru": "frustration",
        "hap": "happiness",
        "neu": "neutral",
        "oth": "other",
        "sad": "sadness",
        "sur": "surprise",
        "xxx": None,
    },
    labels=_ALL,
    protocols=(
        Protocol(
            name="iemocap-4class-5session",
            version=1,
            folds=5,
            description=f"Anger, happiness with excitement, neutral, sadness: 5 531 clips. {_FOLDS}",
            labels=_FOUR,
            source="leave one session out, as usual; the dev session: serkit",
        ),
        Protocol(
            name="iemocap-full-5session",
            version=1,
            folds=5,
            description=f"All ten labels, and the clips without agreement as rows without emotion. {_FOLDS}",
            labels=_ALL,
            source="serkit",
        ),
    ),
    speakers=Count(10, "Busso et al. 2008 (remembered); 5 sessions of 2 in EmoBox (read)"),
    utterances=Count(10_039, "remembered; also given by third-party notes on the release"),
    layout="SessionN/dialog/EmoEvaluation/*.txt, SessionN/dialog/transcriptions/, SessionN/sentences/wav/DIALOG/*.wav",
    notes=("scripted dialogues are performed in every session: the words of test sentences also occur in train",),
    rating_scale=(1, 5),
)
_FOUR_COUNTS = {"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084}

_HEAD = re.compile(r"\[([\d.]+)\s*-\s*([\d.]+)\]\s+(Ses0(\d)([FM])_\S+)\s+([a-z]{3})\s+\[([^\]]*)\]", re.IGNORECASE)
_VOTE = re.compile(r"(C-[A-Z]\d*):\s*(.*)")
_LINE = re.compile(r"(Ses\S+)\s+\[[\d.]+-[\d.]+\]:\s*(.*)")


def iemocap(
    root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0, votes: str = "evaluators"
) -> Manifest:
    """Read IEMOCAP from its evaluation files, one recording a turn.

    Args:
        root: ``IEMOCAP_full_release``, holding ``Session1`` … protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are the sessions.
        votes: of the ``evaluators`` (``C-E…``), or of ``all``, with the actors' own (``C-F…``, ``C-M…``).

    Raises:
        SerkitError: no sessions, no recording, an unknown label, fewer than three sessions.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    if votes not in ("all", "evaluators"):
        raise SerkitError(f"option votes is '{votes}', expected evaluators or all")
    folder = recordings.corpus_root(root, CARD)
    sessions = [p for p in sorted(folder.glob("Session*")) if p.is_dir()]
    if not sessions:
        raise SerkitError(f"iemocap: no Session1 … under {folder}; expected {CARD.layout}")
    audio = recordings.audio_by_stem(folder, CARD)
    four = chosen.labels == _FOUR
    rows: list[Utterance] = []
    missing: list[str] = []
    left_out: Counter[str] = Counter()
    for session in sessions:
        texts = _texts(session)
        for turn in _turns(session, votes):
            if turn["id"] not in audio:
                missing.append(turn["id"])
                continue
            emotion, count = turn["emotion"], turn["votes"]
            if four:
                emotion = "happiness" if emotion == "excitement" else emotion
                count = _merged(count)
                if emotion not in _FOUR:
                    left_out[turn["label"]] += 1
                    continue
            turn |= {"emotion": emotion, "votes": count}
            rows.append(_row(turn, str(audio[turn["id"]]), texts.get(turn["id"])))
    if not rows:
        raise SerkitError(
            f"iemocap: none of {len(missing)} evaluated turns has its recording under {folder}; expected {CARD.layout}"
        )
    rows.sort(key=lambda u: u.id)
    rows, n_sessions = protocols.split_by_session(rows, fold, CARD.name)
    extra: dict[str, Any] = {
        "missing_audio": recordings.counted(missing),
        "left_out": dict(sorted(left_out.items())),
        "label_merges": {"excitement": "happiness"} if four else {},
        "options": {"votes": votes},
    }
    if four:
        counts = Counter(u.emotion for u in rows)
        extra["count_findings"] = [
            {"what": f"utterances of {label}", "here": counts[label], "published": n, "source": _EMOBOX}
            for label, n in _FOUR_COUNTS.items()
            if counts[label] != n
        ]
    return protocols.finish(CARD, rows, root=folder, protocol=chosen, fold=fold, folds=n_sessions, extra=extra)


def _row(turn: dict[str, Any], audio: str, text: str | None) -> Utterance:
    valence, arousal, dominance = turn["attributes"]
    return Utterance(
        id=turn["id"],
        audio=audio,
        speaker=turn["speaker"],
        emotion=turn["emotion"],
        votes=turn["votes"] or None,
        arousal=arousal,
        valence=valence,
        dominance=dominance,
        text=text,
        language="en",
        gender="female" if turn["speaker"].endswith("F") else "male",
        corpus=CARD.name,
        meta={"label": turn["label"], "session": turn["session"], "style": turn["style"]},
    )


def _turns(session: Path, votes: str) -> Iterator[dict[str, Any]]:
    for path in sorted((session / "dialog" / "EmoEvaluation").glob("Ses*.txt")):
        turn: dict[str, Any] | None = None
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            head = _HEAD.match(line)
            if head:
                if turn is not None:
                    yield turn
                turn = _turn(head, path)
            elif turn is not None and (vote := _VOTE.match(line)) and (votes == "all" or vote[1].startswith("C-E")):
                _count(turn["votes"], vote[2])
        if turn is not None:
            yield turn


def _turn(head: re.Match[str], path: Path) -> dict[str, Any]:
    label = head[6].lower()
    if label not in CARD.label_map:
        raise SerkitError(f"{path}: turn '{head[3]}' has the label '{label}'; known: {', '.join(CARD.label_map)}")
    try:
        values = [float(word) for word in head[7].split(",")]
    except ValueError:
        raise SerkitError(f"{path}: turn '{head[3]}' has the attributes [{head[7]}], expected numbers") from None
    turn = head[3]
    return {
        "id": turn,
        "session": int(head[4]),
        # the letter of the turn number is who speaks; that of the dialogue is who wears the markers
        "speaker": f"Ses0{head[4]}{turn.rsplit('_', 1)[-1][0].upper()}",
        "style": "improvised" if "impro" in turn else "scripted",
        "label": label,
        "emotion": CARD.label_map[label],
        "votes": {},
        # a rating of 0 or below is no rating
        "attributes": [v if v > 0 else None for v in (values + [0.0] * 3)[:3]],
    }


def _count(votes: dict[str, float], text: str) -> None:
    """Add one rater, who may have named several emotions: ``Anger; Frustration;\\t(comment)``."""
    words = [w.strip() for w in text.split("(")[0].split(";") if w.strip()]
    labels = [_word(w) for w in words]
    for label in labels:
        votes[label] = votes.get(label, 0.0) + 1.0 / len(labels)


def _word(word: str) -> str:
    label = recordings.canonical_label(word.replace("Neutral state", "neutral"))
    return label if label in _ALL else "other"


def _merged(votes: dict[str, float]) -> dict[str, float]:
    merged = dict(votes)
    if "excitement" in merged:
        merged["happiness"] = merged.get("happiness", 0.0) + merged.pop("excitement")
    return merged


def _texts(session: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in sorted((session / "dialog" / "transcriptions").glob("Ses*.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = _LINE.match(line)
            if found and found[2].strip():
                texts[found[1]] = found[2].strip()
    return texts
