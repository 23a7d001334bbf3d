"""Rows of text files: CSV, TSV, JSON lines, JSON objects. What is damaged is one line that names the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from serkit.errors import SerkitError, did_you_mean

Tree = TypeVar("Tree", dict[str, Any], list[Any])


def csv_cells(
    lines: Iterable[str], where: str, *, delimiter: str = ",", quoted: bool = True, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of CSV or TSV text, the header among them, blank lines passed over.

    Args:
        lines: of the text, with their ends. where: the file, for the message. delimiter: between cells.
        quoted: whether quotes may stand around a cell; else they are part of it. strict: refuse a quote that is not
            closed.

    Yields:
        The line that a row begins at, counted from 1, and its cells.

    Raises:
        SerkitError: a row that is not CSV.
    """
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=strict)  # type: ignore[arg-type]  # an int to csv
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise SerkitError(f"{where}, line {begins}: not a row of a table ({error})") from None


def csv_file(
    path: Path, *, delimiter: str = ",", quoted: bool = True, replace: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV or TSV file in UTF-8, as :func:`csv_cells` yields them.

    Args:
        delimiter, quoted: see there. replace: put U+FFFD where there are bytes that are not UTF-8, instead of
            refusing them.

    Raises:
        SerkitError: it cannot be read, is not UTF-8, or not CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace" if replace else "strict") as file:
            yield from csv_cells(file, str(path), delimiter=delimiter, quoted=quoted)
    except UnicodeDecodeError as error:
        raise SerkitError(f"{path} is not UTF-8 text ({error}); is it damaged?") from None
    except OSError as error:
        raise SerkitError(f"{path} cannot be read: {error.strerror or error}") from None


def csv_rows(
    path: Path,
    needed: Sequence[str],
    *,
    delimiter: str = ",",
    quoted: bool = True,
    replace: bool = False,
    lower: bool = False,
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV or TSV file in UTF-8 by the columns of its header.

    Args:
        needed: columns that the header has and every row reaches. lower: names of columns are read in lower case.
        delimiter, quoted, replace: see :func:`csv_file`.

    Yields:
        The line of the file that a row begins at, counted from 1, and its cells by column; columns that are not needed
        and that the row does not reach are ``""``.

    Raises:
        SerkitError: as :func:`csv_file`; a needed column is not there, or a row ends before it.
    """
    lines = csv_file(path, delimiter=delimiter, quoted=quoted, replace=replace)
    _, cells = next(lines, (1, []))
    header = [(name.lower() if lower else name).strip() for name in cells]
    lacking = [name for name in needed if name not in header]
    if lacking:
        said = shorten(did_you_mean(lacking[0], header), 200, placeholder=" …") if cells else "; it is empty"
        raise SerkitError(f"{path}: no column '{lacking[0]}'{said}")
    last = max(header.index(name) for name in needed)
    for line, row in lines:
        if len(row) <= last:
            raise SerkitError(
                f"{path}, line {line}: {len(row)} of {len(header)} cells, none for '{header[last]}'; is it cut short?"
            )
        yield line, dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False))


def json_rows(text: str, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, blank lines passed over.

    Args:
        where: corpus and file, for the message.

    Yields:
        The line that an object stands in, counted from 1, and the object.

    Raises:
        SerkitError: a line that is not a JSON object.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SerkitError(f"{where}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise SerkitError(f"{where}, line {number} is not a JSON object")
        yield number, row


def json_object(path: Path) -> dict[str, Any]:
    """The one JSON object of a file in UTF-8; errors as :func:`json_tree`."""
    return json_tree(path, dict)


def json_tree(path: Path, kind: type[Tree]) -> Tree:
    """The JSON of a file in UTF-8: an object (dict) or an array (list).

    Raises:
        SerkitError: it cannot be read, is not UTF-8, not JSON, or of another kind.
    """
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SerkitError(f"{path} is damaged, it is not JSON: {error}") from None
    if not isinstance(found, kind):
        wanted = "a JSON object" if kind is dict else "a JSON array"
        raise SerkitError(f"{path} is damaged, it is not {wanted}: {shorten(str(found), 40)!r}")
    return found


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        SerkitError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SerkitError(f"{path} is not UTF-8 text ({error}); is it damaged?") from None
    except OSError as error:
        raise SerkitError(f"{path} cannot be read: {error.strerror or error}") from None
