"""What people wrote of the bundled models, ``src/serkit/bundles/NAME-notes.md``, in the models' cards.

``python tests/bundle_notes.py`` (``make docs``) writes changed notes into the cards. ``bundle.json`` names the card by
its hash, so the bundle's fingerprint changes with it; networks and answers stay as they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from serkit.serving.bundle import NAMED, names, open_bundle, write_bundle

CARD, BEGIN, END = "card.md", "## Notes\n\n", "\n\n## Known failures"


def notes_of(name: str) -> str | None:
    """The notes of a bundled model, without the line ends around them; ``None`` where it has no such file."""
    path = NAMED / f"{name}-notes.md"
    return path.read_text().strip() if path.is_file() else None


def with_notes(card: str, notes: str) -> str:
    """The card with these notes in place of those it has."""
    before, _, rest = card.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the card has no notes: expected {BEGIN!r} and then {END!r}")
    return before + BEGIN + notes + END + after


def write_notes(source: Path, notes: str) -> bool:
    """Write notes into the card of a bundle that is one file; whether that changed it."""
    bundle = open_bundle(source)
    files = bundle.contents()
    card = with_notes(files[CARD].decode(), notes).encode()
    if card == files[CARD]:
        return False
    head = {key: value for key, value in bundle.head.items() if key not in ("format", "files")}
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        write_bundle(head, {**files, CARD: card}, Path(folder) / source.name).replace(source)
    return True


if __name__ == "__main__":
    for model in names():
        written = notes_of(model)
        if written is not None and write_notes(NAMED / f"{model}.zip", written):
            print(f"wrote the notes of {model} into its card")
