"""A client that reads nothing of its answers holds no memory, no connection and no stream."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
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


@contextlib.asynccontextmanager
async def talking(protocol: Any, app: Any, **options: int) -> AsyncIterator[socket.socket]:
    """A client of one protocol of the service, in this process; ``options`` of the sockets of the service."""
    import uvicorn
    from uvicorn.server import ServerState

    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, ws_ping_interval=None, lifespan="off", log_config=None)
    config.load()
    listening = socket.socket()
    for name, value in options.items():
        listening.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)  # accepted ones have it, too
    listening.bind(("127.0.0.1", 0))
    server = await loop.create_server(lambda: protocol(config, ServerState(), {}, loop), sock=listening)
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        yield client
    server.close()


async def read(client: socket.socket, size: int) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(client, size)


def test_the_last_ping_is_answered_once_what_waits_is_read() -> None:
    """Else a client that was slow for a moment takes the service for dead, and leaves."""
    from serkit.serving.http.server import _sockets

    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def answers() -> bytes:
        said = b""
        async with talking(_sockets(30.0), accepting, SO_SNDBUF=4096) as client:
            await asyncio.get_running_loop().sock_sendall(client, HANDSHAKE)
            assert (await read(client, 4096)).startswith(b"HTTP/1.1 101")
            pings = frame(9, bytes(125)) * 4000 + frame(9, b"last")
            await asyncio.get_running_loop().sock_sendall(client, pings)
            with contextlib.suppress(TimeoutError):
                while not said.endswith(b"last"):
                    said += await read(client, 65_536)
        return said

    assert asyncio.run(answers()).endswith(b"\x8a\x04last")


def test_a_slow_client_of_a_long_answer_is_not_taken_for_one_that_reads_nothing() -> None:
    """The system keeps megabytes for a connection, and takes more once a third of them is read."""
    from serkit.serving.http.server import _protocol

    length = 12_000_000

    async def long(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-length", str(length).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": bytes(length)})

    async def bytes_read() -> int:
        said, end = 0, time.monotonic() + 1.5
        async with talking(_protocol(0.3), long) as client:
            await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while part := await read(client, 32_768):
                    said += len(part)
                    await asyncio.sleep(0.02 if time.monotonic() < end else 0)
        return said

    assert asyncio.run(bytes_read()) > length
