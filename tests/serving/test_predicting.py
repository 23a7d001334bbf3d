"""serkit predict: rows for what can be read, lines for what cannot, and work that goes on."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from serkit.errors import SerkitError, Stopped
from serkit.processes import WorkerDied
from serkit.serving import pool
from serkit.serving.notes import TEXT_UNREAD
from serkit.serving.pool import Asked, Worker
from serkit.serving.predicting import predict

from .asking import LABELS, ask, asked
from .signals import RATE, talk, voice, wav


def test_csv_has_a_row_for_every_readable_file(folder: Path) -> None:
    failed, text, complaints = ask(asked(folder, kind="csv"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["path", "label", "confidence", "abstain", *LABELS]
    assert [r["path"] for r in rows] == [str(folder / "a.wav"), str(folder / "ünter weg" / "c d.flac")]
    for row in rows:
        shares = {k: float(row[k]) for k in LABELS}
        assert max(shares, key=lambda k: shares[k]) == row["label"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["abstain"] in ("", "unsure", "no_speech")
    assert failed == 1
    assert len(complaints) == 1
    assert complaints[0].startswith(str(folder / "b.wav"))


def test_the_name_of_out_says_the_format(folder: Path, tmp_path: Path) -> None:
    for name, kind in (("o.csv", "csv"), ("o.JSONL", "jsonl"), ("o.json", "json"), ("o.txt", "table")):
        ask(asked(folder, out=tmp_path / name))
        written = (tmp_path / name).read_text(encoding="utf-8")
        ask(asked(folder, kind=kind, out=tmp_path / f"same.{kind}"))
        assert written == (tmp_path / f"same.{kind}").read_text(encoding="utf-8")
    ask(asked(folder / "a.wav", kind="table", out=tmp_path / "t.csv"))
    assert not (tmp_path / "t.csv").read_text(encoding="utf-8").startswith("path,")


def test_json_of_a_folder_is_a_list_however_much_of_it_is_readable(folder: Path) -> None:
    good, bad = str(folder / "a.wav"), str(folder / "b.wav")
    assert isinstance(json.loads(ask(asked(good, kind="json"))[1]), dict)
    assert len(json.loads(ask(asked(good, bad, kind="json"))[1])) == 1
    assert json.loads(ask(asked(bad, bad + "x", kind="json"))[1]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_has_its_row(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/x\xff.wav")).write_bytes(wav(voice(1.0)))
    (tmp_path / "y.wav").write_bytes(wav(voice(1.0)))
    (tmp_path / "z.wav").symlink_to(tmp_path / "nowhere")
    out = tmp_path / "out" / "answers.csv"
    for _ in range(2):  # the second call finds every row there
        failed, _, complaints = ask(asked(tmp_path, out=out))
        rows = list(csv.reader(io.StringIO(out.read_text(encoding="utf-8"))))
        assert [Path(r[0]).name for r in rows[1:]] == ["x\\xff.wav", "y.wav"]
        assert rows[1][1:] == rows[2][1:]
        assert failed == 1
        assert complaints[-1] == f"{tmp_path / 'z.wav'}: no such file"
    _, text, _ = ask(asked(tmp_path, kind="rttm"))
    assert {line.split()[1] for line in text.splitlines()} == {"x\\xff", "y"}


def test_text_for_a_model_that_reads_none_is_said_not_to_count(folder: Path) -> None:
    _, _, complaints = ask(asked(folder / "a.wav", kind="csv", text="hello"))
    assert complaints == [f"note: {TEXT_UNREAD}"]


def test_damage_is_said_of_each_recording(tmp_path: Path) -> None:
    """CSV does not say it, and of the second such file nobody did."""
    for name in ("a.ogg", "b.ogg", "c.ogg"):
        soundfile.write(tmp_path / name, voice(3.0), RATE, format="OGG")
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    for jobs in (1, 2):
        _, text, complaints = ask(asked(tmp_path, kind="csv", jobs=jobs))
        assert len(text.splitlines()) == 4
        assert [line.split(": ")[1] for line in complaints] == [str(tmp_path / f"{name}.ogg") for name in "abc"]
        assert all("truncated" in line for line in complaints)


def test_windows_of_another_step_are_not_resumed(folder: Path, tmp_path: Path) -> None:
    """Of a window without a hop the step was 1.5 s at one time, and is half of it."""
    out, journal = tmp_path / "out.csv", tmp_path / ".out.csv.asked"
    windows: dict[str, Any] = {"kind": "csv", "out": out, "timeline": True, "by": "window", "window_s": 5.0}
    ask(asked(folder, **windows))
    assert ask(asked(folder, **windows))[2][0] == f"2 of 3 recordings are already answered in {out}"
    journal.write_text(re.sub(r'"hop_s": ?2\.5', '"hop_s": null', journal.read_text()))
    with pytest.raises(SerkitError, match=r"a different request \(hop_s: none there, 2\.5 now\)"):
        ask(asked(folder, **windows))


def test_processes_change_nothing(folder: Path) -> None:
    assert ask(asked(folder, kind="csv", jobs=2)) == ask(asked(folder, kind="csv"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_work_that_was_stopped_goes_on(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"out.{kind}"
    ask(asked(folder, kind=kind, out=out))
    whole = out.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:-1]) + lines[-1][:7], encoding="utf-8")  # killed in the middle of a row
    heard: list[str] = []
    answer = Worker.answer
    monkeypatch.setattr(Worker, "answer", lambda self, path, tell=None: heard.append(path) or answer(self, path))
    _, _, complaints = ask(asked(folder, kind=kind, out=out))
    assert complaints[0] == f"1 of 3 recordings are already answered in {out}"
    assert out.read_text(encoding="utf-8") == whole
    assert str(folder / "a.wav") not in heard
    assert len(heard) == 2


def test_a_file_of_something_else_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("path,label\nx,y\n")
    with pytest.raises(SerkitError, match="has different columns"):
        ask(asked(folder, kind="csv", out=out))
    assert out.read_text() == "path,label\nx,y\n"
    with pytest.raises(SerkitError, match="is not a jsonl"):
        ask(asked(folder, kind="jsonl", out=out))
    ask(asked(folder, kind="csv", out=tmp_path / "moved.csv"))
    (tmp_path / ".moved.csv.asked").unlink()
    with pytest.raises(SerkitError, match=r"already holds answers, but \.moved\.csv\.asked"):
        ask(asked(folder, kind="csv", out=tmp_path / "moved.csv"))
    ask(asked(folder, kind="csv", out=tmp_path / "new.csv"))
    with pytest.raises(SerkitError, match="different columns"):
        ask(asked(folder, kind="csv", out=tmp_path / "new.csv", labels=("anger", "fear")))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_answers_to_another_question_are_not_taken_for_this_one(folder: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    ask(asked(folder, kind=kind, out=out, timeline=True, by="segment"))
    before = out.read_bytes()
    for said, other in (
        ("threshold: none there, 0.3 now", {"timeline": True, "threshold": 0.3}),
        ("by: segment there, window now", {"timeline": True, "by": "window"}),
        ("text: none there, hello now", {"timeline": True, "text": "hello"}),
    ):
        with pytest.raises(SerkitError, match=f"answers to a different request .*{said}"):
            ask(asked(folder, kind=kind, out=out, **other))
    if kind == "jsonl":
        with pytest.raises(SerkitError, match="labels: none there, anger, fear now"):
            ask(asked(folder, kind=kind, out=out, timeline=True, labels=("anger", "fear")))
    assert out.read_bytes() == before


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_recording_that_was_replaced_or_is_there_in_part_is_answered_anew(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / f"out.{kind}"
    (folder / "b.wav").write_bytes(wav(talk(3)))
    options = {"kind": kind, "out": out, "timeline": True, "by": "window"}
    ask(asked(folder, **options))
    whole = sorted(out.read_text(encoding="utf-8").splitlines())
    last = out.read_text(encoding="utf-8").splitlines(keepends=True)
    out.write_text("".join(last[:-1]), encoding="utf-8")  # cut between two rows of one recording, if it has several
    assert "2 of 3" in ask(asked(folder, **options))[2][0]
    assert sorted(out.read_text(encoding="utf-8").splitlines()) == whole
    (folder / "a.wav").write_bytes(wav(talk(2)))
    assert "2 of 3" in ask(asked(folder, **options))[2][0]
    ask(asked(folder, kind=kind, out=tmp_path / f"fresh.{kind}", timeline=True, by="window"))
    fresh = (tmp_path / f"fresh.{kind}").read_text(encoding="utf-8")
    assert sorted(out.read_text(encoding="utf-8").splitlines()) == sorted(fresh.splitlines())
    assert ask(asked(folder, **options))[2] == [f"3 of 3 recordings are already answered in {out}"]


def test_answers_to_recordings_that_are_gone_or_not_asked_about_stay(tmp_path: Path) -> None:
    """A folder that is emptied as it is answered, or files from xargs: the answers of each call are added."""
    out, (a, b, c) = tmp_path / "out.csv", (tmp_path / f"{name}.wav" for name in "abc")
    for path in (a, b, c):
        path.write_bytes(wav(voice(1.0)))
    ask(asked(a, b, out=out))
    before = out.read_text(encoding="utf-8")
    a.unlink()
    b.write_bytes(wav(talk(2)))
    ask(asked(c, out=out))
    assert out.read_text(encoding="utf-8").startswith(before)
    ask(asked(b, out=out))  # which was replaced: now it is asked about
    rows = list(csv.reader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert [Path(row[0]).name for row in rows[1:]] == ["a.wav", "c.wav", "b.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_replaced_recording_whose_name_is_no_utf8_is_answered_anew(tmp_path: Path) -> None:
    path, out = Path(os.fsdecode(bytes(tmp_path) + b"/x\xff.wav")), tmp_path / "out.csv"
    path.write_bytes(wav(voice(1.0)))
    ask(asked(path, out=out))
    assert "1 of 1" in ask(asked(path, out=out))[2][0]
    path.write_bytes(wav(talk(2)))
    assert ask(asked(path, out=out))[2] == []


def test_a_process_that_dies_costs_one_recording_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three die: beside another recording, of one alone and again, and with the work of a whole pool in flight."""
    calls: list[list[str]] = []
    unlucky = iter((2, 0))

    def in_processes(files: Sequence[str], jobs: int, what: Asked) -> Iterator[str]:
        given = list(files)
        calls.append(given)
        stop = next(unlucky, None) if len(given) > 1 else None
        for k, path in enumerate(given):
            if k == stop or (path == "deadly" and len(given) <= 3):
                raise WorkerDied("a worker process died")
            yield path.upper()

    monkeypatch.setattr(pool, "_in_processes", in_processes)
    files = ["a", "b", "c", "d", "deadly", "e"]
    found = list(pool.answers(files, None, Asked(tuple(files), jobs=2)))  # type: ignore[arg-type]  # nobody answers here
    assert [path for path, _ in found] == files
    assert [answer for path, answer in found if path != "deadly"] == ["A", "B", "C", "D", "E"]
    assert "died, and again when it was tried alone" in dict(found)["deadly"]
    assert calls == [files, ["c"], files[3:], ["d"], ["deadly", "e"], ["deadly"], ["e"]]


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    for k in range(40):
        (tmp_path / f"{k:02d}.wav").write_bytes(wav(talk(3)))
    killed: list[int] = []

    def written(text: str) -> None:
        rows.append(text)
        if len(rows) == 3 and not killed:  # the header, and two answers
            victim = multiprocessing.active_children()[0]
            victim.kill()
            killed.append(victim.pid or 0)

    rows: list[str] = []
    complaints: list[str] = []
    assert predict(asked(tmp_path, kind="csv", jobs=2), written, complaints.append) == 0
    assert killed
    assert complaints == []
    assert len(rows) == 41


@pytest.mark.parametrize(("out", "kept"), [("o.csv", True), ("o.jsonl", True), ("o.json", False), (None, False)])
def test_after_ctrl_c_only_answers_that_are_kept_are_said_to_be(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, out: str | None, kept: bool
) -> None:
    def interrupted(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr("serkit.serving.predicting.answers", interrupted)
    with pytest.raises(Stopped if kept else KeyboardInterrupt):
        ask(asked(folder, out=None if out is None else tmp_path / out))


@pytest.mark.parametrize("kind", ["rttm", "json", "table"])
def test_what_does_not_resume_stays_as_it_was_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, kind: str
) -> None:
    out, answer, heard = tmp_path / f"out.{kind}", Worker.answer, list[str]()
    ask(asked(folder, kind=kind, out=out))
    whole = out.read_bytes()

    def stopped(self: Worker, path: str, tell: Any = None) -> Any:
        heard.append(path)
        if len(heard) == 2:
            raise KeyboardInterrupt
        return answer(self, path)

    monkeypatch.setattr(Worker, "answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        ask(asked(folder, kind=kind, out=out))
    assert out.read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_answers_may_go_into_a_pipe(folder: Path, tmp_path: Path, kind: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    ask(asked(folder, kind=kind, out=pipe))
    assert os.read(end, 60_000).decode() == ask(asked(folder, kind=kind))[1]
    os.close(end)
    assert {p.name for p in tmp_path.iterdir()} == {"pipe", folder.name}, "nothing beside it"


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="what is open has no names")
@pytest.mark.parametrize("kind", ["csv", "rttm"])
def test_answers_follow_what_is_in_the_file_that_a_shell_has_opened(folder: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    file.write_text("earlier\n")
    with file.open("ab") as opened:
        ask(asked(folder, kind=kind, out=Path(f"/dev/fd/{opened.fileno()}")))
    assert file.read_text() == "earlier\n" + ask(asked(folder, kind=kind))[1]
