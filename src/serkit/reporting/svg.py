"""The few SVG elements that the figures are drawn with. Colours are CSS variables, so figures follow the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

GAP = 16  # px between drawings that are laid out in one file
COLUMNS = 3  # drawings side by side in one file


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element. Text children and attributes are escaped, elements are not escaped twice.

    Args:
        tag: name. children: elements (``Markup``) or text. attributes: ``_`` becomes ``-``, a trailing one is
            dropped (``class_``), floats are rounded to 2 digits, ``None`` is left out.
    """
    parts = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(coordinate(value) if isinstance(value, float) else value)}"'
        for name, value in attributes.items()
        if value is not None
    ]
    # every part was escaped above
    inside = Markup("").join(escape(c) for c in children)
    return Markup(f"<{tag}{''.join(parts)}>{inside}</{tag}>")


def coordinate(value: float) -> str:
    """A length with at most 2 digits: ``12``, ``3.25``."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def label(x: float, y: float, text: str, class_: str = "", **attributes: str | float | None) -> Markup:
    """Text with its baseline at y."""
    return element("text", text, x=float(x), y=float(y), class_=class_ or None, **attributes)


def box(x: float, y: float, width: float, height: float, class_: str, **attributes: str | float | None) -> Markup:
    """A rectangle."""
    shape = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return element("rect", class_=class_, **shape, **attributes)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A polyline through points, or nothing."""
    if not points:
        return Markup("")
    return element("polyline", points=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points), class_=class_)


def marker(kind: str, x: float, y: float, size: float = 4.5) -> Markup:
    """What a number is: a square for the stack or what leads instead, a diamond for the best single one, and others."""
    if kind in ("stack", "lead"):
        return box(x - size, y - size, 2 * size, 2 * size, f"mark {kind}")
    r = size * 1.35
    if kind == "best":
        corners = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
    elif kind == "ensemble":
        corners = [(x, y - r), (x + r * 0.95, y + r * 0.75), (x - r * 0.95, y + r * 0.75)]
    else:
        return element("circle", cx=float(x), cy=float(y), r=float(size * 0.9), class_="mark system")
    text = " ".join(f"{coordinate(a)},{coordinate(b)}" for a, b in corners)
    return element("polygon", points=text, class_=f"mark {kind}")


def cut(text: str, room: int) -> str:
    """Text of at most ``room`` characters, with an ellipsis where it was longer."""
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About ``n`` round values that cover ``low`` to ``high``.

    >>> ticks(0.31, 0.52)
    [0.3, 0.35, 0.4, 0.45, 0.5, 0.55]
    """
    if high - low < 1e-6:
        high = low + 0.1
    span = high - low
    raw = span / max(1, n - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda s: abs(s - raw))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def digits_of(marks: Sequence[float]) -> int:
    """Digits after the point, at least 2, with which every tick is written as it is.

    >>> digits_of([0.0, 0.05]), digits_of([-0.025, 0.0, 0.025])
    (2, 3)
    """
    return next((d for d in range(2, 6) if all(abs(m - round(m, d)) < 1e-9 for m in marks)), 6)


@dataclass(frozen=True)
class Drawing:
    """One drawing. width, height: px. alt: what it shows, for those who do not see it. body: its elements."""

    width: float
    height: float
    alt: str
    body: Markup

    @property
    def inline(self) -> Markup:
        """The drawing as an element of the page."""
        return element(
            "svg", self.body, viewBox=f"0 0 {coordinate(self.width)} {coordinate(self.height)}",
            width=float(self.width), height=float(self.height), role="img", aria_label=self.alt, class_="drawing",
        )  # fmt: skip


def both(draw: Callable[..., Drawing], *args: Any, **options: Any) -> tuple[tuple[Drawing], tuple[Drawing]]:
    """What ``draw(…, narrow=…)`` draws for a wide page and for a narrow one, as a :class:`Figure` takes them."""
    return (draw(*args, **options, narrow=False),), (draw(*args, **options, narrow=True),)


@dataclass(frozen=True)
class Figure:
    """Drawings that belong together.

    Attributes:
        key: name of its file. title, caption: texts. wide: drawings for a wide page. narrow: for a telephone;
            empty where the wide ones fit.
    """

    key: str
    title: str
    caption: str
    wide: tuple[Drawing, ...]
    narrow: tuple[Drawing, ...] = ()

    def file(self, css: str) -> str:
        """The figure as an SVG file of its own, light or dark as the reader's system is."""
        n = min(COLUMNS, len(self.wide))
        wide, parts, y = 0.0, [], 0.0
        for start in range(0, len(self.wide), n):
            row, x = self.wide[start : start + n], 0.0
            for drawing in row:
                parts.append(
                    element("g", drawing.body, transform=f"translate({coordinate(x + GAP)} {coordinate(y + GAP)})")
                )
                x += drawing.width + GAP
            y += max(d.height for d in row) + GAP
            wide = max(wide, x)
        wide, high = wide + GAP, y + GAP
        body = Markup("").join(
            [element("title", self.title), element("desc", " ".join(d.alt for d in self.wide)),
             Markup(f"<style>{css}</style>"), box(0, 0, wide, high, "paper"), *parts]
        )  # fmt: skip
        return element(
            "svg", body, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {coordinate(wide)} {coordinate(high)}",
            width=float(wide), height=float(high), role="img", aria_label=self.title,
        ) + "\n"  # fmt: skip
