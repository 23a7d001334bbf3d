"""Rows that name a channel of a recording, measured, taught and explained: as files of that channel alone are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from made_calls import calls
from serkit import cli
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.serving import adapting, labelled, measuring, streamed
from serkit.serving.asking import Job
from serkit.serving.bundle import open_bundle
from serkit.serving.conditions import parse
from serkit.serving.predictor import Model
from serkit.serving.watched import Pace
from serkit.types import Manifest

from .signals import GOLDEN, RATE, talk, voice, wav, wide


@pytest.fixture(scope="module")
def both(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest]:
    """Rows that name a channel, and the same of files of one channel."""
    return calls(tmp_path_factory.mktemp("calls") / "audio", toy(toy_root).where(lambda u: u.split == "test"))


def test_answers_are_those_of_the_files_of_one_channel(both: tuple[Manifest, Manifest]) -> None:
    found = [measuring.measure_under(GOLDEN, each, parse(["gain:-3"]), draws=20) for each in both]
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one.predictions.scores, two.predictions.scores)
        assert one.answered_by == two.answered_by
        assert one.remarked == {}
    mixed = dataclasses.replace(
        both[0], utterances=tuple(dataclasses.replace(u, channel=None) for u in both[0].utterances)
    )
    other = measuring.measure(GOLDEN, mixed, draws=20).predictions.scores
    assert np.abs(other - found[0][0].predictions.scores).max() > 0.01
    seen = [streamed.stream(GOLDEN, one[0], Pace(0.5, 1.0), draws=5) for one in found]
    assert seen[0].failed == {}
    assert list(seen[0].heard) == list(seen[1].heard)


def test_stretches_of_a_channel_and_a_long_one(tmp_path: Path, model: Model) -> None:
    sides = [talk(10), talk(10, seed=9)]
    size = max(map(len, sides))
    call = np.stack([np.pad(one, (0, size - len(one))) for one in sides], axis=1)
    (tmp_path / "call.wav").write_bytes(wav(call))
    (tmp_path / "right.wav").write_bytes(wav(call[:, 1]))
    rows = ["path,emotion,speaker,channel,start_s,end_s", "call.wav,anger,a,right,,", "call.wav,sadness,a,2,1,3.5"]
    (tmp_path / "sided.csv").write_text("\n".join(rows))
    (tmp_path / "alone.csv").write_text(
        "\n".join(rows).replace("call.wav", "right.wav").replace("right,,", ",,").replace(",2,", ",,")
    )
    trees = []
    for name in ("sided", "alone"):
        given = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(tmp_path / f"{name}.csv"), "--draws", "10"]
        done = CliRunner().invoke(cli.app, [*given, "--json"])
        assert done.exit_code == 0, done.output
        assert "hold different voices" not in done.output
        trees.append(json.loads(done.stdout)["models"][0])
    assert trees[0]["metrics"] == trees[1]["metrics"]
    assert trees[0]["confidence"] == trees[1]["confidence"]
    assert {m["channel"] for m in trees[0]["mistakes"]} <= {2}
    assert all("channel" not in m for m in trees[1]["mistakes"])
    assert call.shape[0] / RATE > model.max_clip_s, "answered part by part"


def test_a_channel_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(wav(voice(1.0)))
    (tmp_path / "t.csv").write_text("path,emotion,speaker,channel\na.wav,anger,a,\nb.wav,sadness,b,2\na.wav,fear,b,1\n")
    given = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(tmp_path / "t.csv"), "--draws", "10"]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 1, done.output
    assert "b.wav: channel 2 is asked for, and it has one channel, counted from 1" in done.stderr


def test_the_sound_of_a_channel_says_whether_it_is_a_call(tmp_path: Path) -> None:
    """One side is narrow as calls are, the other is not: each is answered as a file of it would be."""
    sound = np.stack([voice(3.0), wide(3.0, pitch_hz=210)], axis=1)
    (tmp_path / "call.wav").write_bytes(wav(sound))
    rows = "path,emotion,speaker,channel\ncall.wav,anger,a,1\ncall.wav,sadness,b,2\n"
    (tmp_path / "t.csv").write_text(rows)
    given = ["measure", "default", "--corpus", "table", "--root", str(tmp_path / "t.csv"), "--draws", "10", "--json"]
    for more, names in (([], ["default", "telephone"]), (["--calls", "none"], ["default"])):
        done = CliRunner().invoke(cli.app, [*given, *more])
        assert done.exit_code == 0, done.output
        answered = json.loads(done.stdout)["models"][0]["answered_by"]
        assert sorted(name.partition("@")[0] for name in answered) == names


def test_what_is_asked_is_kept_apart_by_channel_and_as_before_without() -> None:
    jobs = [Job("a.wav", None, None, None, ("x", "y"), channel=k) for k in (None, 1, 2)]
    assert jobs[0].to_row() == ["a.wav", None, None, None, ["x", "y"]]
    assert len({json.dumps(job.to_row()) for job in jobs}) == 3


def test_teaching_takes_each_channel(both: tuple[Manifest, Manifest], tmp_path: Path) -> None:
    told: list[str] = []
    found = [labelled.adapt(GOLDEN, each, draws=10, complain=told.append) for each in both]
    assert np.array_equal(found[0].after.predictions.scores, found[1].after.predictions.scores)
    assert found[0].before is not None
    assert found[1].before is not None
    assert np.array_equal(found[0].before.predictions.scores, found[1].before.predictions.scores)
    assert told == []


def test_voices_that_rows_tell_apart_are_not_told_of(tmp_path: Path) -> None:
    one, other = voice(3.0, pitch_hz=110), voice(3.0, pitch_hz=210)
    none, told = np.zeros_like(one), list[str]()
    call = tmp_path / "call.wav"
    call.write_bytes(wav(np.stack([np.r_[one, none], np.r_[none, other]], axis=1)))
    adapting.tell_of_calls(open_bundle(GOLDEN), GOLDEN, [call, call], told.append, channels=[1, 2])
    assert told == []
    adapting.tell_of_calls(open_bundle(GOLDEN), GOLDEN, [call, call], told.append, channels=[1, None])
    assert "in 1 of 2 recordings looked at: they are mixed" in told[0]


def test_one_side_is_explained(tmp_path: Path, model: Model) -> None:
    sides = [voice(1.5), voice(1.5, seed=3, pitch_hz=220)]
    (tmp_path / "call.wav").write_bytes(wav(np.stack(sides, axis=1)))
    (tmp_path / "right.wav").write_bytes(wav(sides[1]))
    found, alone = model.explain(tmp_path / "call.wav", channel=2), model.explain(tmp_path / "right.wav")
    assert {**found.to_row(), "path": ""} == {**alone.to_row(), "path": "", "channel": 2}
    assert "channel" not in alone.to_row()
    given = ["explain", str(tmp_path / "call.wav"), "--model", str(GOLDEN), "--channel"]
    done = CliRunner().invoke(cli.app, [*given, "2"])
    assert done.exit_code == 0, done.output
    assert "call.wav, channel 2, 0.00 to 1.50 s" in done.stdout
    with pytest.raises(SerkitError, match="channel 3 is asked for, and it has 2 channels"):
        model.explain(tmp_path / "call.wav", channel=3)
    with pytest.raises(SerkitError, match="channel are for files: cut the array itself"):
        model.explain(sides[0], rate_hz=RATE, channel=1)
