"""A service that ends: whoever still waits is told so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serkit.serving.http.errors import Refused
from serkit.serving.http.worker import Task

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
