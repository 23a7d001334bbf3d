"""The section "By group": the numbers of each group with its interval, gaps between groups, and classes by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from serkit.reporting.figures import NARROW, WIDE, Axis, Interval
from serkit.reporting.group_words import CLASS_METHOD, METHOD, gap_of, group_name, is_found, outcome, sentences, title
from serkit.reporting.reading import Source
from serkit.reporting.svg import Drawing, Figure, both, cut, element, label, line
from serkit.reporting.tables import Cell, Column, Row, Table, measured_cell
from serkit.reporting.text import between, count, finite, number, p_value, signed, voices, whole

FEW = "few"  # how a group is drawn that is not compared
SHOWN = "uar"


@dataclass(frozen=True)
class Section:
    """One column. title; sentences; table of its groups; classes: by class, ``None`` if nothing is compared."""

    title: str
    sentences: tuple[str, ...]
    table: Table
    classes: Table | None


def sections(source: Source) -> list[Section]:
    """A section by gender, language, duration, corpus and each column asked for, of the leading system."""
    return grouped(slices_of(source), gaps_of(source), f"{source.display(source.lead)} on {source.split}")


def grouped(slices: Mapping[str, Any], gaps: Mapping[str, Any], who: str) -> list[Section]:
    """A section for each column.

    Args:
        slices: metrics of each group, by column. gaps: between the groups, by column. who: whose numbers these are.
    """
    found = []
    for column, groups in slices.items():
        row = gaps.get(column) or {}
        found.append(
            Section(title(column), tuple(sentences(row)), _groups(who, column, groups, row), _classes(column, row))
        )
    return found


def notes(source: Source) -> list[str]:
    """How to read the section, where something was compared."""
    return notes_of(gaps_of(source))


def notes_of(gaps: Mapping[str, Any]) -> list[str]:
    """How to read gaps by column, where there are some."""
    compared = any(gap_of(row, SHOWN) for row in gaps.values())
    return [*METHOD, *CLASS_METHOD] if compared else []


def slices_of(source: Source) -> Mapping[str, Any]:
    """The metrics of each group of the leading system, by column."""
    found: Mapping[str, Any] = source.details(source.lead, source.split).get("slices") or {}
    return found


def gaps_of(source: Source) -> Mapping[str, Any]:
    """Its gaps by column; none in a report of an earlier serkit."""
    found = source.part("gaps").get(source.lead)
    of_split = found.get(source.split) if isinstance(found, dict) else None
    return of_split if isinstance(of_split, dict) else {}


def _groups(who: str, column: str, groups: Mapping[str, Any], row: Mapping[str, Any]) -> Table:
    """The metrics of each group, then the gaps."""
    columns = [Column(title(column)), Column("Clips", numeric=True), Column("Speakers", numeric=True)]
    columns += [Column(t, numeric=True) for t in ("UAR [95%]", "Macro-F1 [95%]", "Accuracy [95%]")]
    left, rows, kinds = row.get("left_out") or {}, [], []
    for name, metrics in groups.items():
        m = metrics.get("macro_f1") or {}
        mark = f"not compared: {left[name]}" if name in left else ""
        cells = [Cell(group_name(name), mark), Cell(whole(m.get("n"))), Cell(whole(m.get("speakers")))]
        cells += [measured_cell(metrics.get(k) or {}, True) for k in ("uar", "macro_f1", "accuracy")]
        rows.append(Row(tuple(cells)))
        kinds.append(f"{group_name(name)}: {m.get('interval')}")
    found = [gap_of(row, k) for k in ("uar", "macro_f1")]
    if any(found):
        cells = [Cell("Largest gap"), Cell(""), Cell("")]
        for gap in found:
            interval = f"{between(gap.get('low'), gap.get('high'), signed)}, p Holm {p_value(gap.get('p_holm'))}"
            cells.append(Cell(number(gap.get("difference")), interval) if gap else Cell(""))
        rows.append(Row((*cells, Cell("")), "gap"))
    lines = ["; ".join(kinds) + ". Macro averages run over the classes that have a clip in the group."]
    if any(found):
        lines.append(
            f"Gaps: {row.get('interval')}; {row.get('moved')} change groups in the test. Detectable in UAR: "
            f"{number(found[0].get('detectable'))}."
        )
    return Table(f"group-{column}", f"{title(column)}: {who}", tuple(columns), tuple(rows), tuple(lines))


def _classes(column: str, row: Mapping[str, Any]) -> Table | None:
    """Recall and share of answers by class: the groups that are farthest apart, and how far."""
    recall, share = row.get("recall") or {}, row.get("share") or {}
    if not share:
        return None
    titles = ("Recall, highest", "lowest", "Gap [95%]", "p Holm", "Answered, most", "least", "Gap [95%]", "In truth")
    rows = []
    for name, of_share in share.items():
        gap = recall.get(name) or {}
        cells = [Cell(str(name)), *_two(gap)]
        found = is_found(gap)
        cells += [Cell(number(gap.get("difference"), 2), _spread(gap), found), Cell(p_value(gap.get("p_holm")))]
        cells += [*_two(of_share), Cell(number(of_share.get("difference"), 2), _spread(of_share))]
        true = (row.get("truth") or {}).get(name) or {}
        cells.append(Cell(" and ".join(number(true.get(of_share.get(k)), 2) for k in ("highest", "lowest"))))
        rows.append(Row(tuple(cells)))
    columns = (Column("Class"), *(Column(t, numeric=True) for t in titles))
    heading = f"{title(column)}, by class: recall (equal opportunity), share of answers (demographic parity)"
    return Table(f"group-{column}-classes", heading, columns, tuple(rows))


def _two(gap: Mapping[str, Any]) -> list[Cell]:
    values = gap.get("values") or {}
    names = [gap.get(k) for k in ("highest", "lowest")]
    return [Cell(number(values.get(n), 2), group_name(str(n)) if n is not None else "") for n in names]


def _spread(gap: Mapping[str, Any]) -> str:
    return between(gap.get("low"), gap.get("high"), lambda value: signed(value, 2))


def figure(source: Source) -> Figure | None:
    """UAR of every group with its interval, the columns below one another on one axis."""
    at = finite(source.metric(source.lead, source.split, SHOWN).get("value"))
    axis = f"UAR of {source.named(source.lead)} on {source.split}"
    return group_figure("slices", slices_of(source), gaps_of(source), at, axis, "the whole split")


def group_figure(
    key: str, slices: Mapping[str, Any], gaps: Mapping[str, Any], at: float | None, axis: str, everyone: str
) -> Figure | None:
    """The same of any groups; ``None`` without one.

    Args:
        key: name of its file. slices, gaps: as for :func:`grouped`. at: UAR of all clips together, ``everyone`` in
            the caption. axis: what is measured.
    """
    panels, words = [], []
    for column, groups in slices.items():
        row = gaps.get(column) or {}
        rows = []
        for name, metrics in groups.items():
            m = metrics.get(SHOWN) or {}
            if finite(m.get("value")) is not None:
                kind = FEW if name in (row.get("left_out") or {}) else "system"
                interval = Interval.of(group_name(name), m, kind)
                rows.append((interval, f"{count(m.get('n'), 'clip')}, {voices(m.get('speakers'))}"))
        if rows:
            panels.append(Panel(title(column), _told(row), tuple(rows)))
            words.append(f"{title(column)}: " + "; ".join(r.hint for r, _ in rows))
    if not panels:
        return None
    drawn = both(dots_by_group, panels, alt=f"{axis}, by group. {'. '.join(words)}", axis=axis, at=at)
    few = any(r.kind == FEW for p in panels for r, _ in p.rows)
    caption = f"The dashed line is {everyone} ({number(at)}). Bars: 95% intervals."
    caption += " Open dots with dotted bars: too few clips or speakers to be compared." if few else ""
    return Figure(key, "By group", caption, *drawn)


def _told(row: Mapping[str, Any]) -> str:
    """The gap beside the name of its column."""
    gap = gap_of(row, SHOWN)
    if not gap:
        return ""
    return f"gap {number(gap['difference'])} {between(gap.get('low'), gap.get('high'), signed)}, {outcome(gap)}"


@dataclass(frozen=True)
class Panel:
    """The groups of one column: title, what its gap is, and each group's interval with its size in words."""

    title: str
    told: str
    rows: tuple[tuple[Interval, str], ...]


def dots_by_group(
    panels: Sequence[Panel], *, alt: str, axis: str, narrow: bool = False, at: float | None = None
) -> Drawing:
    """A heading for each column, below it a dot with its interval for each group, all on one axis.

    Args:
        panels: from the top. alt: what the drawing shows. axis: what is measured.
        narrow: names above the lines, for 340 px. at: value of a dashed line through all rows.
    """
    width = NARROW if narrow else WIDE
    left, right = (22.0, width - 22.0) if narrow else (262.0, width - 66.0)
    pitch, head = (40.0, 44.0) if narrow else (26.0, 40.0)
    everyone = [r for panel in panels for r, _ in panel.rows]
    across = Axis([e for r in everyone for e in (r.low, r.high, r.value)], left, right, narrow, at)
    bottom = head * len(panels) + pitch * len(everyone) + 2
    parts = across.grid(4, bottom)
    y = 0.0
    for panel in panels:
        parts.append(label(0, y + (16 if narrow else 26), cut(panel.title, 30), "name strong"))
        told = (0.0, y + 32, "start") if narrow else (width - 2, y + 26, "end")
        parts.append(label(told[0], told[1], panel.told, "name small", text_anchor=told[2]))
        y += head
        for row, size in panel.rows:
            parts.append(_dot(row, size, across.x, y, width, narrow))
            y += pitch
    return across.drawing(parts, width, bottom, axis, alt)


def _dot(row: Interval, size: str, x: Any, top: float, width: float, narrow: bool) -> Markup:
    """One group: its name and size, the bar of its interval, its value."""
    y = top + (27.0 if narrow else 13.0)
    at_name, at_size, at_value = (
        ((2.0, y - 13), (width - 46, y - 13), (width - 2, y - 13))
        if narrow
        else ((12.0, y + 4), (246.0, y + 4), (width - 2, y + 4))
    )
    return element(
        "g",
        element("title", f"{row.hint}, {size}"),
        label(*at_name, cut(row.label, 18), "name"),
        label(*at_size, size, "name size", text_anchor="end"),
        line(x(row.low), y, x(row.high), y, f"span {row.kind}"),
        *(line(x(end), y - 4, x(end), y + 4, f"span {row.kind}") for end in (row.low, row.high) if row.kind != FEW),
        element(
            "circle", cx=float(x(row.value)), cy=float(y), r=4.2, class_=f"mark {'dot' if row.kind != FEW else FEW}"
        ),
        label(*at_value, number(row.value), "value", text_anchor="end"),
    )
