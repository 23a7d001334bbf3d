"""What a worker does with a batch: the answers of each alone, failures in their places."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from programs import MP4, au, contained, real, stand_in, stand_ins
from serkit.serving.bundle import open_bundle
from serkit.serving.http.answering import Answerer
from serkit.serving.http.schemas import result_row
from serkit.serving.http.worker import Failure, Task
from serkit.serving.predictor import Model

from .signals import GOLDEN, quiet, talk, voice, wav


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return Answerer(str(GOLDEN))


def test_it_gives_sets_where_the_model_for_calls_does_too(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answerer.about()["coverages"] == [0.8, 0.9, 0.95]
    calls = open_bundle(GOLDEN)
    calls.held_out = tuple(x[:15] for x in calls.held_out)
    monkeypatch.setattr(answerer.model, "calls", calls)
    assert answerer.about()["coverages"] == []


def close(a: Any, b: Any) -> None:
    """Equal but for rounding."""
    assert json.dumps(a["segments"], sort_keys=True)[:20] == json.dumps(b["segments"], sort_keys=True)[:20]
    for key in a:
        if key == "scores":
            assert a[key] == pytest.approx(b[key], abs=1e-5)
        elif key == "segments":
            for x, y in zip(a[key], b[key], strict=True):
                assert x["time"] == y["time"]
                assert x["scores"] == pytest.approx(y["scores"], abs=1e-5)
        elif key != "confidence":
            assert a[key] == b[key], key


def test_a_batch_is_each_alone(answerer: Answerer, model: Model) -> None:
    asked: list[tuple[bytes, dict[str, Any]]] = [
        (wav(talk(2), subtype="PCM_16"), {"by": "segment"}),
        (wav(voice(1.0), subtype="PCM_16"), {"by": "clip", "labels": ["sadness", "anger"]}),
        (b"no sound", {"by": "clip"}),
        (wav(voice(3.0), subtype="PCM_16"), {"by": "window", "window_s": 1.5, "hop_s": 0.5}),
        (wav(talk(14), subtype="PCM_16"), {"by": "segment"}),
        (wav(quiet(1), subtype="PCM_16"), {"by": "segment", "text": "nothing"}),
        (wav(voice(2.0), subtype="PCM_16"), {"by": "sentence", "sentences": [
            {"start_s": 0.0, "end_s": 2.0, "text": "all of it", "speaker": None}]}),
        (wav(voice(2.0), subtype="PCM_16"), {"by": "clip", "labels": ["angr", "fear"]}),
    ]  # fmt: skip
    tasks = [Task(content, options, 60.0, k, f"{k}.wav") for k, (content, options) in enumerate(asked)]
    found = answerer.predict(tasks, [None] * len(tasks), lambda heard: None)
    for k, task in enumerate(tasks):
        (alone,) = answerer.predict([task], [None], lambda heard: None)
        if isinstance(alone, Failure):
            assert found[k] == alone
        else:
            assert isinstance(found[k], dict)
            close(found[k], alone)
    assert [k for k, x in enumerate(found) if isinstance(x, Failure)] == [2, 7]
    assert [x.code for x in found if isinstance(x, Failure)] == ["bad_audio", "bad_option"]
    assert found[0] == result_row(model.predict(asked[0][0]), 0, "0.wav", None) | {"scores": found[0]["scores"],  # type: ignore[index]
        "confidence": found[0]["confidence"]}  # type: ignore[index]  # fmt: skip


def test_networks_see_a_batch_once(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    logits = answerer.model.scorer.logits

    def counted(rows: Any, known: Any) -> Any:
        seen.append(len(rows))
        return logits(rows, known)

    monkeypatch.setattr(answerer.model.scorer, "logits", counted)
    tasks = [Task(wav(voice(1.0 + k, k)), {"by": "clip"}) for k in range(5)]
    found = answerer.predict(tasks, [None] * 5, lambda heard: None)
    assert all(isinstance(x, dict) for x in found)
    assert seen == [5]


def test_a_large_file_comes_as_a_descriptor(answerer: Answerer, model: Model) -> None:
    content = wav(talk(3), subtype="PCM_16")
    heard: list[float] = []
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        (found,) = answerer.predict([Task(None, {"by": "segment"}, alone=True)], [os.dup(file.fileno())], heard.append)
    assert found == result_row(model.predict(content), 0, None, None)


@stand_ins
def test_a_recording_of_unknown_length_is_answered(
    answerer: Answerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a browser records says no length in its header: the limit is then held while decoding."""
    monkeypatch.setenv("PATH", str(tmp_path))
    stream = {"codec_name": "opus", "sample_rate": "16000", "channels": 1}
    stand_in(tmp_path, "ffprobe", json.dumps({"streams": [stream], "format": {"format_name": "webm"}}).encode())
    stand_in(tmp_path, "ffmpeg", au(talk(3)[:, None], 16_000))
    tasks = [Task(MP4, {"by": "segment"}, max_s) for max_s in (60.0, 2.0)]
    (found,), (late,) = ([*answerer.predict([task], [None], lambda heard: None)] for task in tasks)
    (wanted,) = answerer.predict([Task(wav(talk(3), subtype="FLOAT"), {"by": "segment"})], [None], lambda heard: None)
    assert isinstance(found, dict)
    assert found == wanted
    assert isinstance(late, Failure)
    assert (late.code, late.message) == ("too_long", "the recording continues after 2 s, the limit")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    (refused,) = answerer.predict(tasks[:1], [None], lambda heard: None)
    assert isinstance(refused, Failure)
    assert "install ffmpeg" in refused.message


@real
def test_a_real_stream_of_unknown_length_is_answered(answerer: Answerer) -> None:
    content = contained(talk(3)[:, None], 16_000, None, "-c:a", "flac", "-f", "matroska")
    (found,) = answerer.predict([Task(content, {"by": "segment"})], [None], lambda heard: None)
    (wanted,) = answerer.predict([Task(wav(talk(3), subtype="PCM_16"), {"by": "segment"})], [None], lambda heard: None)
    assert isinstance(found, dict)
    assert found == wanted


def test_notes_of_a_recording_come_with_its_answer_and_no_other(answerer: Answerer) -> None:
    """Alone and in a batch, short and long."""
    cut, longer = wav(talk(2), kind="MP3")[:9_000], np.stack([talk(14), -talk(14)], axis=1)
    recordings = [wav(talk(2), kind="MP3"), cut, wav(longer, subtype="PCM_16")]
    tasks = [Task(content, {"by": "segment"}, 60.0) for content in recordings]
    together = answerer.predict(tasks, [None] * 3, lambda heard: None)
    alone = [answerer.predict([task], [None], lambda heard: None)[0] for task in tasks]
    for found in (together, alone):
        lines = [row["notes"] for row in found if isinstance(row, dict)]
        assert [len(n) for n in lines] == [0, 1, 1]
        assert "the MP3 is truncated" in lines[1][0]
        assert "the channels cancel each other" in lines[2][0]


def test_streams_are_forgotten(answerer: Answerer) -> None:
    start = {"encoding": "pcm16", "channels": 1, "rate_hz": 16_000, "by": "segment", "partial_s": None}
    assert answerer.open("a", dict(start), 2.0) is None
    assert answerer.push("a", np.zeros(16_000, "<i2").tobytes()) == []
    late = answerer.push("a", np.zeros(20_000, "<i2").tobytes())
    assert isinstance(late, Failure)
    assert late.code == "too_long"
    answerer.drop("a")
    answerer.drop("a")
    assert answerer._streams == {}
