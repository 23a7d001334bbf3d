"""The format of features on disk: writing one shard so that a crash can only lose it whole, and reading its index.

A shard is ``NAME.npy``, all frames of its items one after another, and ``NAME.json``, one table by
column: ``keys``, ``frames`` (how many rows each item has) and ``crc32`` of each item's bytes. While it
is written its data is ``NAME.npy.part`` and locked; the shard exists once ``NAME.json`` is renamed
into place, after everything else has reached the disk.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serkit.encoding import EncoderSpec
from serkit.errors import RunFailed, SerkitError
from serkit.files import DISK_FULL, host_name, write_bytes

try:
    import fcntl
except ImportError:  # no such locks on this system: abandoned files are told by their age alone
    fcntl = None  # type: ignore[assignment]  # not on Windows

ABANDONED_S = 86_400.0  # an unfinished file of another machine is removed after a day without a change
_HEAD_BYTES = 128


@dataclass(frozen=True)
class ShardIndex:
    """The finished index of a shard.

    Attributes:
        name: of the shard, without suffix. keys: its items, in the order of the data.
        frames: rows of each item. crc32: checksum of each item's bytes.
        squared_error, squared: sums over the shard's values of what rounding changed, and of what they were.
    """

    name: str
    keys: tuple[str, ...]
    frames: tuple[int, ...]
    crc32: tuple[int, ...]
    squared_error: float
    squared: float


def read_spec(path: Path) -> EncoderSpec:
    """The spec of an encoder in ``spec.json``.

    Raises:
        OSError, ValueError, TypeError, RecursionError: it cannot be read, or is none.
    """
    row = json.loads(path.read_text(encoding="utf-8"))
    if not all(isinstance(row[key], str) for key in ("name", "modality") if key in row):
        raise TypeError("name and modality are texts")
    return EncoderSpec(**row)


def read_index(path: Path, dim: int, dtype: str) -> ShardIndex | str:
    """Read ``NAME.json`` and check it against its data file; what is wrong as a string where it does not hold."""
    try:
        row = json.loads(path.read_bytes())
        index = ShardIndex(
            path.stem,
            tuple(map(str, row["keys"])),
            tuple(map(int, row["frames"])),
            tuple(map(int, row["crc32"])),
            float(row["squared_error"]),
            float(row["squared"]),
        )
        shape = [int(n) for n in row["shape"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        return f"its index cannot be read ({type(error).__name__})"
    except OSError as error:
        return f"its index cannot be read ({error.strerror})"
    n_frames = sum(index.frames)
    if not len(index.keys) == len(index.frames) == len(index.crc32) or min(index.frames, default=0) < 1:
        return "its index is inconsistent"
    if shape != [n_frames, dim] or row.get("dtype") != dtype:
        return f"it holds {shape} {row.get('dtype')}, expected {[n_frames, dim]} {dtype}"
    expected = _HEAD_BYTES + n_frames * dim * np.dtype(dtype).itemsize
    try:
        size = path.with_suffix(".npy").stat().st_size
    except OSError:
        return "its data file is missing"
    if size != expected:
        return f"its data file has {size} bytes, expected {expected}"
    return index


def map_shard(path: Path, n_frames: int, dim: int, dtype: str) -> np.ndarray:
    """(n_frames, dim) read-only memory map of ``NAME.npy``.

    Raises:
        SerkitError: the file changed since its index was read.
    """
    try:
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=_HEAD_BYTES, shape=(n_frames, dim)))
    except (OSError, ValueError) as error:
        raise SerkitError(f"{path} can no longer be read ({error}); delete it and extract again") from None


class ShardWriter:
    """One shard from its first item to its publication; at most one process writes it.

    Args:
        folder: where shards lie. dim, dtype: of every item.

    Raises:
        RunFailed: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, dim: int, dtype: str) -> None:
        self.folder, self.dim, self.dtype = folder, dim, np.dtype(dtype)
        self.opened_s = time.monotonic()
        self.n_bytes = 0
        self.squared_error = self.squared = 0.0
        self._keys: list[str] = []
        self._frames: list[int] = []
        self._crc32: list[int] = []
        with _writing(folder):
            self._fd = self._create()
        try:
            with _writing(folder):
                _write_all(self._fd, bytes(_HEAD_BYTES))
        except RunFailed:
            self.discard()
            raise

    def _create(self) -> int:
        while True:
            # sorts by time of birth; the random part keeps writers apart on any machine
            self.name = f"shard-{time.time_ns() // 1_000_000:013d}-{host_name()}-{os.getpid()}-{secrets.token_hex(4)}"
            self._part = self.folder / f"{self.name}.npy.part"
            fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            _lock(fd, wait=True)
            try:  # a process that tidies up may have taken the file for abandoned before it was locked
                if self._part.stat().st_ino == os.fstat(fd).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, rows: np.ndarray) -> None:
        """Append one item: (frames, dim) in the shard's dtype, at least one frame.

        Raises:
            RunFailed: the disk is full or cannot be written; items before this one are whole.
        """
        data = np.ascontiguousarray(rows).view(np.uint8).reshape(-1).data
        with _writing(self.folder):
            _write_all(self._fd, data)
        self._crc32.append(zlib.crc32(data))
        self._frames.append(len(rows))
        self._keys.append(key)  # last: an item counts once its key is here
        self.n_bytes += len(data)

    def publish(self) -> ShardIndex | None:
        """Make the shard visible; without an item it is removed.

        Raises:
            RunFailed: the disk is full or cannot be written; the shard's parts are removed.
        """
        if not self._keys:
            self.discard()
            return None
        n_items = len(self._keys)
        frames = self._frames[:n_items]
        index = {
            "shape": [sum(frames), self.dim],
            "dtype": self.dtype.name,
            "squared_error": self.squared_error,
            "squared": self.squared,
            "keys": self._keys,
            "frames": frames,
            "crc32": self._crc32[:n_items],
        }
        try:
            with _writing(self.folder):
                os.ftruncate(self._fd, _HEAD_BYTES + sum(frames) * self.dim * self.dtype.itemsize)
                os.lseek(self._fd, 0, os.SEEK_SET)
                _write_all(self._fd, _head(sum(frames), self.dim, self.dtype))
                os.fsync(self._fd)
                self._part.replace(self.folder / f"{self.name}.npy")
                write_bytes(self.folder / f"{self.name}.json", (json.dumps(index) + "\n").encode(), sync=True)
        except RunFailed:
            self.discard()
            raise
        os.close(self._fd)
        return ShardIndex(
            self.name, tuple(self._keys), tuple(frames), tuple(self._crc32), self.squared_error, self.squared
        )

    def discard(self) -> None:
        """Remove what was written."""
        for suffix in (".npy", ".npy.part"):
            (self.folder / (self.name + suffix)).unlink(missing_ok=True)
        os.close(self._fd)


def remove_abandoned(folder: Path) -> list[str]:
    """Delete what dead writers left unfinished in ``folder``, and return the names of those files."""
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        return []
    unfinished: dict[str, list[str]] = {}
    for name in names:
        stem = name.removeprefix(".").split(".")[0]  # the part of an index is hidden
        if stem.startswith("shard-") and name != f"{stem}.json" and f"{stem}.json" not in names:
            unfinished.setdefault(stem, []).append(name)
    removed: list[str] = []
    for stem, parts in unfinished.items():
        removed += _remove_if_abandoned(folder, stem, sorted(parts))
    return removed


def _remove_if_abandoned(folder: Path, stem: str, parts: list[str]) -> list[str]:
    """Remove a shard's parts unless its writer lives: it holds a lock, or is on another machine and recent."""
    here = f"-{host_name()}-" in stem and fcntl is not None
    descriptors: list[int] = []
    removed: list[str] = []
    try:
        for name in parts:
            path = folder / name
            if not here and time.time() - path.stat().st_mtime < ABANDONED_S:
                return []
            descriptors.append(os.open(path, os.O_RDWR))
            if not _lock(descriptors[-1], wait=False):
                return []
        if (folder / f"{stem}.json").exists():  # published since the folder was listed
            return []
        for name in parts:
            (folder / name).unlink()
            removed.append(name)
    except OSError:  # somebody else is removing it, or may not be removed: it is invisible either way
        return removed
    finally:
        for fd in descriptors:
            os.close(fd)
    return removed


def _lock(fd: int, *, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # a file system without locks: those who tidy up get the same error and leave the file
        return wait and error.errno in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
    return True


def _head(n_frames: int, dim: int, dtype: np.dtype[Any]) -> bytes:
    """The head of an NPY file, always as long."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_frames, dim)}
    )
    if file.tell() != _HEAD_BYTES:
        raise RunFailed(f"an NPY head of {file.tell()} bytes, expected {_HEAD_BYTES}")
    return file.getvalue()


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the disk says into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise RunFailed(
                f"the disk is full ({error.strerror}) while writing features under {folder}; finished shards are "
                "kept: free some space and run again, or choose another place with --store"
            ) from error
        raise RunFailed(f"features cannot be written under {folder}: {error.strerror or error}") from error
