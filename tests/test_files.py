import threading

import pytest

from serkit.files import fingerprint, replacing, write_bytes, write_text


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


def test_fingerprints_see_content_and_not_order():
    assert fingerprint({"a": [1, 2], "b": None}) == fingerprint({"b": None, "a": (1, 2)})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    assert len(fingerprint(1, 8)) == 8
