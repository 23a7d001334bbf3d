"""The service itself: its lanes of workers, what it holds, and whether it accepts more."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from serkit import __version__
from serkit.errors import RunFailed
from serkit.serving.http.errors import Refused
from serkit.serving.http.jobs import Jobs, failed_row
from serkit.serving.http.lanes import Lane
from serkit.serving.http.logs import where
from serkit.serving.http.metrics import Metrics
from serkit.serving.http.settings import ServiceSettings
from serkit.serving.http.uploads import Body, Budget
from serkit.serving.http.worker import Failure, Setup, Task

LOG = logging.getLogger("serkit.serving")
JOB_NICE = 5
_PRIVATE = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".test")  # under these no name is for sale


class Service:
    """Everything behind the endpoints.

    Args:
        settings: limits and keys.

    Attributes:
        started: whether its workers are. about: what they said of the model. draining: nothing new is taken.
        held: requests held now. failed: why it did not start.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.budget = Budget(settings.held_bytes)
        self.metrics = Metrics()
        self.about: dict[str, Any] = {}
        self.started = self.draining = False
        self.failed: RunFailed | None = None
        self.held = self.streams = 0
        self.unstarted: list[asyncio.Timeout] = []  # sockets without their start message, the longest waiting first
        self.closing = asyncio.Event()  # streams have to end now
        self._started: dict[str, asyncio.Task[None]] = {}
        self._begun: set[asyncio.Task[None]] = set()  # a task that nobody holds may end in the middle

    async def start(self) -> None:
        """Start the workers, and wait for those that answer requests.

        Raises:
            RunFailed: the model cannot be loaded.
        """
        asked = self.settings
        self.clips = Lane(
            Setup(asked.model, "predict", calls=asked.calls),
            asked.workers,
            limit=asked.queue,
            metrics=self.metrics,
            batch=asked.batch,
        )
        self.long = Lane(
            Setup(asked.model, "jobs", JOB_NICE, asked.calls),
            1,
            limit=asked.jobs * asked.max_files,
            metrics=self.metrics,
            clock_from_start=True,
        )
        self.live = Lane(Setup(asked.model, "streams", calls=asked.calls), 1, limit=1, metrics=self.metrics)
        self.jobs = Jobs(self.long, limit=asked.jobs, keep_s=asked.keep_s, timeout_s=asked.job_timeout_s)
        try:
            await self.clips.start()
        except RunFailed as error:
            self.failed = error
            raise
        self.started, self.about = True, self.clips.workers[0].about
        self.metrics.about(self.about["model"])
        self.metrics.watch("held", lambda: self.held)
        self.metrics.watch("bytes", lambda: self.budget.held)
        self.metrics.watch("queued", lambda: len(self.clips) + len(self.long))
        self.metrics.watch("jobs", lambda: len(self.jobs))

    async def close(self) -> None:
        """End all workers."""
        self.started = False
        for task in (*self._begun, *self._started.values()):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._started.values(), return_exceptions=True)
        await asyncio.gather(self.clips.close(), self.long.close(), self.live.close())

    async def ready_lane(self, lane: Lane) -> Lane:
        """A lane that is started when it is first needed.

        Raises:
            Refused: it does not start.
        """
        name = lane.setup.lane
        started = self._started.get(name) or asyncio.create_task(lane.start())
        self._started[name] = started
        try:
            await asyncio.shield(started)
        except (RunFailed, EOFError, OSError, RuntimeError, MemoryError) as error:
            if self._started.get(name) is started:  # the first of those that wait for it clears it away, and says so
                del self._started[name]
                LOG.error("%s worker does not start: %s", name, error)
            raise Refused("not_ready", "the worker for this does not start; see the service's log", 10) from None
        return lane

    def begin(self, lane: Lane) -> None:
        """Start a lane, if it is not started, for what waits in it; nobody waits for that here."""
        task = asyncio.create_task(self._begin(lane))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def _begin(self, lane: Lane) -> None:
        try:
            await self.ready_lane(lane)
        except Refused as error:
            lane.refuse_waiting(error)
        except Exception as error:  # noqa: BLE001  # logged and told; what waits would wait for good
            self._started.pop(lane.setup.lane, None)
            LOG.error("%s lane does not start: %s", lane.setup.lane, where(error))
            lane.refuse_waiting(Refused("internal", "internal error; the service's log has it"))

    async def warm(self) -> None:
        """Start what streams need before the first one comes."""
        with contextlib.suppress(Refused):
            await self.ready_lane(self.live)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.started and not self.draining and self.clips.ready

    def refuse_unstarted(self) -> None:
        """Refuse what comes while nobody has started the service, as an application may forget that it is part of.

        Raises:
            Refused: it is not started.
        """
        if not self.started:
            said = "the service is not started; an application that mounts it has to run its lifespan (docs/serve.md)"
            raise Refused("not_ready", said, 10)

    @property
    def unfinished(self) -> int:
        """What was taken and is not over: requests, streams, jobs."""
        return self.held + self.streams + self.jobs.unfinished

    def owner(self, authorization: str | None, api_key: str | None) -> str:
        """Who asks, by the key in a header.

        Raises:
            Refused: no key that opens.
        """
        given = api_key
        if given is None and authorization is not None:
            kind, _, rest = authorization.partition(" ")
            given = rest.strip() if kind.lower() == "bearer" else None
        found = self.settings.owner(given)
        if found is None:
            raise Refused("unauthorized", "an API key is needed: X-API-Key: KEY, or Authorization: Bearer KEY")
        return found

    def refuse_foreign(self, headers: Mapping[str, str]) -> None:
        """Refuse pages of other origins: browsers ask nobody before they open a socket or send a form.

        Raises:
            Refused: a page of another origin, which ``--allow-origin`` does not name.
        """
        origin = headers.get("origin")
        if origin is None or origin in self.settings.origins or "*" in self.settings.origins:
            return
        if headers.get("sec-fetch-site") == "same-origin":  # as the browser says, whatever a proxy makes of Host
            return
        scheme, _, place = origin.partition("://")
        own = place == headers.get("host") and (scheme != "http" or bool(self.settings.keys) or not _anybodys(place))
        if not own:
            raise Refused("forbidden", f"pages of {origin[:200]} may not call this service (see --allow-origin)")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a request, or refuse it before anything of its body is read.

        Raises:
            Refused: shutting down, or too many are held.
        """
        if self.draining:
            raise Refused("shutting_down", "the service is shutting down; try another server, or retry", 5)
        if self.held >= self.settings.concurrency:
            raise Refused("busy", "too many requests at once; try again later", self.clips.retry_after_s)
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def tasks(self, body: Body, *, job: bool, request: str) -> list[Task]:
        """What workers are told of each recording of a request, by what the log calls it."""
        asked = body.options.model_dump(exclude={"timeline"})
        options = {k: v for k, v in asked.items() if v is not None and v != []}
        minutes = self.settings.job_max_minutes if job else self.settings.max_minutes
        found = []
        for k, upload in enumerate(body.uploads):
            content = upload.content()
            name = None if upload.name is None else upload.name[:1000]
            found.append(Task(content, options, 60 * minutes, k, name, job or content is None, request))
        return found

    async def answer(self, body: Body, request: str) -> list[dict[str, Any]]:
        """Answers for all recordings of a request, each with its own failure where there are several.

        Raises:
            Refused: the only recording cannot be answered; the queue is full.
        """
        tasks = self.tasks(body, job=False, request=request)
        files = [u.descriptor_file for u in body.uploads]
        limit = self.settings.timeout_s
        if len(tasks) == 1:
            return [await self.clips.answer(tasks[0], files[0], limit)]
        items = []
        try:
            for task, file in zip(tasks, files, strict=True):
                items.append(self.clips.submit(task, file, limit))
            found = await asyncio.gather(*(self.clips.wait(i) for i in items))
        finally:
            for item in items:
                item.future.cancel()
        return [failed_row(t, f) if isinstance(f, Failure) else f for t, f in zip(tasks, found, strict=True)]

    def model_row(self) -> dict[str, Any]:
        """As :class:`serkit.serving.http.schemas.ModelAnswer` has it.

        Raises:
            Refused: the service is not started.
        """
        self.refuse_unstarted()
        names = (
            "max_mb",
            "max_minutes",
            "max_files",
            "job_max_mb",
            "job_max_minutes",
            "stream_max_minutes",
            "timeout_s",
            "workers",
        )
        limits = {name: getattr(self.settings, name) for name in names}
        return {**self.about, "auth": bool(self.settings.keys), "version": __version__, "limits": limits}


def _anybodys(place: str) -> bool:
    """Whether a host is a name that anybody may register, and let point to this machine once a page of it is open.

    >>> _anybodys("evil.example.com:8000"), _anybodys("localhost:8000"), _anybodys("192.168.1.7"), _anybodys("[::1]:80")
    (True, False, False, False)
    >>> _anybodys("host.docker.internal:8000"), _anybodys("speech.lan"), _anybodys("lan.evil.com")
    (False, False, True)
    """
    name = place.rpartition(":")[0] if re.search(r":\d+$", place) else place
    name = name.strip("[]").removesuffix(".").lower()
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(name)
    return "." in name and not name.endswith(_PRIVATE)
