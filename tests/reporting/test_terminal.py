"""The table that a run leaves in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from serkit.commands import stages
from serkit.reporting import reading
from serkit.reporting.reading import Source

from .example import report


@pytest.mark.parametrize("tested", [True, False])
def test_it_has_the_numbers_of_the_split_that_was_measured(
    tested: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: without labels in test, three of its columns were dashes."""
    tree = report()
    if not tested:
        tree["systems"] = {name: {"dev": splits["dev"]} for name, splits in tree["systems"].items()}
    monkeypatch.setattr(reading, "read", lambda folder: Source(tree))
    stages._summary(tmp_path)
    header, *rows = capsys.readouterr().out.splitlines()
    split = "test" if tested else "dev"
    assert f"{split} UAR" in header
    assert ("test" in header) == tested
    stack = next(row for row in rows if row.startswith("stack "))
    uar = tree["systems"]["stack"][split]["uar"]
    assert stack.endswith(f"  {uar['value']:.3f}  [{uar['low']:.3f}, {uar['high']:.3f}]")
    assert not any(" - " in row or row.endswith("-") for row in rows[: len(tree["systems"])])
