"""Which speakers are train, dev and test: everything the corpora share once their rows are known.

A corpus file finds its recordings with :func:`serkit.recordings.recognise`, chooses a protocol, lets one of the split
functions say who is in which split, and hands the rows to :func:`finish`, which checks the counts
against the card and writes down what a report has to say.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serkit.cards import Card, Protocol
from serkit.counts import class_findings, count_findings
from serkit.errors import SerkitError, did_you_mean
from serkit.types import SPLITS, Manifest, Utterance

SHARES = (0.7, 0.15, 0.15)  # of train, dev and test


def choose_protocol(card: Card, name: str | None) -> Protocol:
    """The protocol called ``name``, or the card's first.

    Raises:
        SerkitError: the corpus has no protocol of that name.
    """
    if not card.protocols:
        raise SerkitError(f"{card.name} has no protocol: its card names none")
    if name is None:
        return card.protocols[0]
    for protocol in card.protocols:
        if protocol.name == name:
            return protocol
    raise SerkitError(f"{card.name} has no protocol '{name}'" + did_you_mean(name, [p.name for p in card.protocols]))


def check_fold(fold: int, folds: int, what: str) -> None:
    """Refuse a fold that is not among 1 … ``folds``; ``what`` says whose folds they are."""
    if not 1 <= fold <= folds:
        raise SerkitError(f"{what} has folds 1 to {folds}, got fold {fold}")


def next_fold(fold: int, folds: int) -> int:
    """The fold whose speakers are dev when ``fold`` is test: the one after it, the first after the last."""
    return fold % folds + 1


def fold_of_speakers(
    speakers: Iterable[str], n_folds: int, counts: Mapping[str, Mapping[Any, int]] | None = None
) -> dict[str, int]:
    """Deal the speakers present into folds 1 … n.

    Args:
        speakers: those present, in any order. n_folds: at most this many; fewer speakers make fewer folds.
        counts: clips of each speaker by stratum (gender, emotion…). Without it the folds are runs of
            consecutive speakers in sorted order, as equal in number as they can be; with it the speakers
            are dealt, largest first, so that every stratum is spread evenly.

    Returns:
        Fold number by speaker, speakers in sorted order.

    Raises:
        SerkitError: fewer than 3 speakers, who cannot be train, dev and test.

    >>> fold_of_speakers(["c", "a", "b", "d"], 3)
    {'a': 1, 'b': 1, 'c': 2, 'd': 3}
    """
    names = sorted(set(speakers))
    if len(names) < 3:
        raise SerkitError(
            f"{len(names)} speaker{'s' * (len(names) != 1)} here ({', '.join(names) or 'none'}): train, dev and test "
            "need at least three different speakers; add speakers"
        )
    n = min(n_folds, len(names))
    if counts is None:
        size, rest = divmod(len(names), n)
        sizes = [size + (k < rest) for k in range(n)]
        numbers = [k + 1 for k in range(n) for _ in range(sizes[k])]
        return dict(zip(names, numbers, strict=True))
    order = sorted(names, key=lambda s: (-sum(counts[s].values()), s))
    parts = _deal(order, counts, [1.0 / n] * n)
    return {name: parts[name] + 1 for name in names}


def _deal(order: Sequence[str], counts: Mapping[str, Mapping[Any, int]], shares: Sequence[float]) -> dict[str, int]:
    """Give each speaker, in order, to the part whose strata it brings nearest to its share of the whole."""
    strata = {stratum: k for k, stratum in enumerate(dict.fromkeys(s for name in order for s in counts[name]))}
    table = np.zeros((len(order), len(strata)))
    for row, name in enumerate(order):
        for stratum, n in counts[name].items():
            table[row, strata[stratum]] = n
    total = np.maximum(table.sum(axis=0), 1.0)
    target = np.outer(shares, table.sum(axis=0))  # (parts, strata)
    load = np.zeros_like(target)
    members = [0] * len(shares)
    part_of: dict[str, int] = {}
    for row, name in enumerate(order):
        gain = (((load + table[row] - target) ** 2 - (load - target) ** 2) / total).sum(axis=1)
        empty = [k for k, n in enumerate(members) if n == 0]
        allowed = empty if len(order) - row <= len(empty) else range(len(shares))
        part = min(allowed, key=lambda k: (round(float(gain[k]), 9), members[k], k))
        load[part] += table[row]
        members[part] += 1
        part_of[name] = part
    return part_of


def speaker_counts(
    utterances: Iterable[Utterance], stratum: Callable[[Utterance], Any] = lambda u: (u.gender, u.emotion)
) -> dict[str, Counter[Any]]:
    """Clips of every known speaker by stratum; the default stratum is (gender, emotion)."""
    counts: dict[str, Counter[Any]] = defaultdict(Counter)
    for u in utterances:
        if u.speaker is not None:
            counts[u.speaker][stratum(u)] += 1
    return dict(counts)


def with_split(utterance: Utterance, split: str | None) -> Utterance:
    """The same row in another split."""
    return utterance if utterance.split == split else dataclasses.replace(utterance, split=split)


def split_by_speaker(utterances: Sequence[Utterance], fold: int, folds: Mapping[str, int]) -> list[Utterance]:
    """Test is the speakers of ``fold``, dev those of the next fold, train all others.

    Args:
        utterances: rows in order. folds: number of each speaker's fold, 1 … n with n ≥ 3.

    Returns:
        The rows with their split; a row whose speaker is unknown has none.

    Raises:
        SerkitError: no such fold, or fewer than three of them.
    """
    n = max(folds.values(), default=0)
    if n < 3:
        raise SerkitError(f"{n} folds: test, dev (the next fold) and train need three")
    check_fold(fold, n, f"the split by the {len(folds)} speakers here")
    dev = next_fold(fold, n)
    name_of = {fold: "test", dev: "dev"}
    of_speaker: dict[str | None, str] = {who: name_of.get(k, "train") for who, k in folds.items()}
    return [with_split(u, of_speaker.get(u.speaker)) for u in utterances]


def split_by_session(utterances: Sequence[Utterance], fold: int, corpus: str) -> tuple[list[Utterance], int]:
    """:func:`split_by_speaker` where two speakers of a session, ``meta["session"]``, are a fold together.

    Returns:
        The rows with their split, and how many sessions are here.

    Raises:
        SerkitError: no such fold, or fewer than three sessions.
    """
    here = sorted({u.meta["session"] for u in utterances})
    if len(here) < 3:
        raise SerkitError(f"{corpus}: sessions {here} here; train, dev and test need three sessions")
    check_fold(fold, len(here), f"{corpus} with {len(here)} sessions here")
    folds = {u.speaker: here.index(u.meta["session"]) + 1 for u in utterances if u.speaker}
    return split_by_speaker(utterances, fold, folds), len(here)


def random_speaker_split(utterances: Sequence[Utterance], seed: int) -> list[Utterance]:
    """Split by speaker at random, gender and emotions spread as evenly as whole speakers allow.

    Every split has a speaker, and every class that can be is in train. Rows without a speaker get none.

    Args:
        utterances: rows in order. seed: the same seed, the same split, about :data:`SHARES` of the clips.

    Raises:
        SerkitError: fewer than three speakers.
    """
    counts = speaker_counts(utterances)
    if len(counts) < 3:
        raise SerkitError(
            f"{len(counts)} speaker{'s' * (len(counts) != 1)} here ({', '.join(sorted(counts)) or 'none'}): a split "
            "by speaker needs three or more; add speakers, give a split column, or set speakers_shared=true explicitly "
            "to split by utterance"
        )
    names = sorted(counts)
    noise = np.random.default_rng(seed).normal(0.0, 0.5, len(names))
    size = {name: np.log(sum(counts[name].values())) + n for name, n in zip(names, noise, strict=True)}
    order = sorted(names, key=lambda s: (-size[s], s))
    part_of = _deal(order, counts, SHARES)
    _bring_classes_to_train(utterances, part_of)
    return [with_split(u, SPLITS[part_of[u.speaker]] if u.speaker in part_of else None) for u in utterances]


def _bring_classes_to_train(utterances: Sequence[Utterance], part_of: dict[str, int]) -> None:
    """Move to train the smallest speaker of every class that train lacks, where no split is emptied by it."""
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for u in utterances:
        if u.emotion is not None and u.speaker in part_of:
            by_class[u.emotion][u.speaker] += 1
    for label in sorted(by_class):
        who = by_class[label]
        if any(part_of[s] == 0 for s in who):
            continue
        members = Counter(part_of.values())
        for speaker in sorted(who, key=lambda s: (who[s], s)):
            if members[part_of[speaker]] > 1:
                part_of[speaker] = 0
                break


def random_utterance_split(
    utterances: Sequence[Utterance], seed: int, shares: Sequence[float] = SHARES
) -> list[Utterance]:
    """Split recordings at random within each emotion, blind to speakers: only where speakers are unknown.

    Stretches of one recording stay together, under the emotion that most have. A class of one recording is in train; of
    two, in train and test; from three on in all splits. A split that gets none so takes from train one whose emotions
    all have another recording there, if there is one.
    """
    rng = np.random.default_rng(seed)
    emotions: dict[str, Counter[str]] = defaultdict(Counter)
    for u in utterances:
        emotions[u.recording][u.emotion or ""] += 1
    by_class: dict[str, list[str]] = defaultdict(list)
    for name, found in emotions.items():
        by_class[max(found, key=lambda emotion: found[emotion])].append(name)
    split: dict[str, str] = {}
    for label in sorted(by_class):
        order = rng.permutation(n := len(by_class[label]))
        n_test = max(round(shares[2] * n), 1) if n >= 2 and shares[2] > 0 else 0
        n_dev = max(round(shares[1] * n), 1) if n >= 3 and shares[1] > 0 else 0
        for place, k in enumerate(order):
            split[by_class[label][k]] = "test" if place < n_test else "dev" if place < n_test + n_dev else "train"
    for name, share in zip(SPLITS[:0:-1], shares[:0:-1], strict=True):
        if share > 0 and name not in split.values():
            train = [audio for audio, part in split.items() if part == "train"]
            held = Counter(emotion for audio in train for emotion in emotions[audio])
            others = {audio: min(held[emotion] for emotion in emotions[audio]) for audio in train}
            if max(others.values(), default=1) > 1:
                split[max(train, key=lambda audio: others[audio])] = name
    return [with_split(u, split[u.recording]) for u in utterances]


def carve_dev(utterances: Sequence[Utterance], seed: int, by_utterance: bool = False) -> list[Utterance]:
    """Make a dev split of whole train speakers, for data that come as train and test only: 15 % of their clips.

    Args:
        by_utterance: recordings instead of speakers, requested explicitly by the caller.

    Raises:
        SerkitError: fewer than two speakers in train.
    """
    train = [u for u in utterances if u.split == "train"]
    shares = (0.85, 0.15, 0.0)
    if by_utterance:
        chosen = {u.id for u in random_utterance_split(train, seed, shares) if u.split == "dev"}
        return [with_split(u, "dev") if u.id in chosen else u for u in utterances]
    counts = speaker_counts(train)
    if len(counts) < 2:
        raise SerkitError(
            f"train has {len(counts)} known speaker{'s' * (len(counts) != 1)}, but dev needs a speaker of its own: "
            "give dev rows in the split column, or set speakers_shared=true explicitly"
        )
    names = sorted(counts)
    order = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    part_of = _deal(order, counts, shares[:2])
    _bring_classes_to_train(train, part_of)
    dev = {name for name, part in part_of.items() if part == 1}
    return [with_split(u, "dev") if u.split == "train" and u.speaker in dev else u for u in utterances]


def shared_speakers(utterances: Iterable[Utterance]) -> dict[str, int]:
    """Number of known speakers that two splits have in common: ``train/dev``, ``train/test``, ``dev/test``."""
    who = _speakers_by_split(utterances)
    pairs = (("train", "dev"), ("train", "test"), ("dev", "test"))
    return {f"{a}/{b}": len(who[a] & who[b]) for a, b in pairs}


def _speakers_by_split(utterances: Iterable[Utterance]) -> dict[str, set[str]]:
    who: dict[str, set[str]] = {name: set() for name in SPLITS}
    for u in utterances:
        if u.speaker is not None and u.split is not None:
            who[u.split].add(u.speaker)
    return who


def finish(
    card: Card,
    utterances: Sequence[Utterance],
    *,
    root: Path | str,
    protocol: Protocol,
    fold: int,
    folds: int,
    seed: int | None = None,
    version: str = "unknown",
    labels: Sequence[str] | None = None,
    speakers_shared: bool | None = None,
    notes: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make the manifest and write into its ``info`` what a report has to say.

    Args:
        card: of the corpus. utterances: rows with their splits, in a stable order.
        root: folder that audio paths are relative to. protocol, fold, folds: as chosen; ``folds`` is the
            number the speakers present really make.
        seed: where the split depends on one. version: of the corpus as far as the files tell.
        labels: of this manifest; by default the protocol's, else the card's. speakers_shared: overrides the protocol's.
        notes: honest lines about this copy, after the card's own. extra: further keys of ``info``.

    Raises:
        SerkitError: a row does not hold, or a speaker is in two splits without ``speakers_shared``.
    """
    names = tuple(labels if labels is not None else protocol.labels or card.labels)
    shared = protocol.speakers_shared if speakers_shared is None else speakers_shared
    who = _speakers_by_split(utterances)
    overlap = shared_speakers(utterances)
    info: dict[str, Any] = {
        "corpus_version": version,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "protocol_description": protocol.description,
        "protocol_source": protocol.source,
        "fold": fold,
        "folds": folds,
        "seed": seed,
        "label_map": dict(card.label_map),
        "speakers": {split: sorted(who[split]) for split in SPLITS},
        "speakers_present": len({u.speaker for u in utterances} - {None}),
        "speakers_shared": overlap if shared else False,
        "rows_by_split": {str(k): n for k, n in sorted(Counter(str(u.split) for u in utterances).items())},
        "count_findings": count_findings(card, utterances),
        "class_findings": class_findings(utterances, names),
        "notes": [*card.notes, *notes, *_remarks(card, utterances, folds, overlap if shared else {})],
        "rating_scale": card.rating_scale,
        "licence": card.licence,
        "citation": card.citation,
        **(extra or {}),
    }
    return Manifest(
        card.name, names, tuple(utterances), str(root), speakers_shared=shared, class_sets={card.name: names}, info=info
    )


def _remarks(card: Card, utterances: Sequence[Utterance], folds: int, shared: Mapping[str, int]) -> list[str]:
    """What a reader of results should know of these rows; ``shared`` is the number of speakers by pair of splits."""
    lines = []
    if any(shared.values()):
        lines.append(f"speakers shared: {', '.join(f'{n} in {pair}' for pair, n in shared.items() if n)}")
    n_speakers = len({u.speaker for u in utterances} - {None})
    if card.speakers.value is not None and n_speakers < card.speakers.value:
        lines.append(
            f"partial copy: {n_speakers} of {card.speakers.value} speakers; {folds} folds made from those present"
        )
    used = [u for u in utterances if u.split is not None]
    if 0 < len(used) < len(utterances):
        lines.append(f"{len(utterances) - len(used)} of {len(utterances)} rows have no split and are not used")
    n_unknown = sum(u.speaker is None for u in used)
    if n_unknown:
        lines.append(f"{n_unknown} of {len(used)} rows have no known speaker: in intervals each counts as one")
    return lines
