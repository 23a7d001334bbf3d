"""The log of the service: of which request, what kind of error and where; nothing of what was being worked on."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from serkit.serving.http import worker as process_side
from serkit.serving.http.logs import Wordless, of_interpreter, of_loop, where
from serkit.serving.http.worker import Setup

from .service import Service
from .signals import GOLDEN, voice, wav

WRONG = """
from serkit.serving.http import answering, service

def wrong(self, *_):
    raise ValueError("a word of the recording")

answering.Answerer.predict = answering.Answerer.push = wrong
service.Service.model_row = wrong
"""
WRONG_STREAM = """
from serkit.serving.http import schemas

def wrong(self, *_, **__):
    raise ValueError("a word of the recording")

schemas.StreamStart.model_dump = wrong
"""


def spoilt(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every process of Python runs this first."""
    (folder / "code").mkdir()
    (folder / "code" / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(p for p in (str(folder / "code"), os.environ.get("PYTHONPATH")) if p)}


def in_log(service: Service, pattern: str, since: int = 0) -> None:
    """Wait until a line is written after the first ``since`` characters, which may be after the answer."""
    end = time.monotonic() + 60
    while not re.search(pattern, service.log[since:]):
        assert time.monotonic() < end, service.log
        time.sleep(0.02)


def error_of_a_stream(service: Service) -> str:
    said = ""
    with service.stream() as socket:
        socket.send(json.dumps({"type": "start"}))
        try:
            while not said:
                answer = json.loads(socket.recv(60))
                if answer["type"] == "ready":
                    socket.send(b"\0\0")
                else:
                    said = answer["error"]["message"]
        except ConnectionClosed:
            pass
    return said


def test_no_word_of_an_error_is_logged_wherever_it_is_raised(tmp_path: Path) -> None:
    """The server logged the whole traceback, the workers too: the last line of one are the words of the error."""
    with Service(tmp_path, spoilt(tmp_path, WRONG), workers=1) as service:
        asked = service.predict(wav(voice(1.0)), "a name.wav")
        assert asked.status_code == 500
        name = asked.headers["x-request-id"]
        in_log(service, rf"predict worker died with 1 recordings, request {name}: ValueError at .*:\d+ wrong\n")
        assert "internal error in this stream" in error_of_a_stream(service)
        in_log(service, r"streams worker, request [0-9a-f]{8}: ValueError at .*:\d+ wrong\n")
        model = service.client.get("/v1/model")
        assert model.status_code == 500
        in_log(service, rf"request {model.headers['x-request-id']}: ValueError at .*app\.py:\d+ model > .*:\d+ wrong\n")
        in_log(service, r"Exception in ASGI application: ValueError at .*:\d+ wrong\n")
    assert "a word of the recording" not in service.log
    assert "a name" not in service.log
    assert "Traceback" not in service.log


def test_a_stream_that_fails_in_the_service_is_told_the_name_in_the_log(tmp_path: Path) -> None:
    """It was cut off without a message, and the log had no name of it."""
    with Service(tmp_path, spoilt(tmp_path, WRONG_STREAM), workers=1) as service:
        said = error_of_a_stream(service)
        begin, _, name = said.rpartition(" ")
        assert begin == "internal error; the service's log has it as"
        in_log(service, rf"stream, request {name}: ValueError at .*:\d+ wrong\n")
    assert "a word of the recording" not in service.log


def test_a_stream_has_a_line_like_a_request_and_no_address_or_query(service: Service) -> None:
    """uvicorn logged the address of the client and the query, which may hold a key, also with ``--quiet``."""
    begun = len(service.log)
    url = service.url.replace("http", "ws", 1)
    with connect(f"{url}/v1/stream?api_key=a-secret-key", open_timeout=60) as socket:
        port = socket.local_address[1]
        socket.send(json.dumps({"type": "start"}))
        assert json.loads(socket.recv(60))["type"] == "ready"
        socket.send(b"\0\0" * 16_000)
        socket.send(json.dumps({"type": "finish"}))
        while json.loads(socket.recv(60))["type"] != "result":
            pass
    in_log(service, r"INFO WS /v1/stream ok \d+ ms, request [0-9a-f]{8}\n", begun)
    with pytest.raises(InvalidStatus), connect(f"{url}/v1/nowhere?api_key=a-secret-key", open_timeout=60):
        pass
    with service.stream() as socket:
        socket.send(json.dumps({"type": "begin"}))
        assert json.loads(socket.recv(60))["type"] == "error"
    in_log(service, r"INFO WS /v1/stream bad_option \d+ ms, request [0-9a-f]{8}\n", begun)
    said = service.log[begun:]
    assert "a-secret-key" not in said
    assert f":{port}" not in said
    assert "WebSocket" not in said
    assert "connection open" not in said


def test_where_names_kinds_and_places_along_the_causes() -> None:
    def inner() -> None:
        raise KeyError("words")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise OSError(28, "words", "/a/name") from error

    try:
        outer()
    except OSError as error:
        said = where(error)
        group = where(ExceptionGroup("words", [error, ValueError("words")]))
    here = r"tests/serving/test_http_log\.py:\d+"
    assert re.fullmatch(
        rf"OSError \(No space left on device\) at {here} test_where\w+ > {here} outer, "
        rf"from KeyError at {here} outer > {here} inner",
        said,
    )
    assert re.fullmatch(r"ExceptionGroup of OSError .* inner; ValueError", group)
    assert "words" not in said + group
    assert "name" not in said.replace("test_where_names", "")


def test_a_place_deep_within_is_told_by_its_end() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError

    with pytest.raises(ValueError) as raised:  # noqa: PT011  # it has no words
        deep(50)
    assert where(raised.value).count(" > ") == 7


def test_a_record_with_a_traceback_has_its_places_alone(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("serkit.test")
    log.addFilter(Wordless())
    try:
        raise ValueError("100 % words")
    except ValueError:
        log.exception("in %s\n", "this")
    log.warning("plain %d", 1)
    assert re.search(r"in this: ValueError at .*:\d+ test_a_record", caplog.text)
    assert "plain 1" in caplog.text
    assert "words" not in caplog.text


def test_what_a_loop_says_of_an_error_nobody_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(of_loop)
        failed = loop.create_future()
        failed.set_exception(ValueError("words"))
        del failed
        loop.call_exception_handler({"message": "nothing more"})

    asyncio.run(scene())
    assert "exception was never retrieved: ValueError" in caplog.text
    assert "nothing more" in caplog.text
    assert "words" not in caplog.text


def test_what_the_interpreter_says_of_an_error_that_is_raised_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Left:
        def __del__(self) -> None:
            raise ValueError("words")

    monkeypatch.setattr(sys, "unraisablehook", of_interpreter)
    left = [Left()]
    left.clear()
    assert re.search(r"ValueError at \S*/serving/test_http_log\.py:", caplog.text)
    assert "words" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_worker_that_ends_by_itself_says_where(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its whole traceback went to standard error."""
    monkeypatch.setattr(process_side, "begin_worker", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    ours, theirs = multiprocessing.Pipe()
    ours.send("neither a name nor a payload: a word of the recording")
    process_side.main(theirs, Setup(str(GOLDEN)))
    assert re.search(r"predict worker ends: ValueError at .*worker\.py:\d+ _answer_all", caplog.text)
    assert sys.unraisablehook is of_interpreter
    assert "a word" not in caplog.text + "".join(capfd.readouterr())
