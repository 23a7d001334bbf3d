"""The command ``measure``: how right a trained system is on recordings of one's own. Imports lazily."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import AsJson, Corpus, Option, Protocol, Root, comma_separated, difference_line
from serkit.serving.results import CALLS_MEANS


def add_commands(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command()(measure)


def measure(
    model: Annotated[str, typer.Argument(help="Bundle: a folder, a file, or a name.", metavar="MODEL")],
    corpus: Corpus,
    root: Root = None,
    beside: Annotated[
        str | None, typer.Option(help="Another bundle on the same recordings, compared in pairs.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, dev, test or all of the recordings.")] = "all",
    labels: Annotated[str | None, typer.Option(help="Measure on these labels only, comma-separated.")] = None,
    protocol: Protocol = None,
    option: Option = None,
    calls: Annotated[str, typer.Option(help=CALLS_MEANS)] = "auto",
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10)] = 1000,
    jobs: Annotated[int, typer.Option(help="Processes at once; 0: one per core.", min=0)] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for predictions and report.json; run again to resume.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained system on labelled recordings, with intervals by speaker; exits 1 if a recording failed."""
    from serkit.files import made_folder, write_text
    from serkit.interrupts import resumable
    from serkit.readers import read_labelled
    from serkit.serving import measuring
    from serkit.serving.ticker import Ticker

    manifest = read_labelled(corpus, root or [], protocol=protocol, options=option or [])
    models = [model] if beside is None else [model, beside]
    given = comma_separated(labels)
    chosen = measuring.shared_labels(models) if given is None and beside is not None else given
    keep = None if out is None else made_folder(out) / "answers.jsonl"
    with Ticker() as ticker, nullcontext() if keep is None else resumable():
        ask = partial(
            measuring.measure, manifest=manifest, split=split, labels=chosen, calls=calls, jobs=jobs, draws=draws,
            progress=ticker, keep=keep,
        )  # fmt: skip
        found = [ask(one) for one in models]
        for one in found:
            for name, reason in one.failed.items():
                ticker.complain(f"{name}: {reason}")
    paired = measuring.differences(found[0], found[1], draws=draws) if beside is not None else ()
    tree = {"models": [one.to_row() for one in found], "differences": [d.to_row() for d in paired]}
    if out is not None:
        for one in found:
            one.predictions.save(out / f"{one.report.system}.parquet")
        write_text(out / "report.json", json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    else:
        for one in found:
            typer.echo("\n".join(measuring.lines(one)))
        for d in paired:
            typer.echo(difference_line(d))
    if any(one.failed for one in found):
        raise typer.Exit(1)
