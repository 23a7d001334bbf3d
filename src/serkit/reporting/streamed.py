"""What ``serkit measure --streamed`` found → a table for a terminal, and a section of the page with a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serkit.reporting.data_tables import fact_table
from serkit.reporting.figures import NARROW, WIDE
from serkit.reporting.measured_words import KINDS, short_names
from serkit.reporting.svg import Drawing, Figure, digits_of, element, label, line, marker, path, ticks
from serkit.reporting.tables import Cell, Column, Row, Table
from serkit.reporting.text import ABSENT, aligned, between, capital, count, finite, number, voices, whole

CURVES = ("p0", "p1")
TITLES = ("After", "UAR", "Right", "Answers", "None yet", "Running", "Right, running", "As at the end", "Unsure")
MEANING = (
    "After: seconds in stretches of speech, short pauses included; the answer is the last one that has come when the "
    "chunk that completes them is heard. Recordings without an answer by then (none yet) are left out of the row. "
    "Those with less speech have ended, and count with their answer for the whole. Running: those with so much "
    "speech. As at the end: share of the answers with the label of the end. Unsure answers count all the same.",
    "The clock is that of the sound; computing takes no time on it, and is given apart. The stream is by segment: an "
    "answer during speech is for the open stretch, the one at the end for the whole.",
)
READS = "it reads texts, and its streams had the whole text from the begin: early answers are better than in real use"
Found = Mapping[str, Any]
Points = Sequence[tuple[float | None, Found]]


def streamed_text(tree: Mapping[str, Any]) -> list[str]:
    """The table and the further numbers of each bundle, as lines."""
    found: list[str] = []
    for one in tree["streamed"]:
        found.append(f"{one['system']} streamed: {_fed(one)}")
        rows = [[_joined(cell) for cell in _cells(row)] for row in one["heard"]]
        head = [t.lower() if t != "UAR" else "UAR [95 %]" for t in TITLES]
        head[2] += " [95 %]"
        found += aligned([head, *rows])
        found.append(f"  intervals: {_rest(one)}; with less speech (ended) the answer for the whole counts")
        found += [f"  {text}" for text in [*_sentences(one), *_timing(one), *[READS] * one["reads"]]]
    return found


def streamed_content(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For the page, a part for each bundle: sentences, tables. Empty where nothing was streamed."""
    found = []
    for k, one in enumerate(_streamed(tree)):
        facts = {"system": one["system"], "fed": _fed(one), **_facts(one)}
        columns = tuple(Column(t, numeric=j > 0) for j, t in enumerate(TITLES))
        rows = tuple(Row(tuple(_cells(row)), "" if row["after_s"] is not None else "stack") for row in one["heard"])
        title = f"Answers over the seconds of speech heard: {one['system']}"
        found.append({
            "sentences": [f"{capital(text)}." for text in _sentences(one)],
            "table": Table(f"streamed-{k}", title, columns, rows, (f"Intervals: {_rest(one)}.", *MEANING)),
            "facts": fact_table(f"stream-{k}", f"Delay and computing: {one['system']}", facts),
        })  # fmt: skip
    return found


def streamed_cautions(tree: Mapping[str, Any]) -> list[str]:
    """What must be known before the numbers of streams are trusted."""
    found = []
    for one in _streamed(tree):
        finals = one["finals"]
        if finals["beyond"]:
            found.append(
                f"{one['system']}: a stream ends with another answer than the file's for {whole(finals['beyond'])} of "
                f"{count(finals['n'], 'recording')}: the two must be the same."
            )
        if one["reads"]:
            found.append(f"{one['system']}: {READS}.")
    return found


def streamed_failed(tree: Mapping[str, Any]) -> dict[str, str]:
    """Reason by recording that a stream could not answer."""
    return {str(k): f"in a stream: {v}" for one in _streamed(tree) for k, v in (one.get("failed") or {}).items()}


def streamed_figure(tree: Mapping[str, Any]) -> Figure | None:
    """UAR over the seconds of speech heard, a line for each bundle."""
    found = _streamed(tree)
    every = [
        [(row["after_s"], row["metrics"]["uar"]) for row in one["heard"] if row["metrics"] and _is_early(row)]
        for one in found
    ]
    if not any(every):
        return None
    called = short_names(tree["models"])[: len(found)]
    told = []
    for name, points in zip(called, every, strict=True):
        at = ", ".join(f"{_after(s)} {number(m['value'])} {between(m['low'], m['high'])}" for s, m in points)
        told.append(f"{name}: {at}")
    alt = f"UAR over the seconds of speech heard. {'; '.join(told)}."
    wide, narrow = (_drawing(called, every, alt, width) for width in (WIDE * 0.78, NARROW))
    end = next(m for points in every for s, m in points if s is None)
    caption = (
        f"UAR of the answer that is shown by then, and of that at the end. Lines: {end['interval']} at the end. "
        "Recordings without an answer by then are left out; those that have ended count with their answer for the "
        "whole. Moments by which all have ended are not drawn."
    )
    return Figure("streamed", "UAR over the seconds of speech heard", caption, (wide,), (narrow,))


def _drawing(called: Sequence[str], every: Sequence[Points], alt: str, width: float) -> Drawing:
    """Seconds to the right on a linear axis, the end apart from it."""
    left, right, top, bottom = 44.0, width - 52.0, 34.0 if len(called) > 1 else 14.0, 236.0
    edges = [m[k] for points in every for _, m in points for k in ("low", "high", "value")]
    marks = ticks(min(edges), max(edges), 5)
    seconds = sorted({s for points in every for s, _ in points if s is not None})
    most = max(seconds, default=1.0)
    shift = 5.0 * (len(called) > 1)

    def x(after_s: float | None, k: int) -> float:
        at = width - 22.0 if after_s is None else left + 10 + after_s / most * (right - left - 24)
        return at + shift * (2 * k - 1)

    def y(value: float) -> float:
        return bottom - (value - marks[0]) / (marks[-1] - marks[0]) * (bottom - top)

    parts: list[Markup] = []
    for mark in marks:
        parts.append(line(left, y(mark), width - 6, y(mark), "grid"))
        parts.append(label(left - 6, y(mark) + 4, number(mark, digits_of(marks)), "tick", text_anchor="end"))
    for mark in seconds:
        at = x(mark, 0) + shift
        parts.append(line(at, bottom, at, bottom + 4, "grid"))
        parts.append(label(at, bottom + 17, f"{mark:g}", "tick", text_anchor="middle"))
    parts.append(label(width - 22, bottom + 17, "end", "tick", text_anchor="middle"))
    parts.append(label((left + right) / 2, bottom + 35, "seconds of speech heard", "axis", text_anchor="middle"))
    for k, (name, points) in enumerate(zip(called, every, strict=True)):
        parts.append(path([(x(s, k), y(m["value"])) for s, m in points if s is not None], f"curve {CURVES[k]}"))
        for s, m in points:
            hint = f"{name}, {_after(s)}: {number(m['value'])} {between(m['low'], m['high'])}, n = {whole(m['n'])}"
            at = x(s, k)
            span = line(at, y(m["low"]), at, y(m["high"]), f"span {KINDS[k]}")
            parts.append(element("g", element("title", hint), span, marker(KINDS[k], at, y(m["value"]), 4)))
        if len(called) > 1:
            start = left + k * (right - left) / 2
            parts += [marker(KINDS[k], start + 6, 12, 4), label(start + 17, 16, name, "tick")]
    return Drawing(width, bottom + 42, alt, Markup("").join(parts))


def _streamed(tree: Mapping[str, Any]) -> list[Found]:
    return [one for one in tree.get("streamed") or [] if isinstance(one, dict)]


def _is_early(row: Found) -> bool:
    """Whether some recording is still heard at that moment, or it is the end itself."""
    return row["after_s"] is None or row["running"] > 0


def _after(after_s: float | None) -> str:
    return "at the end" if after_s is None else f"{after_s:g} s"


def _cells(row: Found) -> list[Cell]:
    """A row of the table."""
    numbers = row["metrics"] or {}
    found = [Cell(_after(row["after_s"]))]
    for name in ("uar", "accuracy"):
        m = numbers.get(name)
        found.append(Cell(number(m["value"]), between(m["low"], m["high"])) if m else Cell(ABSENT))
    running, ending = finite(row["right_running"]), row["after_s"] is None
    found += [Cell(whole(row["n"])), Cell(whole(row["waiting"])), Cell(ABSENT if ending else whole(row["running"]))]
    shares = (number(running), _share(row["as_final"]), _share(row["unsure"]))
    return [*found, *map(Cell, shares)]


def _joined(cell: Cell) -> str:
    return f"{cell.text} {cell.sub}".strip()


def _fed(one: Found) -> str:
    return (
        f"{count(one['n'], 'recording')} in chunks of {one['chunk_s']:g} s, an answer after every "
        f"{one['partial_s']:g} s of speech"
    )


def _rest(one: Found) -> str:
    """What the intervals rest on, at the end and where it is least."""
    end = next(row["metrics"]["uar"] for row in one["heard"] if row["after_s"] is None)
    least = min(row["metrics"]["uar"]["speakers"] for row in one["heard"] if row["metrics"])
    fewer = f"; in earlier rows of {voices(least)} or more" if least < end["speakers"] else ""
    return f"at the end {end['interval']}, n = {whole(end['n'])}, {voices(end['speakers'])}{fewer}"


def _sentences(one: Found) -> list[str]:
    """Changes of the label, when the first answer comes, and whether the end is that of the file."""
    c, finals, first = one["changes"], one["finals"], one["changes"]["first_is_final"]
    each, none = c["each"], c["none"]
    found = [
        f"the label changes {number(each['value'], 2)} times a recording "
        f"{between(each['low'], each['high'], lambda v: number(v, 2))}, {number(c['per_minute'], 1)} per minute of "
        f"speech; it never changes in {_share(none['value'])} of the recordings"
    ]
    if first:
        found.append(
            f"the first label is that of the end in {_share(first['value'])} "
            f"{between(first['low'], first['high'], _share)} of {count(c['n'], 'recording')} with an answer before "
            f"the end; in {whole(c['at_end'])} the end itself changes the label"
        )
    if c["silent"]:
        found.append(f"{count(c['silent'], 'recording')} had no answer before the end")
    if c["stable_s"]:
        found.append(f"the label is stable {_seconds(c['stable_s'])} after speech begins")
    if one["first_s"]["speech"]:
        audio, speech = (one["first_s"][k] for k in ("audio", "speech"))
        found.append(f"the first answer comes {_seconds(speech)} after speech begins, {_seconds(audio)} into the sound")
    same = f"of {whole(finals['n'])} answers at the end, {whole(finals['beyond'])} differ from the file's"
    found.append(
        f"{same} ({whole(finals['other'])} by the label); largest difference of a probability "
        f"{finals['largest']:.1g}, tolerance {finals['tolerance']:g}"
    )
    return found


def _facts(one: Found) -> dict[str, str]:
    """What was fed and what the computing took, by name."""
    run = one["run"]
    at_once = f", {count(run['processes'], 'process')} at once" if run["processes"] > 1 else ""
    return {
        "sound": f"{number(one['audio_s'], 1)} s, of it {number(one['speech_s'], 1)} s in stretches of speech",
        "computing for a chunk": _milliseconds(run, "chunk"),
        "for a chunk that brings an answer": _milliseconds(run, "answering"),
        "after the last chunk": _milliseconds(run, "end"),
        "real-time factor": (
            f"{number(run['real_time_factor'], 3)} by the clock, {number(run['processor_per_s'], 3)} of processor time"
        ),
        "processor": f"{run['processor']}, {count(run['cores'], 'core')}{at_once}",
    }


def _timing(one: Found) -> list[str]:
    return [f"{name}: {text}" for name, text in _facts(one).items() if text != ABSENT]


def _seconds(spread: Found) -> str:
    return f"{number(spread['p50'], 2)} s (median; 95 %: {number(spread['p95'], 2)} s)"


def _milliseconds(run: Found, name: str) -> str:
    """Percentiles by the clock, and of processor time."""
    wall, own = run[f"{name}_ms"], run[f"{name}_processor_ms"]
    if not wall or not own:
        return ABSENT
    told, processor = (", ".join(f"p{p} {number(spread[f'p{p}'], 1)}" for p in (50, 95, 99)) for spread in (wall, own))
    return f"{told} ms (n = {whole(wall['n'])}); of processor time {processor} ms"


def _share(value: Any) -> str:
    found = finite(value)
    return ABSENT if found is None else f"{found:.0%}"
