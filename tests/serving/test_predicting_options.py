"""Recordings to answers: what is asked, and how it is said on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serkit.cli import app
from serkit.errors import SerkitError
from serkit.serving.bundle import open_bundle
from serkit.serving.gathering import gather
from serkit.serving.predicting import predict

from .asking import LABELS, ask, asked
from .signals import GOLDEN, voice, wav


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
        ({"by": "word"}, "--by word needs --transcript FILE with the times of words"),
        ({"window_s": 2.0}, r"by 'clip' has no windows: window_s and hop_s \(--window, --hop\) go with by 'window'"),
        ({"hop_s": 1.0, "timeline": True}, "by 'segment' has no windows"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"kind": "textgrid"}, "one by one"),
        ({"out": tmp_path / "a.srt"}, "an SRT file holds one recording, got 3; predict them one by one"),
        ({"timeline": True, "by": "clip"}, "--timeline is of parts, and by 'clip' makes none"),
        ({"kind": "rttm", "by": "clip"}, "--format rttm is of parts"),
        ({"rttm": tmp_path / "none.rttm"}, "no such file"),
    ]
    for options, reason in cases:
        written: list[str] = []
        with pytest.raises(SerkitError, match=reason):
            predict(asked(folder, **options), written.append, written.append)
        assert written == []


def test_the_answer_does_not_overwrite_the_words_or_turns_it_is_made_from(folder: Path) -> None:
    call = folder / "a.wav"
    words, turns = folder / "a.srt", folder / "a.rttm"
    words.write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    turns.write_text("SPEAKER a 1 0 1 <NA> <NA> Ann <NA> <NA>\n")
    before = words.read_text(), turns.read_text()
    for options, said in (
        ({"transcript": words, "out": words}, "is read by --transcript, and would be overwritten"),
        ({"transcript": folder, "out": words}, "is read by --transcript, and would be overwritten"),
        ({"rttm": turns, "out": turns}, "is read by --rttm, and would be overwritten"),
    ):
        with pytest.raises(SerkitError, match=said):
            ask(asked(call, **options))
    assert (words.read_text(), turns.read_text()) == before
    ask(asked(call, transcript=folder, rttm=turns, out=folder / "b.srt"))
    assert "\nAnn: [" in (folder / "b.srt").read_text(encoding="utf-8")
    assert (folder / "b.srt").read_text(encoding="utf-8").endswith("] hello\n")


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
    words = ["predict", "--model", str(GOLDEN), "--format", "csv"]
    command = [sys.executable, "-m", "serkit.cli", *words, "-"]
    done = subprocess.run(command, input=wav(voice(1.0)), capture_output=True)
    assert done.returncode == 0
    row = done.stdout.decode().splitlines()[1]
    assert row.startswith("-,")
    same = ask(asked(folder / "a.wav", kind="csv"))[1].splitlines()[1]
    assert row.split(",")[1:] == same.split(",")[1:]
    bad = CliRunner().invoke(app, [*words, str(folder)])
    assert bad.exit_code == 1
    assert len(bad.stdout.splitlines()) == 3
    assert "b.wav" in bad.stderr
    assert "Traceback" not in bad.stderr
    none = CliRunner().invoke(app, [*words, str(folder), "--labels", "joy,anger"])
    assert isinstance(none.exception, SerkitError)
    assert none.exception.exit_code == 2
    assert str(none.exception).startswith("the model has no label 'joy'")


def test_a_minus_for_the_answers_is_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["predict", "example", "--model", str(GOLDEN), "--format", "csv"]
    shown = CliRunner().invoke(app, [*words, "--out", "-"])
    assert shown.exit_code == 0
    assert shown.stdout == CliRunner().invoke(app, words).stdout
    assert not list(tmp_path.iterdir()), "no file of that name"


def test_the_example_is_called_so_wherever_serkit_is_installed() -> None:
    shown = CliRunner().invoke(app, ["predict", "example", "--model", str(GOLDEN)])
    assert shown.stdout.startswith("example  ")
    rows = CliRunner().invoke(app, ["predict", "example", "--model", str(GOLDEN), "--format", "csv"]).stdout
    assert rows.splitlines()[1].startswith("example,")


def test_bundle_from_the_command_line(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.zip"
    done = CliRunner().invoke(app, ["bundle", str(finished), "-o", str(out), "--system", "sound", "--weights", "int8"])
    assert done.exit_code == 0, done.output
    assert "2 networks" in done.stdout
    audio = tmp_path / "x.wav"
    audio.write_bytes(wav(voice(1.0)))
    text = ask(replace(asked(audio, kind="json"), model=str(out)))[1]
    assert json.loads(text)["label"] in LABELS
