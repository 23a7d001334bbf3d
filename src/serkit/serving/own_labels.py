"""Labelled clips whose labels take the place of a model's: which ones, and what its card says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from serkit.errors import SerkitError
from serkit.reporting.text import listed
from serkit.serving.bundle import Bundle
from serkit.serving.shared_labels import as_divided
from serkit.types import Manifest, Utterance


def divided(manifest: Manifest, bundle: Bundle) -> Manifest:
    """As :func:`serkit.serving.shared_labels.as_divided`.

    Raises:
        SerkitError: as there, with the way out; or the clips share no two labels with the model.
    """
    way_out = "; to answer with the labels of these clips instead, add --own-labels (own_labels=True)"
    classes = {u.emotion for u in manifest} - {None}
    try:
        found = as_divided(manifest, bundle)
    except SerkitError as error:
        raise SerkitError(f"{error}{way_out}" if len(classes) > 1 else str(error)) from None
    if len(classes) > 1 and len({u.emotion for u in found} & set(bundle.labels)) < 2:
        raise SerkitError(
            f"model and recordings share fewer than two labels; the model has {', '.join(bundle.labels)}, the "
            f"recordings {', '.join(sorted(map(str, classes)))}{way_out}"
        )
    return found


def own(labels: Sequence[str], rows: Sequence[Utterance]) -> tuple[str, ...]:
    """Labels that rows have, in their order.

    Raises:
        SerkitError: one of a single clip, on which nothing can be held out.
    """
    counts = Counter(u.emotion for u in rows)
    if single := [label for label in labels if counts[label] == 1]:
        kept = ",".join(label for label in labels if counts[label] > 1)
        raise SerkitError(
            f"1 clip of '{single[0]}': a label of your own takes 2 clips or more; leave it out with --labels {kept}"
        )
    return tuple(label for label in labels if counts[label])


def with_labels(card: str, bundle: Bundle, labels: Sequence[str]) -> str:
    """A card whose paragraph on labels is of others."""
    said = (
        f"Labels: {', '.join(labels)}, learned from labelled clips: see the last section. What is said of classes "
        f"above it is of the model that this one was made from, which answered {', '.join(bundle.labels)}."
    )
    ratings = f" Also predicts {listed(bundle.attributes)}." if bundle.attributes else ""
    before = tuple(f"{begin}: {', '.join(bundle.labels)}." for begin in ("Labels", "Answers with one of"))
    title, *parts = card.split("\n\n")
    return "\n\n".join([title, said + ratings, *(part for part in parts if not part.startswith(before))])
