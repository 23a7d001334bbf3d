"""Clips and speakers of a copy of a corpus: against the published numbers, and classes too thin to be learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from serkit.cards import Card
from serkit.types import SPLITS, Utterance


def count_findings(card: Card, utterances: Sequence[Utterance]) -> list[dict[str, Any]]:
    """Where the numbers here differ from the published ones: what, here, published, and the source."""
    here_by_class = Counter(u.emotion for u in utterances)
    here: list[tuple[str, int, Any]] = [
        ("speakers", len({u.speaker for u in utterances if u.speaker is not None}), card.speakers),
        ("utterances", len(utterances), card.utterances),
    ]
    here += [(f"utterances of {label}", here_by_class.get(label, 0), count) for label, count in card.counts.items()]
    return [
        {"what": what, "here": n, "published": count.value, "source": count.source}
        for what, n, count in here
        if count.value is not None and count.value != n
    ]


def class_findings(utterances: Sequence[Utterance], labels: Sequence[str]) -> list[str]:
    """One line for every class too thin to be learned or measured: no clip in a split, or one speaker only.

    A split in which nothing has a label lacks no class more than another, and is not spoken of.
    """
    n_by: Counter[tuple[str, str | None]] = Counter()
    speakers: dict[str, set[str | None]] = defaultdict(set)
    for u in utterances:
        if u.emotion is not None:
            n_by[u.emotion, u.split] += 1
            speakers[u.emotion].add(u.speaker)
    measured = [split for split in SPLITS if any(where == split for _, where in n_by)]
    lines = []
    advice = "drop it (drop_labels), merge it (map_labels) or add clips"
    for label in labels:
        n = sum(n_by[label, split] for split in (*SPLITS, None))
        without = [split for split in measured if n_by[label, split] == 0]
        if n < 3:
            lines.append(f"class '{label}' has {n} clip{'s' * (n != 1)}: {advice}")
        elif without:
            lines.append(f"class '{label}' has no clip in {' and '.join(without)}: {advice}")
        elif speakers[label] != {None} and len(speakers[label]) == 1:
            lines.append(f"class '{label}' is spoken by one speaker only: {advice}")
    return lines
