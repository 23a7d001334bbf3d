"""Many at once, slow ones, vanishing ones, dying workers, SIGTERM: the service stays up and says what it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serkit.serving.predictor import Model

from .service import Service
from .signals import GOLDEN, quiet, talk, voice, wav

CLIPS = [wav(voice(0.8 + 0.2 * k, k, 100.0 + 30 * k), subtype="PCM_16") for k in range(8)]
MINUTES = np.tile(np.concatenate([voice(3), quiet(1)]), 60)  # four of them


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits two seconds for what a client has to send."""
    with Service(tmp_path_factory.mktemp("hasty"), workers=1, read_timeout=2) as service:
        yield service


def raw(service: Service, content: bytes = b"") -> socket.socket:
    """A connection without a library that would mend anything."""
    found = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    found.sendall(content)
    return found


def head(length: int, kind: str = "audio/wav") -> bytes:
    lines = ["POST /v1/predict HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def received(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def settled(service: Service, name: str = "serkit_requests_held", value: float = 0, limit_s: float = 60) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if service.metric(name) == value:
            return True
        time.sleep(0.02)
    return False


def form(name: str, content: bytes) -> bytes:
    """A whole request with one file in a form."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = f"--b\r\n{disposition}\r\n\r\n".encode() + content + b"\r\n--b--\r\n"
    return head(len(body), "multipart/form-data; boundary=b") + body


def all_at_once(service: Service, n: int) -> list[tuple[int, dict[str, str], Any]]:
    """Status, headers and JSON of ``n`` requests, all connected before the first is sent."""

    async def ask(content: bytes, ready: asyncio.Barrier) -> tuple[int, dict[str, str], Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        await ready.wait()
        writer.write(content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        writer.close()
        return int(lines[0].split()[1]), headers, json.loads(body)

    async def ask_all() -> list[tuple[int, dict[str, str], Any]]:
        ready = asyncio.Barrier(n)
        return await asyncio.gather(*(ask(form(f"{k}.wav", CLIPS[k % len(CLIPS)]), ready) for k in range(n)))

    return asyncio.run(ask_all())


def check_many(service: Service, model: Model, n: int) -> dict[int, int]:
    expected = [dict(model.predict(c, by="clip").probabilities) for c in CLIPS]
    before = service.memory_mb()
    answers = all_at_once(service, n)
    counts: dict[int, int] = {}
    for k, (status, headers, body) in enumerate(answers):
        counts[status] = counts.get(status, 0) + 1
        if status == 200:
            found = body["results"][0]
            assert found["file"] == f"{k}.wav"
            assert found["scores"] == pytest.approx(expected[k % len(CLIPS)], abs=1e-5)
        else:
            assert status == 429, body
            assert body["error"]["code"] == "busy"
            assert int(headers["retry-after"]) >= 1
    assert service.memory_mb() - before < 300
    assert settled(service)
    assert service.predict(CLIPS[0]).status_code == 200
    assert service.metric("serkit_worker_restarts_total", lane="predict") == 0
    return counts


def test_sixty_at_once_are_all_answered(service: Service, model: Model) -> None:
    assert check_many(service, model, 60) == {200: 60}
    text = service.client.get("/metrics").text
    batches = {w: float(text.split(f'serkit_batch_clips_bucket{{le="{w}"}} ')[1].split()[0]) for w in ("1.0", "8.0")}
    assert batches["8.0"] > batches["1.0"], "no two clips were ever answered together"


def test_five_hundred_at_once(service: Service, model: Model) -> None:
    counts = check_many(service, model, 500)
    assert counts[200] >= 64
    assert sum(counts.values()) == 500


def test_more_than_it_holds_is_sent_away_at_once(tmp_path: Path, model: Model) -> None:
    with Service(tmp_path, workers=1, queue=4, concurrency=8, batch=1) as service:
        counts = check_many(service, model, 40)
        assert counts[429] >= 10
        assert counts[200] >= 4
        assert service.metric("serkit_refused_total", code="busy") == counts[429]


def test_slow_clients_are_let_go_and_the_others_served(hasty: Service) -> None:
    half = CLIPS[0][: len(CLIPS[0]) // 2]
    began = time.monotonic()
    silent = [raw(hasty) for _ in range(3)]
    headers = [raw(hasty, b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-A: ") for _ in range(3)]
    bodies = [raw(hasty, head(len(CLIPS[0])) + half) for _ in range(3)]
    drip = raw(hasty, head(5_000_000))
    alive = threading.Event()

    def drop() -> None:
        try:
            while not alive.wait(0.1):
                drip.sendall(b"x")
        except OSError:
            return

    dripping = threading.Thread(target=drop)
    dripping.start()
    assert hasty.predict(CLIPS[1]).status_code == 200
    assert [received(c) for c in silent + headers] == [b""] * 6
    for connection in (*bodies, drip):
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b'"too_slow"' in answer
    alive.set()
    dripping.join()
    assert time.monotonic() - began < 60
    assert settled(hasty)
    assert settled(hasty, "serkit_held_bytes")
    for connection in (*silent, *headers, *bodies, drip):
        connection.close()


def test_headers_without_an_end_are_refused(service: Service) -> None:
    begun = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    trailing = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    for start in (begun, begun + b"X-A: ", trailing + b"X-A: "):
        connection, sent = raw(service, start), 0
        with contextlib.suppress(OSError):
            while sent < 60_000_000:
                connection.sendall(b"a" * 65_536 if start.endswith(b"X-A: ") else b"X-A: b\r\n" * 8_192)
                sent += 65_536
                time.sleep(0.001)
        connection.close()
        assert sent < 50_000_000, start  # what the system holds for a service that has no time just now included
    assert service.client.get("/healthz", headers={"X-A": "a" * 30_000}).status_code == 200


def test_clients_that_vanish_leave_nothing_behind(service: Service) -> None:
    body = head(len(CLIPS[0])) + CLIPS[0]
    random.seed(3)
    for _ in range(30):
        connection = raw(service, body[: random.randrange(1, len(body) + 1)])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
        connection.close()
    assert httpx.get(service.url + "/healthz").status_code == 200  # taken in order: the thirty were seen
    for name in ("serkit_requests_held", "serkit_held_bytes", "serkit_queued"):
        assert settled(service, name), name
    assert list(service.folder.iterdir()) == []
    assert service.predict(CLIPS[0]).status_code == 200
    assert "Traceback" not in service.log


def test_a_body_that_is_refused_early_is_answered_and_not_listened_to(hasty: Service) -> None:
    connection = raw(hasty, head(200_000_000))
    assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 60:
            connection.sendall(bytes(65_536))
            time.sleep(0.01)
    assert time.monotonic() - began < 60, "it went on listening to a body that it had refused"
    connection.close()


def test_a_worker_that_dies_is_replaced(hasty: Service) -> None:
    assert hasty.predict(CLIPS[0]).status_code == 200
    assert settled(hasty)
    hasty.memory_mb()  # the worker of streams has been started
    before = hasty.metric("serkit_worker_restarts_total", lane="predict")
    long = wav(np.tile(MINUTES, 3), kind="FLAC")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(hasty.predict, long)
        hasty.until_at_work()
        for pid in hasty.children():
            os.kill(pid, signal.SIGKILL)
        answer = asked.result()
    assert answer.status_code == 500, answer.text
    assert "worker crashed" in answer.json()["error"]["message"]
    assert hasty.predict(CLIPS[0]).status_code == 200
    assert hasty.metric("serkit_worker_restarts_total", lane="predict") == before + 1
    with hasty.stream() as stream:  # the worker of streams was killed too
        stream.send(json.dumps({"type": "start"}))
        assert json.loads(stream.recv(60))["type"] == "ready"


def until_answered(service: Service) -> None:
    """The first answer of a worker takes longest, and the time for one may be short."""
    end = time.monotonic() + 60
    while service.predict(CLIPS[0]).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with Service(tmp_path, workers=1, timeout=0.8) as service:
        until_answered(service)
        began = time.monotonic()
        answer = service.predict(wav(np.tile(MINUTES, 7), kind="FLAC"), timeline="true")
        assert answer.status_code == 504, answer.text
        assert answer.json()["error"]["code"] == "timeout"
        assert time.monotonic() - began < 60
        until_answered(service)


def test_sigterm_finishes_what_was_taken_and_refuses_more(tmp_path: Path) -> None:
    service = Service(tmp_path, workers=1, grace=300)
    long = wav(MINUTES, kind="FLAC")
    with ThreadPoolExecutor(4) as pool, service.stream() as stream:
        stream.send(json.dumps({"type": "start"}))
        stream.recv(60)
        job = service.client.post("/v1/jobs", files={"file": ("a", long)}).headers["location"]
        asked = [pool.submit(httpx.post, service.url + "/v1/predict", files={"file": ("a", long)}, timeout=300)
                 for _ in range(3)]  # fmt: skip
        assert settled(service, value=3)
        service.process.send_signal(signal.SIGTERM)
        service.until_draining()
        refused = service.predict(CLIPS[0])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert refused.headers["retry-after"]
        assert service.client.get("/readyz").status_code == 503
        assert service.client.get("/healthz").status_code == 200
        with service.stream() as late:
            assert json.loads(late.recv(60))["error"]["code"] == "shutting_down"
        stream.send(np.round(talk(2) * 32767).astype("<i2").tobytes())
        stream.send(json.dumps({"type": "finish"}))
        found: list[dict[str, Any]] = []
        while not found or found[-1]["type"] != "result":
            found.append(json.loads(stream.recv(60)))
        assert [a.result().status_code for a in asked] == [200] * 3
        end = time.monotonic() + 300
        while service.client.get(job).json()["status"] != "done":
            assert time.monotonic() < end
            time.sleep(0.1)
    assert service.process.wait(60) == 0
    service.stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_finished_job_that_nobody_fetched_is_said_to_be_waited_for(tmp_path: Path) -> None:
    service = Service(tmp_path, workers=1, grace=60)
    url = service.client.post("/v1/jobs", files={"file": ("a.wav", CLIPS[0])}).headers["location"]
    service.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 60
    while "1 finished job is waiting to be fetched, for up to" not in service.log:
        assert time.monotonic() < end, service.log
        time.sleep(0.05)
    assert service.process.poll() is None
    assert service.client.get(url).json()["status"] == "done"
    assert service.process.wait(60) == 0
    service.stop()
    assert service.log.count("to be fetched") == 1


@pytest.mark.slow
def test_streams_are_ended_with_their_answer_when_the_time_is_up(tmp_path: Path) -> None:
    service = Service(tmp_path, workers=1, grace=4)
    with service.stream() as stream:
        stream.send(json.dumps({"type": "start"}))
        stream.recv(60)
        stream.send(np.round(talk(1) * 32767).astype("<i2").tobytes())
        service.process.send_signal(signal.SIGTERM)
        kinds = []
        while "result" not in kinds:
            kinds.append(json.loads(stream.recv(60))["type"])
    assert stream.close_code in (1012, 1000, 1005)
    assert service.process.wait(60) == 0
    service.stop()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    service = Service(tmp_path, workers=1, grace=60)
    with service.stream() as stream:
        stream.send(json.dumps({"type": "start"}))
        stream.recv(60)
        service.process.send_signal(signal.SIGINT)
        service.until_draining()
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGINT)
        service.process.wait(60)
    service.stop()
    assert "Traceback" not in service.log


@pytest.mark.parametrize("after_s", [0.0, pytest.param(0.2, marks=pytest.mark.slow), 0.6])
def test_a_signal_while_it_starts_ends_it_without_a_word_too_many(after_s: float) -> None:
    words = [sys.executable, "-m", "serkit", "serve", "--model", str(GOLDEN), "--port", "0", "--workers", "1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "Started server process" in line
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 0, said
    assert "Traceback" not in said
    assert "ERROR" not in said
