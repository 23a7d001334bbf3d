"""Reliability diagrams: confidence against the share of right answers (Guo et al. 2017, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serkit.reporting.reading import Source
from serkit.reporting.svg import Drawing, Figure, box, cut, element, label, line
from serkit.reporting.text import METRICS, between, count, finite, number, whole

WIDTH, HEIGHT = 236.0, 334.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 226.0, 40.0, 232.0  # the square; below it the histogram
BARS_TOP, BARS_BOTTOM = 240.0, 286.0
FIELDS = ("from", "to", "n", "confidence", "accuracy", "low", "high")
CAPTION = (
    "Answers in bins of confidence: confidence on the horizontal axis, share of right answers on the vertical axis. On "
    "the dashed line they are calibrated; below it they are overconfident. Lines: 95%, by speaker or with clips "
    "treated as independent, whichever is wider. Columns: number of answers with that confidence. "
)


def panel(rows: Sequence[Mapping[str, float]], *, title: str, sub: str, kind: str = "stack") -> Drawing:
    """One diagram.

    Args:
        rows: by bin, as :func:`serkit.evaluation.reliability` gives them. title, sub: two lines above it.
        kind: ``stack`` or ``best``: the colour of the dots.
    """
    parts = [label(0, 13, cut(title, 40), "name strong small"), label(0, 29, cut(sub, 42), "tick")]
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _x(mark), _y(mark)
        parts += [line(LEFT, y, RIGHT, y, "grid"), line(x, TOP, x, BOTTOM, "grid")]
        parts.append(label(LEFT - 4, y + 3.5, f"{mark:g}", "tick", text_anchor="end"))
        parts.append(label(x, BARS_BOTTOM + 14, f"{mark:g}", "tick", text_anchor="middle"))
    parts.append(line(_x(0), _y(0), _x(1), _y(1), "guide"))
    most = max((r["n"] for r in rows), default=1)
    total = sum(r["n"] for r in rows)
    told = []
    for r in rows:
        x, high = _x(r["confidence"]), (BARS_BOTTOM - BARS_TOP) * r["n"] / most
        words = f"confidence {number(r['confidence'], 2)}: {number(r['accuracy'], 2)} right of {count(r['n'], 'clip')}"
        told.append(words)
        hint = element("title", f"{words}, {between(r['low'], r['high'], lambda v: number(v, 2))}")
        left, right = _x(r["from"]), _x(r["to"])
        column = box(left + 0.5, BARS_BOTTOM - high, right - left - 1, max(high, 0.75), "column")
        span = line(x, _y(r["low"]), x, _y(r["high"]), f"span {kind}")
        dot = element("circle", cx=x, cy=_y(r["accuracy"]), r=3.4, class_=f"mark {kind}")
        parts.append(element("g", hint, column, span, dot))
    parts.append(line(LEFT, BARS_BOTTOM, RIGHT, BARS_BOTTOM, "zero"))
    parts.append(label((LEFT + RIGHT) / 2, BARS_BOTTOM + 30, "confidence", "axis", text_anchor="middle"))
    middle = (TOP + BOTTOM) / 2
    turn = f"rotate(-90 9 {middle:.1f})"
    parts.append(label(9, middle, "share right", "axis", text_anchor="middle", transform=turn))
    alt = f"Reliability diagram, {title}, {sub}, {whole(total)} answers. {'; '.join(told)}."
    return Drawing(WIDTH, HEIGHT - 12, alt, Markup("").join(parts))


def reliability(source: Source) -> Figure | None:
    """The leading system as it scores and after temperature scaling, and the best single one."""
    split, drawings = source.split, []
    found = source.part("scaled").get(source.lead)
    after = found.get(split) if isinstance(found, dict) else None
    after = after if isinstance(after, dict) else {}
    for name in dict.fromkeys([source.lead, source.best]):
        kind = "best" if name == source.best and name != source.lead else "stack"
        rows = bins(source.details(name, split).get("reliability"))
        if rows:
            sub = f"uncalibrated: {error_words(source.metric(name, split, 'ece'))}"
            drawings.append(panel(rows, title=source.display(name), sub=sub, kind=kind))
        rows = bins(after.get("reliability")) if name == source.lead else []
        if rows:
            sub = f"scaled: {error_words(after.get('ece') or {})}"
            drawings.append(panel(rows, title=source.display(name), sub=sub, kind=kind))
    if not drawings:
        return None
    caption = CAPTION
    values = [finite(t) for t in after.get("temperature") or []]
    temperatures = [number(t, 2) for t in values if t is not None]
    if temperatures:
        caption += f"Scaled: temperature {', '.join(temperatures)}, fitted {after.get('fitted')}."
    return Figure("reliability", f"Reliability on {split}", caption.strip(), tuple(drawings))


def bins(given: Any) -> list[dict[str, float]]:
    """The bins whose numbers are all there."""
    found = []
    for row in given if isinstance(given, list) else []:
        numbers = {k: finite(row.get(k)) for k in FIELDS} if isinstance(row, dict) else {}
        kept = {k: v for k, v in numbers.items() if v is not None}
        if len(kept) == len(FIELDS):
            found.append(kept)
    return found


def error_words(m: Mapping[str, Any]) -> str:
    """An ECE with its interval, for the line above a diagram."""
    return f"{METRICS['ece']} {number(m.get('value'))} {between(m.get('low'), m.get('high'))}".strip()


def _x(value: float) -> float:
    return LEFT + min(max(value, 0.0), 1.0) * (RIGHT - LEFT)


def _y(value: float) -> float:
    return BOTTOM - min(max(value, 0.0), 1.0) * (BOTTOM - TOP)
