"""What ffmpeg or a recorder writes into a pipe, a WAV without its length, is answered like the same with it."""

from __future__ import annotations

import errno
import io
import shutil
import struct
import sys
import tempfile
from types import SimpleNamespace

import pytest

from serkit.serving import pool
from serkit.serving.pool import STDIN, Asked, Worker
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction

from .asking import ask, asked
from .signals import GOLDEN, talk, wav

WHOLE = wav(talk(3), subtype="PCM_16")


def unclosed(size: int) -> bytes:
    """:data:`WHOLE` as it comes out of a pipe."""
    at = WHOLE.index(b"data") + 4
    return WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:at] + struct.pack("<I", size) + WHOLE[at + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_bytes_files_and_standard_input(model: Model, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    truth = model.predict(WHOLE)
    assert len(truth.segments) == 3
    assert model.predict(unclosed(size)) == truth
    assert model.predict(io.BytesIO(unclosed(size))) == truth
    assert (model.predict_proba([unclosed(size)]) == model.predict_proba([WHOLE])).all()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(unclosed(size))))
    found = Worker(Asked((STDIN,), model=str(GOLDEN), by="segment")).answer(STDIN)
    assert isinstance(found, Prediction)
    assert found.segments == truth.segments
    assert found.probabilities == truth.probabilities


def test_an_endless_stream_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came was written to a temporary file, until there was no room for anybody's."""

    class Endless(io.RawIOBase):
        n = 0

        def read(self, size: int = -1) -> bytes:
            self.n += size
            assert self.n < 1 << 30, "nobody stops"
            return bytes(size)

    worker = Worker(Asked((STDIN,), model=str(GOLDEN)))
    monkeypatch.setattr(pool, "_MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    for free, said in ((10 << 20, "all that /tmp has room for"), (1 << 50, "0.0 GB, the limit")):
        monkeypatch.setattr(pool, "_MOST_BYTES", 16 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Endless()))
        found = worker.answer(STDIN)
        assert found == f"standard input: continues after {said}; an endless stream has no answer for the whole"
        assert sys.stdin.buffer.n <= 17 << 20  # type: ignore[attr-defined]  # the stand-in above


def test_a_full_disk_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WHOLE)))
    monkeypatch.setattr(pool, "_keep", full)
    (line,) = ask(asked("-"))[2]
    assert line == f"standard input: cannot be read, or kept in {tempfile.gettempdir()}: No space left on device"


def test_the_service() -> None:
    pytest.importorskip("fastapi", reason="the service needs serkit[serve]")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from serkit.serving.http.app import create_app
    from serkit.serving.http.settings import ServiceSettings

    padded = unclosed(0) + bytes(1 << 21)  # above 1 MB a body lies in a file of its own
    with TestClient(create_app(ServiceSettings(model=str(GOLDEN), workers=1))) as client:

        def asked(content: bytes) -> dict[str, object]:
            answer = client.post("/v1/predict?timeline=true", files={"file": ("a.wav", content)})
            assert answer.status_code == 200, answer.text
            found: dict[str, object] = answer.json()["results"][0]
            return found

        truth = asked(WHOLE)
        assert asked(unclosed(0)) == asked(unclosed(0xFFFFFFFF)) == truth
        assert asked(padded)["segments"] == truth["segments"]
        assert asked(padded)["duration_s"] > truth["duration_s"] + 60  # type: ignore[operator]  # numbers
        empty = client.post("/v1/predict", files={"file": ("a.wav", unclosed(0)[:44])})
        assert empty.status_code == 422
        assert "no samples" in empty.json()["error"]["message"]
