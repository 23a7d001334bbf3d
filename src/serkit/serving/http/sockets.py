"""The stream over WebSocket: a start message, samples in, answers out, a finish message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from serkit.serving.http.errors import Refused
from serkit.serving.http.lanes import UNREAD
from serkit.serving.http.logs import where
from serkit.serving.http.process import Worker, WorkerLost
from serkit.serving.http.schemas import StreamRequest, StreamStart, first_fault
from serkit.serving.http.service import Service
from serkit.serving.http.worker import Failure

LOG = logging.getLogger("serkit.serving")
MAX_CHUNK = 1 << 20
"""Bytes of a message that is taken."""
MAX_READ = 4 * MAX_CHUNK
"""Bytes of a message that is read to its end, so that what is too large is answered; beyond, the connection is cut."""
_CLOSE = {"busy": 1013, "not_ready": 1013, "shutting_down": 1012, "internal": 1011, "too_large": 1009}


class _Over(Exception):
    """The client ended the stream, or is gone."""


class _Displaced(Exception):
    """Too many wait for their start message, and this one has waited longest."""


async def stream(socket: WebSocket, service: Service) -> None:
    """Serve one stream from its first message to its last."""
    await socket.accept()
    outcome, name, began = "internal", secrets.token_hex(4), time.perf_counter()
    try:
        service.refuse_unstarted()
        service.refuse_foreign(socket.headers)
        _refuse_late(service)
        async with _unstarted(service):
            start = await _first(socket, service)
        with _admitted(service):
            worker = await _open(service, start, name)
            await _converse(socket, service, worker, start, name)
        outcome = "ok"
    except (WebSocketDisconnect, _Over):
        outcome = "left"
    except _Displaced:  # cut without a goodbye, which would hold what it has sent until it answers
        outcome = "busy"
        service.metrics.refused.labels(outcome).inc()
    except WorkerLost as error:
        LOG.warning("streams worker died, request %s: %s", name, error)
        service.metrics.refused.labels(outcome).inc()
        await _say_error(socket, Refused("internal", "the worker crashed; start again"))
        await service.live.revive(service.live.workers[0])
    except Refused as error:
        outcome = error.code
        service.metrics.refused.labels(outcome).inc()
        await _say_error(socket, error)
    except Exception as error:  # noqa: BLE001  # a bug: logged under the stream's name, and told
        LOG.error("stream, request %s: %s", name, where(error))
        service.metrics.refused.labels(outcome).inc()
        await _say_error(socket, Refused("internal", f"internal error; the service's log has it as {name}"))
    finally:
        service.metrics.requests.labels("/v1/stream", outcome).inc()
        LOG.info("WS /v1/stream %s %.0f ms, request %s", outcome, 1000 * (time.perf_counter() - began), name)


def _refuse_late(service: Service) -> None:
    if service.draining:
        raise Refused("shutting_down", "the service is shutting down; try another server, or retry")


@contextlib.asynccontextmanager
async def _unstarted(service: Service) -> AsyncIterator[None]:
    """Wait for a start message in a place that others may take: each who waits may hold a message of ``MAX_READ``.

    Whoever means it says start at once, so of too many the one that has waited longest gives way.

    Raises:
        _Displaced: it was this one.
    """
    if len(service.unstarted) >= service.settings.concurrency:
        service.unstarted.pop(0).reschedule(0)
    try:
        async with asyncio.timeout(None) as place:
            service.unstarted.append(place)
            yield
    except TimeoutError:
        raise _Displaced from None
    finally:
        with contextlib.suppress(ValueError):  # whoever took the place has removed it
            service.unstarted.remove(place)


@contextlib.contextmanager
def _admitted(service: Service) -> Iterator[None]:
    """Count a stream that has been started: whoever has no key, or says nothing, takes no place from others.

    Raises:
        Refused: shutting down, or too many are open.
    """
    _refuse_late(service)
    if service.streams >= service.settings.streams:
        raise Refused("busy", f"{service.settings.streams} streams are open, which is the limit; try again later")
    service.streams += 1
    service.metrics.streams.inc()
    try:
        yield
    finally:
        service.streams -= 1
        service.metrics.streams.dec()


async def _first(socket: WebSocket, service: Service) -> StreamStart:
    message = await _next(socket, service.settings.read_s)
    if message.get("text") is None:
        raise Refused("bad_request", "the first message has to be text: a start message as JSON")
    try:
        start = StreamStart.model_validate_json(message["text"])
    except ValidationError as error:
        raise Refused("bad_option", f"start message: {first_fault(error, StreamStart)}") from None
    headers = socket.headers
    service.owner(headers.get("authorization"), headers.get("x-api-key") or start.api_key)
    return start


async def _open(service: Service, start: StreamStart, key: str) -> Worker:
    """A worker that hears the stream. One that was dead before it was asked is replaced, and nobody's fault here.

    Raises:
        Refused: options that the model does not take. WorkerLost: it died of them, or others died after it.
    """
    lane = await service.ready_lane(service.live)
    worker, max_s = lane.workers[0], 60 * service.settings.stream_max_minutes
    for left in reversed(range(1 + UNREAD)):
        try:
            _checked(await _ask(service, worker, "open", (key, start.model_dump(exclude={"type", "api_key"}), max_s)))
            break
        except WorkerLost as error:
            if error.asked or not left:
                raise
            LOG.warning("streams worker was dead before it was asked, request %s: %s", key, error)
            await lane.revive(worker)
    return worker


async def _converse(socket: WebSocket, service: Service, worker: Worker, start: StreamStart, key: str) -> None:
    try:
        await socket.send_json({
            "type": "ready", "model": service.about["model"], "labels": start.labels or service.about["labels"],
            "encoding": start.encoding, "rate_hz": start.rate_hz, "channels": start.channels,
            "max_s": 60 * service.settings.stream_max_minutes,
        })  # fmt: skip
        ended = await _listen(socket, service, worker, start, key)
        events, result = _checked(await _ask(service, worker, "finish", (key,)))
        for event in events:
            await socket.send_json(event)
        await socket.send_json({"type": "result", "result": result})
        if ended:
            await socket.close(1000)
        else:
            await socket.close(1012, "the service is shutting down")
    finally:
        if worker.ready:
            with contextlib.suppress(WorkerLost):
                await worker.exchange("drop", (key,))


async def _listen(socket: WebSocket, service: Service, worker: Worker, start: StreamStart, key: str) -> bool:
    """Pass on samples until the client says finish (``True``) or the service has to close (``False``)."""
    heard, a_second = service.metrics.audio.labels("streams"), start.bytes_of_a_second
    closing = asyncio.create_task(service.closing.wait())
    coming: asyncio.Task[dict[str, Any]] | None = None
    try:
        while True:
            coming = asyncio.create_task(_next(socket, service.settings.idle_s))
            await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return False
            message = coming.result()
            content = message.get("bytes")
            if content is not None:
                events = _checked(await _ask(service, worker, "push", (key, content)))
                heard.inc(len(content) / a_second)
                for event in events:
                    await socket.send_json(event)
            elif _asked(message) == "finish":
                return True
            else:
                await socket.send_json({"type": "pong"})
    finally:
        closing.cancel()
        if coming is not None:
            coming.cancel()


async def _ask(service: Service, worker: Worker, name: str, payload: tuple[Any, ...]) -> Any:
    """What the worker answers; one that takes too long is ended, and with it all its streams."""
    asked = asyncio.ensure_future(worker.exchange(name, payload))
    try:
        async with asyncio.timeout(service.settings.timeout_s):
            return await asyncio.shield(asked)
    except TimeoutError:
        worker.kill()
        return await asked
    finally:
        service.metrics.work.labels("streams").inc(worker.busy_s())


def _asked(message: dict[str, Any]) -> str:
    """What a message of text asks for: ``finish`` or ``ping``."""
    try:
        return StreamRequest.model_validate_json(message.get("text") or "").type
    except ValidationError:
        raise Refused("bad_request", 'expected samples as binary, or {"type": "finish"}') from None


async def _next(socket: WebSocket, limit_s: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(limit_s):  # wait_for of Python 3.11 swallows a cancellation now and then
            message = dict(await socket.receive())
    except TimeoutError:
        raise Refused("too_slow", f"nothing was received for {limit_s:g} s; send silence as samples") from None
    if message["type"] == "websocket.disconnect":
        raise _Over
    size = len(message.get("bytes") or message.get("text") or b"")
    if size > MAX_CHUNK:
        raise Refused("too_large", f"a message of {size / 2**20:.1f} MiB exceeds {MAX_CHUNK >> 20} MiB, the limit")
    return message


def _checked(found: Any) -> Any:
    if isinstance(found, Failure):
        raise Refused(found.code, found.message)
    return found


async def _say_error(socket: WebSocket, error: Refused) -> None:
    if socket.client_state is not WebSocketState.CONNECTED or socket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        await socket.send_json({"type": "error", "error": error.to_row()})
        await socket.close(_CLOSE.get(error.code, 1008), error.code)
    except (WebSocketDisconnect, RuntimeError):
        return
