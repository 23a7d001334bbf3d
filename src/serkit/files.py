"""Atomic writes of files and folders, and hashes of plain values and files."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serkit.errors import DiskFull, SerkitError, on_one_line

_blake2b = functools.partial(hashlib.blake2b, digest_size=16)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_PLACE = (
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


def made_folder(path: Path) -> Path:
    """The folder, made where it is absent.

    Raises:
        SerkitError: a file is there, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SerkitError(f"{path} cannot be a folder: a file is in its place; choose another --out") from None
    except OSError as error:
        if error.errno not in NO_PLACE:  # below a place that takes no folders, such as /proc
            raise
        raise SerkitError(f"{path} cannot be made: {error.strerror}; choose another --out") from None
    return path


def check_writable(out: Path) -> None:
    """Refuse a place where no file can be written, before the work that would be lost; its folder is made.

    What killed writers of the same file left beside it is removed.

    Raises:
        SerkitError: it is a folder, or there is no right to write, or a file system that takes nothing.
    """
    if out.is_dir():
        raise SerkitError(f"--out {out} is a folder; name a file in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_parts_of(out)
        fresh = not out.exists()
        if fresh or out.is_file():  # a pipe would take that for all that comes
            with out.open("ab"):  # there may be a right to, and a file system that takes nothing
                pass
        if fresh:
            out.unlink()
    except OSError as error:
        raise SerkitError(f"--out {out} cannot be written: {error.strerror or error}") from None


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash a JSON-able value: the same content gives the same ``length`` hex digits everywhere.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=32).hexdigest()[:length]


def content_hash(source: Path | str | bytes) -> str:
    """Hash of a file's bytes: 32 hex digits of BLAKE2b, the same wherever the file lies.

    Args:
        source: a path, or the bytes themselves.

    Raises:
        SerkitError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return _blake2b(source).hexdigest()
    try:
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, _blake2b).hexdigest()
    except OSError as error:
        raise SerkitError(f"{source}: cannot be read: {error.strerror or error}") from None


def is_file_name(name: str) -> bool:
    """Whether a name that somebody gave can be that of a file or folder, and become a longer one.

    >>> is_file_name("big model+2"), is_file_name("../x"), is_file_name("..")
    (True, False, False)
    """
    fits = on_one_line(name) and name == name.strip() and len(name.encode()) <= 100
    return fits and name not in ("", ".", "..") and not any(c in name for c in "/\\")


@contextlib.contextmanager
def replacing(path: Path | str, *, sync: bool = False) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what was written replaces ``path`` once the block is through.

    A crash leaves either the old file or the new one, whole; an error leaves no part behind. Two
    processes that write the same file write two parts, and the later one wins. What a killed process
    leaves of its part is removed by :func:`remove_parts`. A pipe or a device cannot be replaced: it is written to, at
    the end, after what is in a file that a shell has opened for it as ``/dev/stdout``.

    Args:
        path: the file; its folder is made where absent.
        sync: wait until the bytes are on the disk before the file bears its name, and until the name is.

    Raises:
        DiskFull: the disk is full.
    """
    path = Path(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            yield part
            with part.open("rb") as made, path.open("ab") as stream:
                shutil.copyfileobj(made, stream)
        return
    with _part_of(path) as part:
        yield part
        if sync:
            _sync(part, os.O_RDWR)
        part.replace(path)
        if sync and hasattr(os, "O_DIRECTORY"):
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


@contextlib.contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to fill; it becomes ``path`` once the block is through.

    As :func:`replacing`, except that an empty folder alone is replaced: of two that write the same one the first wins.

    Raises:
        FileExistsError: by then something is at ``path``. DiskFull: there is no room.
    """
    path = Path(path)
    with _part_of(path) as part:
        _remove(part)
        part.mkdir()
        yield part
        with contextlib.suppress(OSError):
            path.rmdir()
        try:
            part.replace(path)
        except OSError as error:
            if not path.exists():
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """The name of this thread's part of ``path``; what is there is gone after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{host_name()}-{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
    except OSError as error:
        _remove(part)
        if error.errno not in DISK_FULL:
            raise
        raise DiskFull(
            f"the disk is full ({os.strerror(error.errno)}) while writing {path}: free some space there and run the "
            "same command again"
        ) from error
    except BaseException:
        _remove(part)
        raise


def is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device, or one of the names, such as /dev/stdout, of what a program has open."""
    if path.is_dir() or not path.exists():
        return False
    folders = [str(folder) for folder in path.absolute().parents]
    return not path.is_file() or "/proc" in folders or ("/dev" in folders and "/dev/shm" not in folders)


def _remove(part: Path) -> None:
    """A part, whether it is a file, a folder, or not there."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all (see :func:`replacing`).

    What UTF-8 cannot hold, such as a byte of a file name that is not UTF-8, is written as an escape, ``\\udcff``, which
    JSON reads back.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all (see :func:`replacing`)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_bytes(path: Path | str, content: bytes, *, sync: bool = False) -> None:
    """Write a binary file, whole or not at all (see :func:`replacing`)."""
    with replacing(path, sync=sync) as part:
        part.write_bytes(content)


def remove_parts(folder: Path | str) -> list[Path]:
    """Delete, in a folder and all below it, the parts of writers that were killed; returns them.

    A part of another machine, or of a process that lives, stays.
    """
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return []
    return [part for part in sorted(Path(folder).rglob(".*.part")) if _removed(part, ".+")]


def remove_parts_of(path: Path) -> None:
    """Delete what killed writers of this file or folder left of their parts beside it, where that is allowed."""
    for part in path.parent.glob("*.part") if os.name == "posix" else ():
        with contextlib.suppress(OSError):  # another user's
            _removed(part, re.escape(path.name))


def _removed(part: Path, name: str) -> bool:
    """Whether it was a part of a writer of this machine that is dead, of a file whose name matches; it is gone then."""
    writer = re.fullmatch(rf"\.{name}\.{re.escape(host_name())}-(\d+)-\d+\.part", part.name)
    if writer is None or _lives(int(writer[1])):
        return False
    _remove(part)
    return True


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
