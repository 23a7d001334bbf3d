"""MSP-Podcast: spontaneous podcast speech with crowd ratings (Lotfian & Busso 2019); release and challenge layouts."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Protocol
from serkit.errors import SerkitError, did_you_mean
from serkit.text_rows import csv_file, csv_rows, json_object
from serkit.types import Manifest, Utterance

_UEDA = "arXiv 2505.20007, sec. 3 (read)"
_NOTEBOOK = "dev counts in the stacking notebook of github.com/AI-Unicamp/interspeech_ser (read)"
_LABELS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
_TRAPS = "A few speakers of the official splits may be in two splits; they are reported if found."

CARD = Card(
    name="msp_podcast",
    title="MSP-Podcast corpus",
    licence="academic licence from the University of Texas at Dallas, on request (remembered)",
    url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    citation="Lotfian R, Busso C (2019). Building naturalistic emotionally balanced speech corpus by retrieving "
    "emotional speech from existing podcast recordings. IEEE Transactions on Affective Computing 10(4):471-483.",
    languages=("en",),
    kind="spontaneous",
    label_map={
        "A": "anger",
        "S": "sadness",
        "H": "happiness",
        "U": "surprise",
        "F": "fear",
        "D": "disgust",
        "C": "contempt",
        "N": "neutral",
        "O": "other",
        "X": None,
    },
    labels=recordings.order_labels((*_LABELS, "other")),
    protocols=(
        Protocol(
            name="msp-podcast-release",
            version=1,
            folds=1,
            description=f"Official splits: Train, Development as dev, Test1 as test; Test2 and Test3 unused. {_TRAPS}",
            labels=_LABELS,
            source="Split_Set of the release",
        ),
        Protocol(
            name="msp-podcast-release-test2",
            version=1,
            folds=1,
            description="Official splits with Test2 (117 podcasts drawn at random) as test; Test1 and Test3 unused.",
            labels=_LABELS,
            source="Split_Set of the release",
        ),
        Protocol(
            name="msp-podcast-is25",
            version=1,
            folds=1,
            description="Interspeech 2025 challenge: Train and Development (66 992 and 25 258 rows of eight classes). "
            "Test3 has hidden labels: with unlabelled_test=true its 3 200 rows are test and can be predicted, not "
            "measured; without it there is no test, and dev both selects and measures, which is optimistic.",
            labels=_LABELS,
            source=_UEDA,
        ),
        Protocol(
            name="msp-podcast-is25-devtest",
            version=1,
            folds=1,
            description="As is25, but Development is test and dev is 15 % of the Train clips, whole speakers drawn "
            "with the seed: a number that no choice was made on, from the challenge data alone.",
            labels=_LABELS,
            source="serkit (proposal)",
        ),
    ),
    layout="Labels/labels_consensus.csv, Labels/labels_detailed.csv (votes), Audios/ or Audio/, Transcripts/",
    notes=("counts differ between releases; only those of the 2025 challenge are checked",),
    rating_scale=(1, 7),
)

_SETS = {"train": "Train", "development": "Development", "validation": "Development"}
_SETS |= {name.lower(): name for name in ("Test1", "Test2", "Test3")}
_SPLITS = {
    "msp-podcast-release": {"Train": "train", "Development": "dev", "Test1": "test"},
    "msp-podcast-release-test2": {"Train": "train", "Development": "dev", "Test2": "test"},
    "msp-podcast-is25": {"Train": "train", "Development": "dev"},
    "msp-podcast-is25-devtest": {"Train": "train", "Development": "test"},
}
_IS25_COUNTS = (
    ("labelled train rows", "train", None, 66_992, _UEDA),
    ("labelled dev rows", "dev", None, 25_258, _UEDA),
    ("dev rows of neutral", "dev", "neutral", 7_423, _NOTEBOOK),
    ("dev rows of happiness", "dev", "happiness", 6_344, _NOTEBOOK),
    ("dev rows of anger", "dev", "anger", 5_836, _NOTEBOOK),
    ("dev rows of sadness", "dev", "sadness", 2_341, _NOTEBOOK),
    ("dev rows of contempt", "dev", "contempt", 1_459, _NOTEBOOK),
    ("dev rows of surprise", "dev", "surprise", 987, _NOTEBOOK),
    ("dev rows of disgust", "dev", "disgust", 542, _NOTEBOOK),
    ("dev rows of fear", "dev", "fear", 326, _NOTEBOOK),
)
_WITHOUT_TEST = (
    "--protocol msp-podcast-is25 --option unlabelled_test=true (Test3 is predicted, not measured); or "
    "--protocol msp-podcast-is25-devtest (Development is the test)"
)
_KEEPS_OTHER = "--option other=none keeps those of class O without a label, for their votes and ratings"
_PODCAST = re.compile(r"MSP-PODCAST_\d+(?=_\d)")  # then the segment; names of Test3 hide the podcast (remembered)
_VOTE_LABELS = {
    "Angry": "anger",
    "Sad": "sadness",
    "Happy": "happiness",
    "Surprise": "surprise",
    "Fear": "fear",
    "Disgust": "disgust",
    "Contempt": "contempt",
    "Neutral": "neutral",
}


def msp_podcast(
    root: Path,
    *,
    protocol: str | None = None,
    fold: int = 1,
    seed: int = 0,
    other: str = "drop",
    unlabelled_test: bool | str = False,
    transcripts: bool | str = True,
) -> Manifest:
    """Read MSP-Podcast. Rows without agreement (``X``) stay, with emotion ``None`` and their votes.

    Args:
        root: the release or challenge folder. protocol, fold: see ``CARD.protocols``.
        seed: draws the dev speakers of ``msp-podcast-is25-devtest``; otherwise not used.
        other: rows of class ``O`` are left out (``drop``), are a ninth class (``keep``), or stay with
            emotion ``None`` and their votes (``none``).
        unlabelled_test: with ``msp-podcast-is25``: keep Test3 in split test although its labels are hidden.
        transcripts: read ``Transcripts/NAME.txt`` where it is there.

    Raises:
        SerkitError: no labels_consensus.csv, no recording, a column or set that is not known, an
            unlabelled row outside Test3.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    protocols.check_fold(fold, chosen.folds, chosen.name)
    if other not in ("drop", "keep", "none"):
        raise SerkitError(f"option other is '{other}', expected drop, keep or none")
    folder = recordings.corpus_root(root, CARD)
    hidden = recordings.as_flag(unlabelled_test, "unlabelled_test")
    wanted = ("Transcripts", "Transcript") if recordings.as_flag(transcripts, "transcripts") else ()
    texts = _first_folder(folder, *wanted)
    audio = recordings.audio_by_stem(folder, CARD)
    labels = _first_folder(folder, "Labels", "labels", "label")
    consensus = _consensus(labels or folder)
    votes, n_raters = _votes(labels or folder)
    splits = dict(_SPLITS[chosen.name])
    if hidden:
        if chosen.name != "msp-podcast-is25":
            raise SerkitError(f"msp_podcast: unlabelled_test belongs to protocol msp-podcast-is25, got {chosen.name}")
        splits["Test3"] = "test"

    rows: list[Utterance] = []
    missing: list[str] = []
    left_out: Counter[str] = Counter()
    for entry in _with_test3(consensus, audio):
        stem, subset, code = entry["stem"], entry["set"], entry["code"]
        if stem not in audio:
            missing.append(stem)
            continue
        if not code and subset != "Test3":
            raise SerkitError(f"msp_podcast: '{stem}' of {subset} has no EmoClass; only Test3 may come without labels")
        if (code == "O" and other == "drop") or subset not in splits:
            left_out[f"{subset} {code or 'unlabelled'}" if subset in splits else subset] += 1
            continue
        emotion = None if (code == "O" and other == "none") or not code else CARD.label_map[code]
        row = _row(entry, str(audio[stem]), splits[subset], emotion)
        rows.append(dataclasses.replace(row, votes=votes.get(stem), text=_text(texts, stem)))
    if not rows:
        raise SerkitError(
            f"msp_podcast: no row is left of {len(missing)} without recording under {folder} and {dict(left_out)} left "
            f"out; expected {CARD.layout}"
        )
    rows.sort(key=lambda u: u.id)
    if chosen.name.endswith("devtest"):
        rows = protocols.carve_dev(rows, seed)
    options = {"other": other, "unlabelled_test": hidden, "transcripts": bool(wanted)}
    return _finished(rows, folder, chosen, fold, seed, options, missing, left_out, n_raters)


def _row(entry: dict[str, Any], audio: str, split: str, emotion: str | None) -> Utterance:
    podcast = _PODCAST.match(entry["stem"])
    return Utterance(
        id=recordings.safe_id(entry["stem"]),
        audio=audio,
        speaker=entry["speaker"],
        split=split,
        emotion=emotion,
        arousal=entry["EmoAct"],
        valence=entry["EmoVal"],
        dominance=entry["EmoDom"],
        language="en",
        gender=entry["gender"],
        corpus=CARD.name,
        meta={"label": entry["code"], "set": entry["set"], **({"recording": podcast[0]} if podcast else {})},
    )


def _finished(
    rows: list[Utterance],
    folder: Path,
    chosen: Protocol,
    fold: int,
    seed: int,
    options: dict[str, Any],
    missing: list[str],
    left_out: Counter[str],
    n_raters: int,
) -> Manifest:
    notes = []
    names = _overlapping(rows)
    if names:
        notes.append(f"speakers in two of the official splits: {', '.join(names)}")
    if not n_raters:
        notes.append("no labels_detailed.csv: rows have no votes")
    if "test" not in {u.split for u in rows}:
        notes.append("no test rows: dev both chooses and measures")
    extra: dict[str, Any] = {
        "missing_audio": recordings.counted(missing),
        "left_out": dict(sorted(left_out.items())),
        "options": options,
        "ratings": n_raters,
        "overlapping_speakers": names,
    }
    if "test" not in {u.split for u in rows}:
        extra["without_test"] = _WITHOUT_TEST  # what a run that needs a test says
    if options["other"] == "drop" and any(what.endswith(" O") for what in left_out):
        extra["kept_by"] = _KEEPS_OTHER
    extra["count_findings"] = _other_counts(rows) if chosen.name == "msp-podcast-is25" else []
    version = re.search(r"(\d+\.\d+)", folder.name)
    return protocols.finish(
        CARD,
        rows,
        root=folder,
        protocol=chosen,
        fold=fold,
        folds=1,
        seed=seed if chosen.name.endswith("devtest") else None,
        version=version[1] if version else "unknown",
        labels=CARD.labels if options["other"] == "keep" else None,
        speakers_shared=bool(names),
        notes=notes,
        extra=extra,
    )


def _overlapping(rows: Iterable[Utterance]) -> dict[str, list[str]]:
    """Speakers who are in several of the official splits, with these."""
    splits: dict[str, set[str]] = defaultdict(set)
    for u in rows:
        if u.speaker is not None and u.split is not None:
            splits[u.speaker].add(u.split)
    return {speaker: sorted(where) for speaker, where in sorted(splits.items()) if len(where) > 1}


def _other_counts(rows: Iterable[Utterance]) -> list[dict[str, Any]]:
    """Numbers of clips of the challenge that differ from the published ones."""
    here = Counter((u.split, u.emotion) for u in rows if u.emotion not in (None, "other"))
    return [
        {"what": what, "here": n, "published": published, "source": source}
        for what, split, label, published, source in _IS25_COUNTS
        for n in [sum(c for (s, e), c in here.items() if s == split and label in (None, e))]
        if n != published
    ]


def _first_folder(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _text(folder: Path | None, stem: str) -> str | None:
    if folder is None:
        return None
    try:
        return (folder / f"{stem}.txt").read_text(encoding="utf-8", errors="replace").strip() or None
    except FileNotFoundError:
        return None


def _consensus(folder: Path) -> list[dict[str, Any]]:
    """Rows of labels_consensus.csv, or of the JSON (also spelled concensus) of older releases."""
    table = folder / "labels_consensus.csv"
    if table.is_file():
        rows = csv_rows(table, ("FileName", "EmoClass", "Split_Set"))
        return [_entry(row, f"{table}, line {line}") for line, row in rows]
    older = [p for n in ("labels_consensus.json", "labels_concensus.json") if (p := folder / n).is_file()]
    if not older:
        raise SerkitError(f"msp_podcast: no labels_consensus.csv in {folder}; expected {CARD.layout}")
    entries = []
    for name, about in json_object(older[0]).items():
        if not isinstance(about, dict) or "Split_Set" not in about:
            raise SerkitError(f"{older[0]}: '{name}' has no Split_Set")
        entries.append(_entry({"FileName": name, **about}, str(older[0])))
    return entries


def _entry(row: dict[str, Any], where: str) -> dict[str, Any]:
    stem = _stem(str(row["FileName"]))
    subset = _SETS.get(str(row["Split_Set"]).strip().lower().replace(" ", ""))
    if subset is None:
        raise SerkitError(
            f"{where}: '{stem}' is in Split_Set '{row['Split_Set']}'"
            + did_you_mean(str(row["Split_Set"]), _SETS.values())
        )
    code = str(row.get("EmoClass") or "").strip().upper()
    if code and code not in CARD.label_map:
        raise SerkitError(f"{where}: '{stem}' has EmoClass '{code}'" + did_you_mean(code, CARD.label_map))
    speaker = str(row.get("SpkrID") or "").strip()
    gender = str(row.get("Gender") or "").strip().lower()
    return {
        "stem": stem,
        "set": subset,
        "code": code,
        "speaker": None if speaker.lower() in ("", "unknown", "nan", "none") else speaker,
        "gender": gender if gender in ("female", "male") else None,
        **{name: _number(row.get(name), stem, where) for name in ("EmoAct", "EmoVal", "EmoDom")},
    }


def _stem(name: str) -> str:
    """File name without folder and suffix; several times faster than pathlib over 649 102 ratings."""
    name = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0]


def _number(value: Any, stem: str, where: str) -> float | None:
    word = str(value if value is not None else "").strip()
    if word.lower() in ("", "nan", "none"):
        return None
    try:
        return float(word)
    except ValueError:
        raise SerkitError(f"{where}: '{stem}' has the rating '{word}', expected a number") from None


def _with_test3(consensus: list[dict[str, Any]], audio: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The labelled rows, then recordings of Test3 that no table lists (hidden labels)."""
    yield from consensus
    listed = {entry["stem"] for entry in consensus}
    blank = {
        "set": "Test3",
        "code": "",
        "speaker": None,
        "gender": None,
        "EmoAct": None,
        "EmoVal": None,
        "EmoDom": None,
    }
    for stem in sorted(audio):
        if "test3" in audio[stem].as_posix().lower() and stem not in listed:
            yield {"stem": stem, **blank}


def _votes(folder: Path) -> tuple[dict[str, dict[str, float]], int]:
    """Raters by label and file, and how many ratings were read.

    ``labels_detailed.csv`` comes in two forms: columns ``FileName, Workers, EmoClass_Major, …``, or
    ``FileName`` and one text ``WORKER1; Happy; Happy,Amused; A:4; V:5; D:4;``. A primary emotion
    outside the eight (``Other-…``) counts as other.
    """
    table = folder / "labels_detailed.csv"
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    if not table.is_file():
        return {}, 0
    lines = csv_file(table, replace=True)
    head = [name.strip() for name in next(lines, (1, []))[1]]
    if "FileName" not in head or len(head) < 2:
        raise SerkitError(
            f"{table}: columns {str(head)[:200]}, expected FileName and EmoClass_Major, or FileName and a detail"
        )
    at, wide = head.index("FileName"), "EmoClass_Major" in head
    column = head.index("EmoClass_Major") if wide else next(k for k in range(len(head)) if k != at)
    for _, row in lines:
        if len(row) <= max(at, column):
            continue
        word = row[column].strip()
        if not wide:
            parts = [part.strip() for part in word.split(";")]
            word = parts[1] if len(parts) > 1 else ""
        if word:
            votes[_stem(row[at])][_VOTE_LABELS.get(word, "other")] += 1
    found = {stem: {k: float(n) for k, n in sorted(count.items())} for stem, count in votes.items()}
    return found, sum(sum(count.values()) for count in votes.values())
