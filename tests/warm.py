"""Programs that start warm: each is forked from a process that has loaded what most of them need, and runs alone.

A document's commands and blocks are programs of their own, with a folder and an environment of their own, and do not
each spend seconds on loading torch and serkit again. What is light to load is tested by ``test_package.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

HEAVY = [
    "torch",
    "torch._dynamo",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "scipy.optimize",
    "scipy.stats",
    "skops.io",
    "scipy.signal",
    "pyarrow.parquet",
    "onnx",
    "onnxruntime",
    "soundfile",
    "typer",
    "serkit.pipeline",
    "serkit.serving.predictor",
]
_TESTS = str(Path(__file__).parent)
_FORKING = hasattr(os, "fork")


def run(words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, timeout_s: float) -> int | None:
    """The exit code of ``python -P -m NAME …`` or ``python -c TEXT``; ``None`` where it takes longer.

    Args:
        words: what follows ``python -P``. folder: the current one. environment: all of it.
        out: the file for what is printed and complained of.
    """
    context = multiprocessing.get_context("forkserver" if _FORKING else "spawn")
    if _FORKING:
        context.set_forkserver_preload(HEAVY)
    program = context.Process(target=_main, args=(list(words), folder, dict(environment), out))
    program.start()
    program.join(timeout_s)
    if program.is_alive():
        program.kill()
        program.join()
        return None
    return program.exitcode


def killed(code: str, folder: Path) -> None:
    """Run a program that kills itself, and see that it did. What it says stands in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "said.txt"
    ended = run(["-c", code], folder, os.environ, said, timeout_s=600)
    assert ended == -signal.SIGKILL, (ended, said.read_text(encoding="utf-8")[-2000:])


def _main(words: list[str], folder: Path, environment: dict[str, str], out: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for file, flags, places in ((os.devnull, os.O_RDONLY, (0,)), (out, os.O_WRONLY | os.O_CREAT, (1, 2))):
        opened = os.open(file, flags)
        for place in places:
            os.dup2(opened, place)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # of the whole program
    added = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = added + [p for p in sys.path if p and p not in added and not p.startswith(_TESTS)]
    kind, what, *rest = words
    if kind == "-m":
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [kind, *rest]
        sys.path.insert(0, "")
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
