"""What a person sees while a stage works: rate, loss, F1 and time left, in a terminal and in a log."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from serkit import console
from serkit.console import Watcher
from serkit.pipeline.stages import Notice, StageBegins
from serkit.progress import Progress
from serkit.sizes import SizeEstimate
from serkit.training import EpochEnd


def watched(*events: object, terminal: bool = False) -> str:
    """What is written while the events come."""
    out = io.StringIO()
    with Watcher(Console(file=out, width=160, force_terminal=terminal, color_system=None, highlight=False)) as watcher:
        for event in events:
            watcher(event)
        if terminal:
            watcher._bars.refresh()
    return out.getvalue()


def extracting(done: int, failed: int = 0) -> Progress:
    return Progress("extract", "utterances", done, 100, failed, done * 3.0, 300.0, 5.0)


def epoch(number: int, *, last: bool = False, model: str = "fold0") -> EpochEnd:
    row = {"loss": 1.2345, "dev_macro_f1": 0.4567}
    return EpochEnd("sound", model, number, 10, row, 321.0, 75.0, last, share=number / 10)


@pytest.fixture
def _every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "EVERY_S", -1.0)
    monkeypatch.setattr(console.time, "monotonic", lambda: 10.0)  # no time passes, however slow this is


@pytest.mark.usefixtures("_every_line")
def test_a_log_says_rate_and_time_left() -> None:
    said = watched(StageBegins("extract", "100 utterances"), extracting(20, failed=2))
    assert "extract  100 utterances" in said
    assert "extract  20/100 utterances, 4/s (12 × real time), 20 s left, 2 failed" in said


def test_a_log_is_not_flooded_and_the_last_line_comes_once() -> None:
    said = watched(StageBegins("extract", "100 utterances"), *map(extracting, (1, 20, 50, 100, 100)))
    assert said.count("/100") == 1
    assert "extract  100/100 utterances, 20/s (60 × real time)\n" in said, "nothing is left when it is done"


@pytest.mark.usefixtures("_every_line")
def test_a_log_says_loss_f1_rate_and_time_left_of_each_network() -> None:
    said = watched(StageBegins("train", "2 networks"), epoch(4), epoch(10, last=True))
    assert "sound/fold0  4/10 loss 1.234  dev F1 0.457  321 utterances/s, 1 min 15 s left" in said
    assert "sound/fold0  10/10 loss 1.234  dev F1 0.457  321 utterances/s\n" in said
    assert "all  1/2 networks, 0 s left" in said
    rated = dataclasses.replace(epoch(4), row={**epoch(4).row, "dev_ccc": 0.3214})
    assert "dev F1 0.457  CCC 0.321  321 utterances/s" in watched(rated)


@pytest.mark.usefixtures("_every_line")
def test_a_log_says_which_network_of_a_soup_is_trained_and_what_the_mean_is_worth() -> None:
    one = dataclasses.replace(epoch(4), member=2, members=3, share=0.25)
    row = {"soup": [3, 1], "dev_macro_f1": 0.5}
    made = dataclasses.replace(epoch(10, last=True), member=3, members=3, row=row, utterances_s=0.0)
    said = watched(StageBegins("train", "1 networks"), one, made)
    assert "sound/fold0  4/10 2 of 3 networks  loss 1.234  dev F1 0.457  321 utterances/s, 1 min 15 s left" in said
    assert "sound/fold0  10/10 mean of 2 of 3 networks  dev F1 0.500\n" in said


def test_the_time_left_goes_by_the_share_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock, 10.0))
    half = dataclasses.replace(epoch(4), share=0.5)
    assert "0/2 networks, 30 s left" in watched(StageBegins("train", "2 networks"), half, terminal=True)


def test_sizes_are_said_before_work_begins() -> None:
    estimate = SizeEstimate({"mfcc/13": 100}, {"mfcc/13": 9_000}, {"mfcc/13": 2_000_000}, 7200.0, 5_000_000_000)
    said = watched(estimate)
    assert f"to extract: {estimate}" in said
    assert "2.00 h of audio (mfcc/13 " in said


def test_a_remark_is_one_line_whatever_its_length() -> None:
    said = watched(StageBegins("extract", "mfcc/13"), Notice("nothing audible in 2 recordings: " + "x" * 300))
    assert next(line for line in said.splitlines() if line.strip().startswith("note  nothing audible")).endswith("xxx")


def test_a_terminal_has_bars_and_keeps_what_became_of_each_network() -> None:
    said = watched(StageBegins("train", "2 networks"), epoch(4), terminal=True)
    assert "loss 1.234  dev F1 0.457  321 utterances/s, 1 min 15 s left" in said
    assert "0/2 networks" in said
    said = watched(StageBegins("train", "1 networks"), epoch(9), epoch(10, last=True), terminal=True)
    assert "sound/fold0  10/10 loss 1.234  dev F1 0.457  321 utterances/s" in said
    assert "all  1/1 networks" in said
