"""The command ``measure``: how right a trained system is on recordings of one's own. Imports lazily."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import AsJson, Corpus, Option, Protocol, Root
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
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the predictions and report.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained system on labelled recordings, with intervals by speaker; exits 1 if a recording failed."""
    from serkit.files import write_text
    from serkit.readers import read_corpora
    from serkit.serving import measuring
    from serkit.serving.ticker import Ticker

    own = ["test_only=true"] if "table" in corpus and protocol is None else []
    manifest = read_corpora(corpus, root or [], protocol=protocol, options=[*own, *(option or [])])
    models = [model] if beside is None else [model, beside]
    chosen = [x.strip() for x in labels.split(",") if x.strip()] if labels is not None else None
    if chosen is None and beside is not None:
        chosen = measuring.shared_labels(models)
    with Ticker() as ticker:
        found = [
            measuring.measure(
                one, manifest, split=split, labels=chosen, calls=calls, jobs=jobs, draws=draws, progress=ticker
            )
            for one in models
        ]
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
            typer.echo(
                f"  {d.metric:13} {d.value_a:.4f}  {d.value_b:.4f}  difference {d.difference:+.4f} "
                f"[{d.low:+.4f}, {d.high:+.4f}]  p = {d.p:.3f}, permuted {d.p_permutation:.3f}   {d.interval}"
            )
    if any(one.failed for one in found):
        raise typer.Exit(1)
