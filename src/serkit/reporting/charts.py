"""Small multiples: confusion matrices and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serkit.reporting.svg import Drawing, Figure, both, box, cut, element, label, line, path, ticks
from serkit.reporting.text import finite, number, whole

MATRIX, NARROW_MATRIX = 480.0, 340.0
PANEL_WIDTH, PANEL_HEIGHT = 236.0, 206.0
COMPONENT_WIDTH, N_HUES = 340.0, 6
DARK_FROM = 0.55  # share of a row from which the text on a cell changes colour


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], *, title: str, narrow: bool = False) -> Drawing:
    """Truth by row, answer by column; colour is the share of the row, text the count.

    Args:
        matrix: (classes, classes) counts. labels: (classes,). title: what stands above it. narrow: for 340 px.
    """
    n = len(labels)
    width = NARROW_MATRIX if narrow else MATRIX
    left, top = 86.0, 112.0
    cell = (width - left - 36) / max(n, 1)
    parts = [label(0, 13, cut(title, 44), "name strong"), label(0, 30, "true class by row, answer by column", "tick")]
    told = []
    for r, row in enumerate(matrix):
        total = sum(row)
        y = top + cell * r
        parts.append(label(left - 6, y + cell / 2 + 4, cut(labels[r], 12), "name small", text_anchor="end"))
        for c, n_clips in enumerate(row):
            share = n_clips / total if total else 0.0
            hint = f"{labels[r]} taken for {labels[c]}: {whole(n_clips)} of {whole(total)} ({share:.0%})"
            parts.append(element("g", element("title", hint), *_cell(left + cell * c, y, cell, n_clips, share)))
        parts.append(box(left + cell * r + 0.5, y + 0.5, cell - 1, cell - 1, "diagonal"))
        told.append(f"{labels[r]} {whole(row[r])} of {whole(total)}")
    for c, name in enumerate(labels):
        x = left + cell * (c + 0.5)
        turn = f"rotate(-55 {x:.1f} {top - 6:.1f})"
        parts.append(label(x - 2, top - 6, cut(name, 13), "name small", transform=turn))
    alt = f"Confusion matrix, {title}. Right answers: {', '.join(told)}."
    return Drawing(width, top + cell * n + 2, alt, Markup("").join(parts))


def confusion_figure(key: str, matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Figure:
    """:func:`confusion` for a wide page and a narrow one. key: name of its file."""
    caption = "Numbers are clips; a stronger colour is a larger share of the true class."
    return Figure(key, f"Confusion matrix: {title}", caption, *both(confusion, matrix, labels, title=title))


def _cell(x: float, y: float, cell: float, n_clips: int, share: float) -> list[Markup]:
    """Colour and count of a cell, and its share where there is room."""
    text = str(n_clips)
    size = max(6.0, min(15.0, cell * 0.36, (cell - 2) / (0.62 * len(text))))
    tone = "over" if share >= DARK_FROM else "under"
    parts = [box(x + 0.5, y + 0.5, cell - 1, cell - 1, "heat", fill_opacity=round(0.05 + 0.95 * share, 3))]
    roomy = cell >= 36 and n_clips > 0
    middle = y + cell / 2 + (1 if roomy else size * 0.36)
    parts.append(label(x + cell / 2, middle, text, tone, style=f"font-size:{size:.1f}px", text_anchor="middle"))
    if roomy:
        parts.append(label(x + cell / 2, middle + 12, f"{share:.0%}", f"{tone} faint", text_anchor="middle"))
    return parts


def learning_curves(curves: Mapping[str, Mapping[str, Any]]) -> tuple[Drawing, ...]:
    """A panel per system: Macro-F1 on dev above, the losses below, one thin line per model, their mean thick.

    Args:
        curves: by system and model, the rows of each epoch. All panels share their axes.
    """
    found = {name: _series(models) for name, models in curves.items()}
    found = {name: s for name, s in found.items() if any(s["f1"])}
    if not found:
        return ()
    every = [s for series in found.values() for s in (*series["f1"], *series["loss"], *series["dev"])]
    epochs = max(p[0] for s in every for p in s) if every else 1.0
    best = max(p[1] for series in found.values() for s in series["f1"] for p in s)
    losses = [p[1] for series in found.values() for s in (*series["loss"], *series["dev"]) for p in s]
    f1_marks = ticks(0.0, max(best, 0.05), 4)
    loss_marks = ticks(min(losses), max(losses), 3) if losses else []
    return tuple(_panel(name, s, max(epochs, 2.0), f1_marks, loss_marks) for name, s in found.items())


def _series(models: Mapping[str, Any]) -> dict[str, list[list[tuple[float, float]]]]:
    """By quantity (f1, loss, dev) a list of points for each model."""
    found: dict[str, list[list[tuple[float, float]]]] = {"f1": [], "loss": [], "dev": []}
    for rows in models.values():
        rows = [r for r in rows if isinstance(r, dict)]
        keys = {"f1": "dev_macro_f1", "loss": "loss", "dev": _dev_loss(rows)}
        for quantity, key in keys.items():
            points = [(finite(r.get("epoch")), finite(r.get(key))) for r in rows]
            kept = [(x, y) for x, y in points if x is not None and x >= 1 and y is not None]
            if kept:
                found[quantity].append(kept)
    return found


def _dev_loss(rows: Sequence[Mapping[str, Any]]) -> str:
    """The key of the loss on dev: ``dev_loss``, or the cross-entropy."""
    return "dev_loss" if any("dev_loss" in r for r in rows) else "dev_cross_entropy"


def _panel(
    name: str,
    series: Mapping[str, list[list[tuple[float, float]]]],
    epochs: float,
    f1_marks: Sequence[float],
    loss_marks: Sequence[float],
) -> Drawing:
    left, right = 40.0, PANEL_WIDTH - 6
    areas = {"f1": (24.0, 112.0, f1_marks), "loss": (126.0, 180.0, loss_marks)}

    def place(points: Sequence[tuple[float, float]], area: str) -> list[tuple[float, float]]:
        top, bottom, marks = areas[area]
        return [(left + (x - 1) / (epochs - 1) * (right - left), _at(y, marks, top, bottom)) for x, y in points]

    parts = [label(0, 13, cut(name, 34), "name strong small")]
    for top, bottom, marks in areas.values():
        for mark in marks:
            y = _at(mark, marks, top, bottom)
            parts += [line(left, y, right, y, "grid"), label(left - 4, y + 3.5, f"{mark:g}", "tick", text_anchor="end")]
    for quantity, area, style in (("f1", "f1", "f1"), ("loss", "loss", "train"), ("dev", "loss", "dev")):
        if not areas[area][2]:
            continue
        lines = series[quantity]
        parts += [path(place(points, area), f"curve thin {style}") for points in lines]
        if len(lines) > 1:
            parts.append(path(place(_mean(lines), area), f"curve {style}"))
        elif lines:
            parts.append(path(place(lines[0], area), f"curve {style}"))
    parts += [label(left, 197, "epoch 1", "tick"), label(right, 197, f"{epochs:g}", "tick", text_anchor="end")]
    peaks = [max(points, key=lambda p: p[1]) for points in series["f1"]]
    alt = f"Learning curves of {name}: best held-out Macro-F1 " + ", ".join(
        f"{number(y)} at epoch {x:g}" for x, y in peaks
    )
    for x, y in place(peaks, "f1"):
        parts.append(element("circle", cx=x, cy=y, r=2.6, class_="peak"))
    return Drawing(PANEL_WIDTH, PANEL_HEIGHT, alt, Markup("").join(parts))


def component_curves(curves: Mapping[str, Mapping[str, Any]]) -> tuple[Drawing, ...]:
    """A panel per system of several losses: what each adds to the sum, and each as it came; means over models.

    Args:
        curves: by system and model, the rows of each epoch, with ``loss_NAME`` and, where training wrote it,
            ``scaled_NAME``. Systems with one loss have no panel: their loss is the curve they have already.
    """
    found = []
    for name, models in curves.items():
        raw, scaled = _components(models, "loss_"), _components(models, "scaled_")
        if len(raw) > 1:
            first = {k: next((y for _, y in points if y), 1.0) for k, points in raw.items()}
            relative = {k: [(x, y / first[k]) for x, y in points] for k, points in raw.items()}
            found.append(_components_panel(name, scaled, relative))
    return tuple(found)


def _components(models: Mapping[str, Any], prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Mean curve over models of every key of the rows that starts with ``prefix``, by the rest of the key."""
    rows = [[r for r in given if isinstance(r, dict)] for given in models.values() if isinstance(given, list)]
    keys = dict.fromkeys(k for given in rows for r in given for k in r if k.startswith(prefix))
    found = {}
    for key in keys:
        lines = [[(finite(r.get("epoch")), finite(r.get(key))) for r in given] for given in rows]
        whole_lines = [[(x, y) for x, y in points if x is not None and y is not None] for points in lines]
        kept = [points for points in whole_lines if points]
        if kept:
            found[key.removeprefix(prefix)] = _mean(kept)
    return {k: points for k, points in found.items() if points}


def _components_panel(
    name: str,
    scaled: Mapping[str, list[tuple[float, float]]],
    relative: Mapping[str, list[tuple[float, float]]],
) -> Drawing:
    width, left, right = COMPONENT_WIDTH, 40.0, COMPONENT_WIDTH - 8
    names = list(relative)
    parts = [label(0, 13, cut(name, 44), "name strong small")]
    y = 30.0
    areas = [(t, c) for t, c in (("added to the sum", scaled), ("as it came, over its first epoch", relative)) if c]
    epochs = max(2.0, *(x for _, curves in areas for points in curves.values() for x, _ in points))
    for title, curves in areas:
        values = [v for points in curves.values() for _, v in points]
        marks = ticks(min(0.0, *values), max(values), 4)
        top, bottom = y + 14, y + 104
        parts.append(label(left, y + 4, title, "tick"))
        for mark in marks:
            at = _at(mark, marks, top, bottom)
            parts += [line(left, at, right, at, "grid")]
            parts += [label(left - 4, at + 3.5, f"{mark:g}", "tick", text_anchor="end")]
        for component, points in curves.items():
            k = names.index(component) % N_HUES
            placed = [(left + (x - 1) / (epochs - 1) * (right - left), _at(v, marks, top, bottom)) for x, v in points]
            hint = element("title", f"{component}: {number(points[0][1])} to {number(points[-1][1])}")
            parts.append(element("g", hint, path(placed, f"curve part p{k}")))
        y = bottom + 12
    parts += [label(left, y + 4, "epoch 1", "tick"), label(right, y + 4, f"{epochs:g}", "tick", text_anchor="end")]
    at, y = left, y + 24
    for k, component in enumerate(names):
        room = 34 + 6.6 * len(cut(component, 26))
        if at + room > width and at > left:
            at, y = left, y + 18
        parts += [path([(at, y - 4), (at + 20, y - 4)], f"curve part p{k % N_HUES}")]
        parts.append(label(at + 25, y, cut(component, 26), "tick"))
        at += room
    source = scaled or relative
    told = [f"{k} {number(points[0][1])} to {number(points[-1][1])}" for k, points in source.items()]
    alt = f"Losses of {name} by epoch, {'added to the sum' if scaled else 'relative to the first'}: {', '.join(told)}"
    return Drawing(width, y + 8, alt, Markup("").join(parts))


def _at(value: float, marks: Sequence[float], top: float, bottom: float) -> float:
    """The height of a value in px, the first of the marks at the bottom and the last at the top."""
    return bottom - (value - marks[0]) / (marks[-1] - marks[0] or 1.0) * (bottom - top)


def _mean(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean over the models that have an epoch, as far as all of them go (early stops end it)."""
    tables = [dict(points) for points in lines]
    shared = sorted(set(tables[0]).intersection(*tables[1:]))
    return [(x, sum(t[x] for t in tables) / len(tables)) for x in shared]
