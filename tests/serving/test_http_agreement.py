"""One recording, one answer: alone, in a batch, as a stream, over HTTP alone and among others, over WebSocket.

Tolerance: 0 between file, stream and service for 16-bit sound at 16 kHz where the service answers one at a time;
1e-5 in a batch, whose networks sum in another order.
"""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed

from serkit.serving import predicting
from serkit.serving.pool import Asked
from serkit.serving.predictor import Model
from serkit.serving.timeline import Turn, read_rttm, read_transcript, turns_of

from .service import Service
from .signals import GOLDEN, RATE, talk, voice, wav

TOLERANCE = 1e-5
DATA = Path(os.environ.get("SERKIT_DATA", "../shared/data"))


def made() -> list[np.ndarray]:
    """(samples,) int16 of clips, short and long, with and without pauses."""
    sounds = [voice(0.3), voice(2.0, 3, 200.0), talk(3), talk(14)]
    return [np.round(x * 32767).astype(np.int16) for x in sounds]


def recorded() -> list[np.ndarray]:
    from serkit import audio

    files = sorted(DATA.glob("ravdess/**/*.flac"))[::97][:4]
    return [np.round(audio.load(f) * 32767).astype(np.int16) for f in files]


def over_socket(service: Service, sound: np.ndarray) -> dict[str, Any]:
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start", "partial_s": None}))
        for at in range(0, len(sound), 4_000):
            socket.send(sound[at : at + 4_000].astype("<i2").tobytes())
        socket.send(json.dumps({"type": "finish"}))
        last: dict[str, Any] = {}
        try:
            while True:
                last = json.loads(socket.recv(60))
        except ConnectionClosed:
            return dict(last["result"])


TRANSCRIPT = [  # of talk(14): words with times and without, out of order, by nobody, by a number
    {"start": 6.0, "end": 11.0, "text": " said by Ben ", "speaker": "Ben"},
    {"start": 0.2, "end": 3.0, "text": "one two", "speaker": "Ann", "words": [
        {"start": 0.3, "end": 0.9, "word": " one"}, {"start": 2.4, "end": 2.9, "word": "two "}]},
    {"start": 3.4, "end": 5.0, "text": "three", "speaker": "Ann"},
    {"start": 11.5, "end": 13.0, "text": "", "speaker": 7},
    {"start": 14.0, "end": 16.0, "text": "nobody", "speaker": None},
]  # fmt: skip
RTTM = """SPEAKER other 1 0 99 <NA> <NA> Wrong <NA> <NA>
SPEAKER call 1 5.5 8 <NA> <NA> Bob <NA> <NA>
SPEAKER call 1 0.1 5.2 <NA> <NA> Ann <NA> <NA>
"""


def as_rows(turns: list[Turn]) -> list[dict[str, Any]]:
    word = ("start_s", "end_s", "text")
    return [{**asdict(t), "words": [{k: asdict(w)[k] for k in word} for w in t.words]} for t in turns]


@pytest.mark.parametrize(
    ("given", "by"),
    [(x, y) for x in ("transcript", "rttm", "both") for y in ("segment", "window", "turn")]
    + [(x, y) for x in ("transcript", "both") for y in ("sentence", "word")],
)
def test_turns_and_words_are_those_of_the_command_line(service: Service, tmp_path: Path, by: Any, given: str) -> None:
    sound = tmp_path / "call.wav"
    sound.write_bytes(wav(talk(14), subtype="PCM_16"))
    beside: dict[str, Path] = {}
    options: dict[str, Any] = {}
    if given != "rttm":
        beside["transcript"] = tmp_path / "call.json"
        beside["transcript"].write_text(json.dumps({"segments": TRANSCRIPT}))
        options["sentences"] = as_rows(read_transcript(beside["transcript"])[::-1])
    if given != "transcript":
        beside["rttm"] = tmp_path / "calls.rttm"
        beside["rttm"].write_text(RTTM)
        options["turns"] = as_rows(turns_of(read_rttm(beside["rttm"]), "call.wav")[::-1])
    written: list[str] = []
    asked = Asked((str(sound),), model=str(GOLDEN), kind="json", timeline=True, by=by, **beside)
    assert predicting.predict(asked, written.append, written.append) == 0
    wanted = json.loads(written[0])
    body = {"audio": base64.b64encode(sound.read_bytes()).decode(), "by": by, "timeline": True, **options}
    found = service.client.post("/v1/predict", json=body).json()["results"][0]
    same = ("speaker", "text", "label", "state", "speech_s")
    assert [(*s["time"].values(), s["scores"], *(s[k] for k in same)) for s in found["segments"]] == [
        (s["start_s"], s["end_s"], s["probabilities"], *(s[k] for k in same)) for s in wanted["segments"]
    ]
    second = "Ben" if given == "transcript" or by in ("sentence", "word") else "Bob"
    assert {s["speaker"] for s in wanted["segments"]} >= {"Ann", second}
    assert any(s["text"] for s in wanted["segments"]) == (given != "rttm")
    assert [(s["speaker"], s["scores"]) for s in found["speakers"]] == [
        (s["speaker"], s["probabilities"]) for s in wanted["speakers"]
    ]


@pytest.mark.parametrize("by", ["segment", "sentence", "turn"])
def test_turns_alone_carry_words_and_speakers(service: Service, by: str) -> None:
    rows = [
        {"start_s": 0.2, "end_s": 5.0, "speaker": "Ann", "text": "one two"},
        {"start_s": 5.5, "end_s": 13.0, "text": "three"},
    ]
    body = {"audio": base64.b64encode(wav(talk(14), subtype="PCM_16")).decode(), "by": by, "turns": rows}
    found = service.client.post("/v1/predict", json=body).json()["results"][0]
    assert ({"one two"} if by == "segment" else {"one two", "three"}) <= {s["text"] for s in found["segments"]}
    assert {"Ann", None} <= {s["speaker"] for s in found["segments"]}
    assert [s["speaker"] for s in found["speakers"]] == ["Ann"]


def check(service: Service, model: Model, sounds: list[np.ndarray]) -> None:
    files = [wav(x, subtype="PCM_16") for x in sounds]
    alone = [dict(model.predict(f).probabilities) for f in files]
    short = [k for k, x in enumerate(sounds) if len(x) <= model.max_clip_s * RATE]
    batch = model.predict_proba([files[k] for k in short])
    for k, row in zip(short, batch, strict=True):
        assert dict(zip(model.labels, row, strict=True)) == pytest.approx(alone[k], abs=TOLERANCE)
    for sound, file, wanted in zip(sounds, files, alone, strict=True):
        stream = model.stream()
        for at in range(0, len(sound), 1_234):
            stream.push(sound[at : at + 1_234])
        stream.finish()
        assert dict(stream.prediction.probabilities) == wanted
        assert service.result(file)["scores"] == wanted
        assert service.result(file, timeline="true")["scores"] == wanted
        assert over_socket(service, sound)["scores"] == wanted
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(service.result, files * 6))
    for k, found in enumerate(together):
        assert found["scores"] == pytest.approx(alone[k % len(files)], abs=TOLERANCE)


def test_all_ways_agree(service: Service, model: Model) -> None:
    check(service, model, made())


@pytest.mark.skipif(not (DATA / "ravdess").is_dir(), reason="no RAVDESS under SERKIT_DATA")
def test_all_ways_agree_on_recordings(service: Service, model: Model) -> None:
    sounds = recorded()
    assert sounds
    check(service, model, sounds)


def test_turns_and_sentences_of_one_recording_are_refused_for_several(service: Service) -> None:
    """Every recording of the request was answered by those of one, as the command line did."""
    files = [("file", (f"{name}.wav", wav(talk(2)))) for name in "ab"]
    for name in ("turns", "sentences"):
        data = {name: json.dumps([{"start_s": 0.5, "end_s": 2.2, "speaker": "Ann", "text": "hello"}])}
        answer = service.client.post("/v1/predict", files=files, data=data)
        assert answer.status_code == 422
        assert "belong to one recording, but 2 came" in answer.json()["error"]["message"]
