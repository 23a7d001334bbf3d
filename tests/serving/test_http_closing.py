"""A service that ends: whoever still waits is told so."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from typer.testing import CliRunner

from serkit.cli import app
from serkit.errors import RunFailed
from serkit.serving.http import server
from serkit.serving.http.errors import Refused
from serkit.serving.http.metrics import Metrics
from serkit.serving.http.service import Service as Behind
from serkit.serving.http.settings import ServiceSettings
from serkit.serving.http.sockets import _ask, _next
from serkit.serving.http.uploads import Body, Budget, _chunks
from serkit.serving.http.worker import Task

from .signals import GOLDEN
from .test_http_faults import Standing, lane_of


class Busy(Standing):
    """A worker that never answers."""

    async def exchange(self, name: str, tasks: list[Task], handles: list[int]) -> Any:
        await asyncio.Event().wait()


def test_what_is_being_answered_and_what_waits_are_both_told_that_the_lane_is_closed() -> None:
    """The one at work waited until its time was over, without an end where the clock starts with the work."""

    async def scene() -> None:
        lane = lane_of(Busy(None))
        waits = [asyncio.create_task(lane.answer(Task(b"x"), None, 60)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert len(lane) == 1
        await lane.close()
        found = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
        assert [getattr(x, "code", x) for x in found] == ["shutting_down"] * 2
        with pytest.raises(Refused, match="shutting down"):
            lane.submit(Task(b"x"), None, 60)

    asyncio.run(scene())


def of_message(come: asyncio.Future[Any]) -> Coroutine[Any, Any, Any]:
    async def receive() -> Any:
        return await come

    return _next(cast(Any, SimpleNamespace(receive=receive)), 60)


def of_answer(come: asyncio.Future[Any]) -> Coroutine[Any, Any, Any]:
    async def exchange(name: str, payload: Any) -> Any:
        return await come

    service = cast(Behind, SimpleNamespace(settings=ServiceSettings(timeout_s=60), metrics=Metrics()))
    return _ask(service, cast(Any, SimpleNamespace(exchange=exchange, busy_s=lambda: 0.0)), "push", ())


def of_body(come: asyncio.Future[Any]) -> Coroutine[Any, Any, Any]:
    async def stream() -> Any:
        yield await come

    async def read() -> bytes:
        request = cast(Any, SimpleNamespace(headers={}, stream=stream))
        return b"".join([x async for x in _chunks(request, ServiceSettings(), Body(Budget(99)), 99, said=99)])

    return read()


@pytest.mark.parametrize("ticks", range(6))
@pytest.mark.parametrize(
    ("what", "sent"), [(of_message, {"type": "websocket.receive", "bytes": b""}), (of_answer, []), (of_body, b"x")]
)
def test_who_is_ended_while_something_comes_ends(
    what: Callable[[asyncio.Future[Any]], Coroutine[Any, Any, Any]], sent: Any, ticks: int
) -> None:
    """With wait_for of Python 3.11, what came at that very moment was answered, and the ending forgotten."""

    async def scene() -> None:
        come = asyncio.get_running_loop().create_future()
        waits = asyncio.create_task(what(come))
        for _ in range(6):
            await asyncio.sleep(0)
        come.set_result(sent)
        for _ in range(ticks):
            await asyncio.sleep(0)
        if waits.cancel():
            await asyncio.wait({waits})
            assert waits.cancelled()

    asyncio.run(scene())


@pytest.mark.parametrize("seen", [True, False], ids=["before", "while it starts"])
def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch, seen: bool) -> None:
    """The models were loaded first, and the exit code was the server's own."""
    if seen:
        monkeypatch.setattr(server, "create_app", lambda _: pytest.fail("the service was begun"))
    else:
        monkeypatch.setattr(server, "_refuse_taken", lambda *_: None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--port", str(port), "--model", str(GOLDEN), "--workers", "1"])
    assert isinstance(result.exception, RunFailed)
    assert f"127.0.0.1:{port}" in str(result.exception)
    assert not seen or "already in use" in str(result.exception)


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [("0.0.0.0", (), True), ("::", (), True), ("127.0.0.1", (), False), ("0.0.0.0", ("a-long-key",), False)],
)
def test_a_service_for_other_machines_without_a_key_says_so(
    host: str, keys: tuple[str, ...], warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from serkit.serving.http import server
    from serkit.serving.http.settings import ServiceSettings

    def stopped(settings: ServiceSettings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "create_app", stopped)
    monkeypatch.setattr(server, "_refuse_taken", lambda host, port: None)
    with pytest.raises(KeyboardInterrupt):
        server.serve(ServiceSettings(model="none", keys=keys), host, quiet=True)
    assert (f"no key is asked for, and other machines may reach {host}" in caplog.text) == warned


def test_a_host_that_there_is_not_is_one_line() -> None:
    with pytest.raises(RunFailed, match=r"cannot listen at 999\.1\.1\.1:8000: "):
        server.serve(ServiceSettings(model=str(GOLDEN)), "999.1.1.1")


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    """The log had a traceback of forty lines, and the reason was the last of them."""
    folder = tmp_path / "damaged"
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(folder)
    network = min((folder / "networks").iterdir())
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    command = ["-m", "serkit.cli", "serve", "--model", str(folder), "--workers", "1", "--port", "0"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = f"{folder}: 'networks/{network.name}' is damaged: its content is not what bundle.json says"
    assert done.stderr.splitlines()[-1] == f"serkit: {said}"


def test_what_is_lost_at_the_end_of_the_time_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred jobs that were not finished were dropped without a word."""
    behind = Behind(ServiceSettings(grace_s=30))
    behind.jobs = cast(Any, SimpleNamespace(unfinished=100, untold=2))
    ending = server._Server(cast(Any, SimpleNamespace(loaded=True)), behind)
    assert [ending._finished(now) for now in (5.0, 34.0, 36.0)] == [False, False, True]
    assert caplog.messages == [
        "shutting down: 100 requests, streams and jobs are finished first, for up to 30 s",
        "shutting down: the time is over; lost: requests, streams and jobs not finished: 100, not fetched: 2",
    ]
