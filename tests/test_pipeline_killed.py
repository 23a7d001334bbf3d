"""Runs that are killed at any moment end with the same report."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reported import report
from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import RunFailed
from serkit.recipe import parse_recipe

KILL = [sys.executable, "-m", "serkit.cli", "run"]


def _kill_often(jobs, small_text, finished, toy_root, tmp_path, longest_s):
    """Start the run once for each of ``jobs`` and kill it at some moment; compare each time that it is finished."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(small_text)
    command = [*KILL, str(recipe), "--corpus", "toy", "--root", str(toy_root), "--out", str(tmp_path / "run")]
    command += ["--store", str(tmp_path / "store"), "--device", "cpu"]
    rng, out = random.Random(3), tmp_path / "run"
    for n in jobs:
        if (out / "report" / "report.html").is_file() and pipeline.Run(out).done("report"):
            _compare(out, tmp_path / "store", finished)
            shutil.rmtree(out)
            shutil.rmtree(tmp_path / "store")
        process = subprocess.Popen(
            [*command, "--jobs", str(n)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # no pipe: reading it to its end would wait for the workers
            start_new_session=True,
        )
        time.sleep(rng.uniform(0.3, longest_s))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
        _wait_until_alone(process.pid)
    run = pipeline.prepare(parse_recipe(small_text), toy(toy_root), out)
    pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    _compare(out, tmp_path / "store", finished)


def _compare(out, store, finished):
    assert report(out) == report(finished)
    assert not list(out.rglob("*.part"))
    assert not list(store.rglob("shard-*.part"))


def _wait_until_alone(session, patience_s=60.0):
    """Wait until no process of a session lives: the workers of a killed program end by themselves."""
    until = time.monotonic() + patience_s
    while living := _living(session):
        assert time.monotonic() < until, f"still there after {patience_s} s: {living}"
        time.sleep(0.05)


def _living(session):
    """Process ids of a session, the dead that nobody has collected apart; none where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # gone meanwhile
        if int(of_session) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def test_killed_at_random_moments_it_ends_with_the_same_report(small_text, finished, toy_root, tmp_path):
    _kill_often([1, 2, 1], small_text, finished, toy_root, tmp_path, 8.0)


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_same_report(small_text, finished, toy_root, tmp_path):
    _kill_often(random.Random(4).choices([1, 2], k=20), small_text, finished, toy_root, tmp_path, 10.0)


def test_a_gpu_whose_memory_is_too_small_is_told_with_what_to_set(finished, monkeypatch):
    import torch

    from serkit.pipeline import networks_of_run

    run = pipeline.Run(finished)
    (run.network("sound", "fold0") / "test.parquet").unlink()

    def too_large(*given, **named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has less.")

    monkeypatch.setattr(networks_of_run, "score", too_large)
    with pytest.raises(RunFailed, match=r"batches of 32 clips \(CUDA out of memory\)") as told:
        networks_of_run.train_one(run, "sound", "fold0", "cpu")
    assert "--set systems.sound.train.batch_size=16 --set systems.sound.train.accumulate=2" in str(told.value)
