"""The command line: one program made of the commands in ``commands/``, and its exit codes.

Everything heavy is imported inside the commands.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from serkit import __version__
from serkit.commands import (
    ablation,
    adapt,
    answers,
    curves,
    explain,
    exports,
    findings,
    imports,
    join,
    listen,
    lists,
    measure,
    serve,
    stages,
    tuning,
)
from serkit.errors import SerkitError, did_you_mean, visible
from serkit.files import DISK_FULL
from serkit.interrupts import KEPT

SECTIONS = {
    "Answers": ("predict", "listen", "serve", "explain"),
    "Models": ("measure", "adapt", "bundle", "join", "import", "export"),
    "Training and comparison": ("run", "cv", "ablate", "tune", "compare", "audit", "tensorboard"),
    "Stages of a run": ("prepare", "extract", "train", "stack", "evaluate", "report"),
    "Lists": ("corpora", "encoders", "recipes", "models", "losses", "augmentations"),
}
"""The commands by what they are for, as ``serkit --help`` lists them."""


_USAGE_ERROR: Any = typer.BadParameter.__base__  # click's own, or that of the copy of click in newer typer


class _Program(TyperGroup):
    """The commands; what is wrong with the words of a call is one line, with the nearest word that an option takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands section by section, each with the whole first sentence of its help."""
        for title, names in SECTIONS.items():
            found = [(name, self.commands[name].get_short_help_str(limit=500)) for name in names]
            with formatter.section(title):
                formatter.write_dl(found, col_max=14)

    def make_context(self, *words: Any, **more: Any) -> Any:
        """Read the words before the command."""
        with _in_one_line():
            return super().make_context(*words, **more)

    def invoke(self, ctx: Any) -> Any:
        """Call a command."""
        with _in_one_line():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            given, found, known = error.message.partition("' is not one of ")
            if found:
                near = did_you_mean(given.rpartition("'")[2], re.findall("'([^']+)'", known))
                said = error.message.removeprefix("Value error, ").rstrip(".")
                error.message = said + (near if "did you mean" in near else "")
            raise


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Wrong usage as an error of serkit; typer would write the usage, a hint, an empty line and the error."""
    try:
        yield
    except _USAGE_ERROR as error:
        if type(error).show is not _USAGE_ERROR.show and not isinstance(error, typer.BadParameter):
            raise  # not an error: the whole help, for a call without words
        plain = isinstance(error, typer.BadParameter) and error.param is None and error.param_hint is None
        said = error.message if plain else error.format_message()  # a command's own words, or click's of an option
        said = said.rstrip(".").replace(". Did you", "; did you")
        if near := getattr(error, "possibilities", None):  # of an option; sorted, they hide which is nearest
            said = error.message + did_you_mean(error.option_name, near)
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        raise SerkitError(f"{said if plain else said[:1].lower() + said[1:]}{hint}") from None


app = typer.Typer(
    cls=_Program,
    name="serkit",
    help="Speech emotion recognition: corpora, features, cross-modal networks, a balanced stack, honest reports.",
    epilog="A first answer: serkit predict example --timeline. The options of a command: serkit COMMAND --help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (
    stages, ablation, tuning, curves, findings, lists, answers, imports, exports, join, explain, measure, adapt, listen,
    serve,
):  # fmt: skip
    for command in group.COMMANDS:
        app.command(command.__name__.rstrip("_"))(command)

STOPPED = 130  # what typer exits with after Ctrl-C
OUTSIDE = (
    *DISK_FULL, errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"serkit {__version__}")
        raise typer.Exit


def main(begin: Callable[[], None] | None = None) -> NoReturn:
    """Entry point: exit 0 for success, 2 for wrong input or usage, 1 for a failure, 130 for Ctrl-C.

    Commands that keep finished work say so when they are stopped or a disk fails: :func:`serkit.interrupts.resumable`.

    Args:
        begin: what has Ctrl-C raise ``KeyboardInterrupt`` from now on, where it did not before.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # names of files and words that a terminal cannot show
        if begin is not None:
            begin()
        app()
    except SystemExit as end:
        if end.code == STOPPED:
            print("serkit: stopped", file=sys.stderr)
        raise
    except KeyboardInterrupt:  # before typer listens for it: it was still reading what the commands take
        print("serkit: stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except SerkitError as error:
        print(f"serkit: {visible(str(error))}{_kept(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        where = f": {visible(str(error.filename))}" if error.filename else ""
        print(f"serkit: {error.strerror or error}{where}{_kept(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _kept(error: Exception) -> str:
    """The note of a command that keeps finished work."""
    return f"; {KEPT}" if KEPT in getattr(error, "__notes__", ()) else ""


if __name__ == "__main__":
    main()
