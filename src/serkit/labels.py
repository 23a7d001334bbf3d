"""Joining manifests, and fitting their labels to a recipe: changes are refused unless stated explicitly."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from serkit import across, regions
from serkit.counts import class_findings
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.recipe import Recipe
from serkit.recordings import near_label, order_labels
from serkit.types import CANONICAL_LABELS, SPLITS, Manifest, Utterance


def join(manifests: Sequence[Manifest]) -> Manifest:
    """Several corpora as one: ids and speakers are prefixed with the corpus, classes are united.

    A class that a corpus does not have is kept in ``class_sets``, so that its loss is masked there.

    Raises:
        SerkitError: the same corpus twice.
    """
    if len(manifests) == 1:
        return manifests[0]
    names = [m.corpus for m in manifests]
    twice = [n for n, k in Counter(names).items() if k > 1]
    if twice:
        raise SerkitError(f"--corpus {twice[0]} is given twice; give each corpus once")
    rows: list[Utterance] = []
    for m in manifests:
        for u in m.utterances:
            speaker = f"{m.corpus}.{u.speaker}" if u.speaker is not None else None
            rows.append(dataclasses.replace(u, id=f"{m.corpus}.{u.id}", speaker=speaker, corpus=m.corpus))
    return Manifest(
        "+".join(names),
        order_labels(label for m in manifests for label in m.labels),
        tuple(rows),
        {m.corpus: str(m.root or ".") for m in manifests},
        any(m.speakers_shared for m in manifests),
        {m.corpus: m.labels for m in manifests},
        {"corpora": {m.corpus: dict(m.info) for m in manifests}},
    )


def apply_labels(manifest: Manifest, recipe: Recipe) -> Manifest:
    """Fit a manifest to a recipe's ``map_labels``, ``drop_labels``, ``labels`` and ``exclude``.

    With ``labels: quadrants`` or ``octants`` the labels to fit are made from ratings (:func:`serkit.regions.divided`);
    with ``labels: votes`` those that raters voted for are added to the corpus's own.

    In a corpus that is test as a whole (:func:`serkit.across.with_test_corpora`), clips of a class that training does
    not know are left out and counted, and its class set is what it shares with training.

    Returns:
        The manifest with the recipe's label set; ``info["labels"]`` says what was mapped, dropped and
        excluded, and which votes were left out, with counts.

    Raises:
        SerkitError: a label outside the recipe's list that it neither maps nor drops, a listed class
            without a clip in train (where votes are learned, without a vote there), an unknown name in any of the four
            settings, a test corpus that shares fewer than two classes with training; ratings or votes that give no
            classes.
    """
    manifest = _with_made_labels(manifest, recipe)
    _refuse_unknown(manifest, recipe)
    rename = {label: recipe.map_labels.get(label, label) for label in manifest.labels}
    present = list(dict.fromkeys(rename[x] for x in across.learnable(manifest) if x not in recipe.drop_labels))
    wanted = present if isinstance(recipe.labels, str) else list(recipe.labels)
    outside = [label for label in present if label not in wanted]
    class_sets = {
        corpus: tuple(dict.fromkeys(rename[label] for label in labels if rename.get(label) in wanted))
        for corpus, labels in manifest.class_sets.items()
    }
    excluded = set(recipe.exclude)
    shared = across.shared_classes(manifest, lambda u: None if u.id in excluded else _label(u, recipe), wanted)
    class_sets |= shared
    unknown = {corpus: Counter[str]() for corpus in shared}
    mapped, dropped, votes_out = Counter[str](), Counter[str](), Counter[str]()
    voteless = 0
    rows: list[Utterance] = []
    for u in manifest.utterances:
        if u.id in excluded:
            continue
        if u.emotion in recipe.drop_labels:
            dropped[str(u.emotion)] += 1
            continue
        emotion = _label(u, recipe)
        if emotion is not None and emotion not in wanted:
            if u.corpus in unknown:
                unknown[u.corpus][emotion] += u.split is not None
                continue
            raise SerkitError(
                f"'{manifest.corpus}' has {manifest.counts()[str(u.emotion)]} clips of '{u.emotion}', which is not "
                f"among the recipe's labels {wanted}; name it in drop_labels or map_labels"
            )
        if emotion != u.emotion:
            mapped[f"{u.emotion} -> {emotion}"] += 1
        votes = _map_votes(u.votes, recipe, class_sets.get(u.corpus or "", wanted), votes_out)
        voteless += u.votes is not None and votes is None
        rows.append(dataclasses.replace(u, emotion=emotion, votes=votes))
    _refuse_empty(wanted, rows, manifest, recipe)
    info = {
        **_found_anew(manifest.info, rows, wanted, class_sets, recipe),
        "labels": {
            "mapped": dict(mapped),
            "dropped": dict(dropped),
            "excluded": list(recipe.exclude),
            "not_in_corpus": outside,
            "votes_left_out": dict(sorted(votes_out.items())),
            "votes_all_left_out": voteless,
        },
    }
    info |= across.noted(manifest, shared, unknown)
    return dataclasses.replace(manifest, labels=tuple(wanted), utterances=tuple(rows), class_sets=class_sets, info=info)


def _with_made_labels(manifest: Manifest, recipe: Recipe) -> Manifest:
    """The manifest with labels that are made of its ratings or votes, where the recipe asks for such."""
    if recipe.labels == "quadrants" or recipe.labels == "octants":
        return regions.divided(manifest, recipe.labels, recipe.exclude)
    return with_voted(manifest, recipe.exclude) if recipe.labels == "votes" else manifest


def _label(utterance: Utterance, recipe: Recipe) -> str | None:
    """The label of a clip as the recipe has it; ``None`` without one, or where the recipe drops it."""
    if utterance.emotion is None or utterance.emotion in recipe.drop_labels:
        return None
    return recipe.map_labels.get(utterance.emotion, utterance.emotion)


def _refuse_unknown(manifest: Manifest, recipe: Recipe) -> None:
    for setting, names in (("map_labels", recipe.map_labels), ("drop_labels", recipe.drop_labels)):
        for name in names:
            if name not in manifest.labels:
                raise SerkitError(
                    f"{setting}: the corpus '{manifest.corpus}' has no label '{name}'"
                    + (_read_as(name, manifest) or did_you_mean(name, manifest.labels))
                )
    ids = set(manifest.ids)
    for name in recipe.exclude:
        check_known(name, ids, f"exclude: no utterance '{name}' in '{manifest.corpus}'")


def learns_votes(recipe: Recipe) -> bool:
    """Whether every system learns the raters' votes: then a class may be taught by votes alone."""
    return all(system.train.targets == "votes" for system in recipe.systems.values())


def teaching(rows: Manifest, recipe: Recipe) -> Manifest:
    """The rows that a network learns from: those with a label, or with votes where a system learns these."""
    votes = any(system.train.targets == "votes" for system in recipe.systems.values())
    known = np.isfinite(rows.votes()).all(axis=1) if votes else rows.label_index() >= 0
    kept = {name for name, there in zip(rows.ids, known, strict=True) if there}
    return rows.where(lambda u: u.id in kept)


def taught_by(rows: Iterable[Utterance], recipe: Recipe) -> Counter[str]:
    """How many clips teach each class: those labelled so, or with a vote for it where every system learns votes."""
    if not learns_votes(recipe):
        return Counter(u.emotion for u in rows if u.emotion is not None)
    return Counter(
        label
        for u in rows
        for label in {u.emotion, *(k for k, weight in (u.votes or {}).items() if weight > 0)}
        if label is not None
    )


def with_voted(manifest: Manifest, ignored: Collection[str] = ()) -> Manifest:
    """The manifest with every label that one of its raters voted for among its labels, after those it has.

    A label that is most raters' for no clip is one of the corpus's classes too where distributions are learned.

    Raises:
        SerkitError: no clip has votes.
    """
    own: dict[str, set[str]] = {}
    for u in manifest:
        if u.id not in ignored:
            own.setdefault(u.corpus or "", set()).update(k for k, weight in (u.votes or {}).items() if weight > 0)
    found = set[str]().union(*own.values())
    if not found:
        raise SerkitError(f"labels: votes: no clip of '{manifest.corpus}' comes with rater votes; set labels=corpus")
    class_sets = {c: _with(labels, own.get(c, set())) for c, labels in manifest.class_sets.items()}
    return dataclasses.replace(manifest, labels=_with(manifest.labels, found), class_sets=class_sets)


def _with(labels: Sequence[str], more: Collection[str]) -> tuple[str, ...]:
    return (*labels, *order_labels(set(more).difference(labels)))


def _refuse_empty(labels: Sequence[str], rows: Sequence[Utterance], manifest: Manifest, recipe: Recipe) -> None:
    counts = taught_by((u for u in rows if u.split in ("train", None)), recipe)
    absent = [label for label in labels if not counts[label]]
    if not absent:
        return
    empty = absent[0]
    if regions.KEY in manifest.info:
        raise SerkitError(
            f"class '{empty}' has no training clip in '{manifest.corpus}': name it in drop_labels"
            + regions.fewer(manifest)
        )
    near = near_label(empty, (label for label in (*counts, *CANONICAL_LABELS) if label not in (None, empty)))
    votes = " or vote" if learns_votes(recipe) else ""
    raised = not votes and any((u.votes or {}).get(empty) for u in rows)
    raise SerkitError(
        f"label '{empty}' has no training clip{votes} in '{manifest.corpus}'; name it in drop_labels, "
        + (f"in map_labels if '{near}' is meant, " if near else "")
        + "or list the labels without it"
        + (", or, as its raters voted for it, learn their votes in every system: train.targets=votes" if raised else "")
        + (f"; the same holds for {', '.join(absent[1:])}" if len(absent) > 1 else "")
    )


def _read_as(word: str, manifest: Manifest) -> str:
    """What a corpus's own word for a label, as it stands in ``meta``, is called here; nothing for other words."""
    if regions.KEY in manifest.info:
        return ""  # its labels are no words for emotions
    found = {f"'{u.emotion}'" if u.emotion else "no label" for u in manifest if u.meta.get("label") == word}
    return f"; '{word}' is its own word for {', '.join(sorted(found))}" if found else ""


def _found_anew(
    info: Mapping[str, Any],
    rows: Sequence[Utterance],
    labels: Sequence[str],
    class_sets: Mapping[str, Sequence[str]],
    recipe: Recipe,
) -> dict[str, Any]:
    """What is known of a manifest, or of each of several joined ones, with its thin classes among the labels now."""
    if "corpora" in info:
        own = {c: [u for u in rows if u.corpus == c] for c in info["corpora"]}
        each = {c: _found_anew(i, own[c], class_sets.get(c, labels), {}, recipe) for c, i in info["corpora"].items()}
        return {**info, "corpora": each}
    return {**info, "class_findings": _thin(rows, labels, recipe)} if "class_findings" in info else dict(info)


def _thin(rows: Sequence[Utterance], labels: Sequence[str], recipe: Recipe) -> list[str]:
    """Findings on the classes; those that votes teach, and hardly any clip is labelled as, in one line."""
    if not learns_votes(recipe):
        return class_findings(rows, labels)
    labelled = Counter(u.emotion for u in rows)
    taught = taught_by((u for u in rows if u.split in ("train", None)), recipe)
    voted = [label for label in labels if labelled[label] < 3 and taught[label] > 1]
    lines = class_findings(rows, [label for label in labels if label not in voted])
    if voted:
        named = ", ".join(voted[:3]) + (" …" if len(voted) > 3 else "")
        be = "is" if len(voted) == 1 else "are"
        lines.append(
            f"{len(voted)} of {len(labels)} classes {be} the label of fewer than 3 clips ({named}): the votes are "
            "learned, but look at the closeness to votes, not at metrics of labels"
        )
    return lines


def left_out(manifest: Manifest) -> list[str]:
    """What was left out of a manifest, in words: clips by the corpus's reader, clips of classes unknown to training,
    clips without the ratings that classes are made from, clips and rater votes by the recipe, a table's columns."""
    said = manifest.info.get("labels") or {}
    clips = [f"{n} of '{label}'" for label, n in (said.get("dropped") or {}).items()]
    clips += [f"{len(said['excluded'])} by name"] if said.get("excluded") else []
    lines = [f"clips left out: {', '.join(clips)}; {len(manifest)} remain"] if clips else []
    votes = said.get("votes_left_out") or {}
    if votes:
        named = ", ".join(f"{label} ({_clips(n)})" for label, n in votes.items())
        gone = said.get("votes_all_left_out")
        lost = f"; {_clips(gone)} lost every vote" if gone else ""
        lines.append(
            f"rater votes left out, because their label is not a class of the clip's corpus here: {named}{lost}"
        )
    each = (manifest.info.get("corpora") or {manifest.corpus: manifest.info}).items()
    return [
        *(line for corpus, info in each for line in not_read(corpus, info)),
        *across.lines(manifest),
        *regions.lines(manifest),
        *lines,
        *(line for _, info in each for line in info.get("mistyped_columns") or []),
    ]


def on_answers(manifest: Manifest) -> list[str]:
    """Lines on labels of a table that were a model's answers before somebody corrected them."""
    each = (manifest.info.get("corpora") or {"": manifest.info}).values()
    return [line for info in each for line in info.get("answers") or []]


def not_read(corpus: str, info: Mapping[str, Any]) -> list[str]:
    """A line on what a corpus has beside the splits and classes of its protocol, and what would keep some of it."""
    found = info.get("left_out") or {}
    if not found:
        return []
    named = ", ".join(f"{what} ({_clips(n)})" for what, n in found.items())
    kept = f"; {info['kept_by']}" if info.get("kept_by") else ""
    return [f"left out by the reader of {corpus}: {named}{kept}"]


def without_label(manifest: Manifest) -> list[str]:
    """A line on clips without a label in splits where others have one; of ratings, :func:`left_out` tells."""
    counts = []
    for split in SPLITS if regions.KEY not in manifest.info else ():
        rows = manifest.split(split)
        n = sum(u.emotion is None for u in rows)
        counts += [f"{n} of {len(rows)} in {split}"] if 0 < n < len(rows) else []
    return [f"clips without a label (none given, or no agreement): {', '.join(counts)}"] if counts else []


def _clips(n: int) -> str:
    return "1 clip" if n == 1 else f"{n} clips"


def _map_votes(
    votes: Mapping[str, float] | None, recipe: Recipe, wanted: Collection[str], left_out: Counter[str]
) -> Mapping[str, float] | None:
    """Votes under the recipe's names; those for no class of the clip's corpus are left out and counted by label."""
    if votes is None:
        return None
    merged: dict[str, float] = {}
    for label, weight in votes.items():
        name = recipe.map_labels.get(label, label)
        if name in wanted and label not in recipe.drop_labels:
            merged[name] = merged.get(name, 0.0) + weight
        elif weight > 0:
            left_out[label] += 1
    return merged if sum(merged.values()) > 0 else None
