"""Every model that comes with serkit: each file is the one that its bundle.json names, and its card holds its notes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle_notes import CARD, notes_of, write_notes
from serkit.serving.bundle import NAMED, names, open_bundle


@pytest.mark.parametrize("name", names())
def test_its_files_are_whole_and_its_card_holds_its_notes(name: str) -> None:
    files = open_bundle(name).contents()
    notes = notes_of(name)
    assert notes is not None
    assert f"## Notes\n\n{notes}\n\n## Known failures" in files[CARD].decode()


def test_other_notes_change_the_card_alone(tmp_path: Path) -> None:
    path = tmp_path / "turn.zip"
    shutil.copy(NAMED / "turn.zip", path)
    notes = notes_of("turn")
    assert notes is not None
    assert not write_notes(path, notes)
    assert path.read_bytes() == (NAMED / "turn.zip").read_bytes()
    assert write_notes(path, f"{notes}\n\nOne more sentence.")
    before, after = open_bundle("turn"), open_bundle(path)
    assert after.fingerprint != before.fingerprint
    assert "One more sentence.\n\n## Known failures" in after.text(CARD)
    assert {k: v for k, v in after.contents().items() if k != CARD} == {
        k: v for k, v in before.contents().items() if k != CARD
    }
    assert write_notes(path, notes)
    assert path.read_bytes() == (NAMED / "turn.zip").read_bytes()
