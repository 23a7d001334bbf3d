"""What an item is called in the store: a hash of its content, so that a moved folder or another corpus
with the same recording reuses its features, and a replaced file is never served stale."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from serkit.files import content_hash
from serkit.journal import append_rows, read_rows


def item_key(content: str, start_s: float | None = None, end_s: float | None = None, channel: int | None = None) -> str:
    """Name of a stretch of a recording: 32 hex digits of blake2b over its content, its times and its channel.

    With 128 bits no two of 10^15 items collide by chance.

    Args:
        content: hash of the recording's bytes. start_s, end_s: the stretch; ``None`` is begin / end.
        channel: the one that is heard, 1 the first; ``None`` is their mean.

    >>> item_key("ab", None, 2) == item_key("ab", 0.0, 2.0)
    True
    """
    heard = "" if channel is None else f"\nchannel {channel}"
    return _digest(f"audio\n{content}\n{float(start_s or 0.0)!r}\n{None if end_s is None else float(end_s)!r}{heard}")


def text_key(text: str) -> str:
    """Name of a text: 32 hex digits of blake2b over its UTF-8 bytes."""
    return _digest(f"text\n{text}")


def _digest(text: str) -> str:
    return content_hash(text.encode("utf-8", "surrogatepass"))


class SilentClips:
    """Which stretches of recordings hold nothing to hear (silence, or too short for a word), as extraction met them.

    Args:
        root: the folder of the store, in whose ``silent.jsonl`` they stand.

    Attributes:
        keys: of the stretches, as :func:`item_key` makes them.
    """

    def __init__(self, root: Path | str) -> None:
        self.path = Path(root) / "silent.jsonl"
        self.keys = {row for row in read_rows(self.path) if isinstance(row, str)}

    def add(self, keys: Iterable[str]) -> None:
        """Note further ones, for good."""
        new = [key for key in dict.fromkeys(keys) if key not in self.keys]
        append_rows(self.path, new)
        self.keys.update(new)
