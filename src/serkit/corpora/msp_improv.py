"""MSP-IMPROV: twelve actors in six dyadic sessions, target sentences and surrounding talk (Busso et al. 2017)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Count, Protocol
from serkit.errors import SerkitError, did_you_mean
from serkit.types import CANONICAL_LABELS, Manifest, Utterance

_FOUR = ("anger", "happiness", "neutral", "sadness")
_FOLDS = "Test of fold k is session k (one woman, one man), dev the next session, train the other four."

CARD = Card(
    name="msp_improv",
    title="MSP-IMPROV: an acted corpus of dyadic interactions to study emotion perception",
    licence="academic licence from the University of Texas at Dallas, on request (remembered)",
    url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
    citation="Busso C, Parthasarathy S, Burmania A, et al. (2017). MSP-IMPROV: An acted corpus of dyadic "
    "interactions to study emotion perception. IEEE Transactions on Affective Computing 8(1):67-80.",
    languages=("en",),
    kind="elicited",
    label_map={"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "O": "other", "X": None},
    labels=("anger", "happiness", "neutral", "other", "sadness"),
    protocols=(
        Protocol(
            name="msp-improv-4class-6session",
            version=1,
            folds=6,
            description=f"Anger, happiness, neutral, sadness. {_FOLDS}",
            labels=_FOUR,
            source="leave one session out (arXiv 2512.04551 and 2506.06071); the dev session: serkit",
        ),
        Protocol(
            name="msp-improv-full-6session",
            version=1,
            folds=6,
            description=f"With the class other, and the turns without agreement as rows without emotion. {_FOLDS}",
            labels=("anger", "happiness", "neutral", "other", "sadness"),
            source="serkit",
        ),
    ),
    speakers=Count(12, "Busso et al. 2017 (remembered)"),
    utterances=Count(8438, "table of multi-loss learning, arXiv 2512.04551 (read second-hand)"),
    layout="Evalution.txt (so spelled), Audio/sessionN/SxxE/R|S|P|T/MSP-IMPROV-….wav, Human_transcriptions/",
    notes=(
        "the target emotion is in the file name (S01A); it is in meta, never the label",
        "who speaks is taken from the fourth field of the name (F01, M01); whether that holds for every turn of the "
        "partner was not confirmed, so folds keep whole sessions together",
    ),
    rating_scale=(1, 5),
)
_FOUR_TOTAL = (7798, "list of four-class utterances in a public implementation of progressive networks (read)")
_STYLES = {"R": "read", "S": "target sentence improvised", "P": "between takes", "T": "improvised around the target"}
_NAME = re.compile(r"(?:UTD|MSP)-IMPROV-(S\d{2})([A-Z])-([FM])(\d{2})-([A-Z])-([A-Z]{2}\d+)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\b([AVD]):\s*([\d.]+)")


def msp_improv(root: Path, *, protocol: str | None = None, fold: int = 1, seed: int = 0) -> Manifest:
    """Read MSP-IMPROV with its crowd votes and human transcripts.

    Args:
        root: folder that holds ``Evalution.txt``. protocol, fold: see ``CARD.protocols``.
        seed: not used; the folds are the sessions.

    Raises:
        SerkitError: no evaluation file, no recording, an unknown class, fewer than three sessions.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    audio = recordings.audio_by_stem(folder, CARD)
    texts = {p.stem: p for p in folder.glob("Human_transcriptions/**/*.txt")}
    rows: list[Utterance] = []
    missing: list[str] = []
    left_out: Counter[str] = Counter()
    for turn in _turns(folder):
        emotion = CARD.label_map[turn["code"]]
        if turn["stem"] not in audio:
            missing.append(turn["stem"])
        elif emotion not in chosen.labels and (chosen.labels == _FOUR or emotion is not None):
            left_out[turn["code"]] += 1
        else:
            text = texts.get(turn["stem"])
            rows.append(
                Utterance(
                    id=turn["stem"],
                    audio=str(audio[turn["stem"]]),
                    speaker=turn["speaker"],
                    emotion=emotion,
                    votes=dict(turn["votes"]) or None,
                    arousal=turn["ratings"].get("A"),
                    valence=turn["ratings"].get("V"),
                    dominance=turn["ratings"].get("D"),
                    text=(text.read_text(encoding="utf-8", errors="replace").strip() or None) if text else None,
                    language="en",
                    gender="female" if turn["speaker"].startswith("F") else "male",
                    corpus=CARD.name,
                    meta={"label": turn["code"], **turn["meta"]},
                )
            )
    if not rows:
        raise SerkitError(f"msp_improv: no row is left, {len(missing)} have no recording; expected {CARD.layout}")
    rows.sort(key=lambda u: u.id)
    rows, n_sessions = protocols.split_by_session(rows, fold, CARD.name)
    extra: dict[str, Any] = {
        "missing_audio": recordings.counted(missing),
        "left_out": dict(sorted(left_out.items())),
    }
    if chosen.labels == _FOUR:
        total, source = _FOUR_TOTAL
        here_is = {"what": "utterances of four classes", "here": len(rows), "published": total, "source": source}
        extra["count_findings"] = [here_is] if len(rows) != total else []
    return protocols.finish(CARD, rows, root=folder, protocol=chosen, fold=fold, folds=n_sessions, extra=extra)


def _turns(folder: Path) -> Iterator[dict[str, Any]]:
    """Blocks of the evaluation file: one line of consensus, then one a rater (``worker; Happy; …``)."""
    tables = sorted(p for name in ("Evalution.txt", "Evaluation.txt") for p in folder.rglob(name))
    if not tables:
        raise SerkitError(f"msp_improv: no Evalution.txt under {folder}; expected {CARD.layout}")
    turn: dict[str, Any] | None = None
    text = tables[0].read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n"), 1):
        fields = [part.strip() for part in line.split(";")]
        name = _NAME.match(fields[0])
        if name is None:
            if turn is not None and len(fields) > 1 and fields[1]:
                label = recordings.canonical_label(fields[1])
                turn["votes"][label if label in CANONICAL_LABELS else "other"] += 1.0
            continue
        if turn is not None:
            yield turn
        code = fields[1].upper() if len(fields) > 1 else ""
        if code not in CARD.label_map:
            said = f"{tables[0]}, line {number}: '{fields[0]}' has the class '{code}'"
            raise SerkitError(said + did_you_mean(code, CARD.label_map))
        sentence, target, gender, session, style, take = name.groups()
        turn = {
            "stem": "MSP" + Path(fields[0]).stem[3:],
            "code": code,
            "speaker": f"{gender}{session}",
            "votes": Counter(),
            "ratings": _ratings(line, f"{tables[0]}, line {number}"),
            "meta": {
                "session": int(session),
                "sentence": sentence,
                "target": target,
                "style": _STYLES.get(style, style),
                "turn": take,
            },
        }
    if turn is not None:
        yield turn


def _ratings(line: str, where: str) -> dict[str, float]:
    ratings: dict[str, float] = {}
    for key, value in _ATTRIBUTE.findall(line):
        try:
            ratings[key] = float(value.rstrip("."))
        except ValueError:
            raise SerkitError(f"{where}: {key} is '{value}', expected a number") from None
    return ratings
