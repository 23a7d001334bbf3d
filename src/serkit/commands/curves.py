"""The command ``tensorboard``: learning curves and results for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import say


def tensorboard(
    folder: Annotated[
        Path, typer.Argument(help="A run, or a folder with several: of cv, ablate, tune.", metavar="FOLDER")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write [default: FOLDER/tensorboard].")] = (
        None
    ),
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on while the run is made, until its report is there, or Ctrl-C.")
    ] = False,
) -> None:
    """Write learning curves and results of runs for TensorBoard, also while they train."""
    from serkit.pipeline import tensorboard as pipeline

    if follow:
        say(f"to look at it: tensorboard --logdir {out or folder / pipeline.FOLDER}; Ctrl-C ends this", err=True)
    written = pipeline.write(folder, out, follow=follow)
    for name, reason in written.unread.items():
        say(f"serkit: {name} is left out: {reason}", err=True)
    epochs = f"{written.epochs} epochs of {written.networks} networks"
    say(f"{written.folder}: {epochs}, results of {written.systems} systems")


COMMANDS = (tensorboard,)
