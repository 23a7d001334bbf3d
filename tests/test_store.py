import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from serkit import shards
from serkit.encoding import EncoderSpec
from serkit.errors import RunFailed, SerkitError
from serkit.journal import append_rows, read_rows
from serkit.progress import Meter, Progress
from serkit.store import MAX_OPEN, Failure, FeatureStore, round_frames

SPEC = EncoderSpec("family/model", "audio", dim=5, window=400, hop=160)

SOURCES = Path(__file__).parents[1] / "src"

WRITER = """
import sys
import numpy as np
from serkit.encoding import EncoderSpec
from serkit.store import FeatureStore
root, first, last, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
import time
store = FeatureStore(root, EncoderSpec("family/model", "audio", dim=5, window=400, hop=160))
with store.writer(shard_bytes=1000) as writer:
    for n in range(first, last):
        rows = np.random.default_rng(n).normal(size=(1 + n % 37, 5)).astype(np.float32)
        writer.add(f"{n:032x}", rows)
        print(n, flush=True)
        time.sleep(pause)
"""

SHARD_ITEMS = 20  # of WRITER: 1000 bytes are at most this many neighbouring items


def item(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(1 + n % 37, 5)).astype(np.float32)


def key(n: int) -> str:
    return f"{n:032x}"


def items(first: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((key(n), item(n)) for n in range(first, last))


def start_writer(root: Path, first: int, last: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(first), str(last), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCES)})


def assert_right(store: FeatureStore) -> None:
    """Every key of the store gives exactly the rows that were written under it."""
    for name in store:
        n = int(name, 16)
        np.testing.assert_array_equal(store.get(name), item(n).astype(np.float16))
        assert store.frames(name) == len(item(n))


def test_what_is_written_is_read_back_rounded_and_read_only(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    assert store.missing([key(1), key(0), key(1)]) == [key(1), key(0)]
    assert store.write(items(0, 50), shard_bytes=500) == 50
    assert_right(store)
    again = FeatureStore(tmp_path, SPEC)
    assert len(again) == 50
    assert again.missing(key(n) for n in range(52)) == [key(50), key(51)]
    assert_right(again)
    assert again.verify() == []
    view = again.get(key(3))
    assert view.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1
    with pytest.raises(SerkitError, match="no features of encoder 'family/model' under key nothing"):
        again.get("nothing")
    assert again.write(items(0, 50)) == 0, "what is there is not written again"
    assert again.n_bytes == sum(len(item(n)) for n in range(50)) * 5 * 2


def test_a_shard_opens_without_serkit(tmp_path: Path) -> None:
    FeatureStore(tmp_path, SPEC).write(items(0, 3))
    (index,) = tmp_path.glob("*/shard-*.json")
    row = json.loads(index.read_text())
    data = np.load(index.with_suffix(".npy"))
    assert data.shape == (sum(row["frames"]), 5) == tuple(row["shape"])
    np.testing.assert_array_equal(data[: row["frames"][0]], item(0).astype(np.float16))


def test_a_key_is_written_once_and_of_two_writers_the_first_shard_stays(tmp_path: Path) -> None:
    store, other = FeatureStore(tmp_path, SPEC), FeatureStore(tmp_path, SPEC)
    with store.writer() as writer:
        assert writer.add("a", item(3))
        assert not writer.add("a", item(4)), "its shard is still open"
    assert store.n_bytes == item(3).size * 2
    with other.writer() as second, store.writer() as third:
        assert second.add("b", item(5))
        assert third.add("b", item(6))
        assert third.add("c", item(7))
    again = FeatureStore(tmp_path, SPEC)
    assert set(again) == {"a", "b", "c"}
    first = min(tmp_path.glob("*/shard-*.json"), key=lambda p: (json.loads(p.read_text())["keys"] == ["a"], p.name))
    kept = item(5) if json.loads(first.read_text())["keys"] == ["b"] else item(6)
    np.testing.assert_array_equal(again.get("b"), round_frames(kept, SPEC))
    np.testing.assert_array_equal(again.get("c"), round_frames(item(7), SPEC))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "its data file has 139 bytes, expected 138"),
        ({"dtype": "float32"}, "it holds [1, 5] float32, expected [1, 5] float16"),
        ({"shape": [1, 6]}, "it holds [1, 6] float16, expected [1, 5] float16"),
        ({"keys": ["a", "b"], "frames": [1, 0], "crc32": [0, 0]}, "its index is inconsistent"),
    ],
)
def test_a_shard_whose_index_and_data_differ_is_damaged(tmp_path: Path, change: dict[str, object], said: str) -> None:
    """The bytes after the last item are nobody's; of the others the index says what the data is not."""
    FeatureStore(tmp_path, SPEC).write([("a", np.ones((1, 5), dtype=np.float32))])
    (index,) = tmp_path.glob("*/shard-*.json")
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    if not change:
        with index.with_suffix(".npy").open("ab") as file:
            file.write(b"x")
    store = FeatureStore(tmp_path, SPEC)
    assert list(store.damaged.values()) == [said]
    assert store.missing(["a"]) == ["a"]


def test_float16_costs_what_is_stated_and_overflow_names_the_encoder(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32)
    rounded = round_frames(values, SPEC).astype(np.float32)
    assert np.all(np.abs(rounded - values) <= np.abs(values) * 2**-11 + 2**-25)
    store = FeatureStore(tmp_path, SPEC)
    store.write([("a", values)])
    expected = np.sqrt(((rounded - values) ** 2).sum() / (values**2).sum())
    assert store.rounding_error == pytest.approx(float(expected), rel=1e-3)
    assert FeatureStore(tmp_path, SPEC).rounding_error == store.rounding_error > 1e-5
    store.write([("exact", rounded)])  # another shard, of numbers that rounding does not change
    assert store.rounding_error == pytest.approx(float(expected) / np.sqrt(2), rel=1e-3)
    values[3, 2] = 70_000
    with pytest.raises(RunFailed, match=r"'family/model'.*7e\+04.*dtype: float32"):
        store.write([("b", values)])
    wide = EncoderSpec("family/model", "audio", dim=5, window=400, hop=160, dtype="float32")
    np.testing.assert_array_equal(round_frames(values, wide), values)
    values[0, 0] = np.nan
    for bad, message in ((values, "NaN"), (values[:0], "no frame")):
        with pytest.raises(SerkitError, match=message):
            round_frames(bad, wide)
    with pytest.raises(RunFailed, match=r"shape \(5, 4\), its spec says \(frames, 5\)"):
        round_frames(np.zeros((5, 4)), wide)


def test_another_spec_in_the_folder_is_refused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    store.write(items(0, 3))
    assert FeatureStore.open(store.folder).missing([key(0)]) == []
    other = EncoderSpec("family/model", "audio", dim=5, window=400, hop=320)
    assert FeatureStore(tmp_path, other).missing([key(0)]) == [key(0)], "another spec has its own folder"
    store.folder.rename(FeatureStore(tmp_path, other).folder)
    with pytest.raises(SerkitError, match=f"fingerprint {SPEC.fingerprint}, expected {other.fingerprint}"):
        FeatureStore(tmp_path, other)
    with pytest.raises(SerkitError, match="was renamed"):
        FeatureStore.open(next(tmp_path.glob("family*")))
    with pytest.raises(SerkitError, match="not a feature store"):
        FeatureStore.open(tmp_path)


def test_few_files_are_open_whatever_is_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    store.write(items(0, 200), shard_bytes=1)
    assert len(list(tmp_path.glob("*/shard-*.npy"))) == 200
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    assert_right(store)
    if before:
        assert len(list(descriptors.iterdir())) - before <= MAX_OPEN
    assert_right(pickle.loads(pickle.dumps(store)))


def test_a_large_store_opens_fast(tmp_path: Path) -> None:
    spec = EncoderSpec("small", "audio", dim=1, window=400, hop=160)
    rows = np.ones((2, 1), np.float32)
    FeatureStore(tmp_path, spec).write(((key(n), rows) for n in range(92_000)), shard_bytes=40_000, shard_s=1e9)
    start = time.process_time()
    store = FeatureStore(tmp_path, spec)
    took_s = time.process_time() - start
    assert len(store) == 92_000
    assert took_s < 1.0
    index_bytes = sum(path.stat().st_size for path in store.folder.glob("*.json"))
    assert index_bytes < 6e6


def kill_and_resume(root: Path, times: int, last: int) -> None:
    rng = np.random.default_rng(times)
    for _ in range(times):
        before = set(FeatureStore(root, SPEC))
        writer = start_writer(root, 0, last, 0.0005)
        assert writer.stdout is not None
        stop, added = int(rng.integers(5, last // 2)), []
        for line in writer.stdout:
            added.append(int(line))
            if len(added) >= stop:
                break
        time.sleep(float(rng.uniform(0, 0.01)))
        os.kill(writer.pid, signal.SIGKILL)
        added += [int(line) for line in writer.stdout.read().splitlines() if line.strip().isdigit()]
        writer.wait()
        store = FeatureStore(root, SPEC)
        assert_right(store)
        now = set(store)
        assert before <= now, "a finished shard was lost"
        lost = [n for n in added if key(n) not in now]
        assert len(lost) <= SHARD_ITEMS, "more than the open shard was lost"
        assert store.damaged == {}
    store = FeatureStore(root, SPEC)
    store.write(items(0, last), shard_bytes=1000)
    assert set(store) == {key(n) for n in range(last)}
    assert_right(FeatureStore(root, SPEC))
    assert store.verify() == []
    assert list(root.glob("*/*.part")) == [], "nothing half-written is left behind"
    indices = [json.loads(path.read_text()) for path in root.glob("*/shard-*.json")]
    assert len(list(root.glob("*/shard-*.npy"))) == len(indices)
    listed = [name for index in indices for name in index["keys"]]
    assert len(listed) == len(set(listed)) == last, "no item stands twice"


def test_killed_three_times_nothing_is_lost_but_the_open_shard(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 3, 300)


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_but_the_open_shard(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 20, 600)


def test_two_writers_at_once_and_a_reader_that_sees_finished_shards(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, 0, 200, 0.001), start_writer(tmp_path, 100, 300, 0.001)]
    store = FeatureStore(tmp_path, SPEC)
    seen = 0
    while any(w.poll() is None for w in writers):
        store.refresh()
        assert len(store) >= seen
        seen = len(store)
        assert_right(store)
        shards.remove_abandoned(store.folder)  # a third process that tidies up must not touch what is alive
        time.sleep(0.05)
    for writer in writers:
        assert writer.wait() == 0
        assert writer.stdout is not None
        writer.stdout.close()
    store.refresh()
    assert set(store) == {key(n) for n in range(300)}
    assert_right(store)
    assert store.damaged == {}


def test_a_truncated_file_never_yields_wrong_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FeatureStore(tmp_path, SPEC).write(items(0, 12), shard_bytes=400)
    files = sorted(tmp_path.glob("*/shard-*.*"))
    assert len(files) >= 4
    for path in files:
        whole = path.read_bytes()
        cuts = {0, 1, 64, 127, 128, 129, len(whole) // 2, len(whole) - 2, *range(0, len(whole) - 1, 61)}
        for cut in sorted(c for c in cuts if c < len(whole) - 1):
            path.write_bytes(whole[:cut])
            store = FeatureStore(tmp_path, SPEC)
            assert 0 < len(store) < 12
            assert list(store.damaged) == [path.stem]
            assert_right(store)
        path.write_bytes(whole)
    assert "is damaged" in caplog.text
    assert len(FeatureStore(tmp_path, SPEC)) == 12
    path.unlink()
    store = FeatureStore(tmp_path, SPEC)
    store.write(items(0, 12))
    assert len(store) == 12
    assert_right(FeatureStore(tmp_path, SPEC))


def test_data_that_changed_on_disk_is_found_and_a_vanished_shard_is_an_error(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    store.write(items(0, 4))
    (path,) = store.folder.glob("*.npy")
    data = bytearray(path.read_bytes())
    data[128] ^= 1
    path.write_bytes(data)
    assert FeatureStore(tmp_path, SPEC).verify() == [key(0)]
    fresh = FeatureStore(tmp_path, SPEC)
    path.unlink()
    with pytest.raises(SerkitError, match="can no longer be read"):
        fresh.get(key(0))


def test_an_error_while_writing_keeps_what_was_added_whole(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[str, np.ndarray]]:
        yield from items(0, 7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path, SPEC).write(interrupted())
    store = FeatureStore(tmp_path, SPEC)
    assert len(store) == 7
    assert_right(store)
    assert list(tmp_path.glob("*/*.part")) == []


@pytest.mark.parametrize("room", [0, 100, 1500, 3000, 3160, 3300, 5000])
def test_a_full_disk_is_one_line_and_finished_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    FeatureStore(tmp_path, SPEC).write(items(0, 10), shard_bytes=500)
    left = [room]
    write: Callable[[int, memoryview], int] = os.write

    def limited(fd: int, data: memoryview) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        n = write(fd, data[: left[0]])
        left[0] -= n
        return n

    monkeypatch.setattr(shards.os, "write", limited)
    with pytest.raises(RunFailed, match=r"disk is full .*finished shards are kept.*--store") as caught:
        FeatureStore(tmp_path, SPEC).write(items(10, 400), shard_bytes=1000)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    store = FeatureStore(tmp_path, SPEC)
    assert {key(n) for n in range(10)} <= set(store)
    assert_right(store)
    assert store.damaged == {}
    assert list(tmp_path.glob("*/*.part")) == []
    store.write(items(0, 400), shard_bytes=1000)
    assert_right(store)
    assert len(store) == 400


def test_a_real_limit_on_file_size_is_the_same_error(tmp_path: Path) -> None:
    script = """
import resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from serkit.encoding import EncoderSpec
from serkit.errors import RunFailed
from serkit.store import FeatureStore
store = FeatureStore(sys.argv[1], EncoderSpec("family/model", "audio", dim=5, window=400, hop=160))
sizes = [500, 500, 1500, 5000]
try:
    store.write(((str(n), np.full((size, 5), n)) for n, size in enumerate(sizes)), shard_bytes=9000)
except RunFailed as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCES)}, check=True,
    )  # fmt: skip
    assert "the disk is full (File too large)" in done.stdout
    store = FeatureStore(tmp_path, SPEC)
    assert sorted(store) == ["0", "1", "2"]
    assert np.all(store.get("2") == 2)


def test_abandoned_files_of_this_machine_go_and_recent_ones_of_another_stay(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    store.write(items(0, 2))
    ours = store.folder / f"shard-0000000000001-{shards.host_name()}-1-00000000.npy.part"
    index = store.folder / f".shard-0000000000001-{shards.host_name()}-1-00000000.json.{shards.host_name()}-1-1.part"
    orphan = store.folder / f"shard-0000000000002-{shards.host_name()}-1-00000000.npy"
    theirs = store.folder / "shard-0000000000001-elsewhere-1-00000000.npy.part"
    old = store.folder / "shard-0000000000003-elsewhere-1-00000000.npy.part"
    for path in (ours, index, orphan, theirs, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.write(items(2, 3))
    assert [p.exists() for p in (ours, index, orphan, theirs, old)] == [False, False, False, True, False]
    assert len(FeatureStore(tmp_path, SPEC)) == 3


def test_failures_are_listed_until_they_succeed(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    store.record_failures([Failure(key(0), "a", "a.wav", "empty"), Failure(key(1), "b", "b.wav", "text")])
    store.record_failures([Failure(key(1), "b", "b.wav", "still text")])
    store.write(items(0, 1))
    assert {k: f.reason for k, f in FeatureStore(tmp_path, SPEC).failures.items()} == {key(1): "still text"}


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"n": 1}, {"n": 2}])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        append_rows(path, [{"n": 3}], sync=True)
        found = [row["n"] for row in read_rows(path) if isinstance(row, dict)]
        assert found[-1] == 3
        assert found[:-1] == [1, 2][: len(found) - 1]
    assert list(read_rows(tmp_path / "none.jsonl")) == []


def test_progress_tells_rates_and_time_left() -> None:
    moment = Progress("extract", "utterances", 50, 200, 1, 100.0, 400.0, 10.0)
    assert (moment.rate_hz, moment.audio_h_per_h, moment.left_s) == (5.0, 10.0, 30.0)
    assert Progress("extract", "utterances", 0, 200, 0, 0.0, 400.0, 10.0).left_s is None
    seen: list[Progress] = []
    meter = Meter("extract", 1000, seen.append, every_s=1e9)
    for _ in range(1000):
        meter.advance()
    assert [p.done for p in seen] == [0, 1000]
    assert seen[-1].left_s == 0.0
