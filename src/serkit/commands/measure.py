"""The command ``measure``: how right a trained system is on recordings of one's own. Imports lazily."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serkit.commands.options import (
    AsJson,
    Calls,
    Jobs,
    ModelArgument,
    Option,
    Protocol,
    Root,
    comma_separated,
    difference_lines,
    say,
)

if TYPE_CHECKING:
    from serkit.comparison import Difference
    from serkit.serving.measuring import Measured
    from serkit.serving.streamed import Streamed
    from serkit.serving.ticker import Ticker
    from serkit.serving.watched import Pace


def measure(
    model: ModelArgument,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Labelled recordings: a corpus, or table (see: serkit corpora); repeat to join."),
    ] = None,
    root: Root = None,
    beside: Annotated[
        str | None, typer.Option(help="Another bundle on the same recordings, compared in pairs.")
    ] = None,
    under: Annotated[
        list[str] | None,
        typer.Option(
            "--under",
            help="Measure degraded recordings as well: telephone, noise:10, reverb+noise:20, …, or all; repeat.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            help="Measure by a column of the table too: accent, or age=30,50 with the edges of its bins; repeat.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, dev, test or all of the recordings.")] = "all",
    labels: Annotated[str | None, typer.Option(help="Measure on these labels only, comma-separated.")] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Also measure the sets of serkit predict --coverage: how often they hold the true class."),
    ] = None,
    streamed: Annotated[
        bool,
        typer.Option(
            "--streamed", help="Also feed the recordings to a stream: how good early answers are, and what they cost."
        ),
    ] = False,
    chunk_s: Annotated[
        float | None, typer.Option("--chunk", help="Seconds of sound in a chunk, with --streamed [default: 0.1].")
    ] = None,
    partial_s: Annotated[
        float | None,
        typer.Option("--partial", help="Answer after every so many seconds of speech, with --streamed [default: 0.5]."),
    ] = None,
    protocol: Protocol = None,
    option: Option = None,
    calls: Calls = "auto",
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of these draws, and of what is random in --under.", min=0)] = 0,
    jobs: Jobs = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for predictions, report.json and its page; run again to resume."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a trained system on labelled recordings, with intervals by speaker; exits 1 if a recording failed."""
    from serkit.extras import versions
    from serkit.files import made_folder
    from serkit.groupings import parse_groups
    from serkit.interrupts import resumable
    from serkit.readers import read_labelled
    from serkit.serving import measuring, robustness
    from serkit.serving.conditions import parse
    from serkit.serving.measured_lines import failures, remarks, stream_complaints
    from serkit.serving.predictor import load
    from serkit.serving.shared_labels import learned_votes, shared_labels
    from serkit.serving.streamed import stream
    from serkit.serving.ticker import Ticker

    if not corpus:
        raise typer.BadParameter(
            "measure needs labelled recordings: --corpus table --root my.csv for your own, or --corpus NAME --root DIR"
        )
    pace = _pace(chunk_s, partial_s, streamed=streamed)
    conditions = parse(under or [])
    groups = parse_groups(group or [])
    manifest = read_labelled(corpus, root or [], protocol=protocol, options=option or [])
    models = [model] if beside is None else [model, beside]
    given = comma_separated(labels)
    chosen = shared_labels(models) if given is None and beside is not None else given
    if beside is not None:
        load(beside, calls=calls)  # a package that it needs and that is absent is told before the other is measured
    keep = None if out is None else made_folder(out) / "answers.jsonl"
    with Ticker() as ticker, nullcontext() if keep is None else resumable():
        ask = partial(
            measuring.measure_under, manifest=manifest, conditions=conditions, split=split, labels=chosen,
            coverage=coverage, calls=calls, jobs=jobs, draws=draws, seed=seed, progress=ticker, keep=keep,
            groups=groups, votes=all(learned_votes(one) for one in models),
        )  # fmt: skip
        found = [ask(one) for one in models]
        _complain(ticker, *map(failures, found), remarks(found[0]))  # of the recordings: the same beside it
        streams: list[Streamed] = []
        if pace is not None:
            hear = partial(
                stream, pace=pace, calls=calls, jobs=jobs, draws=draws, seed=seed, progress=ticker, keep=keep
            )
            streams = [hear(name, one[0]) for name, one in zip(models, found, strict=True)]
            _complain(ticker, *map(stream_complaints, streams))
        paired = measuring.differences(found[0][0], found[1][0], draws=draws, seed=seed) if beside is not None else ()
        tree = {
            "models": [one[0].to_row() for one in found],
            "differences": [d.to_row() for d in paired],
            "provenance": {
                "split": split, "coverage": coverage, "calls": calls, "versions": versions(measuring.PACKAGES),
            },
        }  # fmt: skip
        if conditions:
            tree["under"] = robustness.rows(found, draws=draws, seed=seed, progress=ticker)
        if streams:
            tree["streamed"] = [one.to_row() for one in streams]
    page = None if out is None else _write(out, [m for one in found for m in one], tree)
    if as_json:
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    else:
        _show([one[0] for one in found], paired, tree)
    if page is not None:
        typer.echo(f"report: {page}", err=as_json)
    if any(m.failed for one in found for m in one) or any(one.failed or one.differs for one in streams):
        raise typer.Exit(1)


def _pace(chunk_s: float | None, partial_s: float | None, *, streamed: bool) -> Pace | None:
    """How recordings are fed to a stream; ``None``: not at all."""
    from serkit.serving.watched import CHUNK_S, PARTIAL_S, Pace

    if not streamed:
        if chunk_s is not None or partial_s is not None:
            raise typer.BadParameter(f"{'--chunk' if chunk_s is not None else '--partial'} is of --streamed: add it")
        return None
    return Pace(CHUNK_S if chunk_s is None else chunk_s, PARTIAL_S if partial_s is None else partial_s)


def _complain(ticker: Ticker, *complaints: Iterable[str]) -> None:
    for line in chain.from_iterable(complaints):
        ticker.complain(line)


def _write(out: Path, found: Sequence[Measured], tree: Mapping[str, Any]) -> Path:
    """The probabilities, the numbers, their page, and one of the conditions; the path of the first page."""
    from serkit.files import write_json
    from serkit.reporting import write_conditions, write_measured

    for one in found:
        one.predictions.save(out / f"{one.file_name}.parquet")
    write_json(out / "report.json", tree)
    if "under" in tree:
        write_conditions(out, tree)
    return write_measured(out, tree)


def _show(found: Sequence[Measured], paired: Sequence[Difference], tree: Mapping[str, Any]) -> None:
    """The numbers as text."""
    from serkit.reporting.conditions import conditions_text
    from serkit.reporting.streamed import streamed_text
    from serkit.serving.measured_lines import lines

    for one in found:
        say("\n".join(lines(one)))
    for line in difference_lines(paired):
        say(line)
    if "under" in tree:
        say("\n".join(conditions_text(tree)))
    if "streamed" in tree:
        say("\n".join(streamed_text(tree)))


COMMANDS = (measure,)
