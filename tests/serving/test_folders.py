"""Folders of recordings, and work on them that goes on: nothing is left out, or taken for done, without a word."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import serkit
from serkit.cli import app
from serkit.errors import SerkitError
from serkit.progress import Progress
from serkit.serving import gathering, predicting
from serkit.serving.gathering import gather
from serkit.serving.pool import Asked
from serkit.serving.predicting import predict

from .signals import GOLDEN, talk, voice, wav


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "calls"
    (root / "shut").mkdir(parents=True)
    (root / "a.wav").write_bytes(wav(voice(1.0)))
    (root / "shut" / "b.wav").write_bytes(wav(voice(1.0)))
    return root


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A function that makes a folder one that may not be read, also for whoever may read all."""

    def shut(folder: Path) -> None:
        real = os.scandir

        def scandir(path: Any = ".") -> Any:
            if not isinstance(path, int) and os.fspath(path) == str(folder):  # a number: of an open folder
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return shut


def ask(*inputs: object, **options: Any) -> tuple[int, str, list[str]]:
    written: list[str] = []
    complaints: list[str] = []
    asked = Asked(tuple(str(i) for i in inputs), model=str(GOLDEN), **options)
    failed = predict(asked, written.append, complaints.append)
    return failed, "".join(written), complaints


def test_a_folder_that_cannot_be_read_is_said_to_be(folder: Path, close: Callable[[Path], None]) -> None:
    """What lay in it was left out without a word, and with exit code 0."""
    close(folder / "shut")
    failed, text, complaints = ask(folder, kind="csv")
    assert failed == 1
    assert complaints == [f"{folder / 'shut'}: this folder cannot be read: Permission denied"]
    assert str(folder / "a.wav") in text
    result = CliRunner().invoke(app, ["predict", str(folder), "--model", str(GOLDEN), "--format", "csv"])
    assert result.exit_code == 1
    assert f"{folder / 'shut'}: this folder cannot be read" in result.stderr


def test_a_folder_that_cannot_be_read_is_not_called_empty(folder: Path, close: Callable[[Path], None]) -> None:
    close(folder)
    assert ask(folder, kind="csv")[::2] == (1, [f"{folder}: this folder cannot be read: Permission denied"])


def test_adapting_says_which_folder_it_could_not_read(
    folder: Path, close: Callable[[Path], None], tmp_path: Path
) -> None:
    """One recording is too little to adapt to, which is refused afterwards."""
    close(folder / "shut")
    line = f"{folder / 'shut'}: this folder cannot be read: Permission denied"
    result = CliRunner().invoke(app, ["adapt", str(folder), "-o", str(tmp_path / "adapted.zip")])
    assert line in result.stderr
    complaints: list[str] = []
    with pytest.raises(SerkitError, match="adapting takes 10 or more"):
        serkit.adapt([folder], tmp_path / "adapted.zip", complain=complaints.append)
    assert complaints[:1] == [line], "what else is said is of the recording, which sounds like a call"


def test_a_recording_in_a_folder_that_may_not_be_entered_is_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask what it is raised an error instead."""

    def refused(self: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refused)
    assert gather([str(folder / "a.wav")]) == [str(folder / "a.wav")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_recording_that_changes_while_it_is_heard_is_answered_anew(
    folder: Path, tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size and time were taken after it was heard: the new sound was taken for answered."""
    out, changed = tmp_path / "out.jsonl", folder / "a.wav"
    from serkit.serving import predicting

    real = predicting.answers

    def answers(*given: Any) -> Any:
        for path, answer in real(*given):
            if path == str(changed):
                changed.write_bytes(wav(talk(2)))
            yield path, answer

    monkeypatch.setattr(predicting, "answers", answers)
    assert ask(folder, out=out, jobs=jobs)[0] == 0
    monkeypatch.undo()
    assert ask(folder, out=out)[2] == [f"1 of 2 recordings are already answered in {out}"]
    rows = {row["path"]: row for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    assert rows[str(changed)]["duration_s"] == pytest.approx(len(talk(2)) / 16_000)
    assert ask(folder, out=out)[2] == [f"2 of 2 recordings are already answered in {out}"]


def test_standard_input_is_never_taken_for_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another recording through the pipe was said to be answered already, and left out."""
    out = tmp_path / "out.jsonl"

    def piped(content: bytes) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return ask("-", out=out)[2]

    for sound in (voice(1.0), voice(2.0)):
        assert piped(wav(sound)) == []
        (row,) = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        assert row["duration_s"] == pytest.approx(len(sound) / 16_000)


def test_words_that_were_written_anew_are_answered_anew(folder: Path, tmp_path: Path) -> None:
    """Of a folder of transcripts its own time was looked at: nothing of what is in it, and none could be added."""
    words, out = tmp_path / "words", tmp_path / "out.jsonl"
    words.mkdir()
    sentence = "1\n00:00:00,000 --> 00:00:00,900\n{}\n"
    (words / "a.srt").write_text(sentence.format("one"), encoding="utf-8")
    options: dict[str, Any] = {"out": out, "timeline": True, "transcript": words}
    failed, _, complaints = ask(folder, **options)
    assert failed == 1
    assert "no transcript b(" in complaints[0]
    (words / "b.srt").write_text(sentence.format("two"), encoding="utf-8")
    assert ask(folder, **options)[::2] == (0, [f"1 of 2 recordings are already answered in {out}"])
    (words / "a.srt").write_text(sentence.format("another"), encoding="utf-8")
    assert ask(folder, **options)[::2] == (0, [f"1 of 2 recordings are already answered in {out}"])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(part["text"] for row in rows for part in row["segments"]) == ["another", "two"]
    assert "2 of 2" in ask(folder, **options)[2][0]


def test_what_is_of_one_recording_is_refused_for_several(folder: Path, tmp_path: Path) -> None:
    """The words and turns of the one were taken for those of all others too."""
    words, turns = tmp_path / "a.srt", tmp_path / "a.rttm"
    words.write_text("1\n00:00:00,000 --> 00:00:00,900\nhello\n", encoding="utf-8")
    turns.write_text("SPEAKER a 1 0.0 0.9 <NA> <NA> Ada <NA> <NA>\n", encoding="utf-8")
    with pytest.raises(SerkitError, match="the words of one recording, but there are 2"):
        ask(folder, transcript=words, timeline=True)
    with pytest.raises(SerkitError, match="only the turns of 'a', but there are 2 recordings"):
        ask(folder, rttm=turns, by="turn", timeline=True)
    assert ask(folder / "a.wav", rttm=turns, transcript=words, timeline=True)[0] == 0
    with turns.open("a", encoding="utf-8") as file:
        file.write("SPEAKER b 1 0.0 0.9 <NA> <NA> Ben <NA> <NA>\n")
    _, text, _ = ask(folder, rttm=turns, by="turn", timeline=True, kind="csv")
    assert [row.split(",")[3] for row in text.splitlines()[1:]] == ["Ada", "Ben"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc here")
def test_a_file_system_that_takes_no_file_is_refused_before_work(folder: Path) -> None:
    """Whoever may write everywhere was told by a traceback."""
    with pytest.raises(SerkitError, match=r"--out /proc/x\.csv cannot be written: "):
        ask(folder, out=Path("/proc/x.csv"))


def test_to_look_whether_a_file_can_be_written_leaves_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="no label 'angry'"):
        ask(folder, out=tmp_path / "o.csv", labels=("angry", "sad"))
    assert not (tmp_path / "o.csv").exists()


def test_standard_input_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    (line,) = ask("-")[2]
    assert line.startswith("standard input: not audio that serkit can read")


def test_standard_input_without_its_turns_is_named_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rttm = tmp_path / "a.rttm"
    rttm.write_text("".join(f"SPEAKER {name} 1 0.0 1.0 <NA> <NA> A <NA> <NA>\n" for name in "ab"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wav(talk(1)))))
    (line,) = ask("-", rttm=rttm)[2]
    assert line == "standard input: the RTTM has no turns of '-'; it names a, b"


def test_an_address_is_told_not_to_be_fetched() -> None:
    (line,) = ask("https://example.org/a.wav")[2]
    said = "addresses are not fetched: give the data, as bytes or on standard input"
    assert line == f"https://example.org/a.wav: no such file; {said}"


def test_a_large_folder_is_looked_at_once_and_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To resume, every recording was looked at four times, and 50 000 of them in silence."""
    (tmp_path / "words").mkdir()
    for name in ("a", "b"):
        (tmp_path / "words" / f"{name}.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhm\n")
    options: dict[str, Any] = {"out": tmp_path / "out.csv", "transcript": tmp_path / "words"}
    assert ask(folder, **options)[0] == 0
    looks: Counter[str] = Counter()
    real = os.stat

    def stat(path: Any, *rest: Any, **more: Any) -> Any:
        looks[str(path)] += 1
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(gathering, "Meter", functools.partial(gathering.Meter, every_s=0.0))
    monkeypatch.setattr(gathering, "SOON_S", 0.0)
    monkeypatch.setattr(predicting, "SOON_S", 0.0)
    asked = Asked((str(folder),), model=str(GOLDEN), **options)
    seen: list[Progress] = []
    said: list[str] = []
    assert predict(asked, said.append, said.append, seen.append) == 0
    assert said == [f"2 of 2 recordings are already answered in {tmp_path / 'out.csv'}"]
    assert [looks[str(folder / name)] for name in ("a.wav", "shut/b.wav")] == [1, 1]
    assert {path for path in looks if path.startswith(f"{tmp_path / 'words'}/")} == {
        str(tmp_path / "words" / name) for name in ("a.srt", "b.srt")
    }, "what the folder does not have is not looked for"
    steps = [(p.stage, p.done, p.total, p.unit) for p in seen]
    assert ("find", 2, 0, "files found") in steps
    assert ("look", 2, 2, "files looked at") in steps
