"""serkit predict: rows for what can be read, lines for what cannot, and work that goes on."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serkit.cli import app
from serkit.errors import SerkitError, Stopped
from serkit.processes import WorkerDied
from serkit.serving import pool
from serkit.serving.bundle import open_bundle
from serkit.serving.pool import Asked, Worker
from serkit.serving.predicting import gather, predict
from serkit.serving.predictor import TEXT_UNREAD

from .signals import GOLDEN, talk, voice, wav

LABELS = ["anger", "fear", "happiness", "neutral", "sadness"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "calls"
    (root / "ünter weg").mkdir(parents=True)
    (root / "a.wav").write_bytes(wav(voice(1.0)))
    (root / "b.wav").write_bytes(b"not audio")
    (root / "ünter weg" / "c d.flac").write_bytes(wav(talk(2), kind="FLAC"))
    (root / "notes.txt").write_text("no recording")
    return root


def asked(*inputs: object, **options: object) -> Asked:
    return Asked(tuple(str(i) for i in inputs), model=str(GOLDEN), **options)  # type: ignore[arg-type]


def ask(what: Asked) -> tuple[int, str, list[str]]:
    written: list[str] = []
    complaints: list[str] = []
    failed = predict(what, written.append, complaints.append)
    return failed, "".join(written), complaints


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


def test_wrong_options_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    for options, reason in (
        ({"window_s": 0.1}, "window"),
        ({"hop_s": 0.0}, "hop"),
        ({"window_s": 1.0, "hop_s": 2.0}, "hop"),
    ):
        with pytest.raises(SerkitError, match=reason):
            ask(asked(folder, by="window", timeline=True, out=tmp_path / "o.csv", **options))
        assert not (tmp_path / "o.csv").exists()


def test_rttm_of_two_recordings_of_one_name_is_refused(folder: Path) -> None:
    (folder / "ünter weg" / "a.wav").write_bytes(wav(voice(1.0)))
    with pytest.raises(SerkitError, match=r"RTTM would call .*a\.wav and .*a\.wav both 'a'"):
        ask(asked(folder, kind="rttm"))


def test_links_to_folders_are_followed_and_no_folder_is_heard_twice(folder: Path, tmp_path: Path) -> None:
    """What lay behind a link was left out without a word."""
    asked = tmp_path / "asked"
    (asked / "deeper").mkdir(parents=True)
    (asked / "more").symlink_to(folder)
    (asked / "again").symlink_to(folder)
    (asked / "deeper" / "up").symlink_to(asked)
    (asked / "one.wav").symlink_to(folder / "a.wav")
    names = [Path(p).name for p in gather([str(folder)])]
    found = gather([str(asked)])
    assert sorted(Path(p).name for p in found) == sorted([*names, "one.wav"])
    assert len(names) == 3
    assert found == sorted(found)


def test_a_recording_keeps_its_name_where_a_link_leads_to_it_too(folder: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    (asked / "z").mkdir(parents=True)
    (asked / "z" / "x.wav").write_bytes((folder / "a.wav").read_bytes())
    (asked / "a").symlink_to(asked / "z")
    (asked / "z" / "up").symlink_to(tmp_path)
    (tmp_path / "beside.wav").write_bytes((folder / "a.wav").read_bytes())
    assert gather([str(asked)]) == [str(asked / "z" / "x.wav")]
    (tmp_path / "way").symlink_to(asked)
    assert gather([str(asked), str(tmp_path / "way"), str(asked / "z")]) == [str(asked / "z" / "x.wav")]


def test_hidden_files_of_a_folder_are_left_alone(folder: Path) -> None:
    (folder / "._a.wav").write_bytes(b"\0")
    (folder / ".trash").mkdir()
    (folder / ".trash" / "old.wav").write_bytes(wav(voice(1.0)))
    assert len(gather([str(folder)])) == 3
    assert gather([str(folder / "._a.wav")]) == [str(folder / "._a.wav")], "named, it is meant"


def test_a_place_that_cannot_be_written_is_refused_before_work(folder: Path, tmp_path: Path) -> None:
    recording, empty = folder / "a.wav", tmp_path / "file"
    content = recording.read_bytes()
    empty.write_bytes(b"\xff\xfe")
    again = tmp_path / "again.wav"
    again.symlink_to(recording)
    for out, reason in (
        (folder, "is a folder; name a file in it"),
        (recording, "is one of the recordings"),
        (again, "is one of the recordings"),
        (empty / "x.csv", "cannot be written"),
        (empty, "is not text"),
    ):
        with pytest.raises(SerkitError, match=reason):
            ask(asked(folder, kind="csv", out=out))
    assert recording.read_bytes() == content
    assert empty.read_bytes() == b"\xff\xfe"


def test_tables_of_several_recordings_stand_apart(folder: Path, tmp_path: Path) -> None:
    _, text, _ = ask(asked(folder, kind="table", timeline=True))
    ask(asked(folder, kind="table", timeline=True, out=tmp_path / "t.txt"))
    assert (tmp_path / "t.txt").read_text(encoding="utf-8") == text
    first, second = text.split("\n\n")
    assert first.startswith(str(folder / "a.wav"))
    assert second.startswith(str(folder / "ünter weg" / "c d.flac"))
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_what_to_predict(folder: Path, tmp_path: Path) -> None:
    one = str(folder / "a.wav")
    assert gather([one, str(folder), one])[0] == one
    assert len(gather([one, str(folder), one])) == 3
    for given, reason in (([], "nothing to predict"), (["-", one], "cannot be combined with files")):
        with pytest.raises(SerkitError, match=reason):
            gather(given)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SerkitError, match="no recordings in this folder"):
        gather([str(tmp_path / "empty")])


def test_options_are_checked_before_work(folder: Path, tmp_path: Path) -> None:
    cases = [
        ({"labels": ("anger", "sadnes")}, "did you mean 'sadness'"),
        ({"kind": "cvs"}, "did you mean 'csv'"),
        ({"out": Path("answers.cvs")}, "no format ends in '.cvs'; did you mean '.csv'"),
        ({"out": Path("answers.xlsx")}, "no format ends in '.xlsx'"),
        ({"by": "turn"}, "--rttm"),
        ({"by": "sentence"}, "--transcript"),
        ({"window_s": 2.0}, r"by 'clip' has no windows: window_s and hop_s \(--window, --hop\) go with by 'window'"),
        ({"hop_s": 1.0, "timeline": True}, "by 'segment' has no windows"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"kind": "textgrid"}, "one by one"),
        ({"timeline": True, "by": "clip"}, "--timeline is of parts, and by 'clip' makes none"),
        ({"kind": "rttm", "by": "clip"}, "--format rttm is of parts"),
        ({"rttm": tmp_path / "none.rttm"}, "no such file"),
    ]
    for options, reason in cases:
        written: list[str] = []
        with pytest.raises(SerkitError, match=reason):
            predict(asked(folder, **options), written.append, written.append)
        assert written == []


def test_a_timeline_with_speakers_and_words(folder: Path, tmp_path: Path) -> None:
    rttm, words = tmp_path / "x.rttm", tmp_path / "x.json"
    rttm.write_text("SPEAKER x 1 0 2.2 <NA> <NA> Ann <NA> <NA>\nSPEAKER x 1 2.2 5 <NA> <NA> Bob <NA> <NA>\n")
    words.write_text('[{"start_s": 1.0, "end_s": 1.5, "text": "hello"}]')
    path = folder / "ünter weg" / "c d.flac"
    options = {"timeline": True, "rttm": rttm, "transcript": words}
    row = json.loads(ask(asked(path, kind="json", **options))[1])
    assert [s["speaker"] for s in row["segments"]] == ["Ann", "Bob"]
    assert [s["text"] for s in row["segments"]] == ["hello", None]
    turns = json.loads(ask(asked(path, kind="json", by="turn", **options))[1])
    assert [(s["start_s"], s["speaker"]) for s in turns["segments"]] == [(0.0, "Ann"), (2.2, "Bob")]
    table = ask(asked(path, **options))[1]
    assert "hello" in table
    assert "Bob" in table


def test_the_command_line() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["predict", "--version"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("serkit ")
    assert "Apache-2.0" in shown.stdout


@pytest.mark.parametrize("before", [True, False])
def test_the_version_is_of_the_model_that_was_named(before: bool) -> None:
    tiny, version = ["--model", str(GOLDEN)], ["--version"]
    shown = CliRunner().invoke(app, ["predict", *(version + tiny if before else tiny + version)])
    found = open_bundle(GOLDEN)
    assert shown.exit_code == 0
    assert f"model {found.name}@{found.fingerprint[:12]}, weights: {found.head['licence']['weights']}" in shown.stdout
    missing = ["--model", "nowhere"]
    command = [sys.executable, "-m", "serkit", "predict", *(version + missing if before else missing + version)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("serkit: no bundle 'nowhere'")
    assert refused.stdout == ""


def test_what_a_threshold_means_is_in_the_help() -> None:
    for command in ("predict", "listen"):
        shown = " ".join(CliRunner().invoke(app, [command, "--help"], terminal_width=200).stdout.split())
        assert "smallest confidence at and above which answers were right at least this often on held-out" in shown


def test_standard_input_and_exit_codes(folder: Path) -> None:
    command = [sys.executable, "-m", "serkit.cli", "predict", "--model", str(GOLDEN), "--format", "csv"]
    done = subprocess.run([*command, "-"], input=wav(voice(1.0)), capture_output=True)
    assert done.returncode == 0
    row = done.stdout.decode().splitlines()[1]
    assert row.startswith("-,")
    same = ask(asked(folder / "a.wav", kind="csv"))[1].splitlines()[1]
    assert row.split(",")[1:] == same.split(",")[1:]
    bad = subprocess.run([*command, str(folder)], capture_output=True)
    assert bad.returncode == 1
    assert len(bad.stdout.decode().splitlines()) == 3
    assert "b.wav" in bad.stderr.decode()
    assert "Traceback" not in bad.stderr.decode()
    none = subprocess.run([*command, str(folder), "--labels", "joy,anger"], capture_output=True)
    assert none.returncode == 2
    assert none.stderr.decode().startswith("serkit: the model has no label 'joy'")


def test_bundle_from_the_command_line(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.zip"
    done = CliRunner().invoke(app, ["bundle", str(finished), "-o", str(out), "--system", "sound", "--weights", "int8"])
    assert done.exit_code == 0, done.output
    assert "2 networks" in done.stdout
    audio = tmp_path / "x.wav"
    audio.write_bytes(wav(voice(1.0)))
    text = ask(replace(asked(audio, kind="json"), model=str(out)))[1]
    assert json.loads(text)["label"] in LABELS
