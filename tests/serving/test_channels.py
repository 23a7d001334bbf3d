"""Channels as speakers: each is answered as a file of its own would be, and they stand side by side by time."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from programs import MP4, au, stand_in, stand_ins
from serkit import audio
from serkit.errors import SerkitError
from serkit.serving import formats
from serkit.serving.channels import MAX_CHANNELS, ONE_SOUND, ChannelStream
from serkit.serving.notes import NO_TEXT
from serkit.serving.pool import Asked
from serkit.serving.predicting import predict
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction, Segment
from serkit.serving.speakers import speakers_of
from serkit.serving.timeline import Turn

from .signals import GOLDEN, RATE, most_memory, quiet, talk, voice, wav

DATA = Path(os.environ.get("SERKIT_DATA", "../shared/data"))


def call(turns: Sequence[np.ndarray], rate: int = RATE, pause_s: float = 0.8) -> np.ndarray:
    """(samples, 2): the turns by time, one on the left, the next on the right, with pauses."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for k, turn in enumerate(turns):
        pause = np.zeros(round(pause_s * rate), np.float32)
        sides[k % 2].extend((turn, pause))
        sides[1 - k % 2].extend((np.zeros_like(turn), pause))
    return np.stack([np.concatenate(s) for s in sides], axis=1)


def made(rate: int = RATE, n: int = 4) -> np.ndarray:
    turns = [voice(1.0 + 0.3 * k, k, 100.0 + 40.0 * k) for k in range(n)]
    return call([t if rate == RATE else np.asarray(soxr.resample(t, RATE, rate), np.float32) for t in turns], rate)


def parts_of(found: Prediction, channel: int) -> list[Segment]:
    """The parts of a channel, counted from 1, without their speaker."""
    return [replace(s, speaker=None) for s in found.segments if s.speaker == f"channel {channel}"]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24")])
def test_a_channel_is_answered_as_its_own_file_is(model: Model, rate: int, kind: str, subtype: str) -> None:
    sound = made(rate)
    found = model.predict(wav(sound, rate, kind, subtype), by="channel")
    assert [s.speaker for s in found.segments] == ["channel 1", "channel 2"] * 2
    assert list(found.segments) == sorted(found.segments, key=lambda s: s.start_s)
    speech = 0.0
    for channel in (1, 2):
        alone = model.predict(wav(sound[:, channel - 1], rate, kind, subtype))
        assert parts_of(found, channel) == list(alone.segments)
        assert len(alone.segments) == 2
        speech += alone.speech_s
    assert found.by == "channel"
    assert (found.duration_s, found.speech_s) == (alone.duration_s, speech)


@pytest.mark.skipif(not (DATA / "ravdess").is_dir(), reason="no RAVDESS under SERKIT_DATA")
def test_so_it_is_on_recordings(model: Model) -> None:
    clips = [soundfile.read(f, dtype="float32") for f in sorted(DATA.glob("ravdess/**/*.flac"))[::271]]
    rate = clips[0][1]
    sound = call([clip for clip, _ in clips], rate)
    found = model.predict(wav(sound, rate), by="channel")
    for channel in (1, 2):
        assert parts_of(found, channel) == list(model.predict(wav(sound[:, channel - 1], rate)).segments)
        assert parts_of(found, channel)


def test_the_whole_is_the_mean_by_speech(model: Model) -> None:
    sound = made(n=3)
    found = model.predict(wav(sound), by="channel")
    alone = [model.predict(wav(sound[:, k])) for k in (0, 1)]
    weights = [p.speech_s for p in alone]
    assert weights[0] > weights[1] > 0
    for label, share in found.probabilities.items():
        expected = sum(w * p.probabilities[label] for w, p in zip(weights, alone, strict=True)) / sum(weights)
        assert share == pytest.approx(expected, abs=1e-12)
    assert found.confidence == max(found.probabilities.values()) == found.probabilities[found.label]
    assert found.abstain == ("unsure" if found.confidence < model.unsure_below(model.labels, None) else "")
    assert model.predict(wav(sound), by="channel", threshold=0.3).label == found.label


def test_each_channel_is_summed_up_by_its_own_answer(model: Model) -> None:
    sound = made(n=3)
    found = model.predict(wav(sound), by="channel")
    assert [s.speaker for s in found.speakers] == ["channel 1", "channel 2"]
    for channel, speaker in enumerate(found.speakers):
        alone = model.predict(wav(sound[:, channel]))
        assert (speaker.label, speaker.confidence, speaker.abstain) == (alone.label, alone.confidence, alone.abstain)
        assert speaker.probabilities == alone.probabilities
        assert (speaker.speech_s, speaker.summary) == (alone.speech_s, alone.summary)
    assert sum(s.speech_s for s in found.speakers) == found.speech_s
    for label, seconds in found.summary.items():
        assert sum(s.summary.get(label, 0.0) for s in found.speakers) == pytest.approx(seconds, abs=0.002)
    row = found.to_row()["speakers"][1]
    assert list(row) == [
        "speaker",
        "label",
        "confidence",
        "abstain",
        "speech_s",
        "summary",
        "probabilities",
        "attributes",
    ]
    table = formats.document("table", [found], timeline=True)
    first = found.speakers[0]
    assert f"\n  channel 1: {first.label} {first.confidence:.2f}" in table
    assert f"{math.floor(10 * first.speech_s + 0.5) / 10:.1f} s of speech; held: {next(iter(first.summary))} " in table
    silent = model.predict(wav(np.stack([sound[:, 0], 0 * sound[:, 0]], axis=1)), by="channel").speakers[1]
    assert (silent.abstain, silent.speech_s, silent.summary) == ("no_speech", 0.0, {})


def test_a_long_channel_is_summed_up_as_a_speaker_of_turns_is(model: Model) -> None:
    """Its own answer and the mean over its parts are one number: there are not two ways of summing up."""
    sound = made(n=24)
    assert len(sound) > model.max_clip_s * RATE
    found = model.predict(sound, rate_hz=RATE, by="channel")
    for own, mean in zip(found.speakers, speakers_of(found.segments, "channel", 0.0), strict=True):
        assert (own.speaker, own.label, own.summary) == (mean.speaker, mean.label, mean.summary)
        assert own.probabilities == pytest.approx(mean.probabilities, abs=1e-12)
        assert own.speech_s == pytest.approx(mean.speech_s)


def test_mono_is_one_speaker(model: Model) -> None:
    sound = wav(talk(3))
    found, plain = model.predict(sound, by="channel"), model.predict(sound)
    assert {s.speaker for s in found.segments} == {"channel 1"}
    assert parts_of(found, 1) == list(plain.segments)
    assert replace(found, segments=plain.segments, by="segment", speakers=()) == plain
    assert [s.probabilities for s in found.speakers] == [plain.probabilities]


def test_a_silent_channel_has_no_part_and_no_say(model: Model) -> None:
    sound = np.stack([talk(2), np.zeros(len(talk(2)), np.float32)], axis=1)
    found, alone = model.predict(wav(sound), by="channel"), model.predict(wav(sound[:, 0]))
    assert {s.speaker for s in found.segments} == {"channel 1"}
    assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-12)
    assert (found.abstain, found.no_speech) == (alone.abstain, False)
    none = model.predict(wav(sound[:, [1, 1]]), by="channel")
    assert (none.abstain, none.no_speech, none.segments, none.speech_s) == ("no_speech", True, (), 0.0)
    assert sum(none.probabilities.values()) == pytest.approx(1)


def test_channels_that_hold_one_sound_are_noted(model: Model) -> None:
    """Many a recording of two channels is one of one, written twice."""
    two = np.stack([talk(2), talk(2)], axis=1)
    assert model.predict(wav(two, 44_100), by="channel").notes == (ONE_SOUND,)
    for other in (two * [1, 0.99], 0 * two, two[:, :1], made()):
        assert model.predict(wav(other.astype(np.float32)), by="channel").notes == ()
    late = np.concatenate([two, made(), two])
    assert model.predict(wav(late), by="channel").notes == ()


def test_channels_that_cancel_are_no_matter(model: Model) -> None:
    sound = np.stack([talk(2), -talk(2)], axis=1)
    assert any("cancel" in note for note in model.predict(wav(sound)).notes)
    found = model.predict(wav(sound), by="channel")
    assert len(found.segments) == 4
    assert found.notes == ()


def test_eight_channels_are_answered_and_nine_are_not(model: Model) -> None:
    eight = np.stack([np.roll(talk(1), 2_000 * k) for k in range(MAX_CHANNELS)], axis=1)
    found = model.predict(wav(eight), by="channel")
    assert {s.speaker for s in found.segments} == {f"channel {k}" for k in range(1, 9)}
    nine = np.concatenate([eight, eight[:, :1]], axis=1)
    for recording, options in ((wav(nine), {}), (nine, {"rate_hz": RATE}), (talk(1)[None], {"rate_hz": RATE})):
        with pytest.raises(SerkitError, match=r"channels: by 'channel' answers for at most 8") as error:
            model.predict(recording, by="channel", **options)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("sizes", [[1_000], [160, 31_000, 7]])
def test_arrays_and_streams_agree_with_the_file(model: Model, sizes: list[int]) -> None:
    sound = np.round(made() * 32767).astype(np.int16)
    truth = model.predict(wav(sound, subtype="PCM_16"), by="channel")
    assert model.predict(sound, rate_hz=RATE, by="channel") == truth
    stream = model.stream(by="channel", partial_s=0.5)
    assert isinstance(stream, ChannelStream)
    events, at, k = [], 0, 0
    while at < len(sound):
        events += stream.push(sound[at : at + sizes[k % len(sizes)]])
        at, k = at + sizes[k % len(sizes)], k + 1
    assert stream.push(sound[:0]) == []
    events += stream.finish()
    assert stream.prediction == truth
    finals = [e.segment for e in events if e.kind == "final"]
    assert sorted(finals, key=lambda s: s.start_s) == list(truth.segments)
    assert {e.segment.speaker for e in events if e.kind == "partial"} == {"channel 1", "channel 2"}
    assert stream.heard_s == pytest.approx(truth.duration_s)
    assert stream.work_s > 0


def test_a_faint_channel_beside_a_loud_one_is_no_integer_of_another_width(model: Model) -> None:
    sound = (np.stack([talk(2), talk(2) * 1e-5], axis=1) * 2**31).astype(np.int32)
    assert len(parts_of(model.predict(sound, rate_hz=RATE, by="channel"), 1)) == 2
    with pytest.raises(SerkitError, match="16-bit values"):
        model.predict(sound // 2**16, rate_hz=RATE, by="channel")


def test_misuse_is_one_clear_line(model: Model) -> None:
    stream = model.stream(by="channel")
    with pytest.raises(SerkitError, match="not finished"):
        _ = stream.prediction
    with pytest.raises(SerkitError, match="no samples"):
        stream.finish()
    stream.push(made())
    with pytest.raises(SerkitError, match="1 channels after chunks of 2"):
        stream.push(voice(1))
    with pytest.raises(SerkitError, match="expected"):
        stream.push(np.zeros((2, 2, 2)))
    stream.finish()
    assert stream.finish() == []
    with pytest.raises(SerkitError, match="open another"):
        stream.push(made())
    with pytest.raises(SerkitError, match="takes no turns of a diarisation"):
        model.predict(made(), rate_hz=RATE, by="channel", turns=[Turn(0, 1, "A")])
    for speaker, reason in (
        (None, "words of nobody: by 'channel' the speaker of each sentence is its channel, 'channel 1' to 'channel 8'"),
        ("Ada", "words of 'Ada'"),
        ("channel 3", "words of 'channel 3': .* to 'channel 2'"),
    ):
        with pytest.raises(SerkitError, match=reason):
            model.predict(made(), rate_hz=RATE, by="channel", sentences=[Turn(0, 1, speaker, "well")])
    with pytest.raises(SerkitError, match="did you mean 'anger'"):
        model.stream(by="channel", labels=("angr", "fear"))
    with pytest.raises(SerkitError, match="NaN"):
        model.predict(np.where(made() > 0.1, np.nan, made()), rate_hz=RATE, by="channel")


def test_memory_does_not_grow_with_the_recording(tmp_path: Path, model: Model) -> None:
    block = np.concatenate([made(48_000), np.zeros((5 * 48_000, 2), np.float32)])
    short, long = (
        most_memory(model, tmp_path / f"{n}.flac", block, 48_000, n, parts=10, by="channel") for n in (0.7, 3)
    )
    assert long < short + 2_000_000


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_apart_are_those_of_each_channel(rate: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (25 * rate, 3)).astype(np.float32)
    content = wav(sound, rate, subtype="FLOAT")
    for span in ({}, {"start_s": 1.2345, "end_s": 14.0}):
        found = np.concatenate(list(audio.blocks(content, apart=True, **span)))  # type: ignore[arg-type]
        for k in range(3):
            alone = np.concatenate(list(audio.blocks(wav(sound[:, k], rate, subtype="FLOAT"), **span)))  # type: ignore[arg-type]
            np.testing.assert_array_equal(found[:, k], alone)
    assert next(audio.blocks(wav(sound[:1], 48_000), apart=True)).shape == (1, 3)


@stand_ins
def test_the_channels_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    sound = np.round(made(48_000) * 32767) / 32768
    stand_in(tmp_path / "bin", "ffmpeg", au(sound, 48_000))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = model.predict(MP4, by="channel")
    assert found.segments == model.predict(wav(sound, 48_000, subtype="PCM_16"), by="channel").segments


def ask(path: Path, **options: Any) -> tuple[str, list[str]]:
    written: list[str] = []
    complaints: list[str] = []
    predict(Asked((str(path),), model=str(GOLDEN), timeline=True, **options), written.append, complaints.append)
    return "".join(written), complaints


def test_every_format_names_the_channel(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(np.concatenate([quiet(0.5)[:, None].repeat(2, 1), made()[:, ::-1]])))
    truth = model.predict(path, by="channel")
    channels = [s.speaker for s in truth.segments]
    assert channels == ["channel 2", "channel 1"] * 2
    table, _ = ask(path, by="channel")
    lines = [line.split() for line in table.splitlines()]
    assert [" ".join(x[2:4]) for x in lines if "channel" in x[2:3]] == channels
    assert ", by channel" in table
    rows = list(csv.DictReader(io.StringIO(ask(path, by="channel", kind="csv")[0])))
    assert [r["speaker"] for r in rows] == channels
    for kind in ("json", "jsonl"):
        row = json.loads(ask(path, by="channel", kind=kind)[0])
        assert row["granularity"] == "channel"
        assert [s["speaker"] for s in row["segments"]] == channels
    lines = [line.split() for line in ask(path, by="channel", kind="rttm")[0].splitlines()]
    assert [(x[2], x[7].split("/")[0]) for x in lines] == [(c[-1], c.replace(" ", "_")) for c in channels if c]
    grid, _ = ask(path, by="channel", kind="textgrid")
    assert grid.index('"emotion channel 1"') < grid.index('"emotion channel 2"')
    assert formats.document("textgrid", [truth], timeline=True) == grid


@pytest.mark.parametrize("option", ["rttm", "diariser"])
def test_speakers_from_elsewhere_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(SerkitError, match="leave out --rttm and --diarise"):
        ask(tmp_path / "call.wav", by="channel", **{option: "nothing"})


def test_words_go_to_the_channel_they_are_said_in(tmp_path: Path, model: Model) -> None:
    sound = made()
    plain = model.predict(wav(sound), by="channel")
    said = [
        {"start_s": s.start_s, "end_s": s.end_s, "text": f"word {k}", "speaker": s.speaker}
        for k, s in enumerate(plain.segments)
    ]
    together = {"start_s": plain.segments[1].start_s, "end_s": plain.segments[1].end_s, "text": "elsewhere"}
    (tmp_path / "call.json").write_text(json.dumps([*said, {**together, "speaker": "channel 1"}]))
    (tmp_path / "call.wav").write_bytes(wav(sound))
    row = json.loads(ask(tmp_path / "call.wav", by="channel", kind="json", transcript=tmp_path / "call.json")[0])
    assert [s["text"] for s in row["segments"]] == [f"word {k}" for k in range(4)]
    assert [s["probabilities"] for s in row["segments"]] == [dict(s.probabilities) for s in plain.segments]
    grid, _ = ask(tmp_path / "call.wav", by="channel", kind="textgrid", transcript=tmp_path / "call.json")
    assert grid.index('"words channel 1"') < grid.index('"words channel 2"')


def test_no_words_is_noted_where_no_channel_has_any(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "reads_text", True)
    one = [Turn(0, 9, "channel 2", "well")]
    assert model.predict(made(), rate_hz=RATE, by="channel", sentences=one).notes == ()
    assert model.predict(made(), rate_hz=RATE, by="channel").notes == (NO_TEXT,)
