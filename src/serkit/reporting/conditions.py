"""What ``serkit measure --under`` found → a table for a terminal, one HTML page, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serkit.reporting.figures import Interval, forest
from serkit.reporting.measured_words import KINDS, names, rough, told, trained
from serkit.reporting.svg import Figure, cut
from serkit.reporting.tables import Cell, Column, Row, Table, difference_cell
from serkit.reporting.text import (
    METRICS,
    aligned,
    between,
    capital,
    clean,
    intervals,
    listed,
    number,
    p_value,
    signed,
    voices,
    whole,
)
from serkit.reporting.verdict import few_draws, larger_p, outcome

UNCHANGED = "unchanged"
HEAD = ("condition", "UAR [95 %]", "change [95 %]", "p Holm", "right", "confidence", "ECE", "no speech", "unsure")
SETS = ("in set", "classes")
METHOD = (
    "Every recording was answered as it is and under each condition. The strength is that of the table. What is "
    "random, such as the noise, is drawn for each recording; with the same seed it is the same again.",
    "Intervals are by speaker, or by clip where speakers are unknown. A change is the condition minus the unchanged "
    "recordings, in pairs. p Holm is the larger of two, that of the bootstrap and that of whole speakers (or clips) "
    "permuted, each adjusted over all conditions (Holm): of few speakers the first alone is too small.",
    "Right is the share of right answers. If the confidence is higher, the model is more sure than it should be. No "
    "speech and unsure are answers that abstain; they count in every number all the same.",
)
OUTCOMES = {
    "worse": "UAR is lower under",
    "better": "UAR is higher under",
    "leaning-": "UAR is lower, but not by both tests, under",
    "leaning+": "UAR is higher, but not by both tests, under",
    "open": "no change is shown under",
}
SHOWN = "the tests: Holm-adjusted bootstrap and permutation, at 5 %"


def conditions_text(tree: Mapping[str, Any]) -> list[str]:
    """The table of each bundle, and of their differences, as lines."""
    found: list[str] = []
    for k, model in enumerate(tree["models"]):
        found += [f"{model['system']} under each condition, in pairs with the unchanged recordings"]
        head = (*HEAD, *(SETS if "sets" in model else ()))
        found += aligned([head, *((*_cells(row), *_set_cells(row[1])) for row in _lines(tree, k))])
        found += [f"  {line}" for line in intervals(m["metrics"]["uar"] for _, m, _ in _lines(tree, k))]
        found += [f"  {line}" for line in answered_by(tree, k)]
    found += _few_draws(tree)
    if len(tree["models"]) == 2:
        one, other = (m["system"] for m in tree["models"])
        found += [f"UAR of {one} (a) minus {other} (b) under each condition"]
        rows = [
            (name, number(d["value_a"]), number(d["value_b"]), _change(d), p_value(larger_p(d)))
            for name, d in _compared(tree)
        ]
        found += aligned([("condition", "a", "b", "difference [95 %]", "p Holm"), *rows])
    return found


def conditions_content(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need: texts, tables and the figure."""
    tree = clean(dict(given))
    models = tree["models"]
    uar = models[0]["metrics"]["uar"]
    return {
        "systems": [m["system"] for m in models],
        "about": f"{whole(uar['n'])} recordings, {voices(uar['speakers'])}, {len(models[0]['labels'])} classes",
        "headline": headline(tree),
        "sentences": [line for k in range(len(models)) for line in _sentences(tree, k)],
        "cautions": _cautions(tree),
        "figures": {"conditions": _figure(tree)},
        "tables": [table for k in range(len(models)) for table in (_table(tree, k), *_set_tables(tree, k))],
        "between": _between(tree) if len(models) == 2 else None,
        "steps": _steps(tree),
        "method": METHOD,
    }


def answered_by(tree: Mapping[str, Any], k: int) -> list[str]:
    """A line for each other model that answered for bundle ``k``, with the conditions and number of answers."""
    told: dict[str, list[str]] = {}
    for name, model, _ in _lines(tree, k):
        n = sum(model["answered_by"].values())
        for who, n_answers in model["answered_by"].items():
            if who != tree["models"][k]["system"]:
                told.setdefault(who, []).append(f"{name} ({n_answers} of {n})")
    return [f"answered by {who}: {listed(places)}" for who, places in told.items()]


Line = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # condition, numbers, change of UAR


def _lines(tree: Mapping[str, Any], k: int) -> list[Line]:
    """The unchanged recordings and each condition, for bundle ``k``."""
    rows = [(u["condition"], u["models"][k], _uar(u["changes"][k])) for u in tree["under"]]
    return [(UNCHANGED, tree["models"][k], {}), *rows]


def _uar(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((d for d in rows if d["metric"] == "uar"), {})


def _compared(tree: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The difference in UAR between two bundles, unchanged and under each condition."""
    rows = [(UNCHANGED, tree["differences"]), *((u["condition"], u["differences"]) for u in tree["under"])]
    return [(name, d) for name, found in rows if (d := _uar(found))]


def _change(d: Mapping[str, Any]) -> str:
    return f"{signed(d['difference'])} {between(d['low'], d['high'], signed)}" if d else ""


def _cells(row: Line) -> tuple[str, ...]:
    name, model, change = row
    uar, n = model["metrics"]["uar"], model["metrics"]["uar"]["n"]
    return (
        name, f"{number(uar['value'])} {between(uar['low'], uar['high'])}", _change(change),
        p_value(larger_p(change)) if change else "", *_sureness(model),
        *(f"{model['abstained'][reason] / n:.0%}" for reason in ("no_speech", "unsure")),
    )  # fmt: skip


def _set_cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    """The share of sets that hold the true class, and their mean number of classes, if a coverage was asked for."""
    sets = model.get("sets")
    return () if sets is None else (number(sets["held"]["value"], 2), number(sets["size"]["value"], 2))


def _sureness(model: Mapping[str, Any]) -> tuple[str, str, str]:
    metrics = model["metrics"]
    return number(metrics["accuracy"]["value"], 2), number(model["confidence"], 2), number(metrics["ece"]["value"])


def headline(tree: Mapping[str, Any]) -> str:
    """The UAR of the first bundle unchanged, and under the condition where it is lowest."""
    name, model, _ = min(_lines(tree, 0)[1:], key=lambda row: row[1]["metrics"]["uar"]["value"])
    value, before = model["metrics"]["uar"]["value"], tree["models"][0]["metrics"]["uar"]["value"]
    who = f"{names(tree['models'])[0]}: " if len(tree["models"]) > 1 else ""
    lowest = f", the lowest of {len(tree['under'])}" if len(tree["under"]) > 1 else ""
    return f"{who}UAR {number(before)} unchanged, {number(value)} under {name}{lowest}"


def _sentences(tree: Mapping[str, Any], k: int) -> list[str]:
    """Where the UAR changes, where that is not shown, where the model is too sure, and who answered."""
    who = f"{tree['models'][k]['system']}: "
    by: dict[str, list[str]] = {}
    for name, _, change in _lines(tree, k)[1:]:
        by.setdefault(outcome(change), []).append(name)
    parts = [f"{words} {listed(by[result])}" for result, words in OUTCOMES.items() if result in by]
    gaps = [(model["confidence"] - model["metrics"]["accuracy"]["value"], name) for name, model, _ in _lines(tree, k)]
    most = max(gaps)
    sure = f"confidence exceeds the share of right answers most under {most[1]}, by {number(most[0], 2)}"
    if most[0] < 0.005:
        sure = "confidence is nowhere higher than the share of right answers"
    return [f"{who}{'; '.join(parts)} ({SHOWN}).", f"{who}{sure}.", *(f"{who}{line}." for line in answered_by(tree, k))]


def _few_draws(tree: Mapping[str, Any]) -> list[str]:
    return few_draws(tree["models"][0]["provenance"]["draws"], len(tree["under"]), "condition", "more --draws")


def _cautions(tree: Mapping[str, Any]) -> list[str]:
    found = [f"{capital(line)}." for line in _few_draws(tree)]
    return found + told(tree["models"], trained) + rough(tree["models"][0])


def _figure(tree: Mapping[str, Any]) -> Figure:
    models = tree["models"]
    systems = [m["system"] for m in models]
    rows, told = [], []
    for lines in zip(*(_lines(tree, k) for k in range(len(systems))), strict=True):
        for k, (name, model, _) in enumerate(lines):
            uar = model["metrics"]["uar"]
            told.append(f"{systems[k]}, {name}: {number(uar['value'])} {between(uar['low'], uar['high'])}")
            rows.append(Interval(name if k == 0 else "", uar["value"], uar["low"], uar["high"], KINDS[k]))
    at = models[0]["metrics"]["uar"]["value"]
    alt = f"UAR by condition: {'; '.join(told)}"
    wide, narrow = (
        forest(
            rows, alt=alt, axis="UAR", narrow=n, at=at,
            legend=[(kind, cut(name, 20 if n else 40)) for kind, name in zip(KINDS, names(models), strict=False)],
        )
        for n in (False, True)
    )  # fmt: skip
    first = models[0]["metrics"]["uar"]
    caption = f"Lines: {first['interval']}; n = {whole(first['n'])}. The dashed line is {systems[0]}, unchanged."
    return Figure("conditions", "UAR by condition", caption, (wide,), (narrow,))


def _table(tree: Mapping[str, Any], k: int) -> Table:
    titles = (
        "Condition", METRICS["uar"], "Change in UAR", "p Holm", METRICS["macro_f1"], "Right", "Confidence", "ECE",
        "No speech", "Unsure",
    )  # fmt: skip
    columns = tuple(Column(title, numeric=k > 0) for k, title in enumerate(titles))
    rows = []
    for line in _lines(tree, k):
        name, model, change = line
        uar, f1 = model["metrics"]["uar"], model["metrics"]["macro_f1"]
        found = [Cell(number(m["value"]), between(m["low"], m["high"])) for m in (uar, f1)]
        p, *rest = map(Cell, _cells(line)[3:])
        rows.append(Row((Cell(name), found[0], _difference(change), p, found[1], *rest), "" if change else "stack"))
    system = tree["models"][k]["system"]
    first = tree["models"][k]["metrics"]["uar"]
    notes = (f"{first['interval']}; n = {whole(first['n'])}, {voices(first['speakers'])}.", *answered_by(tree, k))
    return Table(f"model-{k}", system, columns, tuple(rows), notes)


def _set_tables(tree: Mapping[str, Any], k: int) -> list[Table]:
    """What the sets of classes of one bundle are worth by condition, if a coverage was asked for."""
    if "sets" not in tree["models"][k]:
        return []
    sets = {name: model["sets"] for name, model, _ in _lines(tree, k)}
    rows = [
        Row((
            Cell(name), Cell(number(s["held"]["value"]), between(s["held"]["low"], s["held"]["high"])),
            Cell(number(s["size"]["value"], 2)), Cell(f"{s['alone']:.0%}"),
        ))
        for name, s in sets.items()
    ]  # fmt: skip
    titles = ("Condition", "Right class in the set", "Classes in a set", "Sets of one class")
    columns = tuple(Column(title, numeric=k > 0) for k, title in enumerate(titles))
    one = tree["models"][k]
    return [Table(f"sets-{k}", f"{one['system']}: sets at {one['sets']['coverage']:g}", columns, tuple(rows))]


def _between(tree: Mapping[str, Any]) -> Table:
    one, other = (m["system"] for m in tree["models"])
    columns = tuple(Column(t, numeric=k > 0) for k, t in enumerate(("Condition", one, other, "Difference", "p Holm")))
    rows = tuple(
        Row((
            Cell(name), Cell(number(d["value_a"])), Cell(number(d["value_b"])),
            _difference(d), Cell(p_value(larger_p(d))),
        ))
        for name, d in _compared(tree)
    )  # fmt: skip
    return Table("between", f"UAR of {one} minus {other}", columns, rows)


def _difference(d: Mapping[str, Any]) -> Cell:
    return difference_cell(d) if d else Cell("")


def _steps(tree: Mapping[str, Any]) -> Table:
    rows = []
    for one in tree["under"]:
        told = [f"{s['name']}({', '.join(f'{k}={v}' for k, v in s.items() if k != 'name')})" for s in one["steps"]]
        rows.append(Row((Cell(one["condition"]), Cell(", then ".join(told)))))
    return Table("steps", "What was done to the recordings", (Column("Condition"), Column("Augmentation")), tuple(rows))
