"""Figures of intervals and bars: the forest of systems, paired differences, scores by class."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from serkit.reporting.svg import Drawing, Figure, both, box, cut, digits_of, element, label, line, marker, ticks
from serkit.reporting.text import between, count, finite, number, signed

WIDE, NARROW = 720.0, 340.0
LEGEND = (
    ("stack", "stack"), ("lead", "the answer"), ("best", "best single on dev"), ("ensemble", "other ensemble"),
    ("system", "single"),
)  # fmt: skip
STRONG = ("stack", "lead", "best")


@dataclass(frozen=True)
class Interval:
    """One line of a forest: label, value, low to high (equal to value where unknown), kind (see ``marker``)."""

    label: str
    value: float
    low: float
    high: float
    kind: str

    @classmethod
    def of(cls, label: str, m: Mapping[str, Any], kind: str) -> Interval:
        """A line for a metric whose ``value`` is known."""
        value, low, high = float(m["value"]), finite(m.get("low")), finite(m.get("high"))
        return cls(label, value, value if low is None else low, value if high is None else high, kind)

    @property
    def hint(self) -> str:
        """What is read when the mouse rests on the line."""
        return f"{self.label}: {number(self.value)} [{number(self.low)}, {number(self.high)}]"


class Axis:
    """Values from left to right, with round marks, and a dashed line ``at`` one of them, if that is wanted.

    Args:
        values: what has to find room. left, right: px. narrow: fewer marks.
    """

    def __init__(self, values: Sequence[float], left: float, right: float, narrow: bool, at: float | None) -> None:
        edges = [*values, *([at] if at is not None else [])]
        self.marks = ticks(min(edges), max(edges), 4 if narrow else 6)
        self.left, self.right, self.at = left, right, at

    def x(self, value: float) -> float:
        """Where a value is, in px."""
        return self.left + (value - self.marks[0]) / (self.marks[-1] - self.marks[0]) * (self.right - self.left)

    def grid(self, top: float, bottom: float, *, sign: bool = False) -> list[Markup]:
        """The lines of the marks, with their numbers below; ``sign``: these are differences."""
        parts = []
        for mark in self.marks:
            text = (signed if sign else number)(mark, digits_of(self.marks))
            parts.append(line(self.x(mark), top, self.x(mark), bottom, "grid"))
            parts.append(label(self.x(mark), bottom + 15, text, "tick", text_anchor="middle"))
        if self.at is not None:
            parts.append(line(self.x(self.at), top, self.x(self.at), bottom, "zero" if sign else "guide"))
        return parts

    def drawing(self, parts: list[Markup], width: float, bottom: float, axis: str, alt: str) -> Drawing:
        """The parts with what is measured below them."""
        named = label((self.left + self.right) / 2, bottom + 33, axis, "axis", text_anchor="middle")
        return Drawing(width, bottom + 42, alt, Markup("").join([*parts, named]))


def forest(
    rows: Sequence[Interval],
    *,
    alt: str,
    axis: str,
    narrow: bool = False,
    at: float | None = None,
    sign: bool = False,
    legend: Sequence[tuple[str, str]] = LEGEND,
    strong: Sequence[str] = STRONG,
) -> Drawing:
    """A line per row with its interval.

    Args:
        rows: from the top. alt: what the drawing shows. axis: what is measured.
        narrow: labels above the lines, for 340 px. at: value of a dashed line through all rows.
        sign: the axis holds differences, labelled with their signs.
        legend: what each kind is called. strong: kinds whose labels are bold.
    """
    width = NARROW if narrow else WIDE
    left, right = (22.0, width - 22.0) if narrow else (222.0, width - 66.0)
    pitch = 40.0 if narrow else 25.0
    top = 30.0 if len({r.kind for r in rows}) > 1 else 6.0
    across = Axis([e for r in rows for e in (r.low, r.high, r.value)], left, right, narrow, at)
    bottom, x = top + pitch * len(rows) + 2, across.x
    parts = [_legend({r.kind for r in rows}, legend, narrow), *across.grid(top, bottom, sign=sign)]
    for k, row in enumerate(rows):
        y = top + pitch * k + (27.0 if narrow else pitch / 2)
        bold = " strong" if row.kind in strong else ""
        text = signed(row.value) if sign else number(row.value)
        value_at = (width - 2, y - 13) if narrow else (width - 2, y + 4)
        name_at = (2, y - 13) if narrow else (0, y + 4)
        parts.append(
            element(
                "g",
                element("title", row.hint),
                label(*name_at, cut(row.label, 40 if narrow else 32), "name" + bold),
                line(x(row.low), y, x(row.high), y, f"span {row.kind}"),
                line(x(row.low), y - 4, x(row.low), y + 4, f"span {row.kind}"),
                line(x(row.high), y - 4, x(row.high), y + 4, f"span {row.kind}"),
                marker(row.kind, x(row.value), y),
                label(*value_at, text, "value" + bold, text_anchor="end"),
            )
        )
    return across.drawing(parts, width, bottom, axis, alt)


def _legend(kinds: Collection[str], legend: Sequence[tuple[str, str]], narrow: bool) -> Markup:
    """The shapes that occur, with their names; nothing where all are alike."""
    if len(kinds) < 2:
        return Markup("")
    parts, x = [], 6.0 if narrow else 222.0
    for kind, text in legend:
        if kind in kinds:
            short = text.replace("best single on dev", "best single").replace("other ensemble", "ensemble")
            parts += [marker(kind, x + 4, 11, 4), label(x + 13, 15, short if narrow else text, "tick")]
            x += 30 + 6.4 * len(short if narrow else text)
    return Markup("").join(parts)


def differences(rows: Sequence[Interval], axis: str, **options: Any) -> tuple[tuple[Drawing], tuple[Drawing]]:
    """A :func:`forest` of differences around zero, for a wide page and a narrow one; options as there."""
    told = "; ".join(f"{r.label} {signed(r.value)} {between(r.low, r.high, signed)}" for r in rows)
    return both(forest, rows, alt=f"{axis}: {told}", axis=axis, at=0.0, sign=True, **options)


@dataclass(frozen=True)
class Seeds:
    """The numbers of one variant: label, a value for each seed, kind (see ``marker``)."""

    label: str
    values: tuple[float, ...]
    kind: str

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def hint(self) -> str:
        """What is read when the mouse rests on the line."""
        return f"{self.label}: {number(self.mean)} ({', '.join(number(v) for v in self.values)})"


def dots(rows: Sequence[Seeds], *, alt: str, axis: str, narrow: bool = False, at: float | None = None) -> Drawing:
    """A line per row: a dot for each seed, a bar at their mean.

    Args:
        rows: from the top. alt: what the drawing shows. axis: what is measured. narrow: labels above, for 340 px.
        at: value of a dashed line through all rows.
    """
    width = NARROW if narrow else WIDE
    left, right = (22.0, width - 22.0) if narrow else (222.0, width - 66.0)
    pitch = 36.0 if narrow else 22.0
    top = 6.0
    across = Axis([v for r in rows for v in r.values], left, right, narrow, at)
    bottom, x = top + pitch * len(rows) + 2, across.x
    parts = across.grid(top, bottom)
    for k, row in enumerate(rows):
        y = top + pitch * k + (25.0 if narrow else pitch / 2)
        bold = " strong" if row.kind == "stack" else ""
        at_name, at_value = ((2, y - 12), (width - 2, y - 12)) if narrow else ((0, y + 4), (width - 2, y + 4))
        shapes = [element("circle", cx=x(v), cy=y, r=3.6, class_=f"mark {row.kind}") for v in row.values]
        bar = [line(x(row.mean), y - 7, x(row.mean), y + 7, f"span mean {row.kind}")] if len(row.values) > 1 else []
        parts.append(
            element(
                "g",
                element("title", row.hint),
                label(*at_name, cut(row.label, 40 if narrow else 32), "name" + bold),
                *bar,
                *shapes,
                label(*at_value, number(row.mean), "value" + bold, text_anchor="end"),
            )
        )
    return across.drawing(parts, width, bottom, axis, alt)


def seeds_figure(
    key: str, title: str, caption: str, rows: Sequence[Seeds], axis: str, at: float | None = None
) -> Figure:
    """:func:`dots` for a wide page and a narrow one."""
    alt = f"{axis}: " + "; ".join(r.hint for r in rows)
    return Figure(key, title, caption, *both(dots, rows, alt=alt, axis=axis, at=at))


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class: label, support (clips), and a value for each series."""

    label: str
    support: int
    values: tuple[float, ...]


def class_scores(each: Sequence[Mapping[str, Any]], labels: Iterable[str], key: str) -> list[ClassScore]:
    """Scores ``key`` of the classes that all reports have; support is the first one's.

    Args:
        each: what a report says per class, by label, one for each series.
    """
    found = []
    for name in labels:
        if all(name in e for e in each):
            values = tuple(finite(e[name].get(key)) or 0.0 for e in each)
            found.append(ClassScore(name, int(finite(each[0][name].get("support")) or 0), values))
    return found


def class_bars(rows: Sequence[ClassScore], series: Sequence[str], *, alt: str, narrow: bool = False) -> Drawing:
    """A bar or two per class from 0 to 1: the first series filled, the second outlined."""
    width = NARROW if narrow else WIDE
    left, right = (16.0, width - 40.0) if narrow else (150.0, width - 52.0)
    bar, gap = 11.0, 3.0
    head = 19.0 if narrow else 0.0
    lines = len(series) * (bar + gap)
    room = lines if narrow else max(lines, 28.0)  # a name and its clips, one above the other
    pitch = head + room + 11
    top = 28.0
    bottom = top + pitch * len(rows)
    parts, at = [], left
    for k, name in enumerate(series):
        short = cut(name, 20 if narrow else 24)
        parts += [box(at, 5, 16, 10, f"bar s{k}"), label(at + 22, 14, short, "tick")]
        at += 40 + 6.3 * len(short)
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + mark * (right - left)
        parts += [
            line(x, top - 4, x, bottom, "grid"),
            label(x, bottom + 14, number(mark, 2), "tick", text_anchor="middle"),
        ]
    for k, row in enumerate(rows):
        y = top + pitch * k
        support = count(row.support, "clip")
        if narrow:
            parts += [
                label(left, y + 11, cut(row.label, 26), "name strong"),
                label(right, y + 11, support, "tick", text_anchor="end"),
            ]
        else:
            parts += [
                label(left - 10, y + 12, cut(row.label, 16), "name strong", text_anchor="end"),
                label(left - 10, y + 26, support, "tick", text_anchor="end"),
            ]
        for s, value in enumerate(row.values):
            bar_y = y + head + (room - lines + gap) / 2 * (room > lines) + s * (bar + gap)
            long = max(1.0, min(1.0, value) * (right - left))
            hint = element("title", f"{row.label}, {series[s]}: {number(value)}")
            shape = box(left, bar_y, long, bar, f"bar s{s}")
            text = label(left + long + 6, bar_y + 9.5, number(value, 2), "value small")
            parts.append(element("g", hint, shape, text))
    return Drawing(width, bottom + 22, alt, Markup("").join(parts))


def class_figure(rows: Sequence[ClassScore], series: Sequence[str], title: str) -> Figure:
    """:func:`class_bars` for a wide page and a narrow one. title: the score and where it was measured."""
    told = "; ".join(f"{r.label} " + ", ".join(number(v, 2) for v in r.values) for r in rows)
    alt = f"{title} of {' and '.join(series)}: {told}"
    return Figure("classes", title, "", *both(class_bars, rows, series, alt=alt))
