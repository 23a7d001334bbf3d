"""The rows everything starts from: utterances, and the manifest that holds a corpus of them.

Imports numpy only. Both types are frozen, checked when they are made, and open without serkit
once written (JSONL).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.files import fingerprint, write_text

SPLITS = ("train", "dev", "test")
ATTRIBUTES = ("arousal", "valence", "dominance")
GENDERS = ("female", "male")  # those that a network can learn beside emotions
NEUTRAL = "neutral"
CANONICAL_LABELS = (
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "excitement",
    "fear",
    "frustration",
    "happiness",
    "neutral",
    "other",
    "sadness",
    "surprise",
)
_TEXTS = ("id", "audio", "speaker", "split", "emotion", "text", "language", "gender", "corpus")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,199}")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech by one person.

    Attributes:
        id: unique in its manifest and safe as a file name.
        audio: path of the recording, relative to the manifest's root (or absolute).
        start_s, end_s: the stretch within the recording in seconds; ``None`` is its begin / end.
        channel: the one of the recording's channels that is heard, 1 the first; ``None`` is their mean.
        speaker: who speaks; ``None`` where the corpus does not say.
        split: ``train``, ``dev``, ``test`` or ``None`` (not used by the protocol).
        emotion: one label of the manifest, or ``None`` where raters did not agree or nobody labelled.
        votes: number of raters (or their share) by label.
        arousal, valence, dominance: attribute ratings on the corpus's own scale.
        text: the corpus's own transcript.
        language: ISO 639 code. gender: ``female``, ``male``, ``other`` or ``None``.
        corpus: name of the corpus; filled by :class:`Manifest`.
        meta: whatever else the corpus says; ``meta["label"]`` is its own word for the emotion, ``meta["recording"]``
            the longer recording that the file was cut from.

    Raises:
        SerkitError: a field is empty instead of ``None``, not finite, or out of range.
    """

    id: str
    audio: str
    start_s: float | None = None
    end_s: float | None = None
    channel: int | None = field(default=None, kw_only=True)
    speaker: str | None = None
    split: str | None = None
    emotion: str | None = None
    votes: Mapping[str, float] | None = None
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    text: str | None = None
    language: str | None = None
    gender: str | None = None
    corpus: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _SAFE_ID.fullmatch(self.id):
            raise SerkitError(
                f"utterance id {self.id!r} is not file-name safe: use letters, digits and . _ + = @ -, "
                "at most 200, not starting with a dot"
            )
        for name in ("audio", "speaker", "emotion", "language", "gender", "corpus", "split"):
            if getattr(self, name) == "":
                raise SerkitError(f"utterance '{self.id}': {name} is empty; leave {name} out (None) if it is unknown")
        if self.split is not None and self.split not in SPLITS:
            raise SerkitError(
                f"utterance '{self.id}': split {self.split!r} is not one of train, dev, test or None"
                + did_you_mean(self.split, SPLITS)
            )
        start = self.start_s or 0.0
        if start < 0 or not math.isfinite(start):
            raise SerkitError(f"utterance '{self.id}': start_s is {self.start_s}, expected a time of at least 0 s")
        if self.end_s is not None and not (math.isfinite(self.end_s) and self.end_s > start):
            raise SerkitError(f"utterance '{self.id}': end_s {self.end_s} is not after start_s {start}")
        if self.channel is not None and (type(self.channel) is not int or self.channel < 1):
            raise SerkitError(
                f"utterance '{self.id}': channel is {self.channel!r}, expected a whole number, 1 for the first channel"
            )
        for name in ATTRIBUTES:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise SerkitError(f"utterance '{self.id}': {name} is {value}; leave {name} out (None) if it is unknown")
        if self.votes is not None:
            weights = list(self.votes.values())
            if not weights or any(not math.isfinite(w) or w < 0 for w in weights) or sum(weights) <= 0:
                raise SerkitError(
                    f"utterance '{self.id}': votes {dict(self.votes)} are not counts of raters by label; "
                    "leave votes out (None) if there are none"
                )

    @property
    def attributes(self) -> tuple[float | None, ...]:
        """Arousal, valence and dominance."""
        return tuple(getattr(self, name) for name in ATTRIBUTES)

    @property
    def recording(self) -> str:
        """The recording it was cut from: ``meta["recording"]`` where clips are files of their own, else the file."""
        return str(self.meta.get("recording") or self.audio)

    @property
    def is_rated(self) -> bool:
        """Whether one of the attributes is known."""
        return any(value is not None for value in self.attributes)

    def to_row(self) -> dict[str, Any]:
        """The fields that are set, as one JSON-able row."""
        row: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None or (item.name == "meta" and not value):
                continue
            row[item.name] = dict(value) if isinstance(value, Mapping) else value
        return row


@dataclass(frozen=True)
class Manifest:
    """A corpus as rows: what is said by whom, where the audio is, and which split it belongs to.

    Attributes:
        corpus: its name; of several together, their names joined by ``+``.
        labels: the label set, in the order of every score matrix made from it.
        utterances: the rows, in a stable order.
        root: folder that the audio paths are relative to, or one folder by corpus name.
        speakers_shared: set explicitly if speakers are in two splits (MELD, TESS).
        class_sets: labels that each corpus can have at all, where several are joined.
        info: provenance: corpus version, protocol, class map, what was dropped and why.

    Raises:
        SerkitError: an id twice, an emotion outside ``labels``, a speaker in two splits.
    """

    corpus: str
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    root: str | Mapping[str, str] | None = None
    speakers_shared: bool = False
    class_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(set(self.labels)) != len(self.labels):
            raise SerkitError(f"corpus '{self.corpus}': a label occurs twice in {list(self.labels)}")
        for label in {"id", "model", "seen"} & set(self.labels):
            raise SerkitError(f"corpus '{self.corpus}': '{label}' cannot be a label, it is a column of predictions")
        filled = tuple(
            u if u.corpus is not None else dataclasses.replace(u, corpus=self.corpus) for u in self.utterances
        )
        object.__setattr__(self, "utterances", filled)
        known = set(self.labels)
        seen: set[str] = set()
        for u in filled:
            if u.id in seen:
                raise SerkitError(f"corpus '{self.corpus}': utterance id '{u.id}' occurs twice; ids must be unique")
            seen.add(u.id)
            if u.emotion is not None and u.emotion not in known:
                raise SerkitError(
                    f"corpus '{self.corpus}', utterance '{u.id}': emotion '{u.emotion}' is not among the labels"
                    + did_you_mean(u.emotion, known)
                )
        if not self.speakers_shared:
            self._refuse_shared_speakers()

    def _refuse_shared_speakers(self) -> None:
        where: dict[str, str] = {}
        for u in self.utterances:
            if u.speaker is None or u.split is None:
                continue
            first = where.setdefault(u.speaker, u.split)
            if first != u.split:
                raise SerkitError(
                    f"corpus '{self.corpus}': speaker '{u.speaker}' is in {first} and in {u.split} (utterance "
                    f"'{u.id}'); split by speaker, or set speakers_shared=true"
                )

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids in row order."""
        return tuple(u.id for u in self.utterances)

    @property
    def fingerprint(self) -> str:
        """Hash of labels and rows; the same on every machine, whatever the root folder."""
        return fingerprint([self.corpus, list(self.labels), [u.to_row() for u in self.utterances]])

    @property
    def split_hash(self) -> str:
        """Hash of which id is in which split: two numbers compare only where this is equal."""
        return fingerprint(sorted((u.id, u.split) for u in self.utterances if u.split))

    def audio_path(self, utterance: Utterance) -> Path:
        """Path of the recording of ``utterance`` on this machine."""
        root = self.root.get(utterance.corpus or "") if isinstance(self.root, Mapping) else self.root
        return Path(root or ".") / utterance.audio

    def split(self, name: str) -> Manifest:
        """The rows of one split (``train``, ``dev`` or ``test``)."""
        return self.where(lambda u: u.split == name)

    def where(self, keep: Callable[[Utterance], bool]) -> Manifest:
        """The rows for which ``keep(utterance)`` is true, in order."""
        return dataclasses.replace(self, utterances=tuple(u for u in self.utterances if keep(u)))

    def counts(self) -> dict[str, int]:
        """Number of rows by emotion, in the order of ``labels``; classes without a clip count 0."""
        found = Counter(u.emotion for u in self.utterances)
        return {label: found.get(label, 0) for label in self.labels}

    def label_index(self) -> np.ndarray:
        """(rows,) int64: position of each row's emotion in ``labels``, -1 where there is none."""
        position = {label: k for k, label in enumerate(self.labels)}
        return np.array([position.get(u.emotion or "", -1) for u in self.utterances], dtype=np.int64)

    def votes(self) -> np.ndarray:
        """(rows, classes) float64: rater distribution, summing to 1; one-hot of the emotion where no
        rater is known; all NaN where there is neither."""
        table = np.full((len(self), len(self.labels)), np.nan)
        position = {label: k for k, label in enumerate(self.labels)}
        for row, u in enumerate(self.utterances):
            weights = {k: w for k, w in (u.votes or {}).items() if k in position}
            if not weights and u.emotion is not None:
                weights = {u.emotion: 1.0}
            total = sum(weights.values())
            if total > 0:
                table[row] = 0.0
                for label, weight in weights.items():
                    table[row, position[label]] = weight / total
        return table

    def save(self, path: Path | str) -> None:
        """Write JSONL: one head line under the key ``_manifest``, then one row a line."""
        head = {
            "corpus": self.corpus,
            "labels": list(self.labels),
            "root": dict(self.root) if isinstance(self.root, Mapping) else self.root,
            "speakers_shared": self.speakers_shared,
            "class_sets": {k: list(v) for k, v in self.class_sets.items()},
            "info": dict(self.info),
            "fingerprint": self.fingerprint,
        }
        lines = [json.dumps({"_manifest": head}, ensure_ascii=False)]
        lines += [json.dumps(u.to_row(), ensure_ascii=False) for u in self.utterances]
        write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Read what :meth:`save` wrote.

        Raises:
            SerkitError: no such file, not JSONL, or a row that does not hold.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other ends of line
            head = json.loads(lines[0])["_manifest"]
            rows = [json.loads(line) for line in lines[1:] if line.strip()]
        except (FileNotFoundError, IsADirectoryError):
            raise SerkitError(f"no manifest at {path}: expected a file in JSONL") from None
        except KeyError:
            raise SerkitError(f"{path} is not a manifest: its first line has no '_manifest'") from None
        except (ValueError, RecursionError, IndexError, TypeError) as error:
            raise SerkitError(f"{path} is not a manifest (JSONL with a '_manifest' head line): {error}") from None
        utterances = tuple(_from_row(row, path) for row in rows)
        try:
            class_sets = {k: tuple(v) for k, v in head.get("class_sets", {}).items()}
            corpus, labels, root, info = head["corpus"], tuple(head["labels"]), head.get("root"), head.get("info", {})
            if not all(isinstance(x, str) for x in (corpus, *labels)) or not isinstance(info, dict):
                raise TypeError("corpus and labels are texts, info an object")
        except (KeyError, TypeError, AttributeError) as error:
            raise SerkitError(f"{path}: its '_manifest' line lacks something or is damaged: {error}") from None
        return cls(corpus, labels, utterances, root, bool(head.get("speakers_shared")), class_sets, info)


def _from_row(row: Any, path: Path) -> Utterance:
    """An utterance from its JSON row.

    Raises:
        SerkitError: not the fields of an utterance, or values of another kind.
    """
    if not isinstance(row, dict):
        raise SerkitError(f"{path}: a row is {str(row)[:40]!r}, expected the fields of an utterance")
    known = [f.name for f in fields(Utterance)]
    for name in row:
        check_known(name, known, f"{path}: row '{row.get('id')}' has an unknown field '{name}'")
    for name, value in {"id": None, "audio": None, **row}.items():
        if name in _TEXTS and not isinstance(value, str) and (value is not None or name in ("id", "audio")):
            raise SerkitError(f"{path}: row '{row.get('id')}' has {name} {value!r:.60}, expected a text")
    if not isinstance(row.get("meta", {}), dict):
        raise SerkitError(f"{path}: row '{row['id']}' has meta {row['meta']!r:.60}, expected an object")
    try:
        return Utterance(**row)
    except (TypeError, AttributeError, OverflowError) as error:
        raise SerkitError(f"{path}: row '{row['id']}' is damaged: {error}") from None
