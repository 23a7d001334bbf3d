"""A client that reads nothing of its answers holds no memory, no connection and no stream."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets")

from .service import Service


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("hasty"), workers=1, read_timeout=0.4) as service:
        yield service


def deaf(service: Service, content: bytes) -> socket.socket:
    """A connection with no room for answers."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.settimeout(2)
    found.connect(("127.0.0.1", service.port))
    found.sendall(content)
    return found


def frame(opcode: int, content: bytes) -> bytes:
    """A message of a client, masked with zeros."""
    assert len(content) < 126
    return struct.pack("BB4x", 0x80 | opcode, 0x80 | len(content)) + content


HANDSHAKE = "\r\n".join(
    [
        *("GET /v1/stream HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"),
        *(f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}", "Sec-WebSocket-Version: 13", "", ""),
    ]
).encode()


def started(service: Service) -> socket.socket:
    """A stream of a client that reads nothing after ``ready``."""
    found = deaf(service, HANDSHAKE)
    until(found, b"\r\n\r\n")
    found.sendall(frame(1, json.dumps({"type": "start"}).encode()))
    until(found, b'"ready"')
    return found


def until(connection: socket.socket, end: bytes) -> None:
    said = b""
    while end not in said:
        part = connection.recv(4096)
        assert part, said
        said += part


def flood(connection: socket.socket, content: bytes, limit_s: float) -> bool:
    """Send until the service cuts the connection; ``False`` where it does not."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            connection.sendall(content)
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_answers_that_nobody_reads_end_the_connection(hasty: Service) -> None:
    whole = len(hasty.client.get("/openapi.json").content)
    with deaf(hasty, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200) as connection:
        time.sleep(1.0)
        said = 0
        while part := connection.recv(65_536):
            said += len(part)
    assert said < 150 * whole


def test_answers_that_are_read_slowly_come_whole(hasty: Service) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
    with deaf(hasty, request + b"\r\n" + request + b"Connection: close\r\n\r\n") as connection:
        said, end = b"", time.monotonic() + 1.2  # three times as long as the service waits for a sign of reading
        while time.monotonic() < end:
            said += connection.recv(1024)
            time.sleep(0.05)
        while part := connection.recv(65_536):
            said += part
    assert len(said) > 2 * len(hasty.client.get("/openapi.json").content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(frame(9, bytes(125)) * 500, id="of-the-protocol"),
        pytest.param(
            frame(1, b'{"type":"ping"}') * 500, id="of-the-service", marks=pytest.mark.slow
        ),  # of short answers
    ],
)
def test_pings_whose_answers_nobody_reads_hold_neither_memory_nor_the_stream(hasty: Service, content: bytes) -> None:
    before = hasty.memory_mb()
    with started(hasty) as connection:
        assert hasty.metric("serkit_streams") == 1
        assert flood(connection, content, 120)
    assert hasty.memory_mb() - before < 20
    end = time.monotonic() + 10
    while hasty.metric("serkit_streams") and time.monotonic() < end:
        time.sleep(0.02)
    assert hasty.metric("serkit_streams") == 0


def test_the_last_ping_is_answered_once_what_waits_is_read() -> None:
    """Else a client that was slow for a moment takes the service for dead, and leaves."""
    assert asyncio.run(_after_many_pings()).endswith(b"\x8a\x04last")


async def _after_many_pings() -> bytes:
    """What a client that reads only after its pings is sent."""
    import uvicorn
    from uvicorn.server import ServerState

    from serkit.serving.http.server import _sockets

    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    loop = asyncio.get_running_loop()
    config = uvicorn.Config(accepting, ws_ping_interval=None, lifespan="off", log_config=None)
    config.load()
    made: Any = _sockets(30.0)
    listening, client = socket.socket(), socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # as accepted ones have it
    client.setblocking(False)
    listening.bind(("127.0.0.1", 0))
    server = await loop.create_server(lambda: made(config, ServerState(), {}, loop), sock=listening)
    with client:
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, HANDSHAKE)
        said = await loop.sock_recv(client, 4096)
        await loop.sock_sendall(client, frame(9, bytes(125)) * 4000 + frame(9, b"last"))
        try:
            while part := await asyncio.wait_for(loop.sock_recv(client, 65_536), 1.0):
                said += part
                if said.endswith(b"last"):
                    break
        except TimeoutError:
            pass
    server.close()
    return said
