"""What is known about a corpus before it is read: its card, its protocols, the counts it should have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Count:
    """A published number with where it stands.

    Attributes:
        value: the number, or ``None`` where it was not found.
        source: paper, page or file it was read in; ``remembered`` where nobody read it here; ``unknown``.
    """

    value: int | None
    source: str


@dataclass(frozen=True)
class Protocol:
    """A named, versioned way to split a corpus: train, dev and test for every fold.

    Attributes:
        name: such as ``ravdess-6fold-actor``. version: counts up when the split changes.
        folds: how many; folds are numbered from 1.
        description: one or two sentences: which speakers or sessions are test and dev of fold k.
        speakers_shared: some speakers are in two splits, because the corpus allows no other way.
        labels: the label set of the protocol where it is narrower than the corpus's.
        source: who defined it, or ``serkit``.
    """

    name: str
    version: int
    folds: int
    description: str
    speakers_shared: bool = False
    labels: tuple[str, ...] = ()
    source: str = "serkit"


@dataclass(frozen=True)
class Card:
    """A corpus in one place.

    Attributes:
        name: as in ``--corpus``. title: as published. licence, url, citation: as published or ``unknown``.
        languages: ISO 639 codes. kind: how the speech came about.
        label_map: the corpus's own word to the canonical label, ``None`` for no agreement.
        labels: canonical labels in order. speakers, utterances: published counts.
        counts: published counts by canonical label.
        protocols: the first is the default.
        layout: the folder it expects, in one or two lines.
        notes: traps that an honest report should mention.
        rating_scale: lowest and highest rating of arousal, valence and dominance; ``None``: no ratings, or unknown.
    """

    name: str
    title: str
    licence: str
    url: str
    citation: str
    languages: tuple[str, ...]
    kind: Literal["acted", "elicited", "spontaneous", "broadcast", "synthetic", "any"]
    label_map: Mapping[str, str | None]
    labels: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    speakers: Count = Count(None, "unknown")
    utterances: Count = Count(None, "unknown")
    counts: Mapping[str, Count] = field(default_factory=dict)
    layout: str = ""
    notes: tuple[str, ...] = ()
    rating_scale: tuple[float, float] | None = None
