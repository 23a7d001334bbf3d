"""The command ``explain``: why a model answers as it does. Imports lazily, like the whole command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import Model, comma_separated
from serkit.errors import SerkitError, did_you_mean


class Form(StrEnum):
    """How an explanation is written."""

    table = "table"
    json = "json"
    html = "html"


BY_SUFFIX = {".txt": Form.table, ".json": Form.json, ".html": Form.html}


def explain(
    recording: Annotated[str, typer.Argument(help="A recording, or 'example'.", metavar="FILE")],
    model: Model = "default",
    label: Annotated[str | None, typer.Option(help="Explain this label [default: the answer].")] = None,
    labels: Annotated[str | None, typer.Option(help="Restrict the answer to these labels, comma-separated.")] = None,
    text: Annotated[str | None, typer.Option(help="The spoken words, for models that use text.")] = None,
    start: Annotated[float | None, typer.Option(help="Seconds; explain from here on.", min=0)] = None,
    end: Annotated[float | None, typer.Option(help="Seconds; explain up to here.", min=0)] = None,
    channel: Annotated[int | None, typer.Option(help="Hear this channel alone [default: their mean].", min=1)] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="Output format [default: by the extension of --out, else table].")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write: .html, .json or .txt.")] = None,
) -> None:
    """Explain an answer: which stretches, words and systems speak for it, and what would change it."""
    import json

    from serkit.files import check_writable, replacing
    from serkit.reporting.explanation import explanation_page, explanation_text
    from serkit.serving.example import recording as meant
    from serkit.serving.explaining import explain as explained
    from serkit.serving.predictor import load
    from serkit.serving.ticker import Ticker

    kind = form or _form(out)
    if out is not None:
        check_writable(out)
    chosen = comma_separated(labels)
    with Ticker() as ticker:
        asked = load(model)
        row = explained(
            asked, meant(recording), label=label, labels=chosen, text=text, start_s=start, end_s=end, channel=channel,
            progress=ticker,
        ).to_row()  # fmt: skip
        if kind is Form.json:
            written = json.dumps(row, ensure_ascii=False, indent=1) + "\n"
        else:
            written = explanation_page(row) if kind is Form.html else explanation_text(row)
        if out is None:
            ticker.write(written)
            return
        with replacing(out) as file:
            file.write_text(written, encoding="utf-8")
        ticker.complain(f"wrote {out}")


def _form(out: Path | None) -> Form:
    """The format that the name of a file asks for."""
    if out is None:
        return Form.table
    if out.suffix.lower() not in BY_SUFFIX:
        raise SerkitError(
            f"no format ends in '{out.suffix}'" + did_you_mean(out.suffix, [*BY_SUFFIX]) + "; or --format"
        )
    return BY_SUFFIX[out.suffix.lower()]


COMMANDS = (explain,)
