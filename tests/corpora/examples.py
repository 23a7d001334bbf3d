"""What the tests of corpora share: making example trees, and comparing rows with expected ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from serkit.types import Manifest

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))


def touch(root: Path, names: Iterable[str]) -> Path:
    """Make files that look like recordings; corpora never decode, so their content does not matter."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    return root


def check_rows(manifest: Manifest, expected: Mapping[str, Mapping[str, Any]]) -> None:
    """Every expected id is there with these fields; of ``meta`` only the keys named are compared."""
    rows = {u.id: u for u in manifest}
    missing = sorted(set(expected) - set(rows))
    assert not missing, f"no rows {missing}; there are {sorted(rows)[:8]}"
    for name, fields in expected.items():
        row = rows[name]
        for field, value in fields.items():
            if field == "meta":
                assert {k: row.meta.get(k) for k in value} == dict(value), name
            else:
                assert getattr(row, field) == value, (name, field, getattr(row, field))


def real_data(name: str) -> Path:
    """The folder of real recordings, or a skip that says so."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SERKIT_DATA)")
    return folder
