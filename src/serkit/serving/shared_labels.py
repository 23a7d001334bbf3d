"""The labels that bundles and labelled recordings share, and the rows that have one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit import regions, yaml_text
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.reporting.text import count
from serkit.serving.bundle import Bundle, open_bundle
from serkit.types import SPLITS, Manifest, Utterance

ALL = "all"


def as_divided(manifest: Manifest, bundle: Bundle) -> Manifest:
    """The manifest with classes of its ratings, made as those of the bundle were, where it answers such classes."""
    return regions.like(manifest, bundle.labels, _recipe(bundle))


def _recipe(bundle: Bundle) -> Mapping[str, Any] | None:
    """What a bundle and its labels were trained by; ``None`` where it is not known, or its labels are its user's."""
    known = "recipe.yaml" in bundle.head.get("files", {}) and not bundle.own_labels
    recipe = yaml_text.parse(bundle.text("recipe.yaml"), "recipe.yaml") if known else None
    return recipe if isinstance(recipe, Mapping) else None


def learned_votes(source: str | Path | Bundle) -> bool:
    """Whether all systems of a bundle's recipe learned rater votes, as :func:`serkit.labels.learns_votes` has it."""
    bundle = source if isinstance(source, Bundle) else open_bundle(source)
    systems = (_recipe(bundle) or {}).get("systems")
    if not isinstance(systems, Mapping) or not systems:
        return False
    trains = [one.get("train") if isinstance(one, Mapping) else None for one in systems.values()]
    return all(isinstance(train, Mapping) and train.get("targets") == "votes" for train in trains)


def shared_labels(sources: Sequence[str | Path]) -> list[str]:
    """The labels that all of some bundles have, in the order of the first."""
    known = [open_bundle(source).labels for source in sources]
    return [label for label in known[0] if all(label in labels for labels in known)]


def shared_rows(
    manifest: Manifest, known: Sequence[str], split: str, asked: Sequence[str] | None, *, voted: bool = False
) -> tuple[list[Utterance], tuple[str, ...], dict[str, int]]:
    """The rows to ask for, the labels they share with the model, and how many rows are left out, by reason.

    Args:
        known: labels of the model. split: ``all``, or one of the splits. asked: only these labels.
        voted: rows have the labels that were voted for too, and those without a label are asked for where they have
            votes.

    Raises:
        SerkitError: an unknown label or split, no row of the split, or fewer than two shared labels.
    """
    if split != ALL and split not in SPLITS:
        raise SerkitError(f"no split '{split}'" + did_you_mean(split, (*SPLITS, ALL)))
    for label in asked or ():
        check_known(label, known, f"the model has no label '{label}'")
    chosen = [u for u in manifest if split in (ALL, u.split)]
    if not chosen:
        known_splits = sorted({str(u.split) for u in manifest if u.split})
        raise SerkitError(f"no recording of split '{split}'; splits there: {', '.join(known_splits) or 'none'}")
    there = set[str | None]().union(*(_said(u, voted) for u in chosen))
    shared = tuple(x for x in known if x in there and (asked is None or x in asked))
    if len(shared) < 2:
        raise SerkitError(
            f"model and recordings share {count(len(shared), 'label')} ({', '.join(shared) or 'none'}), two are "
            f"needed; the model has {', '.join(known)}, the recordings "
            f"{', '.join(sorted(x for x in there if x)) or 'none'}"
        )
    kept, left_out = [], Counter[str]()
    for u in chosen:
        if u.emotion in shared or (u.emotion is None and _said(u, voted).intersection(shared)):
            kept.append(u)
        else:
            left_out["without a label" if u.emotion is None else f"of '{u.emotion}'"] += 1
    return kept, shared, dict(left_out)


def _said(utterance: Utterance, voted: bool) -> set[str | None]:
    """The label of a row and, where votes are meant too, the labels that its raters voted for."""
    votes = utterance.votes if voted else None
    return {utterance.emotion, *(label for label, weight in (votes or {}).items() if weight > 0)}
