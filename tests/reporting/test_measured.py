"""The page of a measured bundle: what it says of one and of two, from what is there, and no text is trusted."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from serkit.reporting import write_conditions, write_measured
from serkit.reporting.measured import measured_content
from serkit.reporting.text import NOT_KNOWN

from .example import LABELS, ROUGH, Page, check_drawings, check_tables, details, gaps, in_browser, metric, numbers


def model(system: str, value: float, **more: Any) -> dict[str, Any]:
    mistake = {
        "id": "s1_a", "audio": "audio/s1_a.wav", "corpus": "small", "speaker": "s1", "duration_s": 2.5, "text": None,
        "truth": "anger", "answer": "neutral", "confidence": 0.91, "truth_probability": 0.04, "start_s": 1.5,
    }  # fmt: skip
    return {
        "system": system, "labels": LABELS, "metrics": numbers(value), **details(value), "gaps": gaps(),
        "provenance": {
            "corpus": "small", "manifests": ["aaaa1111"], "draws": 500, "seed": 7, "info": [{"table": None}],
        },
        "left_out": {}, "failed": {}, "trained_on": [], "confidence": 0.7, "abstained": {"no_speech": 0, "unsure": 0},
        "answered_by": {system: 60}, "mistakes": [mistake], **more,
    }  # fmt: skip


def one(**more: Any) -> dict[str, Any]:
    versions = {"python": "3.11", "serkit": "0.1"}
    asked = {"split": "test", "coverage": None, "calls": "none", "versions": versions}
    return {"models": [model("m@12", 0.6, **more)], "differences": [], "provenance": asked}


def difference(name: str, low: float, high: float, p: float, swapped: float = 0.01) -> dict[str, Any]:
    return {
        "metric": name, "a": "m@12", "b": "n@34", "value_a": 0.61, "value_b": 0.5, "difference": (low + high) / 2,
        "low": low, "high": high, "p": p, "p_permutation": swapped, "p_mcnemar": None, "p_holm": None,
        "detectable": 0.08, "n": 58, "speakers": 6, "interval": ROUGH,
    }  # fmt: skip


def two() -> dict[str, Any]:
    found = one()
    found["models"].append(model("n@34", 0.5, trained_on=["small"]))
    found["differences"] = [difference("macro_f1", -0.05, 0.2, 0.2), difference("uar", 0.05, 0.17, 0.004)]
    return found


def under(tree: dict[str, Any]) -> dict[str, Any]:
    changed = {**difference("uar", -0.3, -0.1, 0.01), "p_holm": 0.02}
    row = {
        "condition": "8khz", "steps": [{"name": "telephone"}], "differences": [],
        "models": [model(f"{m['system']} under '8khz'", 0.4) for m in tree["models"]],
        "changes": [[changed] for _ in tree["models"]],
    }  # fmt: skip
    return {**tree, "under": [row]}


def page_of(tree: dict[str, Any], folder: Path) -> str:
    return re.sub(r"<wbr>|</?bdi>", "", write_measured(folder, tree).read_text(encoding="utf-8"))


def test_a_confidence_within_the_interval_of_right_answers_is_not_called_too_high(tmp_path: Path) -> None:
    told = {sure: page_of(one(confidence=sure), tmp_path) for sure in (0.75, 0.66, 0.5)}
    assert "the model is more sure than it is right" in told[0.75]
    assert (
        "0.62 of the answers are right: the interval of that share, [0.57, 0.67], holds the confidence." in told[0.66]
    )
    assert "the model is less sure than it is right" in told[0.5]


def test_the_headline_the_findings_and_what_to_know_before_trusting_a_number(tmp_path: Path) -> None:
    tree = one(
        trained_on=["small"], left_out={"of 'calm'": 3, "without a label": 1}, failed={"s9": "no sound"},
        abstained={"no_speech": 2, "unsure": 9}, answered_by={"m@12": 40, "telephone@9": 20}, confidence=0.75,
    )  # fmt: skip
    tree["models"][0]["per_class"] = {
        k: {"precision": 0.5, "recall": r, "f1": 0.5, "support": n}
        for k, r, n in zip(LABELS, (0.7, 0.8, 0.55), (20.0, 20.0, 8.0), strict=True)
    }
    text = page_of(tree, tmp_path)
    assert "<h1>UAR 0.610 [0.560, 0.660] on 60 recordings of 6 speakers that it may know</h1>" in text
    for expected in (
        f"Guessing among 3 classes reaches a UAR of 0.333. Intervals: {ROUGH}.",
        "Mixed up most: sadness taken for neutral (9 of 20), anger taken for neutral (5 of 20) and",
        "Recall is highest for neutral (0.80), lowest for sadness (0.55).",
        "Confidence is 0.75 on average, and 0.62 of the answers are right: the model is more sure than it is right.",
        "Answers that abstain (2 no speech and 9 unsure) count in every number all the same.",
        "By gender: UAR is 0.200 [+0.100, +0.300] higher for male (0.700) than for female (0.500).",
        "Trained on small too: it may know these speakers.",
        "20 of 60 recordings were taken for calls and answered by telephone@9.",
        "1 recording could not be answered, left out of every number: see What failed.",
        "4 rows left out: 3 of &#39;calm&#39; and 1 without a label.",
        "Fewer than 20 clips of sadness (8): one clip of sadness is 12 points of its recall.",
        "The recordings are of 6 speakers: intervals are rough.",
        "audio/s1_a.wav", "from 1.50 s", "The one mistake: m@12", "no sound", "aaaa1111", ">test<", ">none<", "0.1",
    ):  # fmt: skip
        assert expected in text, expected


def test_what_is_not_known_of_the_training_and_of_the_speakers_is_said() -> None:
    table = one()
    table["models"][0]["provenance"] |= {
        "corpus": "small+table",
        "info": [{"corpora": {"small": {}, "table": {"table": "my.csv"}}}],
    }
    for m in table["models"][0]["metrics"].values():
        m["speakers"] = 0
    found = measured_content(table)
    assert found["corpus"] == "small+table (my.csv)"
    assert found["cautions"] == [
        "Whether it was trained on these recordings is not known: a table does not name their corpus.",
        "The recordings are of unknown speakers: intervals are rough, and too narrow if a voice has several clips.",
    ]
    assert found["headline"].endswith("on 60 recordings of unknown speakers")
    assert not measured_content(one(trained_on=[NOT_KNOWN]))["headline"].endswith("may know")
    assert measured_content(one(trained_on=["small"]))["headline"].endswith("speakers that it may know")
    imported = measured_content(one(trained_on=[NOT_KNOWN]))["cautions"]
    assert imported[0] == "Its training data are unknown: it may know these speakers."
    many = one()
    many["models"][0]["metrics"]["uar"]["speakers"] = 20
    assert measured_content(many)["cautions"] == []
    gone = one()
    gone["models"][0]["per_class"]["anger"] = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0.0}
    found = measured_content(gone)
    assert "No clip of anger: counted as 0 in Macro-F1 and UAR, which cannot exceed 0.667." in found["cautions"]
    assert "Guessing" not in found["lead"]


@pytest.mark.parametrize(
    ("low", "high", "p", "swapped", "said"),
    [
        (0.05, 0.17, 0.004, 0.01, "m is better than n: UAR 0.610 against 0.500"),
        (-0.17, -0.05, 0.004, 0.01, "m is worse than n: UAR 0.610 against 0.500"),
        (0.05, 0.17, 0.004, 0.2, "m is ahead of n, but not with certainty: UAR 0.610 against 0.500"),
        (-0.17, -0.05, 0.06, 0.01, "m is behind n, but not with certainty: UAR 0.610 against 0.500"),
        (-0.05, 0.17, 0.2, 0.2, "m is not distinguishable from n: UAR 0.610 against 0.500"),
    ],
)
def test_two_bundles_are_compared_by_the_paired_difference(
    low: float, high: float, p: float, swapped: float, said: str
) -> None:
    tree = two()
    tree["differences"][1] = difference("uar", low, high, p, swapped)
    assert measured_content(tree)["headline"] == f"{said}, on speakers that n may know"
    tree["models"][0]["trained_on"] = ["small"]
    assert measured_content(tree)["headline"] == f"{said}, on speakers that both may know"
    for model in tree["models"]:
        model["trained_on"] = []
    assert measured_content(tree)["headline"] == said


def test_two_bundles_stand_side_by_side(tmp_path: Path) -> None:
    text = page_of(two(), tmp_path)
    found = measured_content(two())
    assert [row.cells[0].text for row in found["differences"].rows] == ["UAR", "Macro-F1"]
    first = [cell.text for cell in found["differences"].rows[0].cells]
    assert first == ["UAR", "0.610", "0.500", "+0.110", "0.004", "0.010", "0.080", "better"]
    assert [row.cells[0].text for row in found["numbers"].rows] == ["m", "n"]
    assert [column.title for column in found["classes"].columns][-2:] == ["Recall of n", "F1 of n"]
    assert text.index("Confusion matrix, m.") < text.index("Confusion matrix, n.")
    assert "Recall by class of m and n: anger 0.60, 0.50" in text
    assert "n: trained on small too: it may know these speakers." in text
    assert "m: trained on" not in text
    assert {f.stem for f in (tmp_path / "figures").iterdir()} == {
        "confusion", "confusion_beside", "classes", "reliability", "differences", "slices", "slices_beside",
    }  # fmt: skip
    write_measured(tmp_path, one())
    assert {f.stem for f in (tmp_path / "figures").iterdir()} == {"confusion", "classes", "reliability", "slices"}


def test_sets_attributes_votes_and_further_metrics_have_their_place(tmp_path: Path) -> None:
    tree = one()
    by_class = {label: {"held": 0.8, "size": 1.25, "n": 20} for label in LABELS}
    tree["models"][0]["sets"] = {
        "coverage": 0.9, "held": metric(0.88), "size": metric(1.5), "alone": 0.41, "by_class": by_class,
        "by_speaker": {"mean": 0.87, "low": 0.7},
    }  # fmt: skip
    tree["models"][0]["metrics"] |= {"ccc": metric(0.41), "ccc_arousal": metric(0.52), "kl": metric(0.77)}
    tree["models"][0]["metrics"]["of_my_own"] = metric(0.33)
    found = measured_content(tree)
    assert [row.cells[0].text for row in found["sets"][0].rows] == ["all", *LABELS]
    assert [cell.text for cell in found["sets"][0].rows[0].cells] == ["all", "0.880", "1.50", "60"]
    assert "41% of the sets have one class." in found["sets"][0].notes[1]
    assert [c.title for c in found["attributes"].columns] == ["Model", "Arousal", "Mean CCC"]
    assert [cell.text for cell in found["votes"].rows[0].cells][1:] == ["0.770", "lower"]
    assert [c.title for c in found["numbers"].columns][-2:] == ["ECE", "of my own"]
    text = page_of(tree, tmp_path)
    assert "Sets at 0.9 hold the true class for 0.880 [0.830, 0.930] of the recordings" in text
    assert all(section in text for section in ('id="attributes"', "Closeness to the raters&#39; votes", "0.330"))


def poisoned(value: Any) -> Any:
    if isinstance(value, dict):
        return {k if k.islower() else f"{k}<b>|": poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return f"{value}<script>x</script>|[a](javascript:x)\u202e" if isinstance(value, str) else value


@pytest.mark.parametrize("make", [one, two, lambda: streamed(two())])
def test_no_text_is_markup_and_the_page_is_whole(make: Any, tmp_path: Path) -> None:
    tree = under(make())
    tree["models"][0] |= {"failed": {"A": "reason"}, "left_out": {"of 'calm'": 2}, "trained_on": ["small"]}
    keys = ("system", "failed", "left_out", "trained_on", "mistakes", "answered_by")
    for m in tree["models"]:
        m |= {k: poisoned(m[k]) for k in keys}
        m["provenance"]["corpus"] = poisoned("small")
        m["slices"] = {"<i>accent</i>": {"<b>north</b>": m["slices"]["gender"]["female"]}}
    tree["under"][0]["condition"] = poisoned("8khz")
    text = write_measured(tmp_path, tree).read_text(encoding="utf-8")
    assert "i" not in Page(text, ["conditions.html"]).tags
    assert "\u202e" not in text
    check_drawings(tmp_path)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in lines.replace("\\<", "")
    assert re.findall(r"(?<!\\)\]\(([^)]+)\)", lines)[0] == "conditions.md"
    assert all(a.startswith(("figures/", "conditions.md")) for a in re.findall(r"(?<!\\)\]\(([^)]+)\)", lines))
    assert check_tables(lines) > 0


@pytest.mark.parametrize("make", [one, two, lambda: streamed(two())])
def test_the_same_numbers_are_the_same_bytes_from_memory_and_from_disk(make: Any, tmp_path: Path) -> None:
    tree = make()
    kept = copy.deepcopy(tree)
    tree["models"][0]["confusion"] = tuple(tuple(row) for row in tree["models"][0]["confusion"])
    tree["models"][0]["reliability"] = tuple(tree["models"][0]["reliability"])
    write_measured(tmp_path / "a", tree)
    write_measured(tmp_path / "b", json.loads(json.dumps(kept)))
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(files) > 5
    for f in files:
        assert (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes(), f
    assert "Reliability diagram" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "missing",
    [
        "mistakes", "gaps", "slices", "reliability", "confusion", "per_class", "confidence", "abstained", "answered_by",
        "left_out", "failed", "trained_on", "provenance",
    ],
)  # fmt: skip
def test_a_part_that_an_earlier_report_has_not_is_left_out(missing: str, tmp_path: Path) -> None:
    for tree in (one(), two()):
        for m in tree["models"]:
            del m[missing]
        if missing == "provenance":
            del tree["provenance"]
        Page(write_measured(tmp_path, tree).read_text(encoding="utf-8"))
        assert ("Where it fails" in (tmp_path / "report.md").read_text(encoding="utf-8")) == (missing != "mistakes")


def test_numbers_that_are_none_become_dashes(tmp_path: Path) -> None:
    tree = two()
    for m in tree["models"]:
        m["metrics"]["uar"]["value"] = float("nan")
    tree["differences"] = []
    text = page_of(tree, tmp_path)
    assert "<h1>m is not distinguishable from n: UAR – against –, on speakers that n may know</h1>" in text
    assert not re.search(r"\bnan\b", text)


def test_the_page_and_the_one_of_conditions_name_each_other(tmp_path: Path) -> None:
    tree = under(two())
    text, other = page_of(tree, tmp_path), write_conditions(tmp_path, tree).read_text(encoding="utf-8")
    assert 'Under conditions: m: UAR 0.610 unchanged, 0.410 under 8khz. All of them: <a href="conditions.html">' in text
    assert '<a href="report.html">' in other
    assert "conditions.html" not in page_of(two(), tmp_path / "without")
    assert "[report.md](report.md)" in (tmp_path / "conditions.md").read_text(encoding="utf-8")


def test_a_page_of_conditions_does_not_stay_beside_numbers_of_another_command(tmp_path: Path) -> None:
    tree = under(two())
    write_conditions(tmp_path, tree)
    page_of(tree, tmp_path)
    assert (tmp_path / "conditions.html").is_file()
    page_of(two(), tmp_path)
    assert not list(tmp_path.rglob("conditions.*"))


def test_bundles_that_differ_in_their_hash_alone_are_told_apart_in_drawings(tmp_path: Path) -> None:
    tree = two()
    for m, system in zip(tree["models"], ("a-long-name-adapted@87a05ff8", "a-long-name-adapted@2ce5c84d"), strict=True):
        m["system"] = system
    figure = measured_content(tree)["figures"]["classes"]
    for drawing in (*figure.wide, *figure.narrow):
        names = re.findall(r'y="14"[^>]*>([^<]+)<', str(drawing.inline))
        assert names == ["a-long-name-a…@87a05", "a-long-name-a…@2ce5c"]


def test_more_failures_than_a_page_holds_are_counted() -> None:
    table = measured_content(one(failed={f"clip{k}": "no sound" for k in range(60)}))["failed"]
    assert len(table.rows) == 50
    assert table.notes == ("And 10 more: see “failed” in report.json.",)


@pytest.mark.slow
@pytest.mark.parametrize("make", [one, two, lambda: streamed(two())])
def test_a_browser_shows_it_without_errors(make: Any, tmp_path: Path) -> None:
    write_measured(tmp_path, make())
    assert "<title>width 380 h1 1 narrow none</title>" in in_browser(tmp_path)


def streamed(tree: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The same, and what streams showed."""
    spread = {"p50": 0.55, "p90": 1.2, "p95": 1.61, "p99": 3.0, "largest": 4.0, "n": 55}
    row = {
        "n": 60, "waiting": 0, "running": 40, "ended": 20, "right_running": 0.45, "as_final": 0.8, "confidence": 0.6,
        "unsure": 0.25,
    }  # fmt: skip
    found = []
    for m in tree["models"]:
        early = {k: metric(0.5) for k in ("uar", "accuracy", "macro_f1")}
        heard = [
            {**row, "after_s": 0.5, "metrics": None, "n": 0, "waiting": 60, "running": 60, "ended": 0,
             "right_running": None, "as_final": None, "unsure": None},
            {**row, "after_s": 1.0, "metrics": early | {"uar": {**early["uar"], "speakers": 4}}},
            {**row, "after_s": 2.0, "metrics": early},
            {**row, "after_s": 5.0, "metrics": numbers(0.6), "running": 0, "ended": 60, "right_running": None},
            {**row, "after_s": None, "metrics": numbers(0.6), "running": 0, "ended": 60, "right_running": None},
        ]  # fmt: skip
        changes = {
            "each": metric(1.25), "none": metric(0.4), "per_minute": 21.4, "at_end": 4, "first_is_final": metric(0.7),
            "n": 55, "silent": 5, "stable_s": spread,
        }  # fmt: skip
        run = {
            **{f"{k}_ms": spread for k in ("chunk", "end", "chunk_processor", "end_processor")}, "answering_ms": None,
            "answering_processor_ms": None, "real_time_factor": 0.0312, "processor_per_s": 0.02,
            "processor": "A <b>Chip</b>", "cores": 2, "processes": 2,
        }  # fmt: skip
        found.append({
            "system": m["system"], "chunk_s": 0.1, "partial_s": 0.5, "n": 60, "audio_s": 200.0, "speech_s": 120.0,
            "heard": heard, "changes": changes, "first_s": {"audio": spread, "speech": spread},
            "finals": {"n": 60, "other": 0, "beyond": 0, "largest": 0.0, "tolerance": 1e-5}, "failed": {},
            "reads": False, "run": run, **more,
        })  # fmt: skip
    return {**tree, "streamed": found}


def test_what_streams_showed_has_a_section_and_a_figure(tmp_path: Path) -> None:
    text = page_of(streamed(one()), tmp_path)
    for expected in (
        '<a href="#streamed">Answers of a stream</a>',
        "The label changes 1.25 times a recording [1.20, 1.30], 21.4 per minute of speech; it never changes in 40% of",
        "The first label is that of the end in 70% [65%, 75%] of 55 recordings with an answer before the end; in 4",
        "5 recordings had no answer before the end.",
        "Of 60 answers at the end, 0 differ from the file&#39;s (0 by the label)",
        "60 recordings in chunks of 0.1 s, an answer after every 0.5 s of speech",
        "A &lt;b&gt;Chip&lt;/b&gt;, 2 cores, 2 processes at once",
        "count with their answer for the whole",
        "n = 60, 6 speakers; in earlier rows of 4 speakers or more.",
        "p50 0.6, p95 1.6, p99 3.0 ms (n = 55); of processor time p50 0.6,",
        "0.031 by the clock, 0.020 of processor",
    ):  # fmt: skip
        assert expected in text, expected
    drawing = (tmp_path / "figures" / "streamed.svg").read_text(encoding="utf-8")
    assert drawing.count("<circle") + drawing.count('class="mark stack"') == 3, "two moments with answers, and the end"
    assert "1 s: 0.500 [0.450, 0.550], n = 60" in drawing
    assert "5 s: " not in drawing, "every recording has ended by then"
    assert ">5 s<" in text
    ElementTree.fromstring(drawing)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Answers of a stream" in markdown
    assert r"| 1 s | 0.500 \[0.450, 0.550\] |" in markdown
    two_of_them = streamed(two())
    write_measured(tmp_path, two_of_them)
    both = (tmp_path / "figures" / "streamed.svg").read_text(encoding="utf-8")
    assert both.count('class="mark best"') == 4
    assert [part["table"].key for part in measured_content(two_of_them)["streamed"]] == ["streamed-0", "streamed-1"]
    assert page_of(one(), tmp_path).count("streamed") == 0
    assert not (tmp_path / "figures" / "streamed.svg").exists()


def test_streams_that_end_otherwise_or_read_or_fail_are_cautioned_of() -> None:
    wrong = {"n": 60, "other": 1, "beyond": 2, "largest": 0.01, "tolerance": 1e-5}
    found = measured_content(streamed(one(), finals=wrong, reads=True, failed={"s3": "it broke"}))
    assert (
        "m@12: a stream ends with another answer than the file's for 2 of 60 recordings: the two must be the same."
        in (found["cautions"])
    )
    assert any("its streams had the whole text from the begin" in line for line in found["cautions"])
    assert [cell.text for cell in found["failed"].rows[0].cells] == ["s3", "in a stream: it broke"]
