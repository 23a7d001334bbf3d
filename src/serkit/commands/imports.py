"""The command ``import``: a published classifier becomes a bundle. Imports lazily, like the whole command line."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from serkit.commands.options import BundleOut, MaxClip, WeightKind, Weights, comma_separated, printable, say


class Regions(StrEnum):
    """Into which regions ratings are divided."""

    quadrants = "quadrants"
    octants = "octants"


def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="hub:ORG/MODEL, or path:DIR: a folder in the hub's layout; or emotion2vec/plus-base.", metavar="SOURCE"
        ),
    ],
    out: BundleOut,
    labels: Annotated[
        str | None,
        typer.Option(help="Names of its labels: WORD=NAME,…; WORD is its own word for a label, or its number."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(callback=printable, help="Name of the model [default: that of the checkpoint].")
    ] = None,
    weights: Weights = WeightKind.float32,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights [default: what the checkpoint's README says].")
    ] = None,
    max_clip: MaxClip = 20.0,
    regions: Annotated[
        Regions | None,
        typer.Option(help="Of a model that gives ratings: its classes are these of the ratings [default: quadrants]."),
    ] = None,
    rating_scale: Annotated[
        str | None, typer.Option(help="LOW,HIGH: lowest and highest rating that it gives [default: 0,1].")
    ] = None,
    answer_scale: Annotated[
        str | None, typer.Option(help="LOW,HIGH: give its ratings on this scale instead, such as 1,7.")
    ] = None,
) -> None:
    """Make a bundle of a published emotion classifier, or model of arousal, valence and dominance
    (wav2vec 2.0, HuBERT, WavLM, Whisper or emotion2vec+)."""
    from serkit.recordings import near_label
    from serkit.serving.importing import import_checkpoint
    from serkit.types import CANONICAL_LABELS

    made = import_checkpoint(
        source, out, name=name, labels=_renamed(labels), weights=weights.value, licence=licence, max_clip_s=max_clip,
        regions=None if regions is None else regions.value, rating_scale=_ends("--rating-scale", rating_scale),
        answer_scale=_ends("--answer-scale", answer_scale),
        progress=lambda line: say(line, err=True),
    )  # fmt: skip
    for note in made.notes:
        say(f"note: {note}")
    if made.regions:
        say(f"  ratings: {', '.join(made.labels.values())}; labels: {', '.join(made.regions)}")
    for word, label in ({} if made.regions else made.labels).items():
        near = near_label(label, CANONICAL_LABELS) if label in made.unclear else None
        say(f"  {word} -> {label}" + (f" (did you mean {near}?)" if near else ""))
    if made.unclear:
        say(
            f"not among serkit's own labels, and kept: {', '.join(made.unclear)}. If one is another word for a label "
            "of your recordings, import again with --labels WORD=NAME"
        )
    numbers = "ratings" if made.regions else "logits"
    say(
        f"{made.path}: '{made.name}', {made.n_bytes / 1e6:.2f} MB, {numbers} within {made.difference:.1e} of "
        f"those of {made.origin}; licence of the weights: {made.licence}. Nothing of it is calibrated or measured: "
        f"serkit measure {made.path} --corpus table --root labels.csv"
    )


def _ends(option: str, given: str | None) -> tuple[float, float] | None:
    """``1,7`` as two numbers."""
    if given is None:
        return None
    try:
        low, high = map(float, given.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {given}: expected two numbers, such as 1,7") from None
    return low, high


def _renamed(given: str | None) -> dict[str, str]:
    """``a=b,c=d`` as a table."""
    found: dict[str, str] = {}
    for pair in comma_separated(given) or ():
        word, equals, name = (part.strip() for part in pair.partition("="))
        if not (word and equals and name):
            raise typer.BadParameter(f"--labels {pair}: expected WORD=NAME")
        if word in found:
            raise typer.BadParameter(f"--labels names '{word}' twice")
        found[word] = name
    return found


COMMANDS = (import_,)
