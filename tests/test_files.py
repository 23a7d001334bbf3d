import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serkit.errors import DiskFull, SerkitError
from serkit.files import (
    check_writable,
    content_hash,
    fingerprint,
    host_name,
    made_folder,
    remove_parts,
    replacing,
    replacing_folder,
    write_bytes,
    write_text,
)
from serkit.serving.bundle_files import check_new


def test_an_error_leaves_the_old_file_and_no_part(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def interrupted():
        with replacing(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_folders_are_made_and_bytes_written(tmp_path):
    write_bytes(tmp_path / "x" / "y" / "b", b"\x00\xff")
    assert (tmp_path / "x" / "y" / "b").read_bytes() == b"\x00\xff"


def test_two_writers_of_one_file_leave_one_of_two_whole_ones(tmp_path):
    texts = [letter * 200_000 for letter in "ab"]

    def write(text):
        for _ in range(20):
            write_text(tmp_path / "f", text)

    threads = [threading.Thread(target=write, args=(t,)) for t in texts]
    for t in threads:
        t.start()
    for _ in range(50):
        if (tmp_path / "f").exists():
            assert (tmp_path / "f").read_text() in texts
    for t in threads:
        t.join()
    assert (tmp_path / "f").read_text() in texts
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives cannot be asked there")
def test_parts_of_the_killed_are_removed_and_no_others(tmp_path):
    killed = (
        "import os, sys; from serkit.files import replacing\n"
        "with replacing(sys.argv[1]) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path / "a" / "b.txt")], check=False).returncode == -9
    (left,) = (tmp_path / "a").iterdir()
    elsewhere = left.with_name(left.name.replace(host_name(), "elsewhere"))
    elsewhere.write_text("half")
    with replacing(tmp_path / "c.txt") as ours:
        ours.write_text("whole")
        assert remove_parts(tmp_path) == [left]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted([elsewhere.name, "c.txt"])


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives cannot be asked there")
def test_a_place_that_is_asked_for_again_is_rid_of_what_the_killed_left(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    def part(name, process):
        return f".{name}.{host_name()}-{process}-1.part"

    names = ["a.zip", "a", "b.zip"]
    for name in [part(name, gone.pid) for name in names] + [part("a.zip", os.getpid())]:
        (tmp_path / name).write_text("half")
    check_new(tmp_path / "a.zip")
    left = {part("a", gone.pid), part("b.zip", gone.pid), part("a.zip", os.getpid())}
    assert {p.name for p in tmp_path.iterdir()} == left
    check_writable(tmp_path / "b.zip")
    assert {p.name for p in tmp_path.iterdir()} == left - {part("b.zip", gone.pid)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "whole")
    assert os.read(end, 100) == b"whole"
    assert pipe.is_fifo()

    def interrupted():
        with replacing(pipe) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.read(end, 100) == b""
    os.close(end)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="what is open has no names")
def test_what_a_shell_has_open_for_a_program_is_written_to(tmp_path):
    (tmp_path / "x").write_text("earlier, ")
    with (tmp_path / "x").open("ab") as file:  # as a shell does for >>
        write_text(f"/dev/fd/{file.fileno()}", "whole")
    assert (tmp_path / "x").read_text() == "earlier, whole"


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    def fill(text, error=None):
        with replacing_folder(tmp_path / "x" / "f") as part:
            assert list(part.iterdir()) == []
            (part / "a").mkdir()
            (part / "a" / "b").write_text(text)
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        fill("half", KeyboardInterrupt())
    with pytest.raises(DiskFull, match=r"while writing .*f: free some space"):
        fill("half", OSError(28, "No space left on device"))
    assert list((tmp_path / "x").iterdir()) == []
    (tmp_path / "x" / "f").mkdir()
    fill("first")
    with pytest.raises(FileExistsError):
        fill("second")
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["f"]
    assert (tmp_path / "x" / "f" / "a" / "b").read_text() == "first"


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives cannot be asked there")
def test_a_folder_of_the_killed_is_removed(tmp_path):
    killed = (
        "import os, sys; from serkit.files import replacing_folder\n"
        "with replacing_folder(sys.argv[1]) as part: (part / 'a').write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path / "f")], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert remove_parts(tmp_path) == [left]
    assert list(tmp_path.iterdir()) == []


def test_bytes_wait_for_the_disk_before_they_bear_their_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("os.fsync", lambda fd: seen.append((tmp_path / "b").exists()))
    write_bytes(tmp_path / "b", b"\x00", sync=True)
    assert seen == ([False, True] if hasattr(os, "O_DIRECTORY") else [False])
    write_bytes(tmp_path / "b", b"\x01")
    assert len(seen) <= 2


SAVED = """
import resource, sys
import numpy as np
from serkit.files import write_bytes
from serkit.predictions import Predictions
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
ids = tuple(f"u{k}" for k in range(999))
table = Predictions("s", ("a", "b"), "logit", ids, ("m",) * 999, np.zeros(999, bool), np.random.rand(999, 2))
for save in (table.save, lambda path: write_bytes(path, bytes(9999))):
    try:
        save(sys.argv[1])
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="no limit on the size of files there")
def test_a_full_disk_says_which_file_and_leaves_the_old_one(tmp_path):
    """A limit on the size of files stands in for the disk; pyarrow writes one of the two."""
    path = tmp_path / "x.parquet"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", SAVED, str(path)], capture_output=True, text=True, check=True)
    line = f"DiskFull the disk is full (File too large) while writing {path}: free some space there and run the "
    assert done.stdout.splitlines() == [line + "same command again"] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]
    assert path.read_text() == "old"


def test_fingerprints_see_content_and_not_order():
    assert fingerprint({"a": [1, 2], "b": None}) == fingerprint({"b": None, "a": (1, 2)})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    assert len(fingerprint(1, 8)) == 8


def test_content_hash_follows_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    assert content_hash(tmp_path / "a") == content_hash(str(tmp_path / "b")) == content_hash(b"one")
    assert content_hash(b"one") != content_hash(b"two")
    with pytest.raises(SerkitError, match="cannot be read"):
        content_hash(tmp_path / "c")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no folders")
def test_a_folder_that_cannot_be_made_is_one_line():
    with pytest.raises(SerkitError, match=r"/proc/none/out cannot be made: .*; choose another --out"):
        made_folder(Path("/proc/none/out"))
