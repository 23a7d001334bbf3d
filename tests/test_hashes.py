import os
from pathlib import Path

import pytest

from serkit.errors import SerkitError
from serkit.hashes import ContentHashes
from serkit.journal import append_rows, read_rows


def test_hashes_are_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "hashes.jsonl"
    path.write_bytes(b"first")
    monkeypatch.setattr("serkit.hashes._SETTLED_S", -1.0)
    first = ContentHashes(cache).of([path, path])[path]
    assert len(list(read_rows(cache))) == 1
    monkeypatch.setattr("serkit.hashes.content_hash", lambda path: pytest.fail("read again"))
    assert ContentHashes(cache).of([path])[path] == first
    monkeypatch.undo()
    status = path.stat()
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of files ticks every few milliseconds
        path.write_bytes(b"other")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ContentHashes(cache).of([path])[path] != first, "same size, same time of change, other content"
    lost = ContentHashes(cache).of([tmp_path / "none.wav"])[tmp_path / "none.wav"]
    assert isinstance(lost, SerkitError)
    assert "no such file" in str(lost)


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serkit.hashes._SETTLED_S", 600.0)  # however slow this is
    (tmp_path / "a.wav").write_bytes(b"first")
    ContentHashes(tmp_path / "hashes.jsonl").of([tmp_path / "a.wav"])
    assert not (tmp_path / "hashes.jsonl").exists()


def test_rows_without_the_time_of_the_last_change_of_state_hold(tmp_path: Path) -> None:
    """As the cache of weights held them in earlier versions."""
    path, cache = tmp_path / "model.safetensors", tmp_path / "weights.jsonl"
    path.write_bytes(b"weights")
    status = path.stat()
    append_rows(cache, [[str(path.resolve()), status.st_size, status.st_mtime_ns, "ab"]])
    assert ContentHashes(cache).of([path]) == {path: "ab"}
    os.utime(path, ns=(0, status.st_mtime_ns + 1))
    assert ContentHashes(cache).of([path]) != {path: "ab"}
