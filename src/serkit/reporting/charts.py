"""Small multiples: confusion matrices and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serkit.reporting.svg import Drawing, box, cut, element, label, line, path, ticks
from serkit.reporting.text import finite, number, whole

MATRIX, NARROW_MATRIX = 480.0, 340.0
PANEL_WIDTH, PANEL_HEIGHT = 236.0, 206.0
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
        parts.append(label(left - 6, y + cell / 2 + 4, cut(labels[r], 13), "name small", text_anchor="end"))
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
            kept = [(x, y) for x, y in points if x is not None and y is not None]
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
    left, right = 34.0, PANEL_WIDTH - 6
    areas = {"f1": (24.0, 112.0, f1_marks), "loss": (126.0, 180.0, loss_marks)}

    def place(points: Sequence[tuple[float, float]], area: str) -> list[tuple[float, float]]:
        top, bottom, marks = areas[area]
        span = marks[-1] - marks[0] or 1.0
        return [
            (left + (x - 1) / (epochs - 1) * (right - left), bottom - (y - marks[0]) / span * (bottom - top))
            for x, y in points
        ]

    parts = [label(0, 13, cut(name, 34), "name strong small")]
    for top, bottom, marks in areas.values():
        for mark in marks:
            y = bottom - (mark - marks[0]) / (marks[-1] - marks[0] or 1.0) * (bottom - top)
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
    alt = f"Learning curves of {name}: best Macro-F1 on dev " + ", ".join(
        f"{number(y)} at epoch {x:g}" for x, y in peaks
    )
    for x, y in place(peaks, "f1"):
        parts.append(element("circle", cx=x, cy=y, r=2.6, class_="peak"))
    return Drawing(PANEL_WIDTH, PANEL_HEIGHT, alt, Markup("").join(parts))


def _mean(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean over the models that have an epoch, as far as all of them go (early stops end it)."""
    tables = [dict(points) for points in lines]
    shared = sorted(set(tables[0]).intersection(*tables[1:]))
    return [(x, sum(t[x] for t in tables) / len(tables)) for x in shared]
