"""The cells of a table as they are in its file: CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.text_rows import csv_cells, json_rows

READERS = (".csv", ".tsv", ".jsonl", ".parquet")
MOST_COLUMNS = 10_000  # each is compared with the others
_NEEDED = {"path", "emotion"}
ALIASES = {  # what other tools call a column, read so where the table has exactly one of them
    "path": ("file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path", "wav"),
    "emotion": ("label", "emotion_label"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cells:
    """The rows of a table, and where in its file they stand.

    Attributes:
        rows: cells by column. numbers: of each row, its line in a text file, its place from 1 in a Parquet file.
        unit: what the numbers count, ``line`` or ``row``. renamed: column of the file by its name here, of aliases.
    """

    rows: list[Row]
    numbers: list[int]
    unit: str = "line"
    renamed: Mapping[str, str] = field(default_factory=dict)


def read_cells(path: Path, known: Sequence[str]) -> Cells:
    """The rows of the file; a known column written in another case has its known name.

    Args:
        path: of the file; its suffix says what it is. known: columns that mean something.

    Raises:
        SerkitError: another suffix, not UTF-8, or not what the suffix says; a row with more cells than the header.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise SerkitError(f"table: {path.name} ends in '{path.suffix}', expected one of {', '.join(READERS)}")
    if path.exists() and not path.is_file():  # a pipe might never end, nor a device
        raise SerkitError(f"table: {path} is a pipe or device, expected a file")
    try:
        if kind == ".parquet":
            rows = _read_parquet(path)
            return _aliased(Cells(_named(rows, known), list(range(1, len(rows) + 1)), "row"))
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SerkitError(f"table: {path} is not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise SerkitError(f"table: {path} cannot be read: {error}") from None
    numbered = _read_jsonl(path, text) if kind == ".jsonl" else _read_csv(path, text)
    return _aliased(Cells(_named([row for _, row in numbered], known), [number for number, _ in numbered]))


def _aliased(cells: Cells) -> Cells:
    """Needed columns that are absent are taken from the one column that other tools call so, if there is just one."""
    columns = {str(k): k for row in cells.rows for k in row}
    lower = {name.strip().lower(): k for name, k in columns.items()}
    renamed = {}
    for needed, others in ALIASES.items():
        there = [lower[name] for name in others if name in lower]
        if needed not in lower and len(there) == 1:
            renamed[there[0]] = needed
    if not renamed:
        return cells
    rows: list[Row] = [{renamed.get(k, k): v for k, v in row.items()} for row in cells.rows]
    return replace(cells, rows=rows, renamed={name: column for column, name in renamed.items()})


def _named(rows: list[Row], known: Sequence[str]) -> list[Row]:
    columns = dict.fromkeys(k for row in rows for k in row)
    names: dict[str, str] = {}
    for column in columns:
        name = str(column).strip().lower()
        if name != column and name in known and name not in columns and name not in names.values():
            names[column] = name
    return [{names.get(k, k): v for k, v in row.items()} for row in rows] if names else rows


def _read_csv(path: Path, text: str) -> list[tuple[int, Row]]:
    """Rows by the line that each begins at; blank lines are passed over."""
    kind = path.suffix.lower()
    delimiter = _delimiter(text.split("\n", 1)[0], "\t,;" if kind == ".tsv" else ",;\t")
    source = io.StringIO(text, newline="")
    lines = list(csv_cells(source, f"table: {path}", delimiter=delimiter, strict=True))
    header = lines[0][1] if lines else []
    if len(header) > MOST_COLUMNS:
        raise SerkitError(
            f"table: {path} has {len(header)} columns, expected at most {MOST_COLUMNS}; is it transposed?"
        )
    names = [cell.strip() for cell in header]
    twice = next((cell for k, cell in enumerate(names) if cell and cell in names[:k]), None)
    if twice is not None:
        raise SerkitError(f"table: {path} has two columns '{twice}'; rename one of them")
    rows: list[tuple[int, Row]] = []
    for number, cells in lines[1:]:
        if len(cells) > len(header):
            said = "tab" if delimiter == "\t" else f"'{delimiter}'"
            raise SerkitError(
                f"table: {path}, line {number} has more cells than the header; quote the cell with the {said}"
            )
        rows.append((number, dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))))
    return rows


def _delimiter(header: str, candidates: str) -> str:
    """The first by which the header has the columns a table needs, else the one that makes most columns of it."""
    cells = {d: [cell.strip(' "\r').lower() for cell in header.split(d)] for d in candidates}
    return next((d for d in candidates if set(cells[d]) >= _NEEDED), max(candidates, key=lambda d: len(cells[d])))


def _read_jsonl(path: Path, text: str) -> list[tuple[int, Row]]:
    rows = json_rows(text, f"table: {path}")
    return [
        (number, row) for number, row in rows if "_manifest" not in row
    ]  # the head line of a manifest written by serkit


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:  # times that no calendar has
        raise SerkitError(f"table: {path} is not a Parquet file: {str(error).splitlines()[0]}") from None
    return rows
