"""Errors that nobody foresaw: the log says what and of which request, the client is told, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import io
import logging
import multiprocessing
import re
import sys
import tempfile
import threading
import time
from typing import Any, BinaryIO, cast

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi import FastAPI
from starlette.testclient import TestClient

from serkit.errors import RunFailed
from serkit.serving.http import worker as process_side
from serkit.serving.http.answering import Answerer
from serkit.serving.http.app import create_app
from serkit.serving.http.errors import Refused
from serkit.serving.http.jobs import Job, Jobs
from serkit.serving.http.lanes import Item, Lane
from serkit.serving.http.logs import of_loop
from serkit.serving.http.metrics import Metrics
from serkit.serving.http.process import Worker, WorkerLost
from serkit.serving.http.service import Service as Behind
from serkit.serving.http.settings import ServiceSettings
from serkit.serving.http.uploads import Body, Budget
from serkit.serving.http.worker import Failure, Setup, Task

from .service import Service
from .signals import GOLDEN, voice, wav


class Standing:
    """A worker that answers by a function."""

    ready = True
    heard_s = 0.0

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.starts = 0

    async def exchange(self, name: str, tasks: list[Task], handles: list[int]) -> Any:
        return self._answer(tasks)

    def kill(self) -> None:
        pass

    async def start(self) -> None:
        self.starts += 1

    async def close(self) -> None:
        pass


def lane_of(worker: Standing, limit: int = 9) -> Lane:
    """A lane with this worker alone; to be made in a running loop."""
    lane = Lane(Setup("none"), 1, limit=limit, metrics=Metrics())
    lane.workers = [cast(Worker, worker)]
    lane._runners = [asyncio.create_task(lane._run(lane.workers[0]))]
    return lane


def good(tasks: list[Task]) -> list[dict[str, Any]]:
    return [{"duration_s": 1.0, "of": task.request} for task in tasks]


def test_a_client_that_vanished_with_a_large_file_takes_no_worker_along() -> None:
    """Its file is closed at once, its place in the queue a moment later: the runner ended over a closed file."""

    async def scene() -> dict[str, Any]:
        lane = lane_of(Standing(good))
        with tempfile.SpooledTemporaryFile() as file:
            gone = lane.submit(Task(None), cast(BinaryIO, file), 5)
        found = await lane.answer(Task(b"x", request="next"), None, 5)
        assert gone.future.cancelled()
        assert lane.alive
        return found

    assert asyncio.run(scene())["of"] == "next"


def test_a_bug_costs_one_answer_and_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    def answer(tasks: list[Task]) -> list[Any]:
        return [{"no duration": "secret"}] if tasks[0].request == "bad0" else good(tasks)

    async def scene() -> None:
        lane = lane_of(Standing(answer))
        with pytest.raises(Refused, match="internal error"):
            await lane.answer(Task(b"x", request="bad0"), None, 5)
        assert (await lane.answer(Task(b"x", request="good"), None, 5))["of"] == "good"

    asyncio.run(scene())
    assert "bad0" in caplog.text
    assert re.search(r"request bad0: KeyError at .*/http/lanes\.py:\d+ _account", caplog.text)
    assert "duration_s" not in caplog.text, "an error's words may be of the recording"
    assert "secret" not in caplog.text


def test_a_lost_worker_is_logged_with_its_cause_and_the_request(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        def lost(tasks: list[Task]) -> list[Any]:
            raise WorkerLost("OSError: no room")

        worker = Standing(lost)
        with pytest.raises(Refused, match="a worker crashed on this recording"):
            await lane_of(worker).answer(Task(b"x", request="ab12"), None, 5)
        await asyncio.sleep(0)
        assert worker.starts == 1

    asyncio.run(scene())
    assert "predict worker died with 1 recordings, request ab12: OSError: no room" in caplog.text


def test_a_worker_that_is_closed_while_it_starts_leaves_no_process() -> None:
    """At some of these moments there was a process that was not started yet: closing broke off, and it lived on."""

    async def scene() -> None:
        for delay_s in (0, 0, 0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.3):
            worker = Worker(Setup("none"))
            start = asyncio.create_task(worker.start())
            await asyncio.sleep(delay_s)
            start.cancel()
            await worker.close()
            await asyncio.wait({start})
            assert not worker.ready
            with pytest.raises(WorkerLost, match="closed worker"):
                await worker.start()

    before = set(multiprocessing.active_children())
    asyncio.run(scene())
    assert set(multiprocessing.active_children()) <= before


def test_a_process_that_is_being_started_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that ran late ended its worker just while that was replaced."""
    begun, go_on = threading.Event(), threading.Event()
    real = multiprocessing.get_context("spawn").Process.start

    def slow(self: Any) -> None:
        begun.set()
        go_on.wait(60)
        real(self)

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", slow)

    async def scene() -> None:
        worker = Worker(Setup("none"))
        start = asyncio.create_task(worker.start())
        await asyncio.to_thread(begun.wait, 60)
        ending = asyncio.create_task(asyncio.to_thread(worker.kill))
        await asyncio.sleep(0.05)
        go_on.set()
        await ending
        with pytest.raises(WorkerLost, match="ended while it started"):
            await start
        await worker.close()

    asyncio.run(scene())


def test_a_closed_lane_starts_no_worker() -> None:
    async def scene() -> None:
        worker = Standing(good)
        lane = lane_of(worker)
        await lane.close()
        with pytest.raises(Refused, match="shutting down"):
            await lane.start()
        worker.ready = False
        await lane.revive(lane.workers[0])
        assert worker.starts == 0

    asyncio.run(scene())


def test_a_recording_is_not_blamed_for_a_worker_that_was_dead_before() -> None:
    """Killed while idle, it took the next request along."""

    async def scene() -> None:
        def answer(tasks: list[Task]) -> list[Any]:
            if not worker.starts:
                raise WorkerLost("killed", asked=False)
            return good(tasks)

        worker = Standing(answer)
        assert (await lane_of(worker).answer(Task(b"x", request="ab12"), None, 5))["of"] == "ab12"

    asyncio.run(scene())


def test_workers_that_die_before_they_read_anything_are_tried_thrice() -> None:
    """Without an end, where the clock of a recording starts with the work."""

    async def scene() -> None:
        def answer(tasks: list[Task]) -> list[Any]:
            raise WorkerLost("killed", asked=False)

        worker = Standing(answer)
        lane = lane_of(worker)
        lane._from_start = True
        with pytest.raises(Refused, match="3 workers died before they read this recording") as refused:
            await asyncio.wait_for(lane.answer(Task(b"x"), None, 5), 5)
        assert (refused.value.code, bool(refused.value.retry_after_s)) == ("not_ready", True)
        await asyncio.sleep(0)
        assert worker.starts == 3

    asyncio.run(scene())


@pytest.mark.parametrize("read", [False, True])
def test_a_question_counts_as_asked_once_it_was_read(read: bool) -> None:
    """The pipe takes it also from a worker that is about to end: the recording was blamed for that."""
    worker = Worker(Setup("none"))
    worker._conn, theirs = multiprocessing.Pipe()

    def end() -> None:
        assert theirs.poll(60)
        if read:
            theirs.recv()
        theirs.close()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(WorkerLost) as lost:
        worker._exchange("predict", [], [])
    ending.join()
    worker._conn.close()
    assert lost.value.asked is read


def test_no_file_descriptor_left_is_busy_and_not_a_dead_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(handle: int) -> int:
        raise OSError(24, "Too many open files")

    async def scene() -> None:
        lane = lane_of(Standing(good))
        with tempfile.TemporaryFile() as file, monkeypatch.context() as patched:
            patched.setattr("os.dup", full)
            with pytest.raises(Refused, match="too many files are open") as refused:
                await lane.answer(Task(None, request="ab12"), cast(BinaryIO, file), 5)
        assert (refused.value.code, bool(refused.value.retry_after_s)) == ("busy", True)
        await lane.answer(Task(b"x"), None, 5)

    asyncio.run(scene())
    assert "request ab12: [Errno 24] Too many open files" in caplog.text


def test_a_job_that_fails_by_a_bug_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        lane = lane_of(Standing(good))

        async def wrong(item: Item) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(lane, "wait", wrong)
        jobs = Jobs(lane, limit=2, keep_s=9, timeout_s=9)
        job = jobs.add(Body(Budget(9)), [], "")
        job.items.append(lane.submit(Task(b"x", request="ab12"), None, 5))
        await asyncio.wait({cast("asyncio.Task[None]", job.task)})
        assert job.status == "failed"
        assert job.to_row("m")["error"]["code"] == "internal"

    asyncio.run(scene())
    assert "job of request ab12" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_job_that_is_half_taken_leaves_the_queue() -> None:
    async def scene() -> None:
        lane = Lane(Setup("none"), 1, limit=1, metrics=Metrics())
        body = Body(Budget(9))
        body.uploads = [cast(Any, type("Upload", (), {"descriptor_file": None}))] * 2
        with pytest.raises(Refused, match="are waiting"):
            Jobs(lane, limit=2, keep_s=9, timeout_s=9).add(body, [Task(b"x"), Task(b"y")], "")
        assert len(lane) == 0

    asyncio.run(scene())


def test_two_who_wait_for_a_worker_that_does_not_start_are_both_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        behind = Behind(ServiceSettings())
        lane = Lane(Setup("no_such_model", "streams"), 1, limit=1, metrics=Metrics())
        found = await asyncio.gather(*(behind.ready_lane(lane) for _ in range(2)), return_exceptions=True)
        assert [getattr(x, "code", x) for x in found] == ["not_ready"] * 2

    asyncio.run(scene())
    assert len(caplog.messages) == 1, "logged once, however many wait"


def unstarted(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Behind]:
    """An application and its service, whose worker for jobs loads its model without end."""
    app = create_app(ServiceSettings())
    service: Behind = app.state.service
    service.long = Lane(Setup("none", "jobs"), 1, limit=9, metrics=service.metrics, clock_from_start=True)
    monkeypatch.setattr(service.long, "start", asyncio.Event().wait)
    service.jobs = Jobs(service.long, limit=9, keep_s=9, timeout_s=9)
    service.started, service.about = True, {"model": "none@0"}
    return app, service


def test_a_job_is_taken_while_the_worker_still_loads_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address came only when the model was there, after a minute on a busy machine."""

    async def scene() -> None:
        app, service = unstarted(monkeypatch)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            raw = {"content-type": "audio/wav"}
            taken = await asyncio.wait_for(client.post("/v1/jobs", content=b"x", headers=raw), 5)
            assert (taken.status_code, taken.json()["status"]) == (202, "queued")
            assert (await client.get(taken.headers["location"])).json()["status"] == "queued"
            assert (await client.delete(taken.headers["location"])).status_code == 204
        await asyncio.sleep(0.01)
        assert (len(service.jobs), len(service.long), service.budget.held) == (0, 0, 0)

    asyncio.run(scene())


def test_a_service_may_be_part_of_another_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs had addresses that led nowhere, and browsers could keep the answers."""
    clip: dict[str, Any] = {"content": b"x", "headers": {"content-type": "audio/wav"}}

    async def scene() -> None:
        app, service = unstarted(monkeypatch)
        service.started = False
        monkeypatch.setattr(service, "warm", asyncio.Event().wait)
        monkeypatch.setattr(service, "start", lambda: asyncio.sleep(0, setattr(service, "started", True)))
        monkeypatch.setattr(service, "close", lambda: asyncio.sleep(0))
        host = FastAPI()
        host.mount("/emotion", app)
        host.mount("/forgotten", create_app())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://here") as client:
            asked = [("GET", "model"), ("POST", "predict"), ("POST", "jobs"), ("GET", "jobs/x"), ("DELETE", "jobs/x")]
            for method, path in asked:
                answer = await client.request(method, f"/forgotten/v1/{path}", **clip)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
                assert "has to run its lifespan" in answer.json()["error"]["message"]
            assert [(await client.get(f"/forgotten/{z}")).status_code for z in ("readyz", "healthz")] == [503, 503]
            loop = asyncio.get_running_loop()
            async with app.router.lifespan_context(app):
                assert loop.get_exception_handler() is of_loop
                taken = await client.post("/emotion/v1/jobs", **clip)
                assert taken.headers["location"].startswith("/emotion/v1/jobs/")
                assert taken.headers["cache-control"] == "no-store"
                found = await client.get(taken.headers["location"])
                assert (found.status_code, found.json()["url"]) == (200, taken.headers["location"])
                assert (await client.delete(taken.headers["location"])).status_code == 204
                assert "curl http://here/emotion/v1/model" in (await client.get("/emotion/docs")).text
                assert (await client.post("/emotion/")).headers["allow"] == "GET, HEAD"
            assert loop.get_exception_handler() is None, "what the application logs is its own again"

    asyncio.run(scene())


def test_a_job_of_a_client_that_is_gone_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knew its address, and it was worked on, and kept for an hour."""
    sent = [{"type": "http.request", "body": b"x", "more_body": False}, *[{"type": "http.disconnect"}] * 9]

    async def receive() -> dict[str, Any]:
        return sent.pop(0)

    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def scene() -> None:
        app, service = unstarted(monkeypatch)
        scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b"", "app": app,
                 "headers": [(b"content-type", b"audio/wav")]}  # fmt: skip
        await app(scope, receive, send)
        assert told[0]["status"] == 499
        assert (len(service.jobs), len(service.long), service.budget.held) == (0, 0, 0)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunFailed("no memory"), "not_ready"),
        (RuntimeError("no thread"), "not_ready"),
        (ValueError("a bug"), "internal"),
    ],
)
def test_a_job_whose_worker_does_not_start_has_failed(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise error

    async def scene() -> None:
        _, service = unstarted(monkeypatch)
        monkeypatch.setattr(service.long, "start", fails)
        body = Body(Budget(9))
        body.uploads = [cast(Any, type("Upload", (), {"descriptor_file": None, "file": io.BytesIO()}))]
        job = service.jobs.add(body, [Task(b"x")], "")
        service.begin(service.long)
        await asyncio.wait({cast("asyncio.Task[None]", job.task)})
        assert job.to_row("m")["error"]["code"] == code
        assert not service._started

    asyncio.run(scene())


def test_jobs_that_failed_or_were_fetched_make_room_for_others() -> None:
    """A service that was idle refused jobs for an hour after a hundred whose worker had not started."""

    async def scene() -> None:
        lane = Lane(Setup("none"), 1, limit=9, metrics=Metrics())
        jobs = Jobs(lane, limit=3, keep_s=99, timeout_s=9)

        async def job(outcome: Any) -> Job:
            body = Body(Budget(9))
            body.uploads = [cast(Any, type("Upload", (), {"descriptor_file": None, "file": io.BytesIO()}))]
            made = jobs.add(body, [Task(b"x")], "")
            if outcome is not None:
                future = made.items[0].future
                (future.set_exception if isinstance(outcome, Refused) else future.set_result)(outcome)
                await asyncio.wait({cast("asyncio.Task[None]", made.task)})
            return made

        def kept(*some: Job) -> list[bool]:
            return [one.id in jobs._jobs for one in some]

        answer = {"duration_s": 1.0, "error": None}
        failed, done, waiting = [await job(o) for o in (Refused("not_ready", "no"), answer, None)]
        fourth = await job(answer)
        assert kept(failed, done, waiting, fourth) == [False, True, True, True]
        with pytest.raises(Refused, match="too many jobs"):
            jobs.check()
        assert kept(done, waiting, fourth) == [True] * 3, "what nobody has fetched stays"
        fourth.fetched = True
        jobs.check()
        assert kept(done, waiting, fourth) == [True] * 3, "nothing goes before the other is taken"
        fifth = await job(None)
        assert kept(done, waiting, fourth, fifth) == [True, True, False, True]
        for one in (waiting, fifth):
            jobs.remove(one.id, "")

    asyncio.run(scene())


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's main function may run in this process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # it sets its own
    monkeypatch.setattr(process_side, "begin_worker", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.mark.usefixtures("inside")
def test_an_error_of_the_work_is_not_taken_for_a_closed_pipe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every OSError, a full disk too, ended the worker without a word."""

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Answerer, "predict", full)
    ours, theirs = multiprocessing.Pipe()
    ours.send(("predict", [Task(b"x", request="ab12")]))
    process_side.main(theirs, Setup(str(GOLDEN)))
    assert ours.recv()[0] == "answer"
    kind, cause = ours.recv()
    assert kind == "broken"
    assert cause.startswith("OSError (No space left on device) at ")
    assert cause.endswith(" full")
    worker = Worker(Setup("none"))
    worker._conn = ours
    theirs.send((kind, cause))
    with pytest.raises(WorkerLost, match="No space left"):
        worker._receive()


@pytest.mark.usefixtures("inside")
def test_a_stream_that_breaks_takes_no_other_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def push(self: Answerer, key: str, content: bytes) -> Any:
        if key == "bad0":
            raise ZeroDivisionError
        return real(self, key, content)

    real = Answerer.push
    monkeypatch.setattr(Answerer, "push", push)
    start = {"encoding": "pcm16", "channels": 1, "rate_hz": 16_000, "partial_s": None, "by": "segment"}
    ours, theirs = multiprocessing.Pipe()
    for key in ("bad0", "good"):
        ours.send(("open", (key, dict(start), 60.0)))
    for key in ("bad0", "good", "bad0"):
        ours.send(("push", (key, b"\0\0")))
    ours.send(("finish", ("of the worker before this one",)))
    ours.send(("drop", ("good",)))
    said: list[Any] = []

    def read() -> None:
        said.extend(ours.recv()[1] for _ in range(8))
        ours.close()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    process_side.main(theirs, Setup(str(GOLDEN)))
    reader.join(60)
    assert said[1:3] == [None, None]
    assert [getattr(x, "code", x) for x in said[3:]] == ["internal", [], "internal", "internal", None]
    assert "streams worker, request bad0" in caplog.text


def test_a_stream_of_a_worker_that_is_gone_is_told_so() -> None:
    """It ended the next worker too, with all the streams that were open there."""
    answerer = Answerer(str(GOLDEN))
    for found in (answerer.push("gone", b"\0\0"), answerer.finish("gone")):
        assert found == Failure("internal", "the worker crashed; start again")
    answerer.drop("gone")


def test_every_request_has_a_name_that_the_log_knows(service: Service) -> None:
    answer = service.predict(wav(voice(1.0)))
    name = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{8}", name)
    end = time.monotonic() + 60
    while not re.search(rf"POST /v1/predict 200 \d+ ms, request {name}\n", service.log):  # written after the answer
        assert time.monotonic() < end, service.log
        time.sleep(0.02)
    wrong = service.predict(b"no sound")
    assert wrong.headers["x-request-id"] != name


def test_a_bug_is_answered_with_the_name_that_the_log_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(self: Behind) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Behind, "model_row", wrong)
    client = TestClient(create_app(ServiceSettings(model="none")), raise_server_exceptions=False)
    caplog.set_level(logging.INFO, "serkit.serving")
    answer = client.get("/v1/model")
    name = answer.headers["x-request-id"]
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].endswith(f"under request {name}")
    assert re.search(rf"request {name}: ZeroDivisionError at .*/test_http_faults\.py:\d+ wrong\n", caplog.text)
