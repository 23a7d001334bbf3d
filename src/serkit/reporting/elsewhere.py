"""What a page says of tests on other corpora than the training ones: who trained, who is test, on which classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from serkit.reporting.data_tables import mean_and_spread
from serkit.reporting.reading import Source
from serkit.reporting.tables import Cell, Column, Row, Table, measured_cell
from serkit.reporting.text import ABSENT, between, capital, count, finite, listed, number, voices, whole
from serkit.reporting.verdict import Verdict

MEAN = "mean of corpora ± sd"


def led(source: Source, verdict: Verdict) -> Verdict:
    """A verdict that begins with who trained and what was the test; as it is of other reports."""
    if not source.across:
        return verdict
    own = [verdict.headline] if verdict.tone != "alone" else []
    said = (*sentences(source), *own, *verdict.sentences)
    cautions = (*_rough(source), *verdict.cautions)
    return replace(verdict, headline=headline(source), lead=_lead(source, verdict), sentences=said, cautions=cautions)


def _lead(source: Source, verdict: Verdict) -> str:
    """Of several test corpora their mean, as they differ in classes and size; of one the usual sentence."""
    mean = _mean(source)
    if mean is None:
        return verdict.lead
    who = source.named(source.lead)
    return (
        f"{capital(who)} has a mean UAR of {number(mean[0])} ± {number(mean[1])} (standard deviation over "
        f"{mean[2]} corpora). Elsewhere on this page, test is all test clips together."
    )


def _mean(source: Source) -> tuple[float | None, float | None, int] | None:
    """Mean and deviation of the UAR over corpora that are test as a whole, and their number; of two or more."""
    values = [finite(_uar(source, row).get("value")) for row in source.across if not row.get("own")]
    return (*mean_and_spread(values), len(values)) if len(values) > 1 else None


def _rough(source: Source) -> list[str]:
    """Test corpora of few speakers, which a pool of several hides."""
    few = [r for r in source.across if "rough" in str(_uar(source, r).get("interval"))]
    if not few or len(source.across) < 2:
        return []
    named = listed([f"{_tested(r)} ({count(r['speakers'], 'speaker')})" for r in few])
    return [f"rough intervals: {named}; below 20 speakers a bootstrap interval is too narrow."]


def headline(source: Source) -> str:
    """Who trained and what the test says, in one sentence."""
    rows = source.across
    numbers = listed([f"{number(_uar(source, r).get('value'))} on {_tested(r)}" for r in rows])
    if source.folds:
        return f"Each of {len(rows)} corpora was left out in turn: UAR {numbers}."
    if len(rows) > 1:
        return f"Trained on {_trained(rows[0])}: UAR {numbers}."
    value, among = number(_uar(source, rows[0]).get("value")), count(len(rows[0]["shared"]), "shared class")
    return f"Trained on {_trained(rows[0])}, tested on {_tested(rows[0])}: UAR {value} among {among}."


def sentences(source: Source) -> list[str]:
    """What every number of such a report rests on."""
    kept_apart = (
        "No speaker and no recording of a test corpus is in its training: speakers of two corpora are taken to be "
        "different people, and the files were compared by their content. A converted copy has other content; serkit "
        "audit compares the sound."
    )
    return [kept_apart, *(line(source, row) for row in source.across)]


def lines(source: Source) -> list[str]:
    """A line of the terminal for each test corpus, and one for their mean."""
    found = [line(source, row) for row in source.across]
    mean = _mean(source)
    if mean is not None:
        found.append(f"UAR, {MEAN}: {number(mean[0])} ± {number(mean[1])} (of {mean[2]} corpora)")
    return found


def _roughly(m: Mapping[str, Any]) -> str:
    """That an interval is of few speakers."""
    return " (rough)" if "rough" in str(m.get("interval")) else ""


def line(source: Source, row: Mapping[str, Any]) -> str:
    """One test corpus in a sentence."""
    m = _uar(source, row)
    shared = [str(x) for x in row["shared"]]
    ends = between(m.get("low"), m.get("high")) + _roughly(m)
    text = (
        f"Trained on {_trained(row)}, tested on {_tested(row)}: {source.named(source.lead)} has a UAR of "
        f"{number(m.get('value'))} {ends} among {len(shared)} shared classes "
        f"({', '.join(shared)}; chance is {number(1 / len(shared))}), {count(row['n'], 'clip')} of "
        f"{voices(row['speakers'])}."
    )
    gone = {str(k): int(finite(n) or 0) for k, n in (row.get("left_out") or {}).items()}
    if gone:
        text += (
            f" Left out are {count(sum(gone.values()), 'clip')} of classes that training does not know: "
            f"{listed([f'{k} ({whole(n)})' for k, n in gone.items()])}."
        )
    if row.get("untested"):
        text += f" Classes of training that are never an answer here: {listed([str(x) for x in row['untested']])}."
    return text


def tiles(source: Source) -> list[dict[str, str]]:
    """A tile for each test corpus, where there are several."""
    if len(source.across) < 2:
        return []
    found = []
    for row in source.across:
        m = _uar(source, row)
        sub = f"{between(m.get('low'), m.get('high'))} {len(row['shared'])} classes"
        found.append({"value": number(m.get("value")), "name": f"UAR on {_tested(row)}", "sub": sub, "kind": "stack"})
    return found


def table(source: Source) -> Table | None:
    """A row for each test corpus, and the mean of these; ``None`` of other reports."""
    rows = source.across
    if not rows:
        return None
    names = [n for n in dict.fromkeys([source.lead, source.best]) if all(n in r["systems"] for r in rows)]
    columns = [Column("Tested on"), Column("Trained on"), Column("Clips", True), Column("Speakers", True)]
    columns += [Column("Classes", True), Column("Chance", True)]
    columns += [Column(f"UAR, {source.display(n)} [95%]", numeric=True) for n in names]
    lines = []
    for r in rows:
        gone = sum(int(finite(n) or 0) for n in (r.get("left_out") or {}).values())
        cells = [Cell(_tested(r)), Cell(_trained(r)), Cell(whole(r["n"]), f"{whole(gone)} left out" if gone else "")]
        cells += [Cell(whole(r["speakers"])), Cell(whole(len(r["shared"]))), Cell(number(1 / len(r["shared"])))]
        lines.append(Row((*cells, *(measured_cell(r["systems"][n]["uar"], True) for n in names))))
    away = [r for r in rows if not r.get("own")]
    if len(away) > 1:
        spread = []
        for n in names:
            mean, sd = mean_and_spread([finite(r["systems"][n]["uar"]["value"]) for r in away])
            spread.append(Cell(number(mean), f"± {number(sd)}"))
        lines.append(Row((Cell(MEAN), *[Cell(ABSENT)] * 5, *spread), "stack"))
    kinds = [f"{_tested(r)}: {_uar(source, r).get('interval')}" for r in rows]
    notes = (
        "UAR: the mean of the shared classes' recalls. A clip is answered among the classes that its corpus shares "
        "with training; clips of other classes are left out and counted.",
        "; ".join(kinds) + ".",
    )
    return Table("across", "Each test corpus", tuple(columns), tuple(lines), notes)


def _uar(source: Source, row: Mapping[str, Any]) -> dict[str, Any]:
    found = row["systems"].get(source.lead, {}).get("uar")
    return dict(found) if isinstance(found, dict) else {}


def _trained(row: Mapping[str, Any]) -> str:
    return listed([str(name) for name in row["trained_on"]])


def _tested(row: Mapping[str, Any]) -> str:
    return str(row["tested_on"]) + (" (its own test speakers)" if row.get("own") else "")
