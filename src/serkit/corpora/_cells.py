"""The cells of a table as they are in its file: CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.recordings import json_rows

READERS = (".csv", ".tsv", ".jsonl", ".parquet")
_NEEDED = {"path", "emotion"}

Cells = list[Mapping[str, Any]]


def read_cells(path: Path, known: Sequence[str]) -> Cells:
    """Rows of the file, one mapping each; a known column written in another case has its known name.

    Args:
        path: of the file; its suffix says what it is. known: columns that mean something.

    Raises:
        SerkitError: another suffix, not UTF-8, or not what the suffix says; a row with more cells than the header.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise SerkitError(f"table: {path.name} ends in '{path.suffix}', expected one of {', '.join(READERS)}")
    try:
        if kind == ".parquet":
            return _named(_read_parquet(path), known)
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SerkitError(f"table: {path} is not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise SerkitError(f"table: {path} cannot be read: {error}") from None
    return _named(_read_jsonl(path, text) if kind == ".jsonl" else _read_csv(path, text), known)


def _named(rows: Cells, known: Sequence[str]) -> Cells:
    columns = dict.fromkeys(k for row in rows for k in row)
    names: dict[str, str] = {}
    for column in columns:
        name = str(column).strip().lower()
        if name != column and name in known and name not in columns and name not in names.values():
            names[column] = name
    return [{names.get(k, k): v for k, v in row.items()} for row in rows] if names else rows


def _read_csv(path: Path, text: str) -> Cells:
    kind = path.suffix.lower()
    delimiter = _delimiter(text.split("\n", 1)[0], "\t,;" if kind == ".tsv" else ",;\t")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows: Cells = list(reader)
    except csv.Error as error:
        raise SerkitError(f"table: {path} is not a {kind[1:].upper()} table: {error}") from None
    header = [cell.strip() for cell in reader.fieldnames or []]
    twice = next((cell for k, cell in enumerate(header) if cell and cell in header[:k]), None)
    if twice is not None:
        raise SerkitError(f"table: {path} has two columns '{twice}'; rename one of them")
    for number, row in enumerate(rows, 1):
        if None in row:
            said = "tab" if delimiter == "\t" else f"'{delimiter}'"
            raise SerkitError(
                f"table: {path}, row {number} has more cells than the header; quote the cell with the {said}"
            )
    return rows


def _delimiter(header: str, candidates: str) -> str:
    """The first by which the header has the columns a table needs, else the one that makes most columns of it."""
    cells = {d: [cell.strip(' "\r').lower() for cell in header.split(d)] for d in candidates}
    return next((d for d in candidates if set(cells[d]) >= _NEEDED), max(candidates, key=lambda d: len(cells[d])))


def _read_jsonl(path: Path, text: str) -> Cells:
    rows = json_rows(text, f"table: {path}")
    return [row for row in rows if "_manifest" not in row]  # the head line of a manifest written by serkit


def _read_parquet(path: Path) -> Cells:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: Cells = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise SerkitError(f"table: {path} is not a Parquet file: {str(error).splitlines()[0]}") from None
    return rows
