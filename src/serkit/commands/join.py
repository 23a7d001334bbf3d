"""The command ``join``: several bundles become one. Imports lazily, like the whole command line."""

from __future__ import annotations

from typing import Annotated

import typer

from serkit.commands.options import BundleOut, printable, say


def join(
    models: Annotated[list[str], typer.Argument(help="Bundles: folders, files, or names.", metavar="MODEL")],
    out: BundleOut,
    name: Annotated[
        str | None, typer.Option(callback=printable, help="Name of the new model [default: their names, joined by +].")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="How much each counts, such as 2,1 [default: all the same].")
    ] = None,
) -> None:
    """Make one bundle of several that were trained on the same clips: they answer together."""
    from serkit.serving.joining import join as joined

    made = joined(models, out, name=name, shares=_numbers(shares))
    for part in made.head["joined"]:
        say(f"  {part['name']}: share {part['share']:.2f}, held-out UAR {part['uar']:.3f}")
    record = made.head["measured"]
    say(
        f"{out}: '{made.name}', {len(made.networks)} networks, held-out UAR {record['uar']:.3f} among all classes "
        f"(n = {record['clips']}). Use it with: serkit predict … --model {out}"
    )


def _numbers(given: str | None) -> list[float] | None:
    """``2,1`` as numbers."""
    if given is None:
        return None
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--shares {given}: expected numbers, such as 2,1") from None


COMMANDS = (join,)
