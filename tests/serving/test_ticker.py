"""How far ``serkit predict`` is, and what it notes: a moving line that spoils no other, time left by work, names."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serkit.progress import Meter, Progress
from serkit.serving import pool, predicting, ticker
from serkit.serving.notes import TEXT_UNREAD
from serkit.serving.pool import Asked
from serkit.serving.predicting import predict
from serkit.serving.ticker import Ticker

from .signals import GOLDEN, talk, voice, wav


def state(done: int, total: int, share: float | None = None, elapsed_s: float = 10.0) -> Progress:
    return Progress("predict", "files", done, total, 0, 0.0, 0.0, elapsed_s, share)


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Ticker:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    return Ticker()


def screen(text: str) -> list[str]:
    """What a terminal shows after it."""
    rows = [""]
    at = 0
    for mark in text:
        if mark == "\n":
            rows, at = [*rows, ""], 0
        elif mark == "\r":
            at = 0
        else:
            rows[-1], at = rows[-1][:at] + mark + rows[-1][at + 1 :], at + 1
    return [row.rstrip() for row in rows]


def test_an_answer_begins_a_line_of_its_own(moving: Ticker, capfd: pytest.CaptureFixture[str]) -> None:
    moving(state(1, 3))
    shown = capfd.readouterr().err
    assert screen(shown) == ["1 of 3 files, 20 s left"]
    moving.write("a.wav  anger\n")
    found = capfd.readouterr()
    assert screen(shown + found.err + found.out) == ["a.wav  anger", ""]
    moving.write("b.wav  fear\n")
    assert capfd.readouterr().err == "", "nothing is open"
    moving(state(2, 3))
    moving.complain("note: x")
    assert screen(capfd.readouterr().err) == ["serkit: note: x", ""]


def test_a_name_does_not_control_the_terminal(
    moving: Ticker, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\x1b]0;title\x07\r\x9b2Ja\u202ewav.é\tanger\n"
    moving.write(text)
    assert capfd.readouterr().out == text, "a program gets it as it is"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    moving.write(text)
    moving.complain(text.rstrip())
    shown = "\\x1b]0;title\\x07\\r\\x9b2Ja\\u202ewav.é\tanger\n"
    assert capfd.readouterr() == (shown, f"serkit: {shown}")


def test_what_ends_the_work_begins_a_line_of_its_own(moving: Ticker, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(KeyboardInterrupt), moving:
        moving(state(1, 3))
        raise KeyboardInterrupt
    assert screen(capfd.readouterr().err + "serkit: stopped")[1:] == ["serkit: stopped"]


def test_a_long_line_leaves_nothing_behind(moving: Ticker, capfd: pytest.CaptureFixture[str]) -> None:
    """Of a line above 40 columns the last letters stayed: "… 9 min 59 s leftt"."""
    many = Progress("predict", "files", 45000, 50000, 123, 0.0, 0.0, 5500.0)
    moving(many)
    moving(replace(many, elapsed_s=900.0))
    shown = capfd.readouterr().err
    assert screen(shown) == ["45000 of 50000 files, 123 failed, 1 min 40 s left"]
    moving(replace(many, elapsed_s=90.0))
    shown += capfd.readouterr().err
    assert screen(shown) == ["45000 of 50000 files, 123 failed, 10 s left"]
    moving.complain("x")
    assert screen(shown + capfd.readouterr().err) == ["serkit: x", ""]


def test_what_is_counted_without_an_end_is_said(moving: Ticker, capfd: pytest.CaptureFixture[str]) -> None:
    counted = Progress("find", "files found", 0, 0, 0, 0.0, 0.0, 3.0)
    moving(counted)
    assert capfd.readouterr().err == ""
    moving(replace(counted, done=12000))
    assert screen(capfd.readouterr().err) == ["12000 files found"]


def test_a_meter_may_be_silent_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []
    meter = Meter("look", 3, seen.append, after_s=60.0)
    meter.advance(3)
    assert not seen, "what is over by then is not spoken of"
    late = Meter("find", 0, seen.append, every_s=0.0, after_s=60.0)
    monkeypatch.setattr(late, "_start", late._start - 61.0)
    late.advance(5)
    assert [(p.done, p.total) for p in seen] == [(5, 0)]


def test_a_lone_recording_says_how_much_is_heard_once_it_takes_long(
    moving: Ticker, capfd: pytest.CaptureFixture[str]
) -> None:
    for soon in (state(0, 1), state(1, 1), state(0, 1, 0.5, elapsed_s=ticker.SOON_S / 2), state(1, 1, 1.0)):
        moving(soon)
    assert capfd.readouterr().err == ""
    moving(state(0, 1, 0.25))
    assert screen(capfd.readouterr().err) == ["25% heard, 30 s left"]


def test_time_left_is_by_share_where_it_is_known() -> None:
    assert state(1, 2).left_s == 10.0
    assert state(1, 2, 0.1).left_s == pytest.approx(90.0)
    assert state(0, 2, 0.0).left_s is None
    assert state(0, 2, 0.1, elapsed_s=0.0).left_s is None
    assert state(2, 2, 1.0).left_s == 0.0


def test_files_count_by_their_size_and_by_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sound in (("a.wav", voice(1.0)), ("b.wav", np.tile(talk(3), 6))):
        (tmp_path / name).write_bytes(wav(sound))
    sizes = [(tmp_path / name).stat().st_size for name in ("a.wav", "b.wav")]
    monkeypatch.setattr(pool, "_SOON_S", 0.0)
    seen: list[Progress] = []
    monkeypatch.setattr(predicting, "Meter", functools.partial(Meter, every_s=0.0))
    asked = Asked(("nothing.wav", str(tmp_path)), model=str(GOLDEN), kind="csv")
    predict(asked, lambda text: None, lambda line: None, seen.append)
    assert next(p.left_s for p in seen if p.done == 1) is None, "a file that is not there is no work"
    first = next(p for p in seen if p.done == 2)
    assert first.share == pytest.approx(sizes[0] / sum(sizes))
    within = [p.share for p in seen if p.done == 2 and p.share is not None]
    assert len(within) > 3, "the long one tells how far it is"
    assert within == sorted(within)
    assert (seen[-1].done, seen[-1].share) == (3, 1.0)


def test_notes_of_several_recordings_name_the_first_and_count_the_others(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).write_bytes(wav(voice(1.0)))
    said: list[str] = []
    assert predict(Asked((str(tmp_path),), model=str(GOLDEN), text="hm"), lambda text: None, said.append) == 0
    assert said == [
        f"note: {tmp_path / 'a.wav'}: {TEXT_UNREAD}",
        "note: same for 2 more: this model does not use text: the given text was ignored",
    ]
    said.clear()
    assert predict(Asked((str(tmp_path / "a.wav"),), model=str(GOLDEN), text="hm"), print, said.append) == 0
    assert said == [f"note: {TEXT_UNREAD}"]
