"""The command line in this process."""

from typer.testing import CliRunner

from serkit import cli
from serkit.errors import SerkitError

RATE_HZ = 16_000


def ask(*words):
    """Run the command line in this process as ``main`` does: exit code, standard output, the line of an error."""
    result = CliRunner().invoke(cli.app, [str(w) for w in words])
    error = result.exception
    if isinstance(error, SerkitError):
        return error.exit_code, result.stdout, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return result.exit_code, result.stdout, result.stderr


def run_table(recipe, clips, tmp_path, *more):
    where = ["--out", tmp_path / "run", "--store", tmp_path / "store", "--jobs", 1, "--device", "cpu"]
    return ask("run", recipe, "--corpus", "table", "--root", clips, *where, *more)
