"""The command ``adapt``: adapt a model to your own recordings, without labels. Imports lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command()(adapt)


def adapt(
    inputs: Annotated[list[str], typer.Argument(help="Recordings, or folders of them.", metavar="FILE|DIR")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write, or a file ending in .zip or .serkit.")],
    model: Annotated[str, typer.Option(help="Bundle: a folder, a file, or a name.")] = "default",
    name: Annotated[str | None, typer.Option(help="Name of the new model [default: NAME-adapted].")] = None,
    at_most: Annotated[
        int, typer.Option(help="Number of recordings to sample, evenly spaced; up to 10 min of each.", min=1)
    ] = 500,
    jobs: Annotated[int, typer.Option(help="Processes at once; 0: one per core.", min=0)] = 1,
) -> None:
    """Adapt a model to unlabelled recordings: another microphone, another language, telephone."""
    from serkit.reporting.text import count
    from serkit.serving import adapting, predicting
    from serkit.serving.ticker import Ticker

    with Ticker() as ticker:
        files = predicting.gather(inputs, ticker.complain)
        bundle = adapting.adapt_to(
            model, files, out, name=name, at_most=at_most, jobs=jobs, complain=ticker.complain, progress=ticker
        )
    facts = bundle.head["adapted"]
    typer.echo(
        f"{out}: '{bundle.name}', adapted to {count(facts['recordings'], 'recording')} "
        f"({facts['hours']:.2f} h, {adapting.pieces_of(facts)}). Use it with: serkit predict … --model {out}"
    )
