"""The rows of a split with everything a batch needs: labels, raters, features, and how to read a clip again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from serkit.augment import Example
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.extraction import compute
from serkit.types import GENDERS, NEUTRAL, Manifest, Utterance


class FrameSource(Protocol):
    """Frames by utterance id: what extraction hands to training."""

    def get(self, utterance_id: str) -> np.ndarray:
        """(frames, dim) of one utterance."""

    def frames(self, utterance_id: str) -> int:
        """Its number of frames, without reading them."""


class Remembered:
    """Augmented clips by the seed of each, for several networks that train on the same ones.

    The first ones stay, until they fill ``largest_bytes``; after that nothing more is kept. Features that float16 holds
    exactly, as those made here are, lie in it: what comes back is what was made, to the bit.
    """

    def __init__(self, largest_bytes: int = 512 << 20) -> None:
        self._known: dict[tuple[int, ...], Example] = {}
        self._left, self._lock = largest_bytes, threading.Lock()

    def get(self, seed: tuple[int, ...]) -> Example | None:
        """The clip of a seed, without its samples, which no batch holds; ``None`` where it is not kept."""
        known = self._known.get(seed)
        if known is None:
            return None
        return replace(known, features={k: np.asarray(x, dtype=np.float32) for k, x in known.features.items()})

    def keep(self, seed: tuple[int, ...], clip: Example) -> None:
        """Keep a clip's label and features, where there is room."""
        small = replace(clip, samples=None, features={k: _halved(x) for k, x in clip.features.items()})
        size = sum(x.nbytes for x in small.features.values())
        with self._lock:
            if size <= self._left and seed not in self._known:
                self._known[seed] = small
                self._left -= size


def _halved(frames: np.ndarray) -> np.ndarray:
    """The same numbers as float16 where it holds them exactly, otherwise as they are."""
    with np.errstate(over="ignore"):
        half = frames.astype(np.float16)
    return half if np.array_equal(half.astype(frames.dtype), frames) else frames


@dataclass(frozen=True)
class Hearing:
    """What it takes to compute features anew, from a waveform that an augmentation changed.

    Attributes:
        waveforms: the feature ``waveform``, (samples, 1), by utterance id.
        encoders: of the system's features that read audio, by feature key. They are called on the CPU while
            batches are made, so they should be those without weights; a pretrained network belongs into the model.
        remembered: clips that other networks with the same rows, steps, features and seed have made; ``None`` makes
            every clip anew.
    """

    waveforms: FrameSource
    encoders: Mapping[str, Encoder]
    remembered: Remembered | None = None

    def samples(self, utterance_id: str) -> np.ndarray:
        """(samples,) float32 mono 16 kHz."""
        return np.asarray(self.waveforms.get(utterance_id), dtype=np.float32)[:, 0]

    def features(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """By feature key, (frames, dim) float32: the numbers extraction would have stored for these samples."""
        found = compute(samples, self.encoders)
        return {name: np.asarray(frames, dtype=np.float32) for name, frames in found.items()}


@dataclass(frozen=True)
class Examples:
    """The rows of one split with everything a batch needs but the features.

    Attributes:
        ids: utterance ids. sources: by feature key. lengths: (rows, modalities) int64 frames.
        labels: (rows,) int64, -1 where there is none. targets: (rows, classes) float32 or ``None``.
        class_mask: (rows, classes) bool or ``None`` where every corpus can have every class.
        attributes: (rows, 3) float32, NaN where unknown. corpora: (rows,) name of each row's corpus.
        votes: (rows, classes) float64 number of raters by class, zeros where they are unknown; with ``targets``.
        hearing: how to hear a clip again, for augmentations of the waveform; ``None`` where there are none.
        copies: of the clips, made once by augmentations (:mod:`serkit.copies`): the features of each, by feature key.
        genders: (rows,) int64 place in :data:`serkit.types.GENDERS`, -1 where unknown; empty where all are.
    """

    ids: tuple[str, ...]
    sources: Mapping[str, FrameSource]
    lengths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    corpora: tuple[str, ...]
    targets: np.ndarray | None = None
    class_mask: np.ndarray | None = None
    attributes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.float32))
    votes: np.ndarray | None = None
    hearing: Hearing | None = None
    copies: tuple[Mapping[str, FrameSource], ...] = ()
    genders: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        sources: Mapping[str, FrameSource],
        *,
        targets: Literal["labels", "votes", "all"] = "labels",
        hearing: Hearing | None = None,
        copies: Sequence[Mapping[str, FrameSource]] = (),
    ) -> Examples:
        """Rows of a manifest that can be used.

        Args:
            targets: ``labels`` keeps rows with an emotion, ``votes`` rows with an emotion or rater votes
                (as distributions), ``all`` every row (for scoring).
            hearing: how to hear a clip again. copies: features of the clips' copies.

        Raises:
            SerkitError: no row is left.
        """
        index = manifest.label_index()
        votes = manifest.votes() if targets == "votes" else None
        usable = np.ones(len(manifest), dtype=bool)
        if targets == "labels":
            usable = index >= 0
        elif votes is not None:
            usable = np.isfinite(votes).all(axis=1)
        rows = np.flatnonzero(usable)
        if not len(rows):
            raise SerkitError(f"corpus '{manifest.corpus}': no usable utterance among {len(manifest)}")
        kept = [manifest.utterances[k] for k in rows]
        ids = tuple(u.id for u in kept)
        lengths = np.array([[s.frames(i) for s in sources.values()] for i in ids], dtype=np.int64)
        attributes = np.array([u.attributes for u in kept], dtype=np.float32)
        counts = None
        if votes is not None:
            counts = np.array([[(u.votes or {}).get(c, 0.0) for c in manifest.labels] for u in kept], dtype=np.float64)
        return cls(
            ids,
            sources,
            lengths,
            index[rows],
            manifest.labels,
            tuple(u.corpus or "" for u in kept),
            votes[rows].astype(np.float32) if votes is not None else None,
            _class_mask(manifest, kept),
            attributes,
            counts,
            hearing,
            tuple(copies),
            np.array([GENDERS.index(u.gender) if u.gender in GENDERS else -1 for u in kept], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def example(self, row: int, *, heard: bool = False, copy: int = 0) -> Example:
        """One row on its way into a batch: with its stored features, or with its samples alone where ``heard``.

        Args:
            row: its number. copy: which copy's features; 0 is the clip as it is.
        """
        target = np.zeros(len(self.label_names))
        if self.targets is not None:
            target = self.targets[row].astype(np.float64)
            target = target / target.sum()
        elif self.labels[row] >= 0:
            target[self.labels[row]] = 1.0
        known = self.votes is not None and bool(self.votes[row].any())
        return Example(
            target=target,
            samples=self.hearing.samples(self.ids[row]) if heard and self.hearing is not None else None,
            features={} if heard else self.stored(row, copy=copy),
            votes=self.votes[row] if known and self.votes is not None else None,
            attributes=self.attributes[row].astype(np.float64),
            gender=int(self.genders[row]) if len(self.genders) else -1,
        )

    def stored(self, row: int, keys: Iterable[str] | None = None, copy: int = 0) -> dict[str, np.ndarray]:
        """By feature key (all of them, or ``keys``), (frames, dim) float32 of one row, as extraction left them.

        A feature that has no copies (of the text) is the same for all of them.
        """
        wanted = self.sources if keys is None else keys
        sources = {**self.sources, **self.copies[copy - 1]} if copy else self.sources
        return {key: np.asarray(sources[key].get(self.ids[row]), dtype=np.float32) for key in wanted}

    def class_counts(self) -> np.ndarray:
        """(classes,) int64 rows by class; of distributions, the rounded sum."""
        if self.targets is not None:
            return np.asarray(np.rint(self.targets.sum(axis=0)), dtype=np.int64)
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.label_names))

    def groups(self, balance: str | None) -> np.ndarray:
        """(rows,) int64 group of each row that a balanced draw evens out.

        Args:
            balance: ``None`` (one group), ``neutral`` (neutral against expressive), ``class``, ``corpus``,
                ``corpus_class`` (every class of every corpus).

        Raises:
            SerkitError: ``neutral`` without that label, or a balance with a single group.
        """
        dominant = self.labels if self.targets is None else self.targets.argmax(axis=1)
        if balance is None:
            return np.zeros(len(self), dtype=np.int64)
        if balance == "neutral":
            if NEUTRAL not in self.label_names:
                raise SerkitError(f"balance: neutral needs the label '{NEUTRAL}'; labels are {list(self.label_names)}")
            group = (dominant == self.label_names.index(NEUTRAL)).astype(np.int64)
        elif balance == "class":
            group = np.unique(dominant, return_inverse=True)[1]
        else:
            group = np.unique(np.array(self.corpora), return_inverse=True)[1]
            if balance == "corpus_class":
                group = np.unique(group * len(self.label_names) + dominant, return_inverse=True)[1]
        if len(np.unique(group)) < 2:
            raise SerkitError(f"balance: {balance} has only one group among {len(self)} utterances; set balance: null")
        return np.asarray(group, dtype=np.int64)


def _class_mask(manifest: Manifest, rows: Sequence[Utterance]) -> np.ndarray | None:
    """(rows, classes) bool: the classes that each row's corpus can have; ``None`` where every row can have all."""
    can = {c: np.isin(manifest.labels, list(names)) for c, names in manifest.class_sets.items()}
    everything = np.ones(len(manifest.labels), dtype=bool)
    mask = np.array([can.get(u.corpus or "", everything) for u in rows])
    return None if mask.all() else mask
