"""EmoBox file lists: 32 corpora with published folds as JSONL (Ma et al. 2024); some folds share speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit import protocols, recordings
from serkit.cards import Card, Protocol
from serkit.errors import SerkitError, did_you_mean
from serkit.suffixes import SOUND
from serkit.text_rows import json_object, json_rows, read_text
from serkit.types import SPLITS, Manifest, Utterance

CARD = Card(
    name="emobox",
    title="EmoBox: multilingual multi-corpus speech emotion recognition, file lists",
    licence="MIT on the lists, as their README says; every corpus has its own",
    url="https://github.com/emo-box/EmoBox",
    citation="Ma Z, Chen M, Zhang H, et al. (2024). EmoBox: Multilingual multi-corpus speech emotion recognition "
    "toolkit and benchmark. Interspeech 2024. arXiv 2406.07162.",
    languages=(),
    kind="any",
    label_map={},
    labels=(),
    protocols=(
        Protocol(
            name="emobox-fold",
            version=1,
            folds=6,
            description="The published train and test lists of fold k, as many folds as the data set has. Where no "
            "valid list exists, dev is 15 % of train: whole speakers where train and test share none, else clips. "
            "Folds that share speakers are detected and reported.",
            source="EmoBox; the dev part: serkit",
        ),
        Protocol(
            name="emobox-5fold-speaker",
            version=1,
            folds=5,
            description="All clips of the data set, whole speakers assigned to five folds, gender and emotions spread "
            "evenly; test is fold k, dev the next. Needs speakers in the file names.",
        ),
    ),
    layout="data/NAME/fold_K/NAME_train_fold_K.jsonl and the recordings below downloads/NAME/ (or audio_root)",
    notes=(
        "the lists contain no speakers: they are read from file names where possible",
        "by these names CREMA-D, EmoDB, TESS, ShEMO, ASED, eNTERFACE, EmoV-DB, Oreau, TurEV-DB and URDU share (nearly) "
        "all test speakers with train in fold 1",
    ),
)

_SPEAKERS: dict[str, tuple[str | None, str | None]] = {
    # data set: language, who speaks as groups of a pattern over the path; None: the names do not tell
    "aesdd": ("el", None),
    "ased": ("am", r"-(\d\d)\.\w+$"),
    "asvpesd": (None, r"actor_(\d+)"),
    "cafe": ("fr", r"/(\d\d)-[A-Z]-"),
    "casia": ("zh", r"casia/(\w+)/"),
    "cremad": ("en", r"/(\d{4})_"),
    "emns": ("en", r"(emns)"),
    "emodb": ("de", r"/(\d\d)[ab]\d\d"),
    "emovdb": ("en", r"emovdb/([a-z]+)_"),
    "emovo": ("it", r"emovo/([fm]\d)/"),
    "emozionalmente": ("it", None),
    "enterface": ("en", r"subject (\d+)/"),
    "esd": (None, r"esd/(\d{4})/"),
    "iemocap": ("en", r"(Ses\d\d)[FM]_\w+_([FM])\d+"),
    "jlcorpus": ("en", r"/((?:fe)?male\d)_"),
    "m3ed": ("zh", None),
    "mead": ("en", r"mead/([MW]\d+)/"),
    "meld": ("en", None),
    "mer2023": ("zh", None),
    "mesd": ("es", None),
    "msppodcast": ("en", None),
    "oreau": ("fr", r"/(\d\d)[a-z]\d\d"),
    "pavoque": ("de", r"(pavoque)-"),
    "polish": ("pl", r"/([a-z]\d)\."),
    "ravdess": ("en", r"Actor_(\d+)"),
    "resd": ("ru", None),
    "savee": ("en", r"/([A-Z]{2})_"),
    "shemo": ("fa", r"/([MF]\d\d)[A-Z]"),
    "subesco": ("bn", r"/([MF]_\d+)_"),
    "tess": ("en", r"/([OY]AF)_"),
    "turevdb": ("tr", r"/\d+_([a-z]+)_"),
    "urdu": ("ur", r"/(S[MF]\d+)_"),
}
_NO_LABEL = frozenset({"no-agreement", "unknown"})


def emobox(
    root: Path,
    *,
    protocol: str | None = None,
    fold: int = 1,
    seed: int = 0,
    dataset: str = "",
    audio_root: str = "",
) -> Manifest:
    """Read one data set of a copy of the EmoBox repository.

    Args:
        root: the copy, holding ``data/``. protocol, fold: see ``CARD.protocols``.
        seed: draws dev where no list of it exists.
        dataset: folder of ``data/``, such as ``ravdess``.
        audio_root: folder that stands for ``downloads/NAME``; another suffix than the list's is found, too.

    Raises:
        SerkitError: no lists, no such data set or fold, a line that is not JSON, no recording.
    """
    chosen = protocols.choose_protocol(CARD, protocol)
    folder = recordings.corpus_root(root, CARD)
    home = _home(folder, dataset)
    n_folds = len([p for p in home.glob("fold_*") if p.is_dir()])
    by_fold = chosen.name == "emobox-fold"
    if by_fold:
        protocols.check_fold(fold, n_folds, f"emobox {dataset}")
    base = Path(audio_root).expanduser().absolute() if audio_root else folder
    words = _words(home)
    rows: dict[str, Utterance] = {}
    missing: list[str] = []
    for split, where, entry in _entries(home, dataset, fold if by_fold else 1):
        row = _row(entry, where, dataset, split, words, base, bool(audio_root))
        if row is None:
            missing.append(str(entry.get("key")))
        elif row.id in rows:
            raise SerkitError(f"emobox: '{entry.get('key')}' occurs twice in fold {fold} of {dataset}")
        else:
            rows[row.id] = row
    if not rows:
        raise SerkitError(
            f"emobox: none of {len(missing)} listed recordings of {dataset} is under {base}; put them where the lists "
            "say, or give audio_root"
        )
    ordered = [rows[key] for key in sorted(rows)]
    notes: list[str] = []
    if by_fold:
        ordered, n = _with_dev(ordered, seed, notes), n_folds
    else:
        counts = protocols.speaker_counts(ordered)
        folds = protocols.fold_of_speakers(counts, chosen.folds, counts)
        ordered, n = protocols.split_by_speaker(ordered, fold, folds), max(folds.values())
    overlap = protocols.shared_speakers(ordered)
    return protocols.finish(
        CARD,
        ordered,
        root=base,
        protocol=chosen,
        fold=fold,
        folds=n,
        seed=seed,
        labels=recordings.order_labels(u.emotion for u in ordered if u.emotion is not None),
        speakers_shared=any(overlap.values()),
        notes=notes,
        extra={
            "dataset": dataset,
            "label_map": {word: recordings.canonical_label(label) for word, label in sorted(words.items())},
            "missing_audio": recordings.counted(missing),
        },
    )


def _home(folder: Path, dataset: str) -> Path:
    lists = folder / "data"
    there = sorted(p.name for p in lists.glob("*") if (p / "fold_1").is_dir())
    if not there:
        raise SerkitError(f"emobox: no lists in {lists}; expected {CARD.layout}")
    if dataset not in there:
        said = f"no data set '{dataset}'" if dataset else "say which data set with dataset=NAME"
        raise SerkitError(
            f"emobox: {said} in {lists}" + (did_you_mean(dataset, there) or f"; known: {', '.join(there)}")
        )
    return lists / dataset


def _words(home: Path) -> dict[str, str]:
    """The corpus's word to EmoBox's label (``label_map.json``; EMOVO calls it ``label_dict.json``)."""
    for name in ("label_map.json", "label_dict.json"):
        if (home / name).is_file():
            return {str(k): str(v) for k, v in json_object(home / name).items()}
    return {}


def _entries(home: Path, dataset: str, fold: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Split, place and fields of every line of the lists of a fold."""
    for split, word in zip(SPLITS, ("train", "valid", "test"), strict=True):
        path = home / f"fold_{fold}" / f"{dataset}_{word}_fold_{fold}.jsonl"
        if not path.is_file():
            if word != "valid":
                raise SerkitError(f"emobox: no list {path}; expected {CARD.layout}")
            continue
        entries = list(json_rows(read_text(path), f"emobox: {path}"))
        if not entries and word != "valid":
            raise SerkitError(f"emobox: {path} is empty")
        for line, entry in entries:
            yield split, f"emobox: {path}, line {line}", entry


def _row(
    entry: dict[str, Any], where: str, dataset: str, split: str, words: dict[str, str], base: Path, moved: bool
) -> Utterance | None:
    listed = str(entry.get("wav") or entry.get("audio") or "")
    word = str(entry.get("emo", entry.get("label", "")))
    if not listed or "key" not in entry:
        raise SerkitError(f"{where} has no key or no wav: {sorted(entry)}")
    for name in ("start_time", "end_time"):
        if not isinstance(entry.get(name), int | float | None):
            raise SerkitError(f"{where}: {name} is {entry[name]!r}, expected seconds")
    path = listed.removeprefix(f"downloads/{dataset}/") if moved else listed
    found = _found(base, path)
    if found is None:
        return None
    label = words.get(word, word)
    language, pattern = _SPEAKERS.get(dataset, (None, None))
    speaker = re.search(pattern, listed) if pattern else None
    return Utterance(
        id=recordings.safe_id(str(entry["key"])),
        audio=found,
        start_s=entry.get("start_time"),
        end_s=entry.get("end_time"),
        speaker="_".join(speaker.groups()) if speaker else None,
        split=split,
        emotion=None if label.lower() in _NO_LABEL else recordings.canonical_label(label.lower()),
        language=language,
        corpus=CARD.name,
        meta={"label": word, "dataset": dataset},
    )


def _found(base: Path, path: str) -> str | None:
    if (base / path).is_file():
        return path
    stem = path.rsplit(".", 1)[0]
    return next((stem + s for s in SOUND if (base / (stem + s)).is_file()), None)


def _with_dev(rows: list[Utterance], seed: int, notes: list[str]) -> list[Utterance]:
    """Carve dev where the lists have none: by speaker where that is worth anything, else by clip, and say which."""
    train = {u.speaker for u in rows if u.split == "train"}
    test = {u.speaker for u in rows if u.split == "test"}
    known = {s for s in train | test if s is not None}
    shared = sorted((train & test) - {None}, key=str)
    if shared:
        notes.append(
            f"speakers shared: {len(shared)} of {len(test - {None})} test speakers also in train; protocol "
            "emobox-5fold-speaker has none"
        )
    if "dev" in {u.split for u in rows}:
        return rows
    by_speaker = bool(known) and not shared and None not in train and len(train) >= 2
    notes.append("dev is 15 % of train: " + ("whole speakers" if by_speaker else "clips, blind to speakers"))
    return protocols.carve_dev(rows, seed, by_utterance=not by_speaker)
