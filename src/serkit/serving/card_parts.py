"""What the cards of all bundles say alike: what they are for, and how sure their answers may be taken to be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from serkit.reporting.pages import css
from serkit.reporting.reliability import panel
from serkit.reporting.svg import Figure
from serkit.reporting.text import voices

DIAGRAM = "reliability.svg"
_COLUMNS = 41
INTENDED = (
    "To sort, search and summarise recordings of speech by the emotion that a listener would name, if a person reviews "
    "what matters. It describes what a voice sounds like, not what a person feels. Not for decisions about a person: "
    "hiring, schooling, credit, policing, medicine. In the European Union, inferring emotions at the workplace and in "
    "education is prohibited except for medical and safety reasons (Regulation 2024/1689, article 5)."
)

INDEPENDENT = "The intervals of this table take clips as independent; over other speakers the shares vary more."


_ACTIVE = re.compile(r"[<|]|\](?=[(\[:])")


def literal(text: str) -> str:
    """A name of others for Markdown, on one line, in which it makes no link, no tag and no further cell.

    >>> literal("[a](javascript:b)|<i>")
    '[a\\\\](javascript:b)\\\\|\\\\<i>'
    """
    return _ACTIVE.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def licences(about: Mapping[str, Any]) -> str:
    """Those of weights and code; of weights without a licence of their own, what they were made of."""
    said = about["licence"]
    return f"Weights: {said['weights'].removeprefix('see card.md: ')}\n\nCode: {said['code']}"


def sureness_text(about: Mapping[str, Any]) -> str:
    """How sure answers may be taken to be: calibration, reliability, and precision by confidence, on held-out clips.

    Args:
        about: what ``bundle.json`` says.
    """
    record = about["calibration"]["record"]
    lines = [
        f"Calibration: {about['calibration']['method']} scaling, fitted on {record['rows']} clips of "
        f"{voices(record['speakers'])} held out from the scoring networks ({', '.join(record['splits'])}). "
        f"Expected calibration error {record['ece_before']:.3f} before, {record['ece_after']:.3f} after "
        f"({record['measured']}).",
    ]
    if "test" in record:
        t = record["test"]
        lines.append(
            f"On test ({t['rows']} clips, {voices(t['speakers'])}, not used for the calibration): "
            f"{t['ece_before']:.3f} before, {t['ece_after']:.3f} after."
        )
    lines += ["", *_reliability(about["reliability"])]
    lines += [
        "",
        "| confidence from | answers right | 95 % interval | share of clips | clips |",
        "|---|---|---|---|---|",
    ]
    for row in about["levels"]:
        span = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"| {row['confidence']:.2f} | {row['precision']:.2f} | {span} | {row['share']:.2f} | {row['n']} |")
    cut = about["unsure_below"]
    said = f"answers below a confidence of {cut:.2f} were more often wrong than right, and are marked unsure"
    if cut > 1:
        said = "no answer was right more often than wrong; all are marked unsure"
    elif cut == 0:
        said = "answers were right more often than wrong at every confidence"
    return "\n".join([*lines, "", f"On these clips {said}. {INDEPENDENT}"])


def reliability_diagram(about: Mapping[str, Any]) -> str:
    """The reliability diagram of the card as an SVG file: of the held-out clips, and of test where there is one.

    Args:
        about: what ``bundle.json`` says.
    """
    record = about["calibration"]["record"]
    found = [(about["reliability"], ", ".join(record["splits"]), record["ece_after"])]
    if "test" in record:
        found.append((record["test"]["reliability"], "test", record["test"]["ece_after"]))
    drawings = [
        panel(rows, title=f"{about['name']}, {split}", sub=f"{about['calibration']['method']} scaling, ECE {error:.3f}")
        for rows, split, error in found
    ]
    return Figure("reliability", f"Calibration of {about['name']}", "", tuple(drawings)).file(css("figure.css"))


def _reliability(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The diagram in characters, for whoever reads the card as text: ``o`` the share right, ``|`` the confidence."""
    lines = [
        f"![Reliability diagram: the share of right answers by confidence]({DIAGRAM})",
        "",
        "```text",
        "confidence    right  clips  0" + " " * (_COLUMNS - 2) + "1",
    ]
    for row in rows:
        marks = ["·"] * _COLUMNS
        sure, right = (round(row[key] * (_COLUMNS - 1)) for key in ("confidence", "accuracy"))
        for k in range(min(sure, right), max(sure, right)):
            marks[k] = "-"
        marks[sure], marks[right] = "|", "o"
        span = f"{row['from']:.2f} to {row['to']:.2f}"
        lines.append(f"{span}  {row['accuracy']:5.2f}  {row['n']:5.0f}  {''.join(marks)}")
    said = "`o`: share of right answers; `|`: their confidence. If `o` is left of `|`, answers are overconfident."
    return [*lines, "```", "", said]


def sets_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What sets of classes are worth, as Markdown: of rows of :func:`serkit.conformal.crossed`."""
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
