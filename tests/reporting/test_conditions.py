"""Conditions as text and as a page: every number is there, and no text is trusted."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from serkit.reporting import write_conditions
from serkit.reporting.conditions import conditions_content, conditions_text

from .example import Page, check_drawings, metric, numbers


def model(system: str, uar: float, confidence: float, **more: Any) -> dict[str, Any]:
    return {
        "system": system, "labels": ["anger", "neutral"], "metrics": {**numbers(uar), "uar": metric(uar)},
        "provenance": {"draws": 1000}, "confidence": confidence, "abstained": {"no_speech": 6, "unsure": 15},
        "answered_by": {system.partition(" ")[0]: 60}, "trained_on": [], **more,
    }  # fmt: skip


def change(difference: float, p: float, low: float, high: float) -> dict[str, Any]:
    return {
        "metric": "uar", "a": "a", "b": "b", "value_a": 0.4, "value_b": 0.6, "difference": difference, "low": low,
        "high": high, "p_holm": p, "p_permutation": p,
    }  # fmt: skip


def tree() -> dict[str, Any]:
    heard = {"telephone@2": 40, "m@1": 20}
    return {
        "models": [model("m@1", 0.6, 0.62)],
        "differences": [],
        "under": [
            {
                "condition": "8khz", "steps": [{"name": "telephone", "codec": "none"}], "differences": [],
                "models": [model("m@1 under '8khz'", 0.4, 0.7, answered_by=heard)],
                "changes": [[change(-0.2, 0.01, -0.3, -0.1)]],
            },
            {
                "condition": "noise:20+gain:-6", "differences": [],
                "steps": [{"name": "noise", "snr_low_db": 20.0}, {"name": "gain", "low_db": -6.0}],
                "models": [model("m@1 under 'noise:20+gain:-6'", 0.55, 0.5)],
                "changes": [[change(-0.05, 0.4, -0.1, 0.02)]],
            },
        ],
    }  # fmt: skip


def two() -> dict[str, Any]:
    found = tree()
    found["models"].append(model("n@3", 0.5, 0.5))
    found["differences"] = [{**change(0.1, 0.2, -0.1, 0.3), "p_holm": None}]
    for one in found["under"]:
        one["models"].append(model("n@3 under that", 0.45, 0.5))
        one["changes"].append([change(-0.05, 0.4, -0.1, 0.02)])
        one["differences"] = [change(-0.05, 0.5, -0.15, 0.05)]
    return found


def test_text_has_a_line_for_each_condition() -> None:
    text = conditions_text(tree())
    assert text[0] == "m@1 under each condition, in pairs with the unchanged recordings"
    rows = [" ".join(line.split()) for line in text]
    assert rows[2] == "unchanged 0.600 [0.550, 0.650] 0.62 0.62 0.123 10% 25%"
    assert rows[3] == "8khz 0.400 [0.350, 0.450] −0.200 [−0.300, −0.100] 0.010 0.42 0.70 0.123 10% 25%"
    assert text[-2] == "  intervals: 95% speaker bootstrap (500 draws), rough: 6 speakers"
    assert text[-1] == "  answered by telephone@2: 8khz (40 of 60)"
    few = tree()
    few["models"][0]["provenance"]["draws"] = 20
    assert conditions_text(few)[-1] == "with 20 draws and 2 conditions no p Holm is below 0.190: more --draws"
    paired = conditions_text(two())
    assert "UAR of m@1 (a) minus n@3 (b) under each condition" in paired
    assert " ".join(paired[-1].split()) == "noise:20+gain:-6 0.400 0.600 −0.050 [−0.150, +0.050] 0.500"


def test_sentences_say_where_it_falls_and_where_it_is_too_sure() -> None:
    first, second, third = conditions_content(tree())["sentences"]
    assert first.startswith("m@1: UAR is lower under 8khz; no change is shown under noise:20+gain:-6 (the tests: ")
    assert second == "m@1: confidence exceeds the share of right answers most under 8khz, by 0.28."
    assert third == "m@1: answered by telephone@2: 8khz (40 of 60)."
    unsure = copy.deepcopy(tree())
    unsure["under"][0]["changes"][0][0]["p_permutation"] = 0.2
    assert "UAR is lower, but not by both tests, under 8khz" in conditions_content(unsure)["sentences"][0]
    assert " 0.200 " in " ".join(
        conditions_text(unsure)[3].split()
    )  # p of few speakers: not that of the bootstrap alone


def test_of_a_table_nobody_knows_whether_the_model_was_trained_on_it() -> None:
    found = two()
    for row in found["models"]:
        row["provenance"] = {**row.get("provenance", {}), "corpus": "table"}
    said = [line for line in conditions_content(found)["cautions"] if "table does not name" in line]
    assert len(said) == 1
    assert not any("table does not name" in line for line in conditions_content(two())["cautions"])


def test_page_is_well_formed_and_trusts_no_text(tmp_path: Path) -> None:
    for found in (tree(), two()):
        bad = copy.deepcopy(found)
        bad["under"][0]["condition"] = "<script>x</script>"
        bad["models"][0]["trained_on"] = ["<i>toy</i>"]
        text = write_conditions(tmp_path, bad).read_text(encoding="utf-8")
        assert "i" not in Page(text, ["report.html"]).tags
        assert "UAR 0.600 unchanged, 0.400 under" in text
        check_drawings(tmp_path, {"conditions"})
        assert "<script" not in (tmp_path / "conditions.md").read_text(encoding="utf-8").replace("\\<", "")
    assert "UAR of m@1 minus n@3" in text
    again = write_conditions(tmp_path / "again", bad).read_text(encoding="utf-8")
    assert again == text


def test_long_names_fit_a_narrow_page(tmp_path: Path) -> None:
    found = two()
    for one, name in zip(found["models"], ("default-adapted@87a05ff8c7a0", "default@2ce5c84d20e9"), strict=True):
        one["system"] = name
    assert legends(found) == [["default-adapted", "default"]] * 2
    assert conditions_content(found)["headline"].startswith("default-adapted: UAR 0.600 unchanged, ")
    found["models"][1]["system"] = "default-adapted@2ce5c84d20e9"
    assert legends(found)[1] == ["default-adapted@87a…", "default-adapted@2ce…"]
    assert conditions_content(found)["headline"].startswith("default-adapted@87a05ff8c7a0: UAR ")
    assert "<h1>default-adapted<wbr>@87a05ff8c7a0: UAR " in write_conditions(tmp_path, found).read_text("utf-8")


def legends(found: dict[str, Any]) -> list[list[str]]:
    """Names beside the shapes, of the wide drawing and of the narrow one."""
    figure = conditions_content(found)["figures"]["conditions"]
    return [re.findall(r'y="15[^>]*>([^<]+)<', str(d.inline)) for d in (*figure.wide, *figure.narrow)]


def test_sets_are_two_more_columns_in_text_and_a_table_of_the_page() -> None:
    found, plain = tree(), tree()
    for k, one in enumerate((found["models"][0], *(u["models"][0] for u in found["under"]))):
        held = {"value": 0.9 - k / 10, "low": 0.8 - k / 10, "high": 0.95 - k / 10}
        one["sets"] = {"coverage": 0.9, "held": held, "size": {"value": 1.5 + k}, "alone": 0.5 - k / 10}
    lines = conditions_text(found)
    assert lines[1].split()[-2:] == ["set", "classes"]
    assert [line.split()[-2:] for line in lines[2:5]] == [["0.90", "1.50"], ["0.80", "2.50"], ["0.70", "3.50"]]
    (numbers, sets), (without,) = (conditions_content(t)["tables"] for t in (found, plain))
    assert sets.title.endswith(": sets at 0.9")
    assert [cell.text for cell in sets.rows[1].cells[1:]] == ["0.800", "2.50", "40%"]
    assert sets.rows[1].cells[1].sub == "[0.700, 0.850]"
    assert [column.title for column in numbers.columns] == [column.title for column in without.columns]
