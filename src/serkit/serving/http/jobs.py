"""Long files, answered later: what was submitted, its status, and the answers until they expire."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from serkit.serving.http.errors import Refused
from serkit.serving.http.lanes import Item, Lane
from serkit.serving.http.logs import where
from serkit.serving.http.uploads import Body
from serkit.serving.http.worker import Failure, Task, requests_of

LOG = logging.getLogger("serkit.serving")
Status = Literal["queued", "running", "done", "failed"]


@dataclass(eq=False)
class Job:
    """A request that is answered later.

    Attributes:
        id: nobody can guess it. owner: of the key that handed it in. items: its recordings on their way.
        results, error: once it is over. ended: when, by the monotonic clock. fetched: whether the end was told.
    """

    id: str
    owner: str
    items: list[Item]
    created: str
    results: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    ended: float | None = None
    fetched: bool = False
    heard_s: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def status(self) -> Status:
        """Where it stands."""
        if self.ended is not None:
            return "done" if self.results is not None else "failed"
        return "running" if any(i.began for i in self.items) else "queued"

    @property
    def spare(self) -> bool:
        """Whether little is lost with it: it is over, and was fetched, or none of its recordings was answered."""
        return self.ended is not None and (self.fetched or all(row["error"] is not None for row in self.results or ()))

    def to_row(self, model: str, prefix: str = "") -> dict[str, Any]:
        """As :class:`serkit.serving.http.schemas.JobAnswer` has it; ``prefix`` is of the service's addresses."""
        running = sum(i.worker.heard_s for i in self.items if i.worker is not None and not i.future.done())
        return {
            "id": self.id,
            "url": f"{prefix}/v1/jobs/{self.id}",
            "status": self.status,
            "created_at": self.created,
            "heard_s": round(self.heard_s + running, 1),
            "model": model,
            "results": self.results,
            "error": self.error,
        }


class Jobs:
    """The jobs of a service.

    Args:
        lane: what answers. limit: jobs kept at once; at it, one that is :attr:`Job.spare` makes room for the next.
        keep_s: how long a finished one is kept, else.
        timeout_s: for each recording of a job, from when it begins.
    """

    def __init__(self, lane: Lane, *, limit: int, keep_s: float, timeout_s: float) -> None:
        self._lane, self._limit, self._keep_s, self._timeout_s = lane, limit, keep_s, timeout_s
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        self._forget_old()
        return len(self._jobs)

    @property
    def unfinished(self) -> int:
        """Jobs that are not over."""
        return sum(j.ended is None for j in self._jobs.values())

    @property
    def untold(self) -> int:
        """Jobs that are over and whose end nobody has been told."""
        return sum(j.ended is not None and not j.fetched for j in self._jobs.values())

    def check(self) -> None:
        """Whether another job would be taken.

        Raises:
            Refused: there are too many.
        """
        if len(self) >= self._limit and self._spare() is None:
            raise Refused("busy", "there are too many jobs; fetch and delete finished ones", self._lane.retry_after_s)

    def add(self, body: Body, tasks: list[Task], owner: str) -> Job:
        """Take a request; its body is closed when it is over.

        Raises:
            Refused: there are too many.
        """
        self.check()
        files = [u.descriptor_file for u in body.uploads]
        items: list[Item] = []
        try:
            for task, file in zip(tasks, files, strict=True):
                items.append(self._lane.submit(task, file, self._timeout_s))
        except Refused:
            for item in items:
                self._lane.discard(item)
            raise
        created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        job = Job(secrets.token_urlsafe(16), owner, items, created)
        if len(self) >= self._limit and (spare := self._spare()) is not None:
            del self._jobs[spare.id]
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._finish(job))

        def over(_: asyncio.Task[None]) -> None:  # also of a task that is cancelled before its first step
            job.ended = time.monotonic()
            body.close()

        job.task.add_done_callback(over)
        return job

    def get(self, name: str, owner: str) -> Job:
        """A job, for who handed it in.

        Raises:
            Refused: there is none of this name.
        """
        self._forget_old()
        job = self._jobs.get(name)
        if job is None or job.owner != owner:
            raise Refused("not_found", "no such job; finished ones are kept only for a while")
        return job

    def remove(self, name: str, owner: str) -> None:
        """Stop a job and forget it.

        Raises:
            Refused: there is none of this name.
        """
        job = self.get(name, owner)
        del self._jobs[job.id]
        for item in job.items:  # before its task is cancelled, which cancels what it waits for: that looks like done
            self._lane.discard(item)
        if job.task is not None:
            job.task.cancel()

    async def _finish(self, job: Job) -> None:
        results: list[dict[str, Any]] = []
        try:
            for item in job.items:
                try:
                    found: dict[str, Any] | Failure = await self._lane.wait(item)
                except Refused as error:
                    found = Failure(error.code, error.message)
                if isinstance(found, dict):
                    job.heard_s += found["duration_s"]
                    results.append(found)
                else:
                    results.append(failed_row(item.task, found))
            if len(results) == 1 and results[0]["error"] is not None:
                job.error = results[0]["error"]
            else:
                job.results = results
        except Exception as error:  # noqa: BLE001  # logged and told, instead of a job that failed for no reason
            LOG.error("job of request %s: %s", requests_of([i.task for i in job.items]), where(error))
            job.error = {"code": "internal", "message": "internal error; the service's log has it"}

    def _spare(self) -> Job | None:
        """The job that makes room for another: the oldest that was fetched, or else that has no answer."""
        spare = (j for j in self._jobs.values() if j.spare)
        return min(spare, key=lambda j: (not j.fetched, j.ended), default=None)

    def _forget_old(self) -> None:
        now = time.monotonic()
        for name in [n for n, j in self._jobs.items() if j.ended is not None and now - j.ended > self._keep_s]:
            del self._jobs[name]


def failed_row(task: Task, failure: Failure) -> dict[str, Any]:
    """A recording that was not answered, among others."""
    return {"index": task.index, "file": task.file, "error": {"code": failure.code, "message": failure.message}}
