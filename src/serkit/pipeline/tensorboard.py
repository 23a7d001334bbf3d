"""Learning curves and results of runs as event files of TensorBoard.

The folder of a run is the truth and training knows nothing of this: the files can be deleted, and are written anew from
``history.jsonl`` and ``report.json`` whenever they are asked for. Several runs, such as the folds of a
cross-validation, stand beside each other.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from serkit.errors import SerkitError
from serkit.extras import optional
from serkit.files import host_name, made_folder
from serkit.pipeline.run import Run
from serkit.reporting.reading import read

FOLDER = "tensorboard"
DEPTH = 4  # folders between the one that is named and a run: trials/NAME/fold1-seed7 of a search among other runs
_TAGS = {"loss": "train/loss", "lr": "train/learning_rate", "utterances_s": "train/utterances_s"}


def runs_in(folder: Path) -> dict[str, Run]:
    """The prepared runs at or below a folder by their path in it, in order; ``""`` is the folder itself."""
    if (folder / "recipe.yaml").is_file() and (folder / "manifest.jsonl").is_file():
        return {"": Run(folder)}
    found = (p.parent for depth in range(1, DEPTH + 1) for p in folder.glob("/".join(["*"] * depth + ["recipe.yaml"])))
    return {str(p.relative_to(folder)): Run(p) for p in sorted(found) if (p / "manifest.jsonl").is_file()}


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        folder: where. networks, epochs: whose learning curves, and their points in all. systems: single ones and
            ensembles whose results were written, each run's own. unread: runs that could not be read, with the reason.
    """

    folder: Path
    networks: int
    epochs: int
    systems: int
    unread: Mapping[str, str]


class Curves:
    """What was written of some runs, and what of them is still to write.

    Args:
        folder: of a run, or one with several in it: a cross-validation, an ablation, a search.
        out: where the event files go; each network has a folder there, named RUN/SYSTEM/NETWORK. Files that lie there
            are replaced.

    Raises:
        SerkitError: no run is there, or ``out`` cannot be made. MissingExtra: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, out: Path | None = None) -> None:
        optional("tensorboardX", "tensorboard", "event files of TensorBoard")
        self.folder, self.out = folder, out or folder / FOLDER
        self._written: dict[str, list[dict[str, Any]]] = {}
        self._reports: dict[str, tuple[int, int]] = {}
        self._systems: dict[str, int] = {}
        self._unread: dict[str, str] = {}
        self._files: dict[str, EventFile] = {}
        if not runs_in(folder):
            raise SerkitError(
                f"{folder} holds no run: expected the folder of a run (recipe.yaml, manifest.jsonl) or one with several"
            )
        made_folder(self.out)

    def write(self) -> Written:
        """Write what came since the last time; returns all that was written so far.

        A network that was trained anew since is begun anew. A run that cannot be read is left out.

        Raises:
            SerkitError: the only run cannot be read.
        """
        for name, run in runs_in(self.folder).items():
            try:
                for curve, rows in _curves(run):
                    self._add(_path(name, *curve), rows)
                self._results(name, run)
                self._unread.pop(name, None)
            except SerkitError as error:
                if not name:
                    raise
                self._unread[name] = str(error)
        epochs = sum(len(rows) for rows in self._written.values())
        return Written(self.out, len(self._written), epochs, sum(self._systems.values()), dict(self._unread))

    def finished(self) -> bool:
        """Whether every run that can be read has its report, and several of them the one that they share.

        The trials of a search have none of their own: they end with their stack.
        """
        found = runs_in(self.folder)
        shared = "" in found or any((self.folder / "report").glob("*.html"))
        last = {name: "stack" if name.startswith("trials/") else "report" for name in found}
        return shared and all(run.done(last[name]) for name, run in found.items() if name not in self._unread)

    def _add(self, path: str, rows: list[dict[str, Any]]) -> None:
        before = self._written.get(path)
        if before is None or rows[: len(before)] != before:
            self._files[path] = EventFile(self.out / path)
            before = []
        self._files[path].add_scalars([(row["epoch"], scalars(row)) for row in rows[len(before) :]])
        self._written[path] = rows

    def _results(self, name: str, run: Run) -> None:
        page = run.folder / "report" / "report.json"
        if not page.is_file():
            return
        stat = page.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if self._reports.get(name) == stamp:
            return
        systems = read(page.parent).tree["systems"]
        self._reports[name] = stamp
        for system, splits in systems.items():
            values: dict[str, float] = {
                f"results/{split}_{metric}": value
                for split, metrics in _mapping(splits).items()
                for metric, found in _mapping(metrics).items()
                if _is_number(value := cast(float, _mapping(found).get("value")))
            }
            EventFile(self.out / _path(name, "results", system)).add_scalars([(0, values)])
        recipe = _as_code((run.folder / "recipe.yaml").read_text(encoding="utf-8"))
        EventFile(self.out / _path(name, "recipe")).add_text("recipe", recipe)
        self._systems[name] = len(systems)


class EventFile:
    """One new event file of TensorBoard in a folder, in the place of any that lie there.

    What is added is on disk when the call returns, and no file stays open: the writer of tensorboardX has a thread and
    a queue for each file, and its ``flush`` does not wait for them.

    Args:
        folder: is made.
    """

    def __init__(self, folder: Path) -> None:
        made_folder(folder)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{host_name()}"
        self._append([{"file_version": "brain.Event:2"}])

    def add_scalars(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Numbers by tag, each of a step."""
        from tensorboardX import summary

        self._append(
            [
                {"step": step, "summary": summary.scalar(tag, value)}
                for step, row in points
                for tag, value in row.items()
            ]
        )

    def add_text(self, tag: str, text: str) -> None:
        """Markdown."""
        from tensorboardX import summary

        self._append([{"step": 0, "summary": summary.text(tag, text)}])

    def _append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Records of TensorFlow: length, its checksum, a protocol buffer, its checksum."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        written = []
        for event in events:
            data = Event(wall_time=time.time(), **event).SerializeToString()
            length = struct.pack("<Q", len(data))
            written += [length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))]
        with self._path.open("ab") as file:
            file.write(b"".join(written))


def write(folder: Path, out: Path | None = None, *, follow: bool = False, every_s: float = 2.0) -> Written:
    """Write event files of every run at or below a folder.

    Args:
        folder, out: as of :class:`Curves`. follow: go on until every run has its report, or Ctrl-C. every_s: seconds
            between two looks.

    Raises:
        SerkitError, MissingExtra: as of :class:`Curves`.
    """
    curves = Curves(folder, out)
    written = curves.write()
    try:
        while follow:
            finished = curves.finished()  # asked first: what comes while this is written belongs to the next look
            written = curves.write()
            if finished:
                break
            time.sleep(every_s)
    except KeyboardInterrupt:  # ends the looking; what was written stays
        pass
    return written


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one line of ``history.jsonl`` by tag: ``train/loss``, ``train/loss_NAME``, ``dev/uar`` …"""
    found = {}
    for key, value in row.items():
        if key in ("epoch", "member", "soup") or not _is_number(value):
            continue
        split, _, rest = key.partition("_")
        found[_TAGS.get(key) or (f"dev/{rest}" if split == "dev" else f"train/{key}")] = float(value)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(found: object) -> Mapping[str, Any]:
    """What may be anything in a report that somebody changed, as a mapping."""
    return found if isinstance(found, Mapping) else {}


def _path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _as_code(text: str) -> str:
    """Indented, which TensorBoard's Markdown shows as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def _curves(run: Run) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    for system in run.recipe.systems:
        for network, rows in run.history(system).items():
            yield (system, network), rows
