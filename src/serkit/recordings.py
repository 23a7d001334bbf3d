"""Recordings and words of a corpus: which files are clips, what a label is called, what an id may be.

Everything a corpus file needs before anybody is train or test; :mod:`serkit.protocols` says that.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from serkit.cards import Card
from serkit.errors import SerkitError
from serkit.files import fingerprint
from serkit.suffixes import SOUND
from serkit.types import CANONICAL_LABELS, Manifest, Utterance

LABEL_SYNONYMS: Mapping[str, str] = {
    "ang": "anger", "angry": "anger", "mad": "anger", "anger": "anger",
    "bored": "boredom", "boredem": "boredom",
    "calmness": "calm",
    "contemptuous": "contempt",
    "dis": "disgust", "disgusted": "disgust",
    "exc": "excitement", "excited": "excitement",
    "fea": "fear", "fearful": "fear", "afraid": "fear", "scared": "fear", "anxiety": "fear", "anxious": "fear",
    "fru": "frustration", "frustrated": "frustration",
    "hap": "happiness", "happy": "happiness", "joy": "happiness", "joyful": "happiness",
    "neu": "neutral", "neutrality": "neutral",
    "oth": "other", "others": "other",
    "sad": "sadness", "sorrow": "sadness",
    "sur": "surprise", "surprised": "surprise", "pleasant_surprise": "surprise", "ps": "surprise",
}  # fmt: skip
"""Common words for an emotion, lower case, to its canonical label."""

NO_AGREEMENT = frozenset({"", "xxx", "no_agreement", "no agreement", "noagreement", "nan", "none", "null"})
"""Words (lower case) by which tables say that there is no label; they become ``None``."""

_NEAR = 0.84  # of difflib's ratio: 'nuetral' is 0.86 from 'neutral', 'disappointed' 0.77 from 'disappointment'
_MANY_LABELS = 500  # more are hardly emotions, and comparing each with each would take long
_MUCH_MORE = 10  # times as frequent: two labels of one's own may well be alike

# ---------------------------------------------------------------- names


def canonical_label(word: str) -> str | None:
    """The canonical label of ``word``; the word itself where there is none; ``None`` for no agreement.

    >>> canonical_label("Angry"), canonical_label("pride"), canonical_label("xxx")
    ('anger', 'pride', None)
    """
    word = word.strip()
    lowered = word.lower()
    if lowered in NO_AGREEMENT:
        return None
    if lowered in CANONICAL_LABELS:
        return lowered
    return LABEL_SYNONYMS.get(lowered.replace(" ", "_"), word)


def near_label(word: str, known: Iterable[str]) -> str | None:
    """What ``word`` was probably meant to be, among ``known``; ``None`` where it is near to nothing.

    Words are near that begin alike and differ in a letter or two, in their order, or in case. A number at the end
    is taken as meant: ``boredom2`` is near to nothing.

    >>> near_label("hapiness", ["happiness", "sadness"]), near_label("pride", ["happiness", "sadness"])
    ('happiness', None)
    """
    low = word.strip().lower()
    best, found = 0.0, None
    for other in known:
        one = other.lower()
        if other == word or one[:1] != low[:1] or re.findall(r"\d+", one) != re.findall(r"\d+", low):
            continue
        score = 1.0 if sorted(one) == sorted(low) else difflib.SequenceMatcher(None, low, one).ratio()
        if score >= _NEAR and score > best:
            best, found = score, other
    return found


def mistyped_label(counts: Mapping[str, int], own: Iterable[str] = ()) -> tuple[str, str] | None:
    """The first label that is no known emotion, and very near to one or to a label that stands there more often.

    A label near to another that is unknown, too, is told where that one is ten times as frequent, or differs in
    case alone.

    Args:
        counts: rows by label, as :func:`canonical_label` gives them. own: labels that are meant as they stand.

    Returns:
        The label, and what it was probably meant to be; ``None`` where every label is known or near to nothing.
    """
    meant = set(own)
    spellings = dict.fromkeys((*CANONICAL_LABELS, *LABEL_SYNONYMS))
    for label, n in counts.items():
        if label in CANONICAL_LABELS or label in meant:
            continue
        near = near_label(label, spellings)
        if near is not None:
            return label, canonical_label(near) or near
        if len(counts) > _MANY_LABELS:
            continue
        again = [x for x, m in counts.items() if m >= (n if x.lower() == label.lower() else _MUCH_MORE * n)]
        near = near_label(label, again)
        if near is not None:
            return label, near
    return None


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once: the canonical ones in their order, then the others by name."""
    found = set(labels)
    return tuple(x for x in CANONICAL_LABELS if x in found) + tuple(sorted(found - set(CANONICAL_LABELS)))


def safe_id(text: str) -> str:
    """Make an utterance id of any text: what no file name should hold becomes ``_``.

    A text that had to be cut to 200 characters keeps a hash of the whole, so that two stay two.

    >>> safe_id("a b/ü.c")
    'a_b__.c'
    """
    clean = re.sub(r"[^A-Za-z0-9._+=@-]", "_", text)
    if not clean[:1].isalnum():
        clean = "u" + clean
    return clean if len(clean) <= 200 else f"{clean[:180]}_{fingerprint(text)}"


def refuse_mistyped(rows: Sequence[Utterance], own: Iterable[str], corpus: str, where: Callable[[int], str]) -> None:
    """Refuse a label that looks like a slip of the pen: it would be a class of its own, silently.

    Args:
        rows: of a corpus whose labels anybody may have written. own: labels that are meant as they stand.
        corpus: its name, for the message. where: words for the place of the row of a number, counted from 0.

    Raises:
        SerkitError: there is one that is not among ``own``.
    """
    counts = Counter(u.emotion for u in rows if u.emotion is not None)
    slip = mistyped_label(counts, own)
    if slip is not None:
        label, near = slip
        first = next(number for number, u in enumerate(rows) if u.emotion == label)
        raise SerkitError(
            f"{corpus}: label '{label}' ({counts[label]} row{'s' * (counts[label] != 1)}, first: {where(first)}) is "
            f"not a known emotion; did you mean '{near}'? Correct it, or, if it is intended, confirm "
            f"it: --option own_labels={label}"
        )


def as_flag(value: bool | str, name: str) -> bool:
    """Read a yes/no option that may come from the command line as text.

    Raises:
        SerkitError: neither a bool nor one of true, false, yes, no, 1, 0.
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "yes", "1"):
        return True
    if word in ("false", "no", "0", ""):
        return False
    raise SerkitError(f"option {name} is '{value}', expected true or false")


def as_names(value: str | Iterable[str]) -> list[str]:
    """Read an option that is a list of names, or text with commas.

    >>> as_names("calm, pride"), as_names(["calm"])
    (['calm', 'pride'], ['calm'])
    """
    return [str(name).strip() for name in (value.split(",") if isinstance(value, str) else value)]


def as_scale(value: str | Sequence[float]) -> dict[str, tuple[float, float]]:
    """Read the ends of a rating scale, as numbers or as text with a comma, into what ``info`` says of it.

    Returns:
        ``{"rating_scale": (low, high)}``, or ``{}`` where nothing is given.

    Raises:
        SerkitError: not two finite numbers, the lower first.

    >>> as_scale("-1, 1")
    {'rating_scale': (-1.0, 1.0)}
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not len(parts):
        return {}
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise SerkitError(f"rating_scale is {value!r}, expected its lowest and its highest rating, such as [1, 7]")
    return {"rating_scale": (low, high)}


# ---------------------------------------------------------------- finding recordings


def corpus_root(root: Path | str, card: Card) -> Path:
    """The folder of a corpus, made absolute.

    Raises:
        SerkitError: there is no such folder, or it is a file.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.exists():
        raise SerkitError(f"{card.name}: no folder {folder}; expected {card.layout}; give it with --root")
    if not folder.is_dir():
        raise SerkitError(f"{card.name}: {folder} is a file; --root is the folder that holds {card.layout}")
    return folder


def find_audio(root: Path, card: Card) -> list[PurePosixPath]:
    """Paths of all recordings under ``root``, relative to it, sorted; hidden files are passed over.

    Raises:
        SerkitError: the folder is empty or holds no recording.
    """
    found: list[PurePosixPath] = []
    n_files = 0
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back into the tree
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "__MACOSX")
        n_files += len(names)
        base = Path(folder).relative_to(root)
        found += [
            PurePosixPath(base.as_posix(), name)
            for name in names
            if not name.startswith(".") and name[max(name.rfind("."), 0) :].lower() in SOUND
        ]
    if not found:
        what = f"holds {n_files} files but no recording ({', '.join(SOUND)})" if n_files else "is empty"
        raise SerkitError(f"{card.name}: {root} {what}; expected {card.layout}")
    return sorted(found)


def audio_by_stem(root: Path, card: Card) -> dict[str, PurePosixPath]:
    """The recordings under ``root`` by file name without suffix; of several the preferred format, then in path order.

    Raises:
        SerkitError: the folder is empty or holds no recording.
    """
    found: dict[str, PurePosixPath] = {}
    for path in sorted(find_audio(root, card), key=_preference):
        found.setdefault(path.stem, path)
    return found


def _preference(path: PurePosixPath) -> tuple[int, PurePosixPath]:
    return SOUND.index(path.suffix.lower()), path


def recognise(
    root: Path, card: Card, parse: Callable[[PurePosixPath], Utterance | None]
) -> tuple[list[Utterance], dict[str, Any]]:
    """Make one row of each recording whose path ``parse`` understands.

    A clip that stands twice (the same id: a second copy of the tree, or a second format) is taken once,
    in the preferred format and then in path order.

    Args:
        root: absolute folder of the corpus. card: names what is expected.
        parse: relative path to row, or ``None`` where the file is not of this corpus.

    Returns:
        The rows by id, and what to say about the rest: ``unrecognised_audio`` and ``duplicate_names``,
        each ``{"count": n, "examples": [...]}``.

    Raises:
        SerkitError: no recording, or none that is recognised.
    """
    paths = find_audio(root, card)
    rows: dict[str, Utterance] = {}
    unknown: list[str] = []
    twice: list[str] = []
    for path in sorted(paths, key=_preference):
        row = parse(path)
        if row is None:
            unknown.append(str(path))
        elif row.id in rows:
            twice.append(str(path))
        else:
            rows[row.id] = row
    if not rows:
        raise SerkitError(
            f"{card.name}: none of the {len(paths)} recordings under {root} has a name of this corpus (first: "
            f"{paths[0]}); expected {card.layout}; is it another --corpus?"
        )
    found = {
        "unrecognised_audio": counted(unknown),
        "duplicate_names": counted(twice),
    }
    return [rows[key] for key in sorted(rows)], found


def counted(names: Collection[str]) -> dict[str, Any]:
    """How many, and the first five, as ``info`` of a manifest has it."""
    return {"count": len(names), "examples": sorted(names)[:5]}


def missing_audio(root: Path | str, utterances: Iterable[Utterance]) -> list[str]:
    """Audio paths that are listed and not on disk, each once, sorted."""
    base = os.path.join(str(root), "")  # noqa: PTH118 - plain strings: a hundred thousand paths in a second
    is_file = os.path.isfile
    return sorted(p for p in {u.audio for u in utterances} if not is_file(base + p if p[:1] != "/" else p))


def not_there(manifest: Manifest) -> list[str]:
    """Lines on rows without a recording: those that a reader left out, and those it keeps, at which training stops."""
    lines, kept = [], False
    for name, info in (manifest.info.get("corpora") or {manifest.corpus: manifest.info}).items():
        about = info.get("missing_audio") or {}
        kept = kept or bool(about.get("rows_kept") and about["count"])
        if about.get("count") and not about.get("rows_kept"):
            some = ", ".join(map(str, about.get("examples", ())[:3]))
            lines.append(f"{name}: {about['count']} listed rows have no recording and are left out (such as {some})")
    gone = [u for u in manifest if not manifest.audio_path(u).is_file()] if kept else []
    if gone:
        lines.append(
            f"{len(gone)} of {len(manifest)} rows have no recording (such as {manifest.audio_path(gone[0])}): the "
            "features of the others are extracted, then training stops until these are there, or left out by name "
            f"(exclude: [{gone[0].id}])"
        )
    return lines
