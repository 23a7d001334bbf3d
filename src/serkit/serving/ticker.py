"""How far a command is that answers recordings: one moving line in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

import typer

from serkit.progress import Progress, duration

EVERY_S = 20.0


class Ticker:
    """Says on standard error how many are done, and how long the rest will take."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._said = time.monotonic()
        self._open = False

    def __call__(self, state: Progress) -> None:
        """Say it, if it is time."""
        line = f"{state.done} of {state.total} {state.unit}" + (f", {state.failed} failed" if state.failed else "")
        if state.left_s is not None and state.done < state.total:
            line += f", {duration(state.left_s)} left"
        if self._moving:
            typer.echo(f"\r{line:40} ", nl=False, err=True)
            self._open = True
        elif time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            typer.echo(line, err=True)

    def complain(self, line: str) -> None:
        """A line of its own."""
        self.end()
        typer.echo(f"serkit: {line}", err=True)

    def end(self) -> None:
        """Leave the moving line."""
        if self._open:
            typer.echo("", err=True)
        self._open = False
