"""Whatever is uploaded: a clear answer, bounded memory, and the next one is served."""

from __future__ import annotations

import base64
import functools
import io
import json
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx")

from .service import Service
from .signals import RATE, quiet, voice, wav

GROWTH_MB = 400.0  # what all processes may take beyond what they had: a few blocks of 64 MiB each
GOOD = wav(voice(1.5), subtype="PCM_16")


def resampled(rate: int, channels: int = 1, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    import soxr

    sound = soxr.resample(voice(1.5), RATE, rate)
    return wav(np.repeat(sound[:, None], channels, axis=1), rate, kind, subtype)


def music() -> np.ndarray:
    """Chords without a pause."""
    time = np.arange(3 * RATE) / RATE
    return sum(np.sin(2 * np.pi * f * time) for f in (220, 277.2, 329.6, 440)).astype(np.float32) / 8


def with_bad_sample(value: float) -> bytes:
    sound = voice(1.0)
    sound[700] = value
    return wav(sound, subtype="FLOAT")


@functools.cache
def flac_bomb(hours: float = 11.0) -> bytes:
    """Hours of silence in less than a megabyte, as a FLAC may be."""
    import soundfile

    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        block = np.zeros(8_000 * 600, np.int16)
        for _ in range(round(hours * 6)):
            file.write(block)
    return buffer.getvalue()


def lying_flac() -> bytes:
    """A FLAC bomb whose header says that it is of unknown length."""
    content = bytearray(flac_bomb())
    content[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO
    content[22:26] = bytes(4)
    return bytes(content)


def wide_flac() -> bytes:
    """Eight channels at 192 kHz: 15 million samples in ten seconds."""
    return wav(np.zeros((192_000 * 20, 8), np.float32), 192_000, "FLAC", "PCM_16")


def claiming_wav(size: int) -> bytes:
    """A header that promises so many bytes, of 64 channels at 768 kHz."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, 64, 768_000,
                       768_000 * 128, 128, 16, b"data", size - 36)  # fmt: skip
    return head + bytes(128 * 20_000)


# what comes → status, code or abstention
MATRIX: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "empty": (lambda: b"", 422, "bad_audio"),
    "one byte": (lambda: b"R", 422, "bad_audio"),
    "text": (lambda: b"this is a letter and no sound", 422, "bad_audio"),
    "truncated WAV": (lambda: GOOD[: len(GOOD) // 2], 422, "bad_audio"),
    "truncated FLAC": (lambda: wav(voice(3), kind="FLAC")[:20_000], 422, "bad_audio"),
    "header alone": (lambda: GOOD[:44], 422, "bad_audio"),
    "wrong header": (lambda: b"RIFX" + GOOD[4:], 422, "bad_audio"),
    "claims 1.5 GB": (lambda: claiming_wav(3 * 2**29), 422, "bad_audio"),
    "written as a stream": (lambda: claiming_wav(2**32 - 1), 200, "no_speech"),
    "8 bits": (lambda: resampled(8_000, subtype="PCM_U8"), 200, ""),
    "96 kHz": (lambda: resampled(96_000, subtype="PCM_24"), 200, ""),
    "8 channels": (lambda: resampled(48_000, 8, "FLOAT"), 200, ""),
    "8 kHz telephone": (lambda: resampled(8_000, subtype="ULAW"), 200, ""),
    "MP3": (lambda: wav(voice(1.5), kind="MP3", subtype="MPEG_LAYER_III"), 200, ""),
    "NaN": (lambda: with_bad_sample(np.nan), 422, "bad_audio"),
    "infinite": (lambda: with_bad_sample(np.inf), 422, "bad_audio"),
    "another scale": (lambda: wav(voice(1.0) * 1000, subtype="FLOAT"), 422, "bad_audio"),
    "silence": (lambda: wav(np.zeros(3 * RATE, np.float32)), 200, "no_speech"),
    "noise": (lambda: wav(quiet(3, 0.1)), 200, "no_speech"),
    "music": (lambda: wav(music()), 200, ""),
    "15 ms": (lambda: wav(voice(0.015)), 200, "no_speech"),
    "one sample": (lambda: wav(np.full(1, 0.1, np.float32)), 200, "no_speech"),
    "FLAC bomb of 11 h": (flac_bomb, 413, "too_long"),
    "FLAC bomb that lies": (lying_flac, 413, "too_long"),
    "8 channels at 192 kHz": (wide_flac, 200, "no_speech"),
    "an M4A without ffmpeg": (lambda: b"\0\0\0\x20ftypM4A " + bytes(500), 422, "bad_audio"),
}


@pytest.mark.parametrize("name", list(MATRIX))
def test_a_clear_answer(service: Service, name: str) -> None:
    make, status, code = MATRIX[name]
    content = make()
    before = service.memory_mb()
    answer = service.predict(content, name="ünï cödé and spaces.wav", timeline="true")
    assert answer.status_code == status, answer.text
    if status == 200:
        found = answer.json()["results"][0]
        assert found["file"] == "ünï cödé and spaces.wav"
        assert found["label"] in found["scores"]
        assert sum(found["scores"].values()) == pytest.approx(1)
        assert found["no_speech"] == (code == "no_speech" or found["abstain"] == "no_speech")
        if code:
            assert found["abstain"] == code
    else:
        assert answer.json()["error"]["code"] == code
        message = answer.json()["error"]["message"]
        assert message
        assert "\n" not in message
        assert "/proc" not in message
        assert "the recording" in message
    assert service.memory_mb() - before < GROWTH_MB
    assert service.predict(GOOD).status_code == 200
    assert service.metric("serkit_worker_restarts_total", lane="predict") == 0


def test_a_job_of_eleven_hours_is_stopped_as_any_other(service: Service) -> None:
    """Taken, since it is shorter than 12 h; the bomb is heard in constant memory."""
    begun = service.client.post("/v1/jobs", files={"file": ("11 h.flac", flac_bomb())})
    assert begun.status_code == 202
    assert service.memory_mb() < 1500
    assert service.client.delete(begun.headers["location"]).status_code == 204
    job = service.client.post("/v1/jobs", files={"file": ("a.wav", GOOD)}).json()
    assert service.finished(job["url"])["status"] == "done", "whoever comes next does not wait for what was deleted"


def test_hostile_file_names_are_but_text(service: Service) -> None:
    for name in ("../../etc/passwd", "a\\b.wav", "x" * 1_500 + ".wav", "-", "raw.raw", "<script>alert(1)</script>.wav"):
        answer = service.predict(GOOD, name=name)
        assert answer.status_code == 200
        assert answer.json()["results"][0]["file"] == name[:1000]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


HOSTILE: dict[str, tuple[Callable[[], str], str]] = {
    "a number of many digits": (lambda: '[{"start_s": ' + "9" * 5_000 + "}]", "is not JSON"),
    "a million empty words": (
        lambda: json.dumps([{"start_s": 0, "end_s": 1, "words": [{}] * 19_000}] * 50, separators=(",", ":")),
        "turns.0.words.0.start_s: Field required",
    ),
    "many unknown options": (
        lambda: json.dumps([{"start_s": 0, "end_s": 1, **{f"k{n}": 1 for n in range(200_000)}}]),
        "200000 options are unknown or wrong; /docs lists the known ones",
    ),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_options_that_would_take_all_memory_are_refused_at_once(service: Service, name: str) -> None:
    make, said = HOSTILE[name]
    content = make()
    before = service.memory_mb()
    began = time.monotonic()
    answer = service.client.post("/v1/predict", files={"file": ("a.wav", GOOD)}, data={"turns": content})
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]
    assert time.monotonic() - began < 60
    assert service.memory_mb() - before < GROWTH_MB


def test_json_is_small_beside_its_recording(service: Service) -> None:
    body = {"audio": base64.b64encode(GOOD + bytes(6_000_000)).decode(), "name": "a.wav"}  # the recording may be large
    assert service.client.post("/v1/predict", json=body).status_code in (200, 422)
    answer = service.client.post("/v1/predict", json={"audio": "", "text": "a" * 5_000_000})
    assert answer.status_code == 413
    assert "beside the recording" in answer.json()["error"]["message"]
