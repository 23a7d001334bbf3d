"""Names of what features are of: the content, and hashes that are kept."""

import os
from pathlib import Path

import pytest

from serkit.contents import ContentHashes, item_key, text_key
from serkit.errors import SerkitError
from serkit.journal import read_rows


def test_keys_are_content() -> None:
    assert len({item_key("a"), item_key("b"), item_key("a", 1.0), item_key("a", None, 1.0), text_key("a")}) == 5
    assert item_key("a", 0.0, 2.5) == item_key("a", None, 2.5)
    assert len(item_key("a")) == 32


def test_hashes_are_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "a.wav", tmp_path / "hashes.jsonl"
    path.write_bytes(b"first")
    monkeypatch.setattr("serkit.contents._SETTLED_S", -1.0)
    first = ContentHashes(cache).of([path, path])[path]
    assert len(list(read_rows(cache))) == 1
    monkeypatch.setattr("serkit.contents.content_hash", lambda path: pytest.fail("read again"))
    assert ContentHashes(cache).of([path])[path] == first
    monkeypatch.undo()
    status = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ContentHashes(cache).of([path])[path] != first, "same size, same time of change, other content"
    lost = ContentHashes(cache).of([tmp_path / "none.wav"])[tmp_path / "none.wav"]
    assert isinstance(lost, SerkitError)
    assert "no such file" in str(lost)


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"first")
    ContentHashes(tmp_path / "hashes.jsonl").of([tmp_path / "a.wav"])
    assert not (tmp_path / "hashes.jsonl").exists()
