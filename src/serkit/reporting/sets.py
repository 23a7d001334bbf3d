"""What sets of classes are worth, as Markdown for model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def sets_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What ``serkit predict --coverage`` gives: of rows of :func:`serkit.conformal.crossed`."""
    lines = [
        "`serkit predict --coverage` gives the set of classes that holds the right one with the probability asked for. "
        f"On these clips ({rows[0]['measured']}; {rows[0]['held']['interval']}):",
        "",
        "| asked for | sets with the right class | 95 % interval | classes in a set | lowest class | lowest tenth of "
        "speakers |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        held, worst = row["held"], min(row["by_class"], key=lambda label: row["by_class"][label]["held"])
        low = f"{row['by_speaker']['low']:.2f}" if row["by_speaker"] else "unknown"
        lines.append(
            f"| {row['coverage']:g} | {held['value']:.3f} | {held['low']:.3f} to {held['high']:.3f} | "
            f"{row['size']['value']:.2f} | {worst} {row['by_class'][worst]['held']:.2f} | {low} |"
        )
    return "\n".join([*lines, "", "On other recordings, sets hold the right class less often."])
