"""The command ``adapt``: adapt a model to your own recordings, with or without labels. Imports lazily."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serkit.commands.options import BundleOut, Jobs, Model, Option, Protocol, Root, comma_separated, printable, say

if TYPE_CHECKING:
    from serkit.serving.bundle import Bundle
    from serkit.serving.ticker import Ticker


_OF_LABELLED = ("root", "split", "labels", "own_labels", "protocol", "option", "draws")  # parameters that need --corpus


def adapt(
    context: typer.Context,
    out: BundleOut,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Recordings without labels, or folders of them.", metavar="[FILE|DIR]", show_default=False),
    ] = None,
    model: Model = "default",
    name: Annotated[
        str | None, typer.Option(callback=printable, help="Name of the new model [default: NAME-adapted].")
    ] = None,
    at_most: Annotated[
        int, typer.Option(help="Number of recordings to sample; without labels up to 10 min of each.", min=1)
    ] = 500,
    jobs: Jobs = 1,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", help="Labelled recordings instead: a corpus, or table (see: serkit corpora); repeat to join."
        ),
    ] = None,
    root: Root = None,
    split: Annotated[str, typer.Option(help="train, dev, test or all of the labelled recordings.")] = "all",
    labels: Annotated[str | None, typer.Option(help="Learn from these labels only, comma-separated.")] = None,
    own_labels: Annotated[
        bool, typer.Option("--own-labels", help="Answer with the labels of these clips in the place of the model's.")
    ] = False,
    protocol: Protocol = None,
    option: Option = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws, of the numbers with labels.", min=10)] = 1000,
) -> None:
    """Adapt a model to your recordings (another microphone, another language, telephone), with a few labels or none.
    Labels of 20 clips or more help much; without labels it helps little."""
    from serkit.serving.ticker import Ticker

    if tables := [one for one in inputs or [] if Path(one).suffix.lower() == ".csv"]:
        raise typer.BadParameter(f"{tables[0]} is a table, not a recording: --corpus table --root {tables[0]}")
    if bool(inputs) == bool(corpus):
        raise typer.BadParameter(
            "give recordings without labels, or labelled ones by --corpus and --root: --corpus table --root labels.csv"
        )
    if inputs:
        _refuse_without_corpus(context)
    with Ticker() as ticker:
        common = {"name": name, "at_most": at_most, "jobs": jobs, "complain": ticker.complain, "progress": ticker}
        if inputs:
            _unlabelled(inputs, out, model, ticker, common)
        else:
            labelled = {"split": split, "labels": comma_separated(labels), "own_labels": own_labels, "draws": draws}
            _labelled(corpus or [], root, protocol, option, out, model, {**common, **labelled})


def _refuse_without_corpus(context: typer.Context) -> None:
    """Refuse an option of labelled recordings that would have no effect."""
    found = {k: context.get_parameter_source(k) for k in _OF_LABELLED}
    given = [k for k, source in found.items() if source is not None and source.name != "DEFAULT"]
    if given:
        raise typer.BadParameter(
            f"--{given[0].replace('_', '-')} is for labelled recordings, given by --corpus and --root"
        )


def _unlabelled(inputs: list[str], out: Path, model: str, ticker: Ticker, options: dict[str, Any]) -> None:
    from serkit.reporting.text import count
    from serkit.serving import adapting
    from serkit.serving.gathering import gather

    bundle = adapting.adapt_to(model, gather(inputs, ticker.complain, ticker), out, **options)
    facts = bundle.head["adapted"]
    say(
        f"{out}: '{bundle.name}', adapted to {count(facts['recordings'], 'recording')} "
        f"({facts['hours']:.2f} h, {adapting.pieces_of(facts)}). Use it with: serkit predict … --model {out}"
    )
    _say_of_calls(bundle, model)


def _labelled(
    corpus: list[str],
    root: list[Path] | None,
    protocol: str | None,
    option: list[str] | None,
    out: Path,
    model: str,
    options: dict[str, Any],
) -> None:
    from serkit.readers import read_labelled
    from serkit.reporting.text import count, voices
    from serkit.serving import labelled

    manifest = read_labelled(corpus, root or [], protocol=protocol, options=option or [])
    bundle, taught = labelled.adapt_to(model, manifest, out, **options)
    facts = bundle.head["labelled"]
    say("\n".join(labelled.lines(taught)))
    say(
        f"{out}: '{bundle.name}', adapted to {count(facts['clips'], 'labelled clip')} of {voices(facts['speakers'])}. "
        f"Use it with: serkit predict … --model {out}"
    )
    _say_of_calls(bundle, model)


def _say_of_calls(adapted: Bundle, original: str) -> None:
    """Another model answers calls in place of the original, and not in place of the adapted one, unless asked to."""
    from serkit.serving.bundle import for_calls, open_bundle

    found = for_calls(open_bundle(original) if adapted.own_labels else adapted, original, "auto")
    if found and adapted.own_labels:
        say(
            f"  The new model answers calls itself; with '{original}', '{found.name}' answers them. If most recordings "
            f"are calls, adapt that model: --model {found.name}"
        )
    elif found:
        say(
            f"  The new model answers calls itself; with '{original}', '{found.name}' answers them. If some recordings "
            f"are calls, predict with --calls {found.name}; if all are, adapt that model: --model {found.name}"
        )


COMMANDS = (adapt,)
