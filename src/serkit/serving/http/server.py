"""uvicorn, with limits for slow clients, and time to finish accepted requests after SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import os
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from serkit.errors import RunFailed
from serkit.serving.http.app import create_app
from serkit.serving.http.logs import Wordless, of_interpreter
from serkit.serving.http.service import Service
from serkit.serving.http.settings import ServiceSettings
from serkit.serving.http.sockets import MAX_READ

LOG = logging.getLogger("serkit.serving")
MAX_HEAD = 64 * 1024
"""Bytes of a request line and headers, or of whatever else stands between bodies."""
_LAST_S = 3.0  # of the time after SIGTERM, for streams to end
_UNSENT = 64 * 1024  # bytes of an answer that the system takes before it can send them
_GOODBYE_S = 2.0  # for the answer to a stream's end; meanwhile what the client sends is read, and dropped


def serve(settings: ServiceSettings, host: str = "127.0.0.1", port: int = 8000, *, quiet: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        port: 0 takes a free one. quiet: no line for each request.

    Raises:
        RunFailed: the model cannot be loaded, or the port is taken.
    """
    _refuse_taken(host, port)
    _allow_many_files()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)
    if not settings.keys and not _is_local(host):
        LOG.warning("no key is asked for, and other machines may reach %s: see --api-key-file", host)
    app = create_app(settings)
    service: Service = app.state.service
    config = uvicorn.Config(
        app, host=host, port=port, http=_protocol(settings.read_s), ws=_sockets(settings.read_s), access_log=False,
        log_level="info", server_header=False, ws_max_size=MAX_READ, ws_max_queue=8, timeout_keep_alive=5,
        lifespan="on", ws_per_message_deflate=False, timeout_graceful_shutdown=int(settings.grace_s) + 5,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(Wordless())  # it logs what the application raised
    sys.unraisablehook = of_interpreter
    server = _Server(config, service)
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # it leaves so where it cannot listen
        server.run()
    if service.failed is not None:
        raise service.failed
    if not server.started:
        raise RunFailed(f"the service did not start at {host}:{port}; the lines above say why")


class _Server(uvicorn.Server):
    """On the first signal nothing new is taken, and what was taken is finished; on the second all ends at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._drained: float | None = None
        self._waits_said = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self.should_exit = self.should_exit or not self.started  # nothing was taken yet, and the workers are told
        if self._service.draining:
            self.force_exit = self.should_exit = True
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to end."""
        if self._service.draining and not self.should_exit:
            self.should_exit = self._finished(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _finished(self, now: float) -> bool:
        service = self._service
        if self._drained is None:
            n, grace_s = service.unfinished, service.settings.grace_s
            LOG.warning("shutting down: %d requests, streams and jobs are finished first, for up to %.0f s", n, grace_s)
            self._drained = now
        left = service.settings.grace_s - (now - self._drained)
        if service.unfinished == 0 and service.jobs.untold and not self._waits_said:
            self._waits_said = True
            n = service.jobs.untold
            said = "1 finished job is waiting" if n == 1 else f"{n} finished jobs are waiting"
            LOG.warning("shutting down: %s to be fetched, for up to %.0f s; a second signal ends it now", said, left)
        if left < min(_LAST_S, service.settings.grace_s / 2):
            service.closing.set()
        waiting = service.unfinished + service.jobs.untold
        if waiting and left <= 0:
            said = "shutting down: the time is over; lost: requests, streams and jobs not finished: %d, not fetched: %d"
            LOG.warning(said, service.unfinished, service.jobs.untold)
        return left <= 0 or waiting == 0


class _Read:
    """Of a connection: it is cut where the client reads nothing of what waits for it.

    Whoever sends waits until then, and a connection that is merely closed waits for the client too.
    """

    patience_s: float
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _left = 0  # bytes that waited when it was looked last
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]  # of the protocol beside which this class stands
        transport.set_write_buffer_limits(high=0)  # so that what follows sees every byte that waits
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: a system without this option
            # else it takes megabytes, and then nothing until a third of them is read: a slow client would look deaf
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]  # the same
        self._left = self.transport.get_write_buffer_size()
        self._look = self.loop.call_later(self.patience_s, self._cut)

    def resume_writing(self) -> None:
        self._rest()
        super().resume_writing()  # type: ignore[misc]  # the same

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)  # type: ignore[misc]  # the same

    def _cut(self) -> None:
        left, self._left = self._left, self.transport.get_write_buffer_size()
        if self._left >= left:
            self.transport.abort()
        else:
            self._look = self.loop.call_later(self.patience_s, self._cut)

    def _rest(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None


def _sockets(patience: float) -> type[asyncio.Protocol]:
    """The protocol of a stream's connection, with bounds for what it holds of a client that does not read."""

    class Bounded(_Read, AutoWebSocketsProtocol):  # type: ignore[misc, valid-type]  # uvicorn chooses it when it is imported
        """One connection."""

        patience_s = patience

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.close_timeout = _GOODBYE_S

            self._pong: list[bytes] = []  # to the last ping that came while something waited to be read

        def handle_ping(self) -> None:
            """Answer; where something waits to be read, later and the last alone (RFC 6455, 5.5.3 asks for no more)."""
            if self.transport.get_write_buffer_size():
                self._pong = self.conn.data_to_send()[-1:] or self._pong  # of what comes together, the first has all
            else:
                super().handle_ping()

        def resume_writing(self) -> None:
            super().resume_writing()
            pong, self._pong = self._pong, []
            if pong and not self.transport.is_closing():
                self.transport.write(b"".join(pong))

    return Bounded


def _protocol(patience: float) -> type[HttpToolsProtocol]:
    """The protocol of a connection, closed where headers, or the rest of a refused body, do not come in time."""

    class Impatient(_Read, HttpToolsProtocol):
        """One connection."""

        patience_s = patience

        _timer: asyncio.TimerHandle | None = None
        _pending = 0  # bytes since something was understood: headers are kept until they are whole, without a limit

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            self._expect(patience)

        def data_received(self, data: bytes) -> None:
            self._pending += len(data)
            super().data_received(data)
            if self._pending > MAX_HEAD and not self.transport.is_closing():
                if self.cycle is None or self.cycle.response_complete:
                    self.send_400_response(f"the headers exceed {MAX_HEAD >> 10} KiB, the limit")
                else:
                    self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._timer is None:
                self._expect(patience)

        def on_headers_complete(self) -> None:
            self._pending = 0
            self._calm()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._pending = 0
            super().on_body(body)

        def on_response_complete(self) -> None:
            unread = self.cycle is not None and self.cycle.more_body
            super().on_response_complete()
            if unread:
                self._expect(patience)

        def on_message_complete(self) -> None:
            self._pending = 0
            self._calm()
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            """What is not HTTP is answered in the shape of all errors."""
            body = json.dumps({"error": {"code": "bad_request", "message": msg}}).encode()
            head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
            self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _expect(self, seconds: float) -> None:
            self._calm()
            self._timer = self.loop.call_later(seconds, self._end)

        def _calm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _end(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

    return Impatient


def _is_local(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> _is_local("127.0.0.1"), _is_local("::1"), _is_local("0.0.0.0"), _is_local("")
    (True, True, False, False)
    """
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _refuse_taken(host: str, port: int) -> None:
    """Refuse a place where nobody can listen before the models are loaded.

    Raises:
        RunFailed: the port is taken or not for everybody, or there is no such host.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as tried:
                if os.name == "posix":  # as the server does: a connection that just ended does not hold a port
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # no IPv6 here: the server decides
            return
        raise RunFailed(f"the service cannot listen at {host}:{port}: {error.strerror or error}") from None


def _allow_many_files() -> None:
    """Every connection and every large body takes a file descriptor: take as many as the system gives."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
