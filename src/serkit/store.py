"""Features by content, in flat memory-mapped shards: written once, shared by runs and corpora."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serkit.encoding import EncoderSpec
from serkit.errors import RunFailed, SerkitError
from serkit.files import write_bytes
from serkit.journal import append_rows, read_rows
from serkit.shards import ShardIndex, ShardWriter, map_shard, read_index, read_spec, remove_abandoned

SHARD_BYTES = 128 * 2**20
SHARD_S = 60.0
MAX_OPEN = 64  # shards mapped at a time by one store; each holds a file descriptor
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """An item that could not be done.

    Attributes:
        key: as in :mod:`serkit.contents`. id: the utterance it was met in first. path: of its recording.
        reason: one line.
    """

    key: str
    id: str
    path: str
    reason: str


def round_frames(frames: np.ndarray, spec: EncoderSpec) -> np.ndarray:
    """Frames as the store keeps them: what is trained on and what is served are these numbers, bit for bit.

    float16 keeps 11 significant bits: a value from 6.1e-5 to 65504 changes by at most 4.9e-4 of itself
    (2^-11), a smaller one by at most 3.0e-8 (2^-25). What rounding costs on real features is measured as
    they are written: :attr:`FeatureStore.rounding_error`.

    Args:
        frames: (frames, dim) float, at least one frame. spec: of the encoder that made them.

    Returns:
        (frames, dim) in ``spec.dtype``, C-ordered.

    Raises:
        SerkitError: no frame, or values that are not finite.
        RunFailed: another shape than the spec says, or finite values that the dtype cannot hold.
    """
    frames = np.asarray(frames)
    if frames.ndim != 2 or frames.shape[1] != spec.dim:
        raise RunFailed(
            f"encoder '{spec.name}' gave features of shape {frames.shape}, its spec says (frames, {spec.dim})"
        )
    if len(frames) < 1:
        raise SerkitError(f"encoder '{spec.name}' gave no frames")
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(frames, dtype=spec.dtype)
    if not np.isfinite(rounded).all():
        if not np.isfinite(frames).all():
            raise SerkitError(f"encoder '{spec.name}' gave features that are NaN or infinite")
        raise RunFailed(
            f"encoder '{spec.name}': features reach {float(np.abs(frames).max()):.4g}, more than {spec.dtype} holds "
            f"(65504); give the encoder dtype: float32"
        )
    return rounded


class FeatureStore:
    """The features of one encoder, by content key.

    Opening reads the shards' indices only; data is mapped when it is asked for. Any number of
    processes may read and write at once: shards are never changed, and a reader sees one once it is
    finished (:meth:`refresh`, which :meth:`missing` and a failed look-up call too).

    Args:
        root: folder of all encoders' features; this one's is ``NAME-FINGERPRINT`` in it, made when the
            first item is written.
        spec: of the encoder; its fingerprint decides which features these are.

    Attributes:
        damaged: shards that are there and cannot be used, with the reason; their items count as missing.

    Raises:
        SerkitError: the folder holds another spec.
    """

    def __init__(self, root: Path | str, spec: EncoderSpec) -> None:
        safe = re.sub(r"[^A-Za-z0-9._+=@-]", "_", spec.name.replace("/", "_"))
        self.spec = spec
        self.folder = Path(root) / f"{safe[:100]}-{spec.fingerprint}"
        self.damaged: dict[str, str] = {}
        self._forget()
        self._check_spec()
        self.refresh()

    def _forget(self) -> None:
        self._shards: list[ShardIndex] = []
        self._names: set[str] = set()
        self._rows: dict[str, int] = {}  # key to its place in the three arrays below
        self._shard_of = self._start_of = self._frames_of = np.zeros(0, dtype=np.int64)
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.folder.parent, "spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], state["spec"])  # type: ignore[misc]  # unpickled: made anew

    def _check_spec(self) -> None:
        path = self.folder / "spec.json"
        try:
            found = read_spec(path)
        except FileNotFoundError:
            return
        except (ValueError, TypeError, RecursionError) as error:
            raise SerkitError(f"{path} is not the spec of an encoder ({error}); move its folder away") from None
        if found.fingerprint != self.spec.fingerprint:
            raise SerkitError(
                f"{self.folder} holds features of '{found.name}' with fingerprint {found.fingerprint}, expected "
                f"{self.spec.fingerprint}; move it away"
            )

    @classmethod
    def open(cls, folder: Path | str) -> FeatureStore:
        """The store in a folder that one was written to, its spec read from there.

        Raises:
            SerkitError: no readable ``spec.json`` in it.
        """
        folder = Path(folder)
        try:
            spec = read_spec(folder / "spec.json")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise SerkitError(f"{folder} is not a feature store: its spec.json cannot be read ({error})") from None
        store = cls(folder.parent, spec)
        if store.folder.name != folder.name:
            raise SerkitError(f"{folder} was renamed: its spec belongs to {store.folder.name}")
        return store

    def refresh(self) -> None:
        """Take in the shards that were finished since the last look."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder) if entry.name.startswith("shard-"))
        except FileNotFoundError:
            return
        fresh: list[ShardIndex] = []
        for name in names:
            stem, dot, suffix = name.partition(".")
            if dot + suffix != ".json" or stem in self._names or stem in self.damaged:
                continue
            index = read_index(self.folder / name, self.spec.dim, self.spec.dtype)
            if isinstance(index, str):
                self.damaged[stem] = index
                LOG.warning("%s/%s is damaged: %s; its items are extracted again; delete it", self.folder, stem, index)
            else:
                fresh.append(index)
        self._take(fresh)

    def _take(self, fresh: list[ShardIndex]) -> None:
        """Add shards to the index; of a key that two writers wrote, the first found stays."""
        shard_of, start_of, frames_of = [self._shard_of], [self._start_of], [self._frames_of]
        for index in fresh:
            if index.name in self._names:
                continue
            frames = np.array(index.frames, dtype=np.int64)
            new = [key not in self._rows for key in index.keys]
            keep = np.array(new, dtype=bool)
            at = len(self._rows)
            for key, wanted in zip(index.keys, new, strict=True):
                if wanted:
                    self._rows[key] = at
                    at += 1
            starts = np.cumsum(frames) - frames
            shard_of.append(np.full(int(keep.sum()), len(self._shards), dtype=np.int64))
            start_of.append(starts[keep])
            frames_of.append(frames[keep])
            self._shards.append(index)
            self._names.add(index.name)
        self._shard_of, self._start_of = np.concatenate(shard_of), np.concatenate(start_of)
        self._frames_of = np.concatenate(frames_of)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        """Every key, in the order in which they were taken in."""
        return iter(self._rows)

    def _row(self, key: str) -> int:
        row = self._rows.get(key)
        if row is None:
            self.refresh()
            row = self._rows.get(key)
        if row is None:
            raise SerkitError(f"no features of encoder '{self.spec.name}' under key {key} in {self.folder}")
        return row

    def get(self, key: str) -> np.ndarray:
        """(frames, dim) read-only view of an item in ``spec.dtype``, mapped and not copied.

        Raises:
            SerkitError: nothing under this key.
        """
        row = self._row(key)
        start = int(self._start_of[row])
        return self._mapped(int(self._shard_of[row]))[start : start + int(self._frames_of[row])]

    def frames(self, key: str) -> int:
        """Number of frames of an item; its data is not touched.

        Raises:
            SerkitError: nothing under this key.
        """
        return int(self._frames_of[self._row(key)])

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that nothing is stored under, each once, in order."""
        self.refresh()
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def _mapped(self, shard: int) -> np.ndarray:
        with self._lock:
            data = self._open.get(shard)
            if data is not None:
                self._open.move_to_end(shard)
                return data
            index = self._shards[shard]
            path = self.folder / f"{index.name}.npy"
            data = map_shard(path, sum(index.frames), self.spec.dim, self.spec.dtype)
            self._open[shard] = data
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return data

    @contextmanager
    def writer(self, *, shard_bytes: int = SHARD_BYTES, shard_s: float = SHARD_S) -> Iterator[StoreWriter]:
        """Write items: ``with store.writer() as writer: writer.add(key, frames)``.

        On leaving, in whatever way, the open shard is finished with the items that were added whole.

        Args:
            shard_bytes: a shard is finished when it has grown to this. shard_s: or is this old, in seconds.

        Raises:
            RunFailed: the disk is full or cannot be written; finished shards stay.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "spec.json").exists():
                row = {**dataclasses.asdict(self.spec), "params": dict(self.spec.params)}
                write_bytes(self.folder / "spec.json", (json.dumps(row, indent=1) + "\n").encode(), sync=True)
        except OSError as error:
            raise RunFailed(f"features cannot be written to {self.folder}: {error.strerror or error}") from error
        remove_abandoned(self.folder)
        self.refresh()
        writer = StoreWriter(self, shard_bytes, shard_s)
        try:
            yield writer
        except RunFailed:
            writer.finish(quietly=True)  # the disk is full already: say so once
            raise
        except BaseException:
            writer.finish()
            raise
        writer.finish()

    def write(
        self,
        items: Iterable[tuple[str, np.ndarray]],
        *,
        shard_bytes: int = SHARD_BYTES,
        shard_s: float = SHARD_S,
    ) -> int:
        """Store ``(key, frames)`` pairs and return how many were new; see :meth:`writer` and :func:`round_frames`."""
        with self.writer(shard_bytes=shard_bytes, shard_s=shard_s) as writer:
            return sum(writer.add(key, frames) for key, frames in items)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """By key, what could not be done and has not succeeded since."""
        found: dict[str, Failure] = {}
        for row in read_rows(self.folder / "failures.jsonl"):
            if isinstance(row, dict) and all(isinstance(row.get(k), str) for k in ("key", "id", "path", "reason")):
                found[row["key"]] = Failure(row["key"], row["id"], row["path"], row["reason"])
        return {key: failure for key, failure in found.items() if key not in self._rows}

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Append to ``failures.jsonl``.

        Raises:
            RunFailed: it cannot be written.
        """
        try:
            append_rows(self.folder / "failures.jsonl", [dataclasses.asdict(f) for f in failures], sync=True)
        except OSError as error:
            raise RunFailed(f"{self.folder}/failures.jsonl cannot be written: {error.strerror or error}") from error

    @property
    def rounding_error(self) -> float:
        """What storing cost, measured on everything stored: root of summed squared error over summed squares."""
        squared = sum(s.squared for s in self._shards)
        return float(np.sqrt(sum(s.squared_error for s in self._shards) / squared)) if squared > 0 else 0.0

    @property
    def n_bytes(self) -> int:
        """Size of the stored frames in bytes."""
        return sum(sum(s.frames) for s in self._shards) * self.spec.dim * np.dtype(self.spec.dtype).itemsize

    def verify(self) -> list[str]:
        """Read everything and return the keys whose bytes are no longer those that were written."""
        bad: list[str] = []
        for number, index in enumerate(self._shards):
            data, start = self._mapped(number), 0
            for key, frames, crc32 in zip(index.keys, index.frames, index.crc32, strict=True):
                item = np.ascontiguousarray(data[start : start + frames]).view(np.uint8).reshape(-1)
                if zlib.crc32(item.data) != crc32:
                    bad.append(key)
                start += frames
        return bad


class StoreWriter:
    """Puts items into shards, one open at a time; made by :meth:`FeatureStore.writer`."""

    def __init__(self, store: FeatureStore, shard_bytes: int, shard_s: float) -> None:
        self._store, self._shard_bytes, self._shard_s = store, shard_bytes, shard_s
        self._shard: ShardWriter | None = None
        self._pending: set[str] = set()

    def add(self, key: str, frames: np.ndarray) -> bool:
        """Store one item; False where its key is there already.

        Args:
            key: from :mod:`serkit.contents`. frames: (frames, dim) float, rounded by :func:`round_frames`.

        Raises:
            SerkitError: see :func:`round_frames`.
            RunFailed: the disk is full or cannot be written.
        """
        if key in self._store or key in self._pending:
            return False
        spec = self._store.spec
        rounded = round_frames(frames, spec)
        if self._shard is None:
            self._shard = ShardWriter(self._store.folder, spec.dim, spec.dtype)
        self._shard.add(key, rounded)
        self._pending.add(key)
        exact = np.asarray(frames, dtype=np.float32).reshape(-1)
        error = exact - rounded.reshape(-1).astype(np.float32)
        self._shard.squared_error += float(np.dot(error, error))
        self._shard.squared += float(np.dot(exact, exact))
        if self._shard.n_bytes >= self._shard_bytes or time.monotonic() - self._shard.opened_s >= self._shard_s:
            self.finish()
            self._store.refresh()  # other writers' shards, so that their items are not written again
        return True

    def finish(self, *, quietly: bool = False) -> None:
        """Publish the open shard, if there is one.

        Args:
            quietly: where that fails too, only remove its parts.

        Raises:
            RunFailed: the disk is full or cannot be written; the open shard is removed.
        """
        shard, self._shard = self._shard, None
        if shard is None:
            return
        try:
            index = shard.publish()
        except RunFailed:
            self._pending.clear()
            if not quietly:
                raise
            return
        self._pending.clear()
        if index is not None:
            self._store._take([index])
