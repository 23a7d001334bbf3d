"""Classes from ratings: on which side of the middle of its scale arousal, valence and dominance of a clip lie.

``quadrants`` takes arousal and valence, ``octants`` dominance too, as the auxiliary classes of EmoSphere-SER do (read
in the code of arXiv 2505.19693). A class is named by its sides: ``a+v-d+`` is high arousal, low valence, high
dominance. A rating exactly in the middle counts as high, as in that code.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any, Literal, cast

from serkit import across
from serkit.errors import SerkitError
from serkit.types import ATTRIBUTES, Manifest, Utterance

Kind = Literal["quadrants", "octants"]
RATED_BY: Mapping[Kind, tuple[str, ...]] = {"quadrants": ATTRIBUTES[:2], "octants": ATTRIBUTES}
KEY = "regions"
_CLOSE = 1e-9  # of the width of a scale: what a mean of ratings may be off the middle by rounding


def classes(kind: Kind) -> tuple[str, ...]:
    """Names of all classes, high before low, arousal first.

    >>> classes("quadrants")
    ('a+v+', 'a+v-', 'a-v+', 'a-v-')
    """
    names = RATED_BY[kind]
    return tuple(_name(names, sides) for sides in product((True, False), repeat=len(names)))


def signs(kind: Kind) -> tuple[tuple[float, ...], ...]:
    """Of each class, in the order of :func:`classes`, 1 where an attribute is high and −1 where it is low.

    >>> signs("quadrants")
    ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))
    """
    return tuple(product((1.0, -1.0), repeat=len(RATED_BY[kind])))


def kind_of(labels: Sequence[str]) -> Kind | None:
    """What labels are classes of, all of them; ``None`` of other labels, and of none."""
    return next((kind for kind in RATED_BY if labels and set(labels) <= set(classes(kind))), None)


def meaning(labels: Sequence[str]) -> str:
    """What the classes among labels stand for, in a sentence; empty of other labels.

    >>> meaning(["a-v+"])
    'a+ is high arousal, a- low arousal; v stands for valence: high is the middle of the rating scale and above.'
    """
    kind = kind_of(labels)
    if kind is None:
        return ""
    others = " and ".join(f"{name[0]} for {name}" for name in RATED_BY[kind][1:]).replace(" for", " stands for", 1)
    return f"a+ is high arousal, a- low arousal; {others}: high is the middle of the rating scale and above."


def divided(manifest: Manifest, kind: Kind, ignored: Collection[str] = ()) -> Manifest:
    """The manifest with classes made from its ratings as labels.

    Every corpus is divided at the middle of its own scale, ``info["rating_scale"]``. A clip without one of the needed
    ratings has no label. What was its emotion is kept as ``meta["emotion"]``; its votes are of emotions, and are not.

    Args:
        manifest: of one corpus or several, before a recipe changes its labels.
        kind: ``quadrants`` or ``octants``. ignored: ids of clips whose ratings may be anything.

    Returns:
        The manifest; its labels are the classes that occur. ``info["regions"]`` has the ``kind``, by corpus the
        ``scales`` and the lowest and highest rating ``found``, and numbers of clips of the splits: ``rated``,
        ``unrated``, and ``middle``, with a rating exactly there.

    Raises:
        SerkitError: no clip has the ratings, a corpus has them on an unknown scale, a rating is off the scale,
            or all clips are of one class.
    """
    names = RATED_BY[kind]
    joined = manifest.info.get("corpora") or {}
    own: dict[str, list[Utterance]] = {}
    for u in manifest:
        if u.id not in ignored and all(getattr(u, name) is not None for name in names):
            own.setdefault(u.corpus or "", []).append(u)
    if not any(u.split for rows in own.values() for u in rows):
        raise SerkitError(_missing(manifest, kind))
    scales = {corpus: _scale(kind, corpus, joined.get(corpus, manifest.info), rows) for corpus, rows in own.items()}
    counts, rows = Counter[str](), []
    for u in manifest:
        ratings = None if u.id in ignored else _ratings(u, names)
        label = None
        if ratings is not None:
            above = _above_middle(ratings, scales[u.corpus or ""])
            label = _name(names, [value >= -_CLOSE for value in above])
            counts["middle"] += u.split is not None and any(abs(value) <= _CLOSE for value in above)
        if u.split is not None and u.id not in ignored:
            counts["unrated" if label is None else "rated"] += 1
        meta = {**u.meta, "emotion": u.emotion} if u.emotion is not None else u.meta
        rows.append(dataclasses.replace(u, emotion=label, votes=None, meta=meta))
    info = {**manifest.info, KEY: _said(kind, scales, own, counts)}
    tested = (manifest.info.get(across.KEY) or {}).get("tested_on", ())
    there = {u.emotion for u in rows}
    known = {u.emotion for u in rows if u.corpus not in tested}
    labels, learnable = (tuple(x for x in classes(kind) if x in found) for found in (there, known))
    if len(labels) < 2:
        one_sided = "; ".join(info[KEY]["one_sided"])
        raise SerkitError(f"labels: {kind}: all clips are of one class, {labels[0]}: {one_sided}")
    class_sets = {corpus: labels if corpus in tested else learnable for corpus in manifest.class_sets}
    return dataclasses.replace(manifest, labels=labels, utterances=tuple(rows), class_sets=class_sets, info=info)


def _said(
    kind: Kind, scales: Mapping[str, tuple[float, float]], rated: Mapping[str, list[Utterance]], counts: Counter[str]
) -> dict[str, Any]:
    """What a report says of the division.

    Args:
        scales, rated: scale of the ratings, and clips that have them, by corpus. counts: of clips by what they have.
    """
    names = RATED_BY[kind]
    return {
        "kind": kind,
        "scales": {corpus: list(scale) for corpus, scale in scales.items()},
        **{name: counts[name] for name in ("rated", "unrated", "middle")},
        "found": {corpus: _ends(there, names) for corpus, there in rated.items()},
        "one_sided": [line for corpus, there in rated.items() for line in _one_sided(corpus, names, there, scales)],
    }


def _above_middle(ratings: Sequence[float], scale: tuple[float, float]) -> list[float]:
    """Ratings from −1, the lowest of their scale, to 1, the highest."""
    low, high = scale
    return [2.0 * (rating - low) / (high - low) - 1.0 for rating in ratings]


def like(manifest: Manifest, labels: Sequence[str], recipe: Mapping[str, Any] | None = None) -> Manifest:
    """The manifest divided as a model's labels are, where these are classes of ratings and its own are not.

    Args:
        manifest: recordings with ratings. labels: of the model.
        recipe: of the model, as a mapping, where it is known: its ``map_labels`` hold for the classes made here too.

    Raises:
        SerkitError: it has no ratings to divide, or as for :func:`divided`.
    """
    said = (recipe or {}).get("labels")
    kind = cast(Kind, said) if isinstance(said, str) and said in RATED_BY else kind_of(labels)
    if kind is None or kind in (kind_of(manifest.labels), manifest.info.get(KEY, {}).get("kind")):
        return manifest
    if not any(_ratings(u, RATED_BY[kind]) for u in manifest):
        raise SerkitError(
            f"the model answers {kind} of ratings, and no clip of '{manifest.corpus}' is rated by "
            f"{_and(RATED_BY[kind])}"
        )
    found, renamed = divided(manifest, kind), (recipe or {}).get("map_labels") or {}
    if not renamed:
        return found
    rows = tuple(dataclasses.replace(u, emotion=renamed.get(u.emotion, u.emotion)) for u in found)
    sets = {k: tuple(dict.fromkeys(renamed.get(x, x) for x in v)) for k, v in found.class_sets.items()}
    names = tuple(dict.fromkeys(renamed.get(x, x) for x in found.labels))
    return dataclasses.replace(found, labels=names, utterances=rows, class_sets=sets)


def lines(manifest: Manifest) -> list[str]:
    """What the classes of a manifest were made from, in words; nothing where they are its own."""
    said = manifest.info.get(KEY)
    return told(said) if said else []


def told(said: Mapping[str, Any]) -> list[str]:
    """The same from what ``info`` says."""
    names = RATED_BY[cast(Kind, said["kind"])]
    scales = {}
    for corpus, (low, high) in said["scales"].items():
        least, most = said["found"][corpus]
        scales[corpus] = f"{least:g} to {most:g} on a scale of {low:g} to {high:g}"
    on = ", ".join(f"{corpus} {scale}" if len(scales) > 1 else scale for corpus, scale in scales.items())
    found = f"classes are {said['kind']} of the ratings of {_and(names)} ({on}): {_clips(said['rated'])}"
    if said["middle"]:
        found += f", {said['middle']} of them with a rating exactly in the middle, which counts as high"
    if said["unrated"]:
        n = said["unrated"]
        found += f"; {_clips(n)} without these ratings {'has' if n == 1 else 'have'} no label"
    return [found, *said["one_sided"]]


def fewer(manifest: Manifest) -> str:
    """What else helps where a class has too few clips, to end a message with."""
    return ", or use labels: quadrants" if manifest.info[KEY]["kind"] == "octants" else ""


def _clips(n: int) -> str:
    return "1 clip" if n == 1 else f"{n} clips"


def _name(names: Sequence[str], sides: Sequence[bool]) -> str:
    return "".join(name[0] + ("+" if high else "-") for name, high in zip(names, sides, strict=True))


def _ratings(u: Utterance, names: Sequence[str]) -> list[float] | None:
    """The ratings of some attributes; ``None`` where one is unknown."""
    found = [getattr(u, name) for name in names]
    return None if None in found else found


def _ends(rows: Sequence[Utterance], names: Sequence[str]) -> list[float]:
    """The lowest and the highest rating of rows that have all of these."""
    values = [getattr(u, name) for u in rows for name in names]
    return [min(values), max(values)]


def _missing(manifest: Manifest, kind: Kind) -> str:
    """That nothing can be divided, and what could be instead."""
    names = RATED_BY[kind]
    has = [name for name in ATTRIBUTES if any(getattr(u, name) is not None for u in manifest if u.split)]
    line = f"labels: {kind} needs clips rated by {_and(names)}, and '{manifest.corpus}' has "
    if not has:
        return line + "no ratings: use labels: corpus"
    both = kind == "octants" and any(_ratings(u, RATED_BY["quadrants"]) for u in manifest if u.split)
    line += "no clip with all of them" if set(names) <= set(has) else f"only {_and(has)}"
    joined = manifest.info.get("corpora") or {"": manifest.info}
    near = [said for info in joined.values() for said in info.get("mistyped_columns") or []]
    return line + (": use labels: quadrants" if both else "") + "".join(f"; {said}" for said in near)


def _scale(kind: Kind, corpus: str, info: Mapping[str, Any], rows: Sequence[Utterance]) -> tuple[float, float]:
    """The lowest and highest rating that a corpus allows.

    Raises:
        SerkitError: it is unknown, or some ratings lie outside.
    """
    names = RATED_BY[kind]
    least, most = _ends(rows, names)
    found = f"its ratings lie between {least:g} and {most:g}"
    if not info.get("rating_scale"):
        raise SerkitError(
            f"labels: {kind} divides ratings at the middle of their scale, which '{corpus}' does not say ({found}): "
            "state it, such as --option rating_scale=[1,7]"
        )
    low, high = map(float, info["rating_scale"])
    off = [(u, name) for u in rows for name in names if not low <= getattr(u, name) <= high]
    if off:
        u, name = off[0]
        n = len({row.id for row, _ in off})
        raise SerkitError(
            f"labels: {kind}: {n} clip{'s' * (n != 1)} of '{corpus}' {'are' if n != 1 else 'is'} rated off its scale, "
            f"{low:g} to {high:g} (first: '{u.id}', {name} {getattr(u, name):g}; {found}): correct them, name them in "
            "exclude, or, of a table, state another rating_scale"
        )
    return low, high


def _one_sided(
    corpus: str, names: Sequence[str], rows: Sequence[Utterance], scales: Mapping[str, tuple[float, float]]
) -> list[str]:
    """A line for each attribute whose ratings all lie on one side of the middle: the scale may be another one."""
    low, high = scales[corpus]
    found = []
    for name in names:
        values = [getattr(u, name) for u in rows]
        if min(values) >= (low + high) / 2 or max(values) < (low + high) / 2:
            found.append(
                f"{name} of '{corpus}' is rated from {min(values):g} to {max(values):g}, on one side of the middle of "
                f"{low:g} to {high:g}: check that this is its scale"
            )
    return found


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
