"""The row of an explanation → text for a terminal, and one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serkit.reporting.pages import html_page
from serkit.reporting.svg import Drawing, Figure, box, coordinate, element, label, line, ticks
from serkit.reporting.tables import Cell, Column, Row, Table
from serkit.reporting.text import aligned, count, number, signed

BARS = "▁▂▃▄▅▆▇█"
LEAST = 0.02  # nats; smaller effects are not drawn in the terminal
TOLD = 3  # stretches and words that are told each way
METHOD = (
    "Each stretch in turn was made as quiet as the quietest tenth of the clip; its effect is the fall of the label's "
    "log-odds, in nats (0.69 halves the odds). Effects do not add up: two stretches may tell the model the same thing.",
    "The voice is described over voiced frames of the most telling stretches and of the whole clip; sd is the "
    "difference in standard deviations of the clip's frames. It shows where these stretches differ, not that the "
    "model used the difference.",
    "All of this describes the model, not the speaker.",
)


def explanation_text(row: Mapping[str, Any]) -> str:
    """The explanation as lines for a terminal, with a line break at the end."""
    seconds = row["stretches"][0]["end_s"] - row["stretches"][0]["start_s"]
    lines = [f"{_what(row)}: {_answer(row)}", ""]
    lines += [
        f"Where: effect of each {seconds:.2f} s on '{row['label']}' (nats of log-odds)",
        *_strip(row["stretches"]),
    ]
    lines += _told(row["stretches"], lambda s: f"{s['start_s']:.2f}-{s['end_s']:.2f} s", row["n_salient"])
    if row["cues"]:
        lines += ["", "Voice in the most telling stretches, beside the whole clip"]
        lines += aligned([[c["words"], *_cue(c)] for c in row["cues"]])
    if row["words"]:
        lines += ["", f"Words: effect of each on '{row['label']}'"]
        lines += _told(row["words"], lambda w: repr(w["text"]), TOLD)
    lines += ["", "If the clip were"]
    lines += aligned([[a["words"], *_other(a, row["label"])] for a in row["altered"]])
    if row["systems"]:
        lines += ["", "Each system alone, not calibrated"]
        lines += aligned([[s["system"], *_other(s, row["label"])] for s in row["systems"]])
    return "\n".join([*lines, "", METHOD[-1]]) + "\n"


def explanation_page(row: Mapping[str, Any]) -> str:
    """The explanation as one page that needs nothing else."""
    found = {
        "row": row,
        "what": _what(row),
        "headline": f"Why “{row['label']}”?",
        "lead": f"The model's answer: {_answer(row)}.",
        "figure": _figure(row),
        "cues": _table(
            "Voice in the most telling stretches",
            [("Descriptor", False), ("Those stretches", True), ("Whole clip", True), ("Difference, sd", True)],
            [[c["words"], *_cue(c)[:2], signed(c["deviations"], 1)] for c in row["cues"]],
        ),
        "n_salient": count(row["n_salient"], "stretch", "stretches"),
        "words": _table(
            "Effect of each word", [("Word", False), ("Effect, nats", True)],
            [[w["text"], signed(w["effect"], 2)] for w in row["words"]],
        ),
        "altered": _answers("The clip altered", "Change", "words", row["altered"], row["label"]),
        "systems": row["systems"] and _answers(
            "Each system alone", "System", "system", row["systems"], row["label"]
        ),
        "method": METHOD,
    }  # fmt: skip
    return html_page(found, "explanation")


def _what(row: Mapping[str, Any]) -> str:
    channel = f", channel {row['channel']}" if row.get("channel") else ""
    return f"{row['path'] or 'clip'}{channel}, {row['start_s']:.2f} to {row['end_s']:.2f} s"


def _answer(row: Mapping[str, Any]) -> str:
    """``neutral 0.45 (unsure); then calm 0.20, sadness 0.11``, and the explained label where it is another."""
    ranked = sorted(row["probabilities"].items(), key=lambda item: -item[1])
    first = f"{row['answer']} {number(row['confidence'], 2)}" + (f" ({row['abstain']})" if row["abstain"] else "")
    rest = ", ".join(f"{name} {number(p, 2)}" for name, p in ranked[1:3])
    told = f"; explained: {row['label']} {number(row['probability'], 2)}" if row["label"] != row["answer"] else ""
    return f"{first}; then {rest}{told}" if rest else first + told


def _strip(stretches: Sequence[Mapping[str, Any]]) -> list[str]:
    """Two lines of bars, for and against, under a common scale."""
    most = max(LEAST, *(abs(s["effect"]) for s in stretches))
    lines = []
    for title, sign in (("for    ", 1), ("against", -1)):
        sizes = [sign * s["effect"] for s in stretches]
        bars = "".join(BARS[min(7, int(8 * x / most))] if x >= LEAST else "·" for x in sizes)
        lines.append(f"  {title} {bars}")
    return lines


def _told(rows: Sequence[Mapping[str, Any]], name: Callable[[Any], str], n: int) -> list[str]:
    """The strongest effects each way."""
    ranked = sorted(rows, key=lambda r: -r["effect"])
    sides = (("strongest for it", ranked[:n], 1), ("strongest against it", ranked[::-1][:TOLD], -1))
    lines = []
    for title, side, sign in sides:
        kept = [f"{name(r)} {signed(r['effect'], 2)}" for r in side if sign * r["effect"] >= LEAST]
        lines.append(f"  {title}: {', '.join(kept) or 'none'}")
    return lines


def _cue(cue: Mapping[str, Any]) -> list[str]:
    unit = f" {cue['unit']}" if cue["unit"] else ""
    digits = 0 if cue["unit"] == "Hz" else 2
    here, clip = (f"{number(cue[key], digits)}{unit}" for key in ("salient", "clip"))
    return [here, clip, f"{signed(cue['deviations'], 1)} sd"]


def _other(answer: Mapping[str, Any], told: str) -> list[str]:
    """What is answered, and how probable the explained label is where that is another."""
    also = "" if answer["label"] == told else f"{told} {number(answer['probability'], 2)}"
    return [f"{answer['label']} {number(answer['confidence'], 2)}", also]


def _table(title: str, columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> Table | None:
    """A table, unless it has no rows; numeric columns are set to the right."""
    if not rows:
        return None
    heads = tuple(Column(name, numeric=numeric) for name, numeric in columns)
    return Table("", title, heads, tuple(Row(tuple(Cell(c) for c in cells)) for cells in rows))


def _answers(title: str, first: str, key: str, rows: Sequence[Mapping[str, Any]], told: str) -> Table | None:
    columns = [(first, False), ("Answer", False), (f"P({told})", True)]
    cells = [[r[key], f"{r['label']} {number(r['confidence'], 2)}", number(r["probability"], 2)] for r in rows]
    return _table(title, columns, cells)


def _figure(row: Mapping[str, Any]) -> Figure:
    caption = (
        "Above: the waveform. Below: what silencing a stretch does; filled bars above the line speak for "
        f"“{row['label']}”, hollow ones below it against it."
    )
    return Figure("effects", "Effect over time", caption, (_drawing(row, 880.0),), (_drawing(row, 340.0),))


def _drawing(row: Mapping[str, Any], width: float) -> Drawing:
    """Waveform over effects, on one time axis."""
    left, right, wave, top, bottom = 44.0, width - 14.0, 46.0, 104.0, 224.0
    start, end = row["start_s"], row["end_s"]
    marks = ticks(
        min(0.0, *(s["effect"] for s in row["stretches"])), max(0.1, *(s["effect"] for s in row["stretches"]))
    )

    def x(at_s: float) -> float:
        return float(left + (right - left) * (at_s - start) / (end - start))

    def y(effect: float) -> float:
        return bottom - (bottom - top) * (effect - marks[0]) / (marks[-1] - marks[0])

    parts: list[Markup] = []
    loudest = max(1e-4, *row["peaks"])
    for k, peak in enumerate(row["peaks"]):
        a, b = x(start + k * row["peak_s"]), x(min(end, start + (k + 1) * row["peak_s"]))
        high = max(0.5, (wave - 6.0) * peak / loudest)
        parts.append(box(a, wave - high, max(b - a, 0.3), 2 * high, "column"))
    for mark in marks:
        parts += [line(left, y(mark), right, y(mark), "zero" if mark == 0 else "grid")]
        parts.append(label(left - 6, y(mark) + 3.5, f"{mark:g}".replace("-", "−"), "tick", text_anchor="end"))
    for s in row["stretches"]:
        a, b = x(s["start_s"]), x(s["end_s"])
        high, low = y(max(s["effect"], 0.0)), y(min(s["effect"], 0.0))
        words = f"{s['start_s']:.2f} to {s['end_s']:.2f} s: {signed(s['effect'], 2)} nats"
        bar = box(a + 0.75, high, max(b - a - 1.5, 0.5), low - high, f"bar {'s0' if s['effect'] > 0 else 's1'}")
        parts.append(element("g", element("title", words), bar))
    for at_s in [t for t in ticks(start, end, 7 if width > 500 else 4) if start <= t <= end]:
        parts.append(label(x(at_s), bottom + 18, f"{coordinate(at_s)} s", "tick", text_anchor="middle"))
    ranked = sorted(row["stretches"], key=lambda s: -s["effect"])[: max(1, row["n_salient"])]
    told = "; ".join(f"{s['start_s']:.2f} to {s['end_s']:.2f} s {signed(s['effect'], 2)} nats" for s in ranked)
    alt = f"Waveform and the effect of each stretch on {row['label']}. Strongest: {told}."
    return Drawing(width, bottom + 28, alt, Markup("").join(parts))
