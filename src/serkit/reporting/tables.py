"""Every table of the report once, as rows of text: HTML, Markdown and LaTeX set the same rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serkit.reporting.reading import Source
from serkit.reporting.text import (
    ABSENT,
    ATTRIBUTE_NAMES,
    DISTANCE_NAMES,
    LEAD_NAMES,
    METRICS,
    between,
    finite,
    listed,
    number,
    p_value,
    signed,
    spaced,
    voices,
    whole,
)
from serkit.reporting.verdict import DETECTABLE, outcome, permuted

_OUTER_COMMA = re.compile(r",(?![^{]*\})")  # between options, not inside one that is a mapping
OUTCOMES = {
    "better": "better",
    "worse": "worse",
    "open": "open",
    "leaning+": "ahead, not sure",
    "leaning-": "behind, not sure",
}


@dataclass(frozen=True)
class Column:
    """title. numeric: set to the right. code: its text is a name or a hash."""

    title: str
    numeric: bool = False
    code: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says. sub: smaller, after it (an interval, or what a name means).
        best: the best of its column. more: shown on a narrow page only, where other columns are hidden.
    """

    text: str
    sub: str = ""
    best: bool = False
    more: str = ""


@dataclass(frozen=True)
class Row:
    """cells; kind: ``stack``, ``lead``, ``best``, ``ensemble``, ``system`` or nothing."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """key: anchor. title, columns, rows; notes: lines under it."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def measured_cell(m: Mapping[str, Any], interval: bool) -> Cell:
    """A metric as a cell, a dash if it was not measured, with its interval if asked for."""
    if not m:
        return Cell(ABSENT)
    return Cell(number(m["value"]), between(m.get("low"), m.get("high")) if interval else "")


def mean_cell(m: Mapping[str, Any]) -> Cell:
    """A mean over seeds as a cell, with its standard deviation where there is one."""
    return Cell(number(m["mean"]), f"± {number(m['sd'])}" if finite(m.get("sd")) is not None else "")


def difference_cell(d: Mapping[str, Any]) -> Cell:
    """A difference as a cell, with its interval."""
    return Cell(signed(d.get("difference")), between(d.get("low"), d.get("high"), signed))


def bold_best(
    rows: Sequence[Row], values: Sequence[Sequence[float | None]], first: int, lowest: bool = False
) -> list[Row]:
    """Mark the best value of each column as printed, so that ties are marked together."""
    marked = [list(r.cells) for r in rows]
    for c in range(len(values[0]) if values else 0):
        known = [v[c] for v in values if v[c] is not None]
        if len(known) < 2:
            continue
        best = number(min(known) if lowest else max(known))  # type: ignore[type-var]  # none is None here
        for r, line in enumerate(values):
            if line[c] is not None and number(line[c]) == best:
                marked[r][first + c] = replace(marked[r][first + c], best=True)
    return [replace(row, cells=tuple(cells)) for row, cells in zip(rows, marked, strict=True)]


def interval_notes(source: Source, splits: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Lines that say for each split what the brackets are and what they rest on."""
    lines = []
    for split in splits:
        for metric in metrics:
            m = source.metric(source.lead, split, metric)
            name = {**METRICS, **DISTANCE_NAMES, **ATTRIBUTE_NAMES}.get(metric, metric)
            if m:
                lines.append(
                    f"{split} {name}: {m.get('interval')}; n = {whole(m.get('n'))}, {voices(m.get('speakers'))}."
                )
    return lines


def short_features(source: Source) -> dict[str, str]:
    """Features with those options in brackets alone by which several of one name are told apart."""
    options: dict[str, dict[str, list[str]]] = {}
    for design in source.part("design").values():
        for feature in map(str, design.get("features") or []):
            name, _, inside = feature.partition("[")
            options.setdefault(name, {})[feature] = _OUTER_COMMA.split(inside.removesuffix("]"))
    short = {}
    for name, given in options.items():
        shared = set.intersection(*map(set, given.values()))
        for feature, parts in given.items():
            own = ",".join(part for part in parts if part and part not in shared)
            short[feature] = f"{name}[{own}]" if own else name
    return short


def losses_said(design: Mapping[str, Any]) -> list[str]:
    """The losses of a system, or of its second stage, in words; one whose classes have weights is told so."""
    names = [spaced(str(x)) for x in design.get("losses") or []]
    rules = [s.get("class_weights") for s in design.get("loss_settings") or [] if isinstance(s, Mapping)]
    rules += [None] * (len(names) - len(rules))
    return [name if rule in (None, "none") else f"weighted {name}" for name, rule in zip(names, rules, strict=False)]


def _second_stage(design: Mapping[str, Any]) -> str:
    """What a second stage of training does, in words; empty where there is none."""
    stage = design.get("second_stage")
    if not isinstance(stage, Mapping):
        return ""
    losses, first = losses_said(stage), losses_said(design)
    told = [" + ".join(losses)]
    if losses == first:
        alike = stage.get("loss_settings") == design.get("loss_settings")
        told = ["the same" if alike else "the same losses, set otherwise"]
    told += [f"balanced: {stage['balance']}"] if stage.get("balance") else []
    return f"after epoch {stage.get('after_epochs')}: {', '.join(told)}"


def systems(source: Source) -> Table:
    """The first table, all systems and ensembles: table 2 of Ueda et al. (2025), with UAR and intervals added."""
    asked = [("dev", "macro_f1", False), ("dev", "accuracy", False), ("dev", "bs_f1", True)]
    asked = [] if "dev" not in source.splits else asked
    if "test" in source.splits:
        asked += [("test", "macro_f1", True), ("test", "accuracy", False), ("test", "uar", True)]
    columns = [Column("System"), Column("Loss"), Column("Balanced")]
    brackets = {"bs_f1": " [range]", "macro_f1": " [95%]", "uar": " [95%]"}
    columns += [Column(f"{s} {METRICS[m]}{brackets[m] if b else ''}", numeric=True) for s, m, b in asked]
    short = short_features(source)
    rows, values = [], []
    for name in [*source.singles, *source.ensembles]:
        found = [source.metric(name, s, m) for s, m, _ in asked]
        cells = [measured_cell(m, asked[k][2]) for k, m in enumerate(found)]
        rows.append(Row((*_trained(source, name, short), *cells), source.kind(name)))
        values.append([finite(m.get("value")) for m in found])
    notes = [
        "Columns as in table 2 of Ueda et al. (2025), with UAR and intervals added; the best of each column is bold.",
        *interval_notes(source, ["dev"], ["bs_f1"]),
        *interval_notes(source, [s for s in source.splits if s == "test"], ["macro_f1"]),
        *([] if source.by_ccc else published_figures(source)),
    ]
    return Table("paper", "Systems and ensembles", tuple(columns), tuple(bold_best(rows, values, 3)), tuple(notes))


def published_figures(source: Source) -> list[str]:
    """What the authors of the recipe report on this corpus, a sentence each."""
    return [str(text) for text in source.tree.get("published") or []]


def _trained(source: Source, name: str, short: Mapping[str, str]) -> tuple[Cell, Cell, Cell]:
    """What a system is called with its features, its losses, and how it was balanced.

    Args:
        short: names of features, of :func:`short_features`.
    """
    design = source.part("design").get(name) or {}
    if not design:
        of = f"of {len(source.members)} systems"
        told = of if name in source.ensembles or name == "stack" else "a different one in each fold"
        return Cell(source.display(name), told), Cell(ABSENT), Cell(ABSENT)
    features = " + ".join(short.get(str(f), str(f)) for f in design.get("features") or [])
    losses = losses_said(design) or [ABSENT]
    more = " ".join(f"+ {x}" for x in losses[1:])
    balance = str(design.get("balance") or "no")
    short_loss = " ".join([losses[0], more]).strip() + ("" if balance == "no" else f", balanced: {balance}")
    if later := _second_stage(design):
        short_loss, more = f"{short_loss} ({later})", f"{more} ({later})".strip()
    if design.get("soup"):
        features += f"; soup of {design['soup']} networks"
    return Cell(name, features, more=short_loss), Cell(losses[0], more), Cell(balance)


def _other(source: Source, row: Mapping[str, Any]) -> bool:
    """Whether a comparison is of something else than what the report leads with."""
    return bool(row.get("a", source.lead) != source.lead)


def comparisons(source: Source) -> Table | None:
    """What the leading ensemble adds: paired differences on every split and metric."""
    found = source.comparisons
    if not found:
        return None
    titles = (
        f"{str(source.ensemble).capitalize()} against",
        "Difference [95%]",
        "p",
        "p Holm",
        "p permuted",
        "Detectable",
        "Result",
    )
    columns = tuple(Column(t, numeric=k in range(1, 6)) for k, t in enumerate(titles))
    rows = []
    order = sorted(
        found, key=lambda c: (c.get("split") != source.split, _other(source, c), c.get("metric") != "macro_f1")
    )
    for c in order:
        metric = str(c.get("metric"))
        one = f"{source.display(str(c.get('a')))} against " if _other(source, c) else ""
        name = Cell(one + source.display(str(c.get("b"))), f"{LEAD_NAMES.get(metric, metric)}, {c.get('split')}")
        difference, *tests = difference_cells(c)
        rows.append(Row((name, difference, Cell(p_value(c.get("p"))), *tests)))
    nearer = ["KL divergence: the other minus the first, so a plus is nearer to the votes."]
    kinds = dict.fromkeys(f"{c.get('split')}: {c.get('interval')}, n = {whole(c.get('n'))}." for c in found)
    notes = (
        f"Difference: {source.ensemble} minus the other, or the first minus the second if a row names two, on the "
        "same utterances. “Better” and “worse” need an interval without zero and both p Holm and p permuted < 0.05, "
        f"each adjusted for all comparisons. {DETECTABLE}",
        *(nearer if any(c.get("metric") == "kl" for c in found) else []),
        *kinds,
    )
    return Table("comparisons", "Paired differences", columns, tuple(rows), notes)


def difference_cells(c: Mapping[str, Any]) -> list[Cell]:
    """A paired difference with its interval, p Holm, p permuted, what is detectable, and what that makes of it."""
    return [
        difference_cell(c),
        Cell(p_value(c.get("p_holm"))),
        Cell(p_value(permuted(c))),
        Cell(number(c.get("detectable"))),
        Cell(OUTCOMES[outcome(c)]),
    ]


def classes(source: Source) -> Table | None:
    """Precision, recall and F1 by class of the leading system, and the best single system's F1."""
    per_class = source.per_class(source.lead, source.split)
    if not per_class:
        return None
    other = source.per_class(source.best, source.split)
    beside = [(f"F1 of {source.best}", "f1", other)] if source.lead != source.best else []
    return class_table(f"By class: {source.display(source.lead)} on {source.split}", per_class, beside)


def class_table(
    title: str, per_class: Mapping[str, Any], beside: Sequence[tuple[str, str, Mapping[str, Any]]] = ()
) -> Table:
    """Clips, precision, recall and F1 by class.

    Args:
        title: of the table. per_class: scores of each class. beside: further columns, of others: title, which score,
            scores of each class.
    """
    columns = [Column("Class"), *(Column(t, numeric=True) for t in ("Clips", "Precision", "Recall", "F1"))]
    columns += [Column(t, numeric=True) for t, _, _ in beside]
    rows = []
    for label, scores in per_class.items():
        cells = [Cell(label), Cell(whole(scores.get("support")))]
        cells += [Cell(number(scores.get(k))) for k in ("precision", "recall", "f1")]
        cells += [Cell(number((other.get(label) or {}).get(k))) for _, k, other in beside]
        rows.append(Row(tuple(cells)))
    return Table("classes", title, tuple(columns), tuple(rows))


def mistakes(source: Source) -> Table | None:
    """The most confident mistakes, with the files to listen to."""
    about = source.part("mistakes")
    return mistake_table(about.get("rows"), f"{source.display(str(about.get('system')))} on {about.get('split')}")


def mistake_table(found: Any, who: str) -> Table | None:
    """Wrong answers, a row each; ``None`` of none.

    Args:
        found: of :meth:`serkit.evaluation.Mistake.to_row`. who: whose they are, for the title.
    """
    rows = [r for r in found or [] if isinstance(r, dict)]
    if not rows:
        return None
    talked, long = any(r.get("text") for r in rows), any(finite(r.get("duration_s")) is not None for r in rows)
    columns = [Column("File", code=True), Column("Speaker"), Column("True"), Column("Answer")]
    columns += [Column("Confidence", numeric=True), Column("Score of the truth", numeric=True)]
    columns += [Column("Seconds", numeric=True)] * long + [Column("Words")] * talked
    lines = []
    for r in rows:
        at = finite(r.get("start_s"))
        where = ["" if at is None else f"from {number(at, 2)} s", f"channel {r['channel']}" if r.get("channel") else ""]
        cells = [Cell(str(r.get("audio")), ", ".join(filter(None, where)))]
        cells.append(Cell(str(r.get("speaker") or "unknown")))
        cells += [Cell(str(r.get("truth"))), Cell(str(r.get("answer")))]
        cells += [Cell(number(r.get("confidence"), 2)), Cell(number(r.get("truth_probability"), 2))]
        cells += [Cell(number(r.get("duration_s"), 1))] * long + [Cell(str(r.get("text") or ABSENT))] * talked
        lines.append(Row(tuple(cells)))
    title = f"The {len(rows)} most confident mistakes" if len(rows) > 1 else "The one mistake"
    return Table("mistakes", f"{title}: {who}", tuple(columns), tuple(lines))


def confusions(source: Source) -> str:
    """One sentence: what the leading system mixes up most."""
    found = mixed_up(source.confusion(source.lead, source.split), source.labels_of(source.split))
    return f"Most often: {found}." if found else ""


def mixed_up(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """The three confusions with the most clips of (classes, classes) counts, truth by row; nothing of none."""
    pairs = []
    for r, row in enumerate(matrix):
        total = sum(row) or 1
        pairs += [(k, k / total, r, c) for c, k in enumerate(row) if c != r and k]
    pairs.sort(key=lambda p: (-p[0], p[2], p[3]))
    words = [f"{labels[r]} taken for {labels[c]} ({whole(k)} of {whole(sum(matrix[r]))})" for k, _, r, c in pairs[:3]]
    return listed(words)
