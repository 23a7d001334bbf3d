"""matrix.json → a page: trained on one corpus, tested on each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.reporting import data_tables
from serkit.reporting.reading import Source, read_tree
from serkit.reporting.tables import Cell, Column, Row, Table
from serkit.reporting.text import ABSENT, between, count, finite, listed, number, whole

FORMAT = 1
NEEDED = {"name": str, "corpora": list, "rows": list, "provenance": dict}


def read_matrix(folder: Path) -> dict[str, Any]:
    """Read ``folder/matrix.json``.

    Raises:
        SerkitError: there is none, it is not JSON, or not of this format. RunFailed: it cannot be read from disk.
    """
    return read_tree(folder / "matrix.json", "a table of train by test", FORMAT, NEEDED, "serkit cv --leave-out")


def matrix_content(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need: texts and tables by name."""
    about = {**tree, "systems": {}, "corpus": "+".join(_corpora(tree)), "labels": [], "best_on_dev": ""}
    return {
        "tree": tree,
        "headline": headline(tree),
        "description": str(tree.get("description") or ""),
        "sentences": sentences(tree),
        "matrix": matrix(tree),
        "cells": cells(tree),
        "features": data_tables.features(Source(about)),
        "settings": data_tables.settings(Source(about)),
    }


def headline(tree: Mapping[str, Any]) -> str:
    """The range of the UAR on other corpora, and on a corpus's own test speakers."""
    away, own = _values(tree, own=False), _values(tree, own=True)
    text = f"Trained on one corpus, tested on another: UAR {_range(away)}"
    who = "clips, some of known speakers," if _shared(tree) else "speakers"
    return text + (f"; on other {who} of the same corpus {_range(own)}." if own else ".")


def sentences(tree: Mapping[str, Any]) -> list[str]:
    """What the numbers rest on, and how far a test elsewhere falls behind."""
    apart = "speakers are told apart by corpus and split, and the files of two corpora were compared by their content."
    sides = f"No speaker and no recording is on both sides of a cell: {apart}"
    if _shared(tree):
        sides = f"{sides} On the diagonal this does not hold: the splits of some corpus share speakers."
    found = [
        sides,
        "The diagonal is of the corpus's own test speakers, by its protocol, with the same networks; every other cell "
        "is of all clips of the other corpus.",
        "A cell has the classes that both corpora have, and answers are among these alone. Cells with other classes or "
        "another number of them are not comparable: compare each with its chance.",
    ]
    away, own = _values(tree, own=False), _values(tree, own=True)
    if away and own:
        found.append(
            f"The mean UAR is {number(statistics.fmean(away))} over {count(len(away), 'cell')} on other corpora, and "
            f"{number(statistics.fmean(own))} over {count(len(own), 'cell')} on the own one."
        )
    return found


def matrix(tree: Mapping[str, Any]) -> Table:
    """UAR by training corpus (rows) and test corpus (columns)."""
    names = _corpora(tree)
    columns = (Column("Trained on"), *(Column(f"Tested on {name}", numeric=True) for name in names))
    rows = []
    for trained in names:
        found = {str(r["tested_on"]): r for r in tree["rows"] if r["trained_on"] == [trained]}
        rows.append(Row((Cell(trained), *(_cell(found.get(name)) for name in names))))
    kinds = dict.fromkeys(str(r["uar"].get("interval")).partition(", rough")[0] for r in tree["rows"])
    notes = (
        f"UAR [95%], and the number of classes among which it is. Intervals: {listed(list(kinds))}; of fewer than "
        "20 speakers they are called rough, as they are too narrow.",
    )
    return Table("matrix", "UAR, trained on one corpus and tested on each", columns, tuple(rows), notes)


def _cell(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell(ABSENT)
    m = row["uar"]
    text = f"{between(m.get('low'), m.get('high'))} of {count(len(row['shared']), 'class')}"
    text += ", own speakers" if row.get("own") else ""
    return Cell(number(m.get("value")), text + (", rough" if "rough" in str(m.get("interval")) else ""))


def cells(tree: Mapping[str, Any]) -> Table:
    """Every cell with its clips, speakers, classes, what was left out, and further metrics."""
    columns = [Column(title) for title in ("Trained on", "Tested on", "Classes")] + [Column("Clips", numeric=True)]
    columns += [Column(t, numeric=True) for t in ("UAR [95%]", "Macro-F1 [95%]", "Accuracy [95%]")]
    rows = []
    for r in tree["rows"]:
        gone = ", ".join(f"{k} {whole(n)}" for k, n in (r.get("left_out") or {}).items())
        line = [
            Cell(listed([str(x) for x in r["trained_on"]]), f"{whole(r['train']['clips'])} clips"),
            Cell(str(r["tested_on"]), "own test speakers" if r.get("own") else ""),
            Cell(
                ", ".join(map(str, r["shared"])),
                f"chance {number(1 / len(r['shared']))}" + (f"; left out: {gone}" if gone else ""),
            ),
            Cell(whole(r["n"]), count(r["speakers"], "speaker")),
        ]
        line += [
            Cell(number(r[m].get("value")), between(r[m].get("low"), r[m].get("high")))
            for m in ("uar", "macro_f1", "accuracy")
        ]
        rows.append(Row(tuple(line)))
    notes = (f"System: {listed(list(dict.fromkeys(str(r['lead']) for r in tree['rows'])))}.",)
    return Table("cells", "Each cell", tuple(columns), tuple(rows), notes)


def lines(tree: Mapping[str, Any]) -> list[str]:
    """The table for the terminal: UAR, trained on (rows), tested on (columns)."""
    names = _corpora(tree)
    width = max(len(name) for name in [*names, "trained on"]) + 2
    found = [f"{'trained on':{width}}" + "".join(f"{name:>{max(len(name), 24) + 2}}" for name in names)]
    for trained in names:
        row = {str(r["tested_on"]): r["uar"] for r in tree["rows"] if r["trained_on"] == [trained]}
        texts = [
            f"{number(row[n]['value'])} {between(row[n].get('low'), row[n].get('high'))}" if n in row else ABSENT
            for n in names
        ]
        found.append(
            f"{trained:{width}}" + "".join(f"{t:>{max(len(n), 24) + 2}}" for n, t in zip(names, texts, strict=True))
        )
    few = dict.fromkeys(str(r["tested_on"]) for r in tree["rows"] if "rough" in str(r["uar"].get("interval")))
    found += [f"intervals on {listed(list(few))} are rough: fewer than 20 speakers"] if few else []
    return [*found, headline(tree)]


def _corpora(tree: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in tree["corpora"]]


def _shared(tree: Mapping[str, Any]) -> bool:
    """Whether the splits of a corpus share speakers, so that its own test says less."""
    return bool(tree["provenance"].get("speakers_shared"))


def _values(tree: Mapping[str, Any], *, own: bool) -> list[float]:
    found = [finite(r["uar"].get("value")) for r in tree["rows"] if bool(r.get("own")) == own]
    return [value for value in found if value is not None]


def _range(values: list[float]) -> str:
    if not values:
        return ABSENT
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"
