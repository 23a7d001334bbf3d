"""The command ``export``: a whole model becomes one ONNX file. Imports lazily, like the whole command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import ModelArgument, say


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, ending in .onnx; replaced if it is there.")],
    check: Annotated[
        list[Path] | None,
        typer.Option(help="A recording, or a folder of them, to compare answers on; repeat.", exists=True),
    ] = None,
) -> None:
    """Write a whole model as one ONNX file: samples in, probabilities out, for any program with onnxruntime."""
    import numpy as np

    from serkit.serving.exporting import export as write
    from serkit.serving.gathering import gather
    from serkit.serving.predictor import load
    from serkit.serving.ticker import Ticker

    with Ticker() as ticker:
        given = gather([str(path) for path in check], ticker.complain) if check else []
        made = write(load(model, calls="none"), out, check=given, complain=ticker.complain, progress=ticker)
    for note in made.notes:
        say(f"note: {note}")
    middle, most = np.median(made.differences), made.differences.max()
    say(f"{made.path}: {made.n_bytes / 1e6:.2f} MB; samples in, probabilities of {', '.join(made.labels)} out")
    say(
        f"compared with {model} on {len(made.differences)} clips: answers differ by at most {most:.1e} (median "
        f"{middle:.1e}), on {made.changed} another class is the most probable; {made.ratio:.2f} times the processor "
        "time (one thread each)"
    )


COMMANDS = (export,)
