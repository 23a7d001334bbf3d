"""Resuming: which recordings are already answered in a file, and for what request.

Beside ``answers.csv`` lies ``.answers.csv.asked``: its first row is the question (model, options), every further one a
recording that is answered in full, with its size and time of change, those of the transcript of its own where it has
one, and its number of rows.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.files import fingerprint, write_text
from serkit.journal import append_rows, read_rows
from serkit.serving import formats

STDIN = "-"


class Answered:
    """The recordings that a file of rows answers already.

    Args:
        out: the file. kind: ``csv`` or ``jsonl``. head: its header. question: model and options, as plain values.
        stamps: size and time of each recording that is asked about, as they were before it is heard, so that one that
            changes meanwhile is answered anew, and those of a transcript of its own; by how it is written there.

    Attributes:
        paths: that stand in the file whole, as they are written there; of those that are asked about, only what is
            unchanged, others whatever became of them. The rows of any other are taken away, and of standard input, of
            which nobody knows whether it is the same again.

    Raises:
        SerkitError: the file holds something else, or answers to another question.
    """

    def __init__(
        self,
        out: Path,
        kind: str,
        head: str,
        question: Mapping[str, Any],
        stamps: Mapping[str, list[int]],
    ) -> None:
        self.out, self._journal, self._stamps = out, out.with_name(f".{out.name}.asked"), stamps
        self.paths: set[str] = set()
        if not out.is_file() or not out.stat().st_size:
            self._begin(question)
            return
        try:
            text = out.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise SerkitError(
                f"{out} is not text, so it is not a {kind} of predictions; choose another --out"
            ) from None
        whole = text[: text.rfind("\n") + 1]
        if head and whole and not whole.startswith(head):
            raise SerkitError(f"{out} has different columns; choose another --out, or remove it")
        rows = _rows(out, kind, whole[len(head) :])
        if not rows:
            self._begin(question)
            write_text(out, "")
            return
        known = self._refuse_others(question)
        found = Counter(path for path, _ in rows)
        self.paths = {p for p, row in known.items() if p != STDIN and self._holds(p, row, found[p])}
        if whole != text or any(path not in self.paths for path, _ in rows):
            kept = "".join(_line(row) for path, row in rows if path in self.paths)
            write_text(out, head + kept if self.paths else "")

    def add(self, path: str, n_rows: int) -> None:
        """Note that all rows of a recording are written."""
        append_rows(self._journal, [[path, *self._stamps[path], n_rows]])

    def _holds(self, path: str, row: list[Any], n_rows: int) -> bool:
        """Whether all rows of a recording are there, and of what it is now, if that is asked."""
        return row[-1:] == [n_rows] and row[:-1] == self._stamps.get(path, row[:-1])

    def _begin(self, question: Mapping[str, Any]) -> None:
        self._journal.unlink(missing_ok=True)
        append_rows(self._journal, [dict(question)])

    def _refuse_others(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        """What the journal says of each path, if it is of this question."""
        noted = list(read_rows(self._journal))
        if not noted or not isinstance(noted[0], dict):
            raise SerkitError(
                f"{self.out} already holds answers, but {self._journal.name}, which records the request, is missing "
                "next to it; choose another --out, or remove it"
            )
        asked = json.loads(json.dumps(dict(question)))
        other = [key for key in {**noted[0], **asked} if noted[0].get(key) != asked.get(key)]
        if other:
            said = "; ".join(f"{key}: {_said(noted[0].get(key))} there, {_said(asked.get(key))} now" for key in other)
            raise SerkitError(
                f"{self.out} holds answers to a different request ({said}); choose another --out, or remove it"
            )
        return {row[0]: row[1:] for row in noted[1:] if isinstance(row, list)}


class KeptAnswers:
    """Answers by place, kept in a file, so that what was stopped goes on.

    Args:
        path: of the file; ``None``: nothing is kept. question: what answers depend on but the recordings.
        tasks: JSON-able rows, first the path of a recording, then what is asked of it.

    Attributes:
        found: answers by place, JSON-able.
        left: places without an answer: none that is kept, of this question and an unchanged recording.
    """

    def __init__(self, path: Path | None, question: Sequence[Any], tasks: Sequence[Any]) -> None:
        self._path = path
        self._keys = [] if path is None else [fingerprint([question, task, stamp(Path(task[0]))]) for task in tasks]
        known = {} if path is None else dict(read_rows(path))
        self.found: dict[int, Any] = {k: known[key] for k, key in enumerate(self._keys) if key in known}
        self.left = [k for k in range(len(tasks)) if k not in self.found]

    def add(self, place: int, answer: Any) -> None:
        """A recording was answered, with something JSON-able."""
        self.found[place] = answer
        if self._path is not None:
            append_rows(self._path, [[self._keys[place], answer]])


def stamp(path: Path | None) -> list[Any] | None:
    """Name, size and time of change of a file that answers depend on."""
    return None if path is None else [str(path), *size_and_time(look(path))]


def _rows(out: Path, kind: str, text: str) -> list[tuple[str, str | list[str]]]:
    """Path of each row, and the row: a line of JSON, or the cells of CSV."""
    try:
        if kind == "jsonl":
            return [(str(json.loads(line)["path"]), line) for line in text.split("\n")[:-1]]
        return [(row[0], row) for row in csv.reader(io.StringIO(text))]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise SerkitError(f"{out} is not a {kind} of predictions ({error}); choose another --out") from None


def _line(row: str | list[str]) -> str:
    return row + "\n" if isinstance(row, str) else formats.csv_line(row)


def size_and_time(found: os.stat_result | None) -> list[int]:
    """Bytes, and nanoseconds of its change; zeros if it is not a file here, as standard input is not."""
    return [0, 0] if found is None else [found.st_size, found.st_mtime_ns]


def look(path: str | Path) -> os.stat_result | None:
    """What the system says of a file; ``None`` where there is none, or no such name."""
    try:
        return os.stat(path)  # noqa: PTH116  # of very many, for which a Path each takes longer than looking
    except (OSError, ValueError):
        return None


def _said(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
