"""Programs that start warm: each is forked from a process that has loaded the heavy packages, and runs alone.

A document's commands and blocks are programs of their own, with a folder and an environment of their own, and do not
each spend seconds on loading torch again. What is light to load is tested by ``test_package.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
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
