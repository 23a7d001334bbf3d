"""Extraction on a Ray cluster: the contract with a stand-in, and two real nodes of which one is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from serkit import engines
from serkit.batching import Item
from serkit.cli import app
from serkit.encoders.hashed_text import HashedText
from serkit.encoders.logmel import Logmel
from serkit.errors import MissingExtra, RunFailed, SerkitError
from serkit.extraction import extract
from serkit.store import FeatureStore
from serkit.types import Manifest, Utterance

RATE_HZ = 16_000


def corpus(folder: Path, n: int, seconds: float = 0.3) -> Manifest:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(n):
        samples = 0.1 * rng.standard_normal(int(RATE_HZ * seconds * (1 + k % 3)))
        soundfile.write(folder / f"{k}.wav", samples.astype(np.float32), RATE_HZ)
    rows = tuple(Utterance(f"u{k}", f"{k}.wav", text=f"words {k}") for k in range(n))
    return Manifest("made", (), rows, root=str(folder))


def check_same(a: Path, b: Path, encoders: list[Any], n: int) -> None:
    """Two stores hold the same keys, each once, with the same bytes."""
    for encoder in encoders:
        one, two = FeatureStore(a, encoder.spec), FeatureStore(b, encoder.spec)
        assert sorted(one) == sorted(two)
        assert len(list(two)) == n
        assert not two.failures
        for key in one:
            np.testing.assert_array_equal(one.get(key), two.get(key))


class TaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback of many lines")
        self.cause = cause


class RayError(Exception):
    pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A module with the few calls of Ray that are used, which computes when asked for the result."""
    seen = SimpleNamespace(tasks=[], options={}, addresses=[], ended=0, cancelled=0, get=None)

    class Task:
        def __init__(self, function: Any) -> None:
            self.function = function

        def options(self, **options: Any) -> Task:
            seen.options = options
            return self

        def remote(self, *given: Any) -> Any:
            seen.tasks.append(given)
            return lambda: self.function(*given)

    def get(found: Any) -> Any:
        try:
            return found()
        except (SerkitError, ArithmeticError) as error:
            raise TaskError(error) from None

    def init(address: str | None, **_: Any) -> None:
        if address == "nowhere:1":
            raise ConnectionError("could not find\nany cluster")
        seen.addresses.append(address)

    package = SimpleNamespace(
        remote=Task, put=lambda x: x, get=lambda x: (seen.get or get)(x), init=init,
        is_initialized=lambda: False, cluster_resources=lambda: {"CPU": 1.0, "GPU": 2.0},
        shutdown=lambda: setattr(seen, "ended", seen.ended + 1),
        cancel=lambda found, force: setattr(seen, "cancelled", seen.cancelled + 1),
        exceptions=SimpleNamespace(RayTaskError=TaskError, RayError=RayError),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", package)
    before = {name: getattr(engines._Worker, name) for name in ("packed", "device", "encoders", "loaded")}
    yield seen
    for name, value in before.items():
        setattr(engines._Worker, name, value)


def test_a_cluster_gives_what_one_process_gives(stand_in: SimpleNamespace, tmp_path: Path) -> None:
    manifest, encoders = corpus(tmp_path / "a", 30), [Logmel("logmel/24"), HashedText("hashed_text/32")]
    extract(manifest, encoders, tmp_path / "one")
    extract(manifest, encoders, tmp_path / "two", engine="ray", address="host:6379", batch_seconds=2.0)
    check_same(tmp_path / "one", tmp_path / "two", encoders, 30)
    assert stand_in.addresses == ["host:6379"]
    assert stand_in.ended == 1
    assert len(stand_in.tasks) > 5
    assert stand_in.options["num_gpus"] == 0
    assert stand_in.options["max_retries"] > 0
    assert all(Path(i.path).is_absolute() for _, _, batch in stand_in.tasks for i in batch if i.text is None)
    before = len(stand_in.tasks)
    extract(manifest, encoders, tmp_path / "two", engine="ray", address="host:6379")
    assert len(stand_in.tasks) == before, "what the store holds is not sent again"


def test_what_goes_wrong_far_away_is_one_line_here(
    stand_in: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = corpus(tmp_path / "a", 12)

    def refused(match: str, kind: type[SerkitError] = RunFailed, **choices: Any) -> None:
        engines._Worker.packed = b""  # a fresh process
        with pytest.raises(kind, match=match) as error:
            extract(manifest, [Logmel("logmel/24")], tmp_path / "s", engine="ray", batch_seconds=1.0, **choices)
        assert "\n" not in str(error.value)
        assert type(error.value) is kind

    refused("no Ray cluster at nowhere:1: could not find any cluster", address="nowhere:1")
    with monkeypatch.context() as patch:
        patch.setattr(Logmel, "__call__", lambda self, items: 1 / 0)
        refused("encoder 'logmel/24' failed on utterance 'u.*ZeroDivisionError")
    with monkeypatch.context() as patch:
        patch.setattr(Logmel, "load", lambda self, device="cpu": (_ for _ in ()).throw(SerkitError("no weights here")))
        refused("no weights here", SerkitError)
    stand_in.get = lambda found: (_ for _ in ()).throw(RayError("the machine\ndied"))
    before = stand_in.cancelled
    refused(r"a batch was lost on the cluster \(the machine died\); finished shards are kept")
    assert stand_in.cancelled > before, "what nobody waits for is not computed"
    stand_in.get = None
    real = Path.is_file
    monkeypatch.setattr(engines.Path, "is_file", lambda self: self.suffix != ".wav" and real(self))
    refused(r"machine .* of the cluster cannot see .*\.wav; share that folder")
    store = FeatureStore(tmp_path / "s", Logmel("logmel/24").spec)
    assert not store.failures, "a machine without the recordings says nothing about them"


def test_a_gpu_for_each_batch_and_four_under_way_for_each(stand_in: SimpleNamespace, tmp_path: Path) -> None:
    items = [Item(str(k), f"u{k}", ("text",), text="a b") for k in range(12)]
    run = engines.run_ray([(i,) for i in items], {"text": HashedText("hashed_text/32")}, device="cuda:0")
    first, outcomes = next(run)
    assert first == (items[0],)
    assert outcomes[0].features["text"].shape == (2, 32)
    assert len(stand_in.tasks) == 8
    assert stand_in.options["num_gpus"] == 1
    assert [batch[0] for batch, _ in run] == items[1:]


def test_a_second_ctrl_c_waits_until_the_cluster_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: it left the processes of a cluster that had been started for the purpose."""
    ended: list[str] = []

    def shutdown() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        ended.append("all")

    package = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: None, shutdown=shutdown)
    monkeypatch.setitem(sys.modules, "ray", package)
    with pytest.raises(KeyboardInterrupt), engines.ray_cluster(None):
        raise KeyboardInterrupt
    assert ended == ["all"]


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    manifest = corpus(tmp_path / "a", 2)
    with pytest.raises(MissingExtra, match=r"needs the package 'ray'.*pip install 'serkit\[ray\]'"):
        extract(manifest, [Logmel("logmel/24")], tmp_path / "s", engine="ray")
    with pytest.raises(SerkitError, match="no extraction engine 'rays'; did you mean 'ray'"):
        extract(manifest, [Logmel("logmel/24")], tmp_path / "s", engine="rays")


def test_an_address_without_the_engine_or_ray_absent_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("recipe.yaml", "manifest.jsonl"):
        (tmp_path / name).touch()
    for words in (["extract", str(tmp_path)], ["run", "toy", "--corpus", "toy"], ["cv", "toy", "--corpus", "toy"]):
        result = CliRunner().invoke(app, [*words, "--address", "host:6379"])
        assert isinstance(result.exception, SerkitError)
        assert "add --engine ray" in str(result.exception)
        result = CliRunner().invoke(app, [*words, "--engine", "ray"])
        assert isinstance(result.exception, MissingExtra)


def test_the_folds_of_a_corpus_go_through_the_cluster(
    stand_in: SimpleNamespace, tmp_path: Path, toy_root: Path, small_text: str
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(small_text)
    words = [
        "cv",
        str(recipe),
        "--corpus",
        "toy",
        "--root",
        str(toy_root),
        "--folds",
        "1,2",
        "--out",
        str(tmp_path / "o"),
    ]
    words += ["--store", str(tmp_path / "s"), "--jobs", "1", "--device", "cpu", "--set", "train.epochs=1"]
    result = CliRunner().invoke(app, [*words, "--engine", "ray", "--address", "host:6379"])
    assert result.exit_code == 0, result.output
    assert set(stand_in.addresses) == {"host:6379"}
    assert sum(len(batch) for _, _, batch in stand_in.tasks) >= 80, "every clip was computed there"
    assert "stack" in result.stdout


@pytest.mark.slow
def test_two_nodes_of_which_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(engines.__file__).parents[1]))
    manifest, encoders = corpus(tmp_path / "a", 400, seconds=4.0), [Logmel("logmel/80"), HashedText("hashed_text/32")]
    extract(manifest, encoders, tmp_path / "one", batch_seconds=24.0)
    cluster = Cluster(
        initialize_head=True, connect=False,
        head_node_args={
            "num_cpus": 1, "include_dashboard": False,
            "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 4},
        },
    )  # fmt: skip
    try:
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        seen: list[tuple[int, float]] = []
        killed_at: list[int] = []

        def watch(progress: Any) -> None:
            if progress.stage == "extract":
                seen.append((progress.done, ray.cluster_resources().get("CPU", 0.0)))
                if progress.done >= 100 and not killed_at:
                    cluster.remove_node(second, allow_graceful=False)
                    killed_at.append(progress.done)

        extract(manifest, encoders, tmp_path / "two", engine="ray", batch_seconds=24.0, progress=watch)
        assert max(cpus for _, cpus in seen) == 2, "both nodes had work"
        assert killed_at[0] < seen[-1][0], "the node died before the end"
        deadline = time.monotonic() + 60  # the head learns of it from missing answers to its health checks
        while len([node for node in ray.nodes() if node["Alive"]]) > 1:
            assert time.monotonic() < deadline, "the killed node still counts as alive"
            time.sleep(0.2)
        assert ray.is_initialized(), "a cluster that was connected before stays connected"
    finally:
        ray.shutdown()
        cluster.shutdown()
    check_same(tmp_path / "one", tmp_path / "two", encoders, 400)
