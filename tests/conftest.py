"""What several test files share: the toy corpus, made once, and a finished small run on it."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it puts into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that are sent Ctrl-C here inherit this

SMALL = """
name: small
transcripts: corpus
systems:
  sound:
    features: [{name: logmel/24, pool: 8}]
    model: {name: cross_attention, hidden: 8, normalize: train}
    train: {epochs: 2, lr: 5e-3, batch_size: 32}
  both:
    features: [hashed_text/32, {name: mfcc/13, pool: 8}]
    model: {name: cross_attention, hidden: 8}
    balance: neutral
    losses: [cross_entropy, neutral_margin]
    train: {epochs: 2, lr: 5e-3, batch_size: 32}
crossfit: {folds: 2}
stack: {trees: 10, min_leaf: 2, min_split: 2, folds: 2}
evaluate: {draws: 20}
"""


@pytest.fixture(autouse=True)
def _own_machine(tmp_path_factory, monkeypatch):
    """No test reads the configuration or writes the cache of whoever runs it."""
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("SERKIT_CONFIG", str(home / "config"))
    monkeypatch.setenv("SERKIT_CACHE", str(home / "cache"))


@pytest.fixture(scope="module", autouse=True)
def _loaded_for_good():
    """What is alive at the start of a module, above all loaded packages, is no longer searched for garbage."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _commands_once():
    """The commands are put together once in a process, as in a program, not again for each call by a test."""
    import typer.testing
    from typer.main import get_command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(get_command), raising=False)
        yield


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory) -> Path:
    """Half of the toy corpus, 80 clips of 8 speakers; read it, never write there."""
    from serkit.corpora import toy

    root = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "_N_TAKES", 2)
        toy.toy(root)
    return root


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory) -> Path:
    """A store that all runs of a session share."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def small_text() -> str:
    """A recipe of two small systems, one with text, as YAML."""
    return SMALL


@pytest.fixture(scope="session")
def _finished(tmp_path_factory, toy_root, toy_store):
    from serkit import pipeline
    from serkit.corpora.toy import toy
    from serkit.recipe import parse_recipe

    run = pipeline.prepare(parse_recipe(SMALL), toy(toy_root), tmp_path_factory.mktemp("finished") / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    return run.folder


@pytest.fixture
def finished(_finished, tmp_path) -> Path:
    """A copy of a finished run of the small recipe on the toy corpus."""
    return Path(shutil.copytree(_finished, tmp_path / "finished"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """What a training that nothing stopped leaves, by its system; done once for all tests that stop the same one."""
    from trained import content, fit

    kept = {}

    def left(system, manifest=None, **options):
        key = (system.model_dump_json(), getattr(manifest, "fingerprint", None), repr(options))
        if key not in kept:
            folder = tmp_path_factory.mktemp("whole")
            fit(folder, system, manifest, **options)
            kept[key] = content(folder)
        return kept[key]

    return left


@pytest.fixture
def recipe(tmp_path, small_text) -> Path:
    """A file with the small recipe."""
    path = tmp_path / "small.yaml"
    path.write_text(small_text)
    return path
