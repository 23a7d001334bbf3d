"""What the gaps between groups say in words, from their rows in report.json: for pages, the console and the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serkit.reporting.text import between, capital, count, finite, listed, number, p_value, signed, spaced
from serkit.reporting.verdict import LEVEL

MANY = 7  # groups are not named one by one
METHOD = (
    "A group with few clips or speakers is shown, marked, and not compared.",
    "UAR and recall are taken within the true emotion: they do not depend on how frequent each emotion is in a group. "
    "Macro-F1 and the share of answers do. If a group has other emotions than another, compare UAR.",
    "Intervals are by speaker, or by clip where speakers are unknown. Of more than two groups they are of the two that "
    "are farthest apart, and leave out zero too often. p, which takes that into account, is the share of random groups "
    "with a gap at least as large (a permutation test); p Holm is adjusted for all the columns, or for all the classes "
    "of one column.",
    "A gap is called larger than chance if its interval leaves out zero and p Holm is below 0.05; otherwise it is "
    "open. Open is not the same as no gap: see detectable.",
)
CLASS_METHOD = (
    "Recall: the share of the clips of an emotion that are answered so. The same recall for all groups is called equal "
    "opportunity. Answered: the share of all clips of a group that are answered so. The same share for all groups is "
    "called demographic parity; it also differs if the groups have different emotions in truth (last column), and is "
    "not tested.",
)


def group_name(text: str) -> str:
    """The name of a group without the digit that sorts thirds of duration.

    >>> group_name("1 below 2.00 s"), group_name("1 to 2")
    ('below 2.00 s', '1 to 2')
    """
    return text[2:] if text[:2] in ("1 ", "2 ", "3 ") and text.endswith(" s") else text


def is_found(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is larger than chance explains: its interval leaves out 0, and its adjusted p is below 0.05."""
    low, high, p = (finite(gap.get(k)) for k in ("low", "high", "p_holm"))
    return p is not None and p < LEVEL and low is not None and high is not None and (low > 0 or high < 0)


def outcome(gap: Mapping[str, Any]) -> str:
    """What a gap is called in a word or two."""
    return "larger than chance" if is_found(gap) else "open"


def gap_of(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The gap of a metric, empty where nothing was compared."""
    found = (row.get("metrics") or {}).get(name)
    return found if isinstance(found, dict) and finite(found.get("difference")) is not None else {}


def _ends(gap: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The groups with the highest and the lowest number, and these numbers."""
    values = gap.get("values") or {}
    return [(group_name(str(gap.get(k))), values.get(gap.get(k))) for k in ("highest", "lowest")]


def sentences(row: Mapping[str, Any]) -> list[str]:
    """What the gaps of one column say, a sentence or two each: UAR, the classes, and what was not compared.

    Args:
        row: of :meth:`serkit.gaps.Gaps.to_row`.
    """
    lines, gap = [], gap_of(row, "uar")
    if gap:
        (high, most), (low, least) = _ends(gap)
        n = len(gap.get("values") or {})
        first = f"Of {n} groups, these are farthest apart: " if n > 2 else ""
        lines.append(
            f"{first}UAR is {number(gap['difference'])} {between(gap.get('low'), gap.get('high'), signed)} higher for "
            f"{high} ({number(most)}) than for {low} ({number(least)}). {_verdict(gap)}"
        )
        lines += _classes(row)
    elif row.get("note"):
        lines.append(f"No gap was measured: {row['note']}.")
    lines += [f"{capital(line)}." for line in _apart(row)]
    crossed = finite(row.get("crossed")) or 0
    if crossed and row.get("moved") == "speakers":
        lines.append(f"{count(crossed, 'speaker')} with clips in several groups: counted in each of them.")
    return lines


def left_out(row: Mapping[str, Any]) -> str:
    """The groups that are not compared, each with its reason."""
    found = [f"{group_name(name)} ({reason})" for name, reason in (row.get("left_out") or {}).items()]
    return listed(found) if len(found) < MANY else f"{len(found)} groups, such as {found[0]}"


def gap_lines(row: Mapping[str, Any]) -> list[str]:
    """The same for a console, in a line or two."""
    gap, lines = gap_of(row, "uar"), []
    if gap:
        (high, _), (low, _) = _ends(gap)
        lines.append(
            f"gap {number(gap['difference'])} {between(gap.get('low'), gap.get('high'))} ({high} minus {low}), p Holm "
            f"{p_value(gap.get('p_holm'))}: {outcome(gap)}, detectable "
            f"{number(gap.get('detectable'))}; {row.get('interval')}"
        )
        lines += _classes(row) if any(is_found(g) for g in (row.get("recall") or {}).values()) else []
    elif row.get("note"):
        lines.append(f"no gap: {row['note']}")
    return lines + _apart(row)


def _apart(row: Mapping[str, Any]) -> list[str]:
    """What no gap is about: classes, and groups."""
    missing, left = list(map(str, row.get("missing") or ())), left_out(row)
    found = [f"gaps leave out {listed(missing)}: not every group has enough of these clips"] if missing else []
    return found + ([f"not compared: {left}"] if left else [])


def _verdict(gap: Mapping[str, Any]) -> str:
    p = f"(p Holm {p_value(gap.get('p_holm'))})"
    if is_found(gap):
        return f"That is more than chance explains {p}."
    low, high, tested = (finite(gap.get(k)) for k in ("low", "high", "p_holm"))
    either = (tested is not None and tested < LEVEL) or (low is not None and high is not None and (low > 0 or high < 0))
    said = f"The interval and the test {p} disagree, so this is open." if either else f"Chance can explain it {p}."
    return f"{said} A true gap of less than {number(gap.get('detectable'))} would often be missed."


def _classes(row: Mapping[str, Any]) -> list[str]:
    """One sentence on the recall of the classes."""
    recall = {k: gap for k, gap in (row.get("recall") or {}).items() if isinstance(gap, dict)}
    found = []
    for label, gap in recall.items():
        if is_found(gap):
            (high, most), (low, least) = _ends(gap)
            interval = between(gap.get("low"), gap.get("high"), lambda value: signed(value, 2))
            found.append(
                f"{label}: {high} {number(most, 2)}, {low} {number(least, 2)} (gap {interval}, p Holm "
                f"{p_value(gap.get('p_holm'))})"
            )
    if found:
        return [f"Recall differs more than chance explains: {'; '.join(found)}."]
    n = count(len(recall), "class")
    return [f"In the recall of single classes, every gap is open ({n} tested)."] if recall else []


def title(column: str) -> str:
    """A column as a heading.

    >>> title("native_language")
    'Native language'
    """
    return capital(spaced(column))
