"""The command line: one program of the commands in ``commands/``, and how it ends.

Everything heavy is imported inside the commands.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, NoReturn

import typer

from serkit import __version__
from serkit.commands import ablation, adapt, answers, explain, findings, listen, lists, serve, stages
from serkit.errors import SerkitError
from serkit.files import DISK_FULL
from serkit.interrupts import KEPT

app = typer.Typer(
    name="serkit",
    help="Speech emotion recognition: corpora, features, cross-modal networks, a balanced stack, honest reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (stages, ablation, findings, lists, answers, explain, adapt, listen, serve):
    group.add_commands(app)

STOPPED = 130  # what typer exits with after Ctrl-C
OUTSIDE = (*DISK_FULL, errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"serkit {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: exit 0 done, 2 the input or usage is wrong, 1 it failed, 130 stopped by Ctrl-C.

    Commands that keep finished work say so when they are stopped, or a disk fails: :func:`serkit.interrupts.resumable`.
    """
    try:
        app()
    except SystemExit as end:
        if end.code == STOPPED:
            print("serkit: stopped", file=sys.stderr)
        raise
    except KeyboardInterrupt:  # before typer listens for it: it was still reading what the commands take
        print("serkit: stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except SerkitError as error:
        print(f"serkit: {error}{_kept(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"serkit: {error.strerror or error}{where}{_kept(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _kept(error: Exception) -> str:
    """What a command that keeps finished work noted of it."""
    return f"; {KEPT}" if KEPT in getattr(error, "__notes__", ()) else ""


if __name__ == "__main__":
    main()
