"""One recording, one answer: alone, in a batch, as a stream, over HTTP alone and among others, over WebSocket.

Tolerance: 0 between file, stream and service for 16-bit sound at 16 kHz where the service answers one at a time;
1e-5 in a batch, whose networks sum in another order.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed

from serkit.serving.predictor import Model

from .service import Service
from .signals import RATE, talk, voice, wav

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
                last = json.loads(socket.recv(30))
        except ConnectionClosed:
            return dict(last["result"])


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
