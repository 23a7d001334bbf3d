"""A timeline per channel over HTTP, as a job and as a stream: the answer of the model itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed

from serkit.serving.http.schemas import PredictAnswer, result_row
from serkit.serving.predictor import Model

from .service import Service
from .signals import quiet, talk, wav

SOUND = np.round(
    np.stack([np.concatenate([talk(2), quiet(4)]), np.concatenate([quiet(4), talk(2)])], axis=1) * 32767
).astype(np.int16)
CALL = wav(SOUND, subtype="PCM_16")


def truth(model: Model, content: bytes = CALL) -> dict[str, Any]:
    found = json.loads(json.dumps(result_row(model.predict(content, by="channel"), 0, "a.wav", None)))
    assert {s["speaker"] for s in found["segments"]} <= {"channel 1", "channel 2"}
    return dict(found)


def test_a_request_and_one_among_others(service: Service, model: Model) -> None:
    whole = truth(model)
    assert len(whole["segments"]) == 4
    assert service.result(CALL, by="channel") == whole
    mono = wav(talk(2))
    files = [("file", ("a.wav", content)) for content in (CALL, mono, CALL)]
    answer = service.client.post("/v1/predict", files=files, params={"by": "channel"})
    PredictAnswer.model_validate(answer.json())
    first, second, third = answer.json()["results"]
    assert first == {**third, "index": 0} == whole
    assert second == {**truth(model, mono), "index": 1}
    assert {s["speaker"] for s in second["segments"]} == {"channel 1"}


def test_a_job(service: Service, model: Model) -> None:
    job = service.client.post("/v1/jobs", files={"file": ("a.wav", CALL)}, params={"by": "channel"}).json()
    assert service.finished(job["url"])["results"] == [truth(model)]


def test_a_stream(service: Service, model: Model) -> None:
    said: list[dict[str, Any]] = []
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start", "channels": 2, "by": "channel", "partial_s": None}))
        for at in range(0, len(SOUND), 4_000):
            socket.send(SOUND[at : at + 4_000].astype("<i2").tobytes())
        socket.send(json.dumps({"type": "finish"}))
        try:
            while True:
                said.append(json.loads(socket.recv(60)))
        except ConnectionClosed:
            pass
    assert said[-1]["result"] == {**truth(model), "file": None}
    finals = [m["segment"] for m in said if m["type"] == "final"]
    assert sorted(finals, key=lambda s: s["time"]["begin_s"]) == said[-1]["result"]["segments"]


@pytest.mark.parametrize(
    ("content", "options", "code", "words"),
    [
        (
            wav(np.repeat(talk(1)[:, None], 9, axis=1)),
            {},
            "bad_audio",
            "by 'channel' answers for at most 8",
        ),
        (CALL, {"turns": [{"start_s": 0, "end_s": 1, "speaker": "A"}]}, "bad_option", "takes no turns"),
        (CALL, {"sentences": [{"start_s": 0, "end_s": 1, "text": "a"}]}, "bad_option", "words of nobody: by 'channel'"),
    ],
)
def test_what_cannot_be_is_one_line(
    service: Service, content: bytes, options: dict[str, Any], code: str, words: str
) -> None:
    data = {"by": "channel", **{k: json.dumps(v) for k, v in options.items()}}
    answer = service.client.post("/v1/predict", files={"file": ("a.wav", content)}, data=data)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]
