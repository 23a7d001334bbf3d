"""The stream over WebSocket: its finals are the file's answer, and every misuse is one clear line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from serkit.serving.http.schemas import Result, SegmentRow, result_row
from serkit.serving.predictor import Model

from .service import Service
from .signals import RATE, quiet, talk, voice, wav

SOUND = np.round(talk(3) * 32767).astype("<i2")


def converse(socket: ClientConnection, content: bytes, size: int, **start: Any) -> list[dict[str, Any]]:
    """All messages of a stream that is sent whole."""
    socket.send(json.dumps({"type": "start", **start}))
    found = [json.loads(socket.recv(60))]
    for at in range(0, len(content), size):
        socket.send(content[at : at + size])
    socket.send(json.dumps({"type": "finish"}))
    return found + rest(socket)


def rest(socket: ClientConnection) -> list[dict[str, Any]]:
    """Messages until the service closes."""
    found = []
    try:
        while True:
            found.append(json.loads(socket.recv(60)))
    except ConnectionClosed:
        return found


def finals(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [m["segment"] for m in messages if m["type"] == "final"]


def rows(model: Model, sound: Any, **options: Any) -> dict[str, Any]:
    prediction = model.predict(sound, **options)
    return dict(json.loads(json.dumps(result_row(prediction, 0, None, None))))


def test_metrics_count_sound_work_and_refusals_of_streams(service: Service) -> None:
    """While a stream is open, and of one that is left without a finish."""

    def counts() -> list[float]:
        names = ("serkit_audio_seconds_total", "serkit_work_seconds_total")
        refused = service.metric("serkit_refused_total", code="bad_option")
        return [*(service.metric(name, lane="streams") for name in names), refused]

    heard, worked, refused = counts()
    stereo = np.repeat(SOUND[: 2 * RATE, None], 2, axis=1).astype("<f4") / 32768
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start", "encoding": "float32", "channels": 2}))
        socket.send(stereo.tobytes())
        while json.loads(socket.recv(60))["type"] == "ready":
            pass
        now, busy, _ = counts()
        assert now == pytest.approx(heard + 2.0)
        assert worked < busy < worked + 60
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start", "by": "turn"}))
        rest(socket)
    assert counts()[::2] == pytest.approx([heard + 2.0, refused + 1])


@pytest.mark.parametrize("size", [640, 3_200, 99_998])
def test_finals_are_the_file_s_answer(service: Service, model: Model, size: int) -> None:
    with service.stream() as socket:
        messages = converse(socket, SOUND.tobytes(), size)
    whole = rows(model, wav(SOUND, subtype="PCM_16"))
    ready, *_, result = messages
    assert ready["type"] == "ready"
    assert ready["model"] == model.id
    assert ready["labels"] == list(model.labels)
    assert result["type"] == "result"
    assert result["result"] == whole
    assert finals(messages) == whole["segments"]
    assert len(finals(messages)) == 3
    Result.model_validate(result["result"])
    assert socket.close_code == 1000


def test_the_result_has_a_set_where_a_coverage_was_asked_for(service: Service, model: Model) -> None:
    with service.stream() as socket:
        messages = converse(socket, SOUND.tobytes(), 9_000, coverage=0.9, labels=["anger", "fear", "sadness"])
    asked = {"coverage": 0.9, "labels": ("anger", "fear", "sadness")}
    assert messages[-1]["result"] == rows(model, wav(SOUND, subtype="PCM_16"), **asked)
    assert messages[-1]["result"]["set"][0] == messages[-1]["result"]["label"]
    assert not any("set" in segment for segment in finals(messages))


def test_labels_as_text_by_window_and_without_partials(service: Service, model: Model) -> None:
    asked = {"by": "window", "window_s": 2.0, "hop_s": 1.0}
    with service.stream() as socket:
        messages = converse(socket, SOUND.tobytes(), 9_000, partial_s=None, labels="anger, fear", **asked)
    assert messages[0]["labels"] == ["anger", "fear"]
    assert messages[-1]["result"] == rows(model, wav(SOUND, subtype="PCM_16"), labels=("anger", "fear"), **asked)
    assert {m["type"] for m in messages[1:-1]} == {"final"}


def test_float_stereo_at_another_rate(service: Service, model: Model) -> None:
    import soxr

    sound = soxr.resample(talk(2), RATE, 44_100).astype("<f4")
    both = np.stack([sound, sound], axis=1)
    with service.stream() as socket:
        messages = converse(socket, both.tobytes(), 8_000, encoding="float32", rate_hz=44_100, channels=2)
    whole = rows(model, both, rate_hz=44_100)
    for a, b in zip(finals(messages), whole["segments"], strict=True):
        assert a["time"] == b["time"]
        assert a["scores"] == pytest.approx(b["scores"], abs=1e-5)


def test_partials_come_while_somebody_speaks(service: Service) -> None:
    sound = np.round(np.concatenate([quiet(1), voice(5), quiet(1.5)]) * 32767).astype("<i2")
    with service.stream() as socket:
        messages = converse(socket, sound.tobytes(), 3_200, partial_s=0.5, labels=["anger", "fear"])
    kinds = [m["type"] for m in messages]
    assert kinds[-2:] == ["final", "result"]
    assert kinds.count("partial") >= 3
    for m in messages[1:-1]:
        SegmentRow.model_validate(m["segment"])
        assert set(m["segment"]["scores"]) == {"anger", "fear"}
        assert m["segment"]["time"]["begin_s"] == finals(messages)[0]["time"]["begin_s"]
        assert 0 < m["latency_s"] < 60


@pytest.mark.parametrize(
    ("messages", "code", "said"),
    [
        ([b"abcd"], "bad_request", "start message"),
        (["{"], "bad_option", "Invalid JSON"),
        ([{"type": "begin"}], "bad_option", "type: Input should be 'start'"),
        ([{"type": "start", "rate": 8000}], "bad_option", "no option 'rate'; did you mean 'rate_hz'?"),
        ([{"type": "start", "rate_hz": 5}], "bad_option", "rate_hz"),
        ([{"type": "start", "labels": ["angr", "fear"]}], "bad_option", "did you mean 'anger'"),
        ([{"type": "start", "threshold": 0.999}], "bad_option", "no confidence reached"),
        ([{"type": "start", "coverage": 90}], "bad_option", "coverage: Input should be less than 1"),
        ([{"type": "start", "coverage": 0.9999}], "bad_option", "takes 9999 held-out clips or more"),
        ([{"type": "start", "coverage": 0.9, "by": "channel"}], "bad_option", "by 'channel' answers for several"),
        ([{"type": "start"}, b"abc"], "bad_request", "whole number of frames"),
        ([{"type": "start", "channels": 3}, b"abcd"], "bad_request", "3 channels of 2 bytes"),
        ([{"type": "start"}, {"type": "stop"}], "bad_request", "expected samples"),
        ([{"type": "start"}, '{"type": "fin ish"}'], "bad_request", "expected samples"),
        ([{"type": "start"}, {"type": "finish", "now": True}], "bad_request", "expected samples"),
        ([{"type": "start"}, "[" * 100_000], "bad_request", "expected samples"),
        ([{"type": "start"}, {"type": "finish"}], "bad_audio", "no samples"),
        ([{"type": "start", "encoding": "float32"}, np.full(9, np.nan, "<f4").tobytes()], "bad_audio", "NaN"),
    ],
)
def test_misuse_is_one_line(service: Service, messages: list[Any], code: str, said: str) -> None:
    with service.stream() as socket:
        for message in messages:
            socket.send(json.dumps(message) if isinstance(message, dict) else message)
        answers = rest(socket)
    assert answers[-1]["type"] == "error"
    assert answers[-1]["error"]["code"] == code
    assert said in answers[-1]["error"]["message"]
    assert socket.close_code == 1008


@pytest.mark.parametrize("chunk", [bytes(2_000_000), " " * 2_000_000], ids=["samples", "text"])
def test_a_chunk_that_is_too_large_is_said_to_be(service: Service, chunk: bytes | str) -> None:
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start"}))
        socket.recv(60)
        socket.send(chunk)
        answers = rest(socket)
    assert answers[-1]["error"]["code"] == "too_large"
    assert "1.9 MiB exceeds 1 MiB" in answers[-1]["error"]["message"]
    assert socket.close_code == 1009


def test_a_chunk_far_too_large_closes_the_stream(service: Service) -> None:
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start"}))
        socket.recv(60)
        with contextlib.suppress(ConnectionClosed):
            socket.send(bytes(8_000_000))
        rest(socket)
    # What the client still sends may meet a connection that is gone: then it sees no reason.
    assert socket.close_code in {1009, 1006}


def test_ping_is_answered(service: Service) -> None:
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start"}))
        socket.recv(60)
        socket.send('{ "type": "ping" }')
        assert json.loads(socket.recv(60)) == {"type": "pong"}


def test_pages_of_other_origins_may_not_call(service: Service) -> None:
    with service.stream(additional_headers={"Origin": "https://elsewhere.example"}) as socket:
        said = json.loads(socket.recv(60))
    assert said["error"]["code"] == "forbidden"
    with service.stream(additional_headers={"Origin": service.url}) as socket:
        assert converse(socket, SOUND.tobytes(), 32_000)[-1]["type"] == "result"


def test_a_client_that_vanishes_leaves_nothing(service: Service) -> None:
    for _ in range(5):
        with contextlib.suppress(OSError, ConnectionClosed), service.stream(close_timeout=0.1) as socket:
            socket.send(json.dumps({"type": "start"}))
            socket.recv(60)
            socket.send(SOUND.tobytes())
            socket.socket.close()
    end = time.monotonic() + 60
    while service.metric("serkit_streams") and time.monotonic() < end:
        time.sleep(0.1)
    assert service.metric("serkit_streams") == 0
    with service.stream() as socket:
        assert converse(socket, SOUND.tobytes(), 32_000)[-1]["type"] == "result"


@contextmanager
def narrow(folder: Any, **options: Any) -> Iterator[Service]:
    with Service(folder, workers=1, **options) as found:
        yield found


def test_limits_of_streams(tmp_path: Any) -> None:
    with narrow(tmp_path, streams=2, concurrency=3, api_key="a-long-key", read_timeout=2) as service:
        with service.stream() as socket:  # no key
            socket.send(json.dumps({"type": "start"}))
            assert json.loads(socket.recv(60))["error"]["code"] == "unauthorized"
        with service.stream() as socket:  # a key in the start message, as pages have to
            assert converse(socket, SOUND.tobytes(), 9_000, api_key="a-long-key")[-1]["type"] == "result"
        with service.stream(additional_headers={"Authorization": "Bearer a-long-key"}) as socket:
            assert converse(socket, SOUND.tobytes(), 9_000)[-1]["type"] == "result"
        with service.stream() as socket:  # says nothing
            assert json.loads(socket.recv(60))["error"]["code"] == "too_slow"
        key = {"additional_headers": {"X-API-Key": "a-long-key"}}
        with service.stream(), service.stream(), service.stream(**key) as socket:  # two without a key take no place
            assert converse(socket, SOUND.tobytes(), 9_000)[-1]["type"] == "result"
        with contextlib.ExitStack() as opened:
            answers = []
            for _ in range(3):  # none is silent for as long as the service waits
                socket = opened.enter_context(service.stream(**key))
                socket.send(json.dumps({"type": "start"}))
                answers.append(json.loads(socket.recv(60)))
            assert [answer["type"] for answer in answers] == ["ready", "ready", "error"]
            assert answers[2]["error"]["code"] == "busy"
        assert socket.close_code == 1013
        with contextlib.ExitStack() as opened:  # of those that have not started, the one that has waited longest goes
            first, *others, last = [opened.enter_context(service.stream(**key)) for _ in range(4)]
            with pytest.raises(ConnectionClosed):
                first.recv(1)
            assert first.close_code == 1006  # without a goodbye
            assert converse(last, SOUND.tobytes(), 9_000)[-1]["type"] == "result"
            assert converse(others[0], SOUND.tobytes(), 9_000)[-1]["type"] == "result"
        assert service.metric("serkit_requests_total", endpoint="/v1/stream", status="busy") == 2
        assert "a-long-key" not in service.log


def test_a_worker_that_was_killed_while_nobody_spoke_costs_no_stream(tmp_path: Any) -> None:
    """The stream after it was told that its worker was lost, and to begin again."""
    with Service(tmp_path, workers=1) as own:
        for asked in range(2):
            with own.stream() as socket:
                assert converse(socket, SOUND.tobytes(), 99_998)[-1]["type"] == "result"
            if asked:
                break
            for pid in own.children():
                os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 60
            while own.children() and time.monotonic() < end:
                time.sleep(0.05)
        assert own.metric("serkit_worker_restarts_total", lane="streams") == 1
        assert "streams worker was dead before it was asked, request" in own.log


def test_many_streams_at_once_keep_apart(service: Service, model: Model) -> None:
    sounds = [np.round(talk(2, seed=k) * 32767).astype("<i2") for k in range(6)]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(service.stream()) for _ in sounds]
        for socket in sockets:
            socket.send(json.dumps({"type": "start", "partial_s": None}))
            socket.recv(60)
        for at in range(0, max(map(len, sounds)), 8_000):
            for socket, sound in zip(sockets, sounds, strict=True):
                if at < len(sound):
                    socket.send(sound[at : at + 8_000].tobytes())
        for socket, sound in zip(sockets, sounds, strict=True):
            socket.send(json.dumps({"type": "finish"}))
            assert rest(socket)[-1]["result"] == rows(model, wav(sound, subtype="PCM_16"))
