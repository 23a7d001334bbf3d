"""Rows of text files, and what is said of those that are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from serkit.errors import SerkitError
from serkit.text_rows import csv_cells, csv_rows, json_object, json_rows


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_come_with_the_line_they_begin_at(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffA, b\r\n\r\n1,"two\r\nlines"\r\n3\r\n')
    assert list(csv_rows(path, ["a"], lower=True)) == [
        (3, {"a": "1", "b": "two\r\nlines"}),
        (5, {"a": "3", "b": ""}),
    ]


def test_quotes_that_are_part_of_a_cell(tmp_path: Path) -> None:
    path = written(tmp_path, 'a\tb\n"x" y\t"z\n')
    assert list(csv_rows(path, ["a", "b"], delimiter="\t", quoted=False)) == [(2, {"a": '"x" y', "b": '"z'})]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,c\n1,2\n", "no column 'b'; known: a, c$"),
        ("", "no column 'a'; it is empty$"),
        ("a,b\n1,2\n3\n", "t.csv, line 3: 1 of 2 cells, none for 'b'; is it cut short"),
        (b"a,b\n\xff,2\n", "t.csv is not UTF-8 text .*; is it damaged"),
        ("a,b\n1," + "x" * 200_000 + "\n", "t.csv, line 2: not a row of a table .field larger"),
    ],
)
def test_what_is_damaged_is_one_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(SerkitError, match=said) as caught:
        list(csv_rows(written(tmp_path, content), ["a", "b"]))
    assert "\n" not in str(caught.value)


def test_bytes_of_another_encoding_may_be_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, b"a\nIt\x92s\n")
    assert list(csv_rows(path, ["a"], replace=True)) == [(2, {"a": "It\ufffds"})]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="cannot be read: No such file"):
        list(csv_rows(tmp_path / "none.csv", ["a"]))
    with pytest.raises(SerkitError, match="cannot be read: No such file"):
        json_object(tmp_path / "none.json")


def test_a_quote_that_is_not_closed_is_refused_where_asked() -> None:
    assert list(csv_cells(['a,"b'], "x")) == [(1, ["a", "b"])]
    with pytest.raises(SerkitError, match="x, line 1: not a row"):
        list(csv_cells(['a,"b'], "x", strict=True))


def test_json(tmp_path: Path) -> None:
    assert list(json_rows('{"a": 1}\n\n{"b": 2}\n', "x")) == [(1, {"a": 1}), (3, {"b": 2})]
    with pytest.raises(SerkitError, match="x, line 2 is not JSON"):
        list(json_rows('{"a": 1}\n{', "x"))
    with pytest.raises(SerkitError, match="x, line 1 is not a JSON object"):
        list(json_rows("[1]", "x"))
    for content, said in (("{", "is not JSON"), ("[1]", "is not a JSON object"), (b"\xff", "is not UTF-8")):
        with pytest.raises(SerkitError, match=said):
            json_object(written(tmp_path, content))
    assert json_object(written(tmp_path, '{"a": 1}')) == {"a": 1}
