"""Progress of a command that predicts recordings: one moving line in a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time

import typer

from serkit.errors import visible
from serkit.progress import Progress, duration

EVERY_S = 20.0
SOON_S = 2.0  # a lone recording that is answered by then needs no word


class Ticker:
    """Says on standard error how many are done, and how long the rest will take; a context, which leaves its line."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._said = time.monotonic()
        self._shown = 0  # columns of the moving line

    def __call__(self, state: Progress) -> None:
        """Say it, if it is time."""
        if state.total > 1:
            line = f"{state.done} of {state.total} {state.unit}" + (f", {state.failed} failed" if state.failed else "")
        elif not state.total and state.done:  # how many there are in all is not known yet
            line = f"{state.done} {state.unit}"
        elif state.share is None or state.done or state.elapsed_s < SOON_S:
            return
        else:
            line = f"{state.share:.0%} heard"
        if state.left_s is not None and state.done < state.total:
            line += f", {duration(state.left_s)} left"
        if self._moving:
            typer.echo(f"\r{line:{self._shown}} ", nl=False, err=True)
            self._shown = len(line)
        elif time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            typer.echo(line, err=True)

    def write(self, text: str) -> None:
        """Text for standard output, which begins a line of its own; as it is, unless a terminal would obey it."""
        self._clear()
        typer.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
        sys.stdout.flush()

    def complain(self, line: str) -> None:
        """A line for standard error."""
        self._clear()
        typer.echo(f"serkit: {visible(line)}", err=True)

    def _clear(self) -> None:
        """Take the moving line away, for whatever stands there next."""
        if self._shown:
            typer.echo(f"\r{'':{self._shown}} \r", nl=False, err=True)
        self._shown = 0

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the moving line, so that whatever is said next, of an error or of Ctrl-C, has one of its own."""
        if self._shown:
            typer.echo("", err=True)
        self._shown = 0
