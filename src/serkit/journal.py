"""An append-only JSONL file that a crash cannot spoil: a torn last line loses only that line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def append_rows(path: Path, rows: Iterable[Any], *, sync: bool = False) -> None:
    """Append rows, one line of JSON each, in one write.

    Several processes may append to one file: each call is a single write in append mode. Where an
    earlier writer died in the middle of a line, that line is ended first, so that no row is glued to it.

    Args:
        path: the file; it and its folder are made where absent.
        rows: JSON-able values. sync: wait until the bytes are on the disk.

    Raises:
        OSError: as the system says it.
    """
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                text = "\n" + text
        data = memoryview(text.encode("utf-8", "backslashreplace"))  # which JSON reads back
        while data:
            data = data[file.write(data) :]
        if sync:
            os.fsync(file.fileno())


def read_rows(path: Path) -> Iterator[Any]:
    """Yield the rows of a file that :func:`append_rows` wrote, without the torn ones; nothing if absent."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    lines = data.split(b"\n")
    lines.pop()  # after the last newline: empty, or a line that was never finished
    try:
        yield from json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue
