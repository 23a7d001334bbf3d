from __future__ import annotations

import pytest

from serkit.progress import duration


@pytest.mark.parametrize(("seconds", "shown"), [(None, "?"), (9.4, "9 s"), (75, "1 min 15 s"), (7384, "2 h 03 min")])
def test_times_are_read_by_people(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
