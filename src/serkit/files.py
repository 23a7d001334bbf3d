"""Atomic file writes, and hashes of plain values."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit.errors import DiskFull

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash a JSON-able value: the same content gives the same ``length`` hex digits everywhere.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:length]


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what was written replaces ``path`` once the block is through.

    A crash leaves either the old file or the new one, whole; an error leaves no part behind. Two
    processes that write the same file write two parts, and the later one wins. What a killed process
    leaves of its part is removed by :func:`remove_parts`.

    Raises:
        DiskFull: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{host_name()}-{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno not in DISK_FULL:
            raise
        raise DiskFull(
            f"the disk is full ({os.strerror(error.errno)}) while writing {path}: free some space there and run the "
            "same command again"
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all (see :func:`replacing`)."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a binary file, whole or not at all (see :func:`replacing`)."""
    with replacing(path) as part:
        part.write_bytes(content)


def remove_parts(folder: Path | str) -> list[Path]:
    """Delete, in a folder and all below it, the parts of :func:`replacing` whose writers were killed; returns them.

    A part of another machine, or of a process that lives, stays.
    """
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return []
    removed = []
    for path in sorted(Path(folder).rglob(".*.part")):
        writer = re.fullmatch(rf"\..+\.{re.escape(host_name())}-(\d+)-\d+\.part", path.name)
        if writer and not _lives(int(writer[1])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def host_name() -> str:
    """Name of this machine, short and safe in a file name."""
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:24] or "host"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
