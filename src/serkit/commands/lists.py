"""The commands that list what is available: corpora, encoders, recipes, and what a recipe can name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from serkit.commands.options import AsJson, say
from serkit.errors import SerkitError


def corpora(as_json: AsJson = False) -> None:
    """List the corpora serkit can read, with their licences."""
    from serkit.listing import corpora as rows

    _table(rows(), as_json)


def encoders(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Further names for --check or --lock.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="NAME", help="Check whether they can be loaded here, and at what cost."),
    ] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Pin every model to its newest commit on the hub.")] = False,
    commercial: Annotated[bool, typer.Option(help="Only those whose licence allows commercial use.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the encoders a recipe can use as features. With --check, exits 1 if one cannot be loaded."""
    from serkit import availability, listing

    wanted = list(dict.fromkeys([*(check or []), *(names or [])])) or None
    if wanted and not (check or lock):
        raise SerkitError(f"encoders lists all of them; to check some: serkit encoders --check {' '.join(wanted)}")
    if lock:
        _table([{"name": n, "line": c} for n, c in sorted(availability.lock(wanted).items())], as_json)
        return
    rows = listing.checked(wanted) if wanted else listing.encoders(commercial=commercial)
    _table(rows, as_json)
    if wanted and not all(row["loadable"] for row in rows):
        raise typer.Exit(1)


def recipes(as_json: AsJson = False) -> None:
    """List the recipes; each is a whole system in one file."""
    from serkit.listing import recipes as rows

    _table(rows(), as_json)


def models(as_json: AsJson = False) -> None:
    """List the networks a recipe can use, with their parameters."""
    from serkit.listing import members

    _table(members("models"), as_json)


def losses(as_json: AsJson = False) -> None:
    """List the losses a recipe can use, with their parameters."""
    from serkit.listing import members

    _table(members("losses"), as_json)


def augmentations(as_json: AsJson = False) -> None:
    """List the augmentations a recipe can use, with their parameters."""
    from serkit.listing import members

    _table(members("augment"), as_json)


def _table(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    width = max((len(row["name"]) for row in rows), default=0) + 2
    for row in rows:
        say(f"{row['name']:{width}}{row['line']}")


COMMANDS = (corpora, encoders, recipes, models, losses, augmentations)
