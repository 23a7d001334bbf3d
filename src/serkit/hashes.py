"""Content hashes of files, kept so that a file is read once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serkit.errors import SerkitError
from serkit.files import content_hash
from serkit.journal import append_rows, read_rows
from serkit.progress import Meter

LOG = logging.getLogger(__name__)
_SETTLED_S = 2.0  # a file changed this recently may change again within one tick of its clock


class ContentHashes:
    """Content hashes of files, kept by path, size and times of change, so that each file is read once.

    The file behind it is append-only JSONL; a row is ``[path, size, mtime_ns, ctime_ns, hash]``, and one
    without ``ctime_ns``, as earlier versions wrote for weights, holds too. A file changed within the last
    two seconds is hashed but not kept, because a second change could bear the same time.

    Args:
        path: the JSONL file; made when the first hash is kept.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}
        self._folders: dict[Path, str] = {}
        for row in read_rows(self.path):
            if isinstance(row, list) and len(row) in (4, 5):
                name, *state, digest = row
                self._known[name] = (tuple(state), digest)

    def of(self, paths: Sequence[Path], *, jobs: int = 1, meter: Meter | None = None) -> dict[Path, str | SerkitError]:
        """Hash of each file's bytes, or the error that it gave.

        Args:
            paths: files, any order, repeats allowed. jobs: threads that read.
            meter: counts every distinct path.
        """
        found: dict[Path, str | SerkitError] = {}
        stale: list[Path] = []
        for path in dict.fromkeys(paths):
            kept = self._kept(path)
            if kept is None:
                stale.append(path)
            else:
                found[path] = kept
        if meter is not None and found:
            meter.advance(len(found))
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            fresh: list[list[object]] = []
            try:
                for path, (digest, row) in zip(stale, pool.map(self._hash, stale), strict=True):
                    found[path] = digest
                    if row is not None:
                        fresh.append(row)
                    if len(fresh) >= 1000:
                        self._keep(fresh)
                        fresh = []
                    if meter is not None:
                        meter.advance(failed=int(isinstance(digest, SerkitError)))
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                self._keep(fresh)
        return found

    def known(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Hash of each file that need not be read for it: its size and times are those that were kept with it."""
        found = {path: self._kept(path) for path in dict.fromkeys(paths)}
        return {path: digest for path, digest in found.items() if digest is not None}

    def _keep(self, rows: list[list[object]]) -> None:
        try:
            append_rows(self.path, rows)
        except OSError as error:
            LOG.warning("%s cannot be written (%s); files will be hashed again", self.path, error.strerror or error)

    def _name(self, path: Path) -> str:
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = os.path.realpath(path.parent)
        return f"{folder}/{path.name}"

    def _kept(self, path: Path) -> str | None:
        entry = self._known.get(self._name(path))
        if entry is None:
            return None
        try:
            return entry[1] if entry[0] == _state(path)[: len(entry[0])] else None
        except OSError:
            return None

    def _hash(self, path: Path) -> tuple[str | SerkitError, list[object] | None]:
        try:
            state = _state(path)
            digest = content_hash(path)
            settled = max(state[1:]) < (time.time() - _SETTLED_S) * 1e9 and _state(path) == state
        except FileNotFoundError:
            return SerkitError(f"no such file: {path}"), None
        except OSError as error:
            return SerkitError(f"{path} cannot be read: {error.strerror or error}"), None
        except SerkitError as error:
            return error, None
        name = self._name(path)
        self._known[name] = (state, digest) if settled else ((-1,), digest)
        return digest, [name, *state, digest] if settled else None


def _state(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)  # noqa: PTH116 - 92 000 calls: os.stat takes half the time of Path.stat
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
