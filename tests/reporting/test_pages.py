"""The pages: everything asked for is there, well formed, the same each time, and no text is trusted."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from serkit.errors import SerkitError
from serkit.reporting import write_report
from serkit.reporting.figures import ClassScore, class_bars
from serkit.reporting.pages import markdown_text, tex_text
from serkit.reporting.reading import Source
from serkit.reporting.svg import digits_of, element, ticks

from .example import (
    VALUES,
    Page,
    check_drawings,
    check_tables,
    details,
    difference,
    gap,
    in_browser,
    numbers,
    report,
    write,
)


def test_page_is_well_formed_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    text = write(report(), tmp_path)
    page = Page(text)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert page.tags.count("svg") > 6


def test_every_figure_says_what_it_shows_and_is_a_file(tmp_path: Path) -> None:
    text = write(report(), tmp_path)
    assert len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', text)) == text.count("<svg")
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert names == {
        "forest", "differences", "confusion_stack", "confusion_best", "classes", "slices", "curves", "reliability",
    }  # fmt: skip
    for file in (tmp_path / "figures").iterdir():
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root[0].text
        assert "prefers-color-scheme: dark" in file.read_text(encoding="utf-8")


def test_headline_names_what_is_won_and_what_is_not(tmp_path: Path) -> None:
    text = write(report(), tmp_path)
    won = "On test, the stack beats the best single system and the mean logit, but is not shown to beat the"
    assert f"<h1>{won} majority vote.</h1>" in text
    assert "0.610 [0.560, 0.660] on test: 60 utterances of 6 speakers" in text
    assert "+0.110 [+0.050, +0.170]" in text
    assert "Out of fold the logistic stack was ahead" in text
    assert "The stack is the published random forest: it is not shown to beat every simpler choice." in text
    assert "rough intervals: 6 speakers on test" in text
    assert "partial copy" in text
    assert "speakers shared:" not in text


def test_table_of_the_paper_and_its_bold_numbers(tmp_path: Path) -> None:
    write(report(), tmp_path)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| stack (random forest)"))
    assert "**0.610**" in row
    assert row.count("**") == 12
    single = next(line for line in lines if line.startswith(r"| voice\_neutral"))
    assert "neutral" in single.split("|")[3]
    assert r"0.390 \[0.340, 0.440\]" in single
    assert not any(line.startswith("| random forest") for line in lines)
    tex = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert r"\textbf{0.610}" in tex
    assert tex.count(r"\\") == 1 + 6
    assert r"voice\_text" in tex


def test_markdown_tables_are_rectangular(tmp_path: Path) -> None:
    write(report(), tmp_path)
    assert check_tables((tmp_path / "report.md").read_text(encoding="utf-8")) > 10


def test_everything_asked_for_is_on_the_page(tmp_path: Path) -> None:
    text = re.sub(r"<wbr>", "", write(report(), tmp_path))
    for expected in (
        "small-3fold", "fold 1 of 3", "audio/s1_a.wav", "aaaa1111", "cccc3333", "dddd4444", "Apache-2.0",
        "stands in for the encoder of the paper", "calm -&gt; neutral (12 clips)", "surprise (4 clips)", "its paper",
        "15 per class", "0.123", "neutral (5 of 20)", "below 2.00 s", "Detectable", "p Holm", "2026-01-01",
    ):  # fmt: skip
        assert expected in text, expected


def test_gaps_between_groups_are_said_in_words(tmp_path: Path) -> None:
    tree = report()
    text = re.sub(r"<wbr>|</?bdi>", "", write(tree, tmp_path))
    for expected in (
        "UAR is 0.200 [+0.100, +0.300] higher for male (0.700) than for female (0.500). That is more than chance "
        "explains (p Holm 0.004).",
        "Recall differs more than chance explains: anger: male 0.70, female 0.50 (gap [+0.10, +0.30], p Holm 0.004).",
        "Gaps leave out sadness: not every group has enough of these clips.",
        "Not compared: other (2 clips, fewer than 30).",
        "1 speaker with clips in several groups: counted in each of them.",
        "No gap was measured: fewer than two groups are large enough to be compared.",
        "Not compared: from 4.00 s (3 speakers, fewer than 5).",
        "not compared: 2 clips, fewer than 30",
        "gap 0.200 [+0.100, +0.300], larger than chance",
        "equal opportunity", "demographic parity", "Macro-F1 and the share of answers do.", "Detectable in UAR: 0.090",
        "Open dots with dotted bars: too few clips or speakers to be compared.", 'class="mark few"',
    ):  # fmt: skip
        assert expected in text, expected
    open_ = gap("female", "male", -0.05, 0.11, 0.4)
    tree["gaps"]["stack"]["test"]["gender"]["metrics"]["uar"] = {**open_, "values": {**open_["values"], "other": 0.51}}
    text = write(tree, tmp_path / "open")
    assert "Of 3 groups, these are farthest apart: UAR is 0.030" in text
    assert "Chance can explain it (p Holm 0.400). A true gap of less than 0.090 would often be missed." in text
    tree["gaps"]["stack"]["test"]["gender"]["metrics"]["uar"] = gap("female", "male", 0.01, 0.11, 0.2)
    assert "The interval and the test (p Holm 0.200) disagree" in write(tree, tmp_path / "leaning")
    del tree["gaps"]
    text = write(tree, tmp_path / "old")
    assert "By group" in text
    assert "equal opportunity" not in text, "an earlier report has no gaps"


HOSTILE = '</title></style><script>alert(1)</script><img src=x onerror="alert(1)">&{{ 7*7 }}|\\input{x}\x00\ud800\u202e'


def poison(value: Any) -> Any:
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        keys = {"label_map", "mapped", "dropped", "features", "versions", "run", "gender", "values", "left_out"}
        return {k: {c + HOSTILE: poison(v) for c, v in x.items()} if k in keys and isinstance(x, dict) else poison(x)
                for k, x in value.items()}  # fmt: skip
    return [poison(v) for v in value] if isinstance(value, list) else value


def test_no_text_of_the_report_is_markup(tmp_path: Path) -> None:
    tree = poison(report())
    for key in ("systems", "details", "scaled", "design", "curves", "counts"):
        tree[key] = {(k if k in ("stack", "train", "dev", "test") else k + HOSTILE): v for k, v in tree[key].items()}
    for split in tree["counts"].values():
        split.update({k + HOSTILE: split.pop(k) for k in list(split)})
    tree["stack"]["kept"] = "random_forest"
    for row in tree["comparisons"]:
        row.update(split="test", metric="macro_f1")
    text = write(tree, tmp_path)
    Page(text)
    assert "{{ 7*7 }}" in text
    assert "\x00" not in text
    assert "\u202e" not in text
    check_drawings(tmp_path)
    marked = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", marked)
    tex = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert r"\input" not in tex


def test_losses_of_a_system_are_drawn_by_name_where_there_are_several(tmp_path: Path) -> None:
    tree = report()
    several = [{"loss_focal": 4.0 / k, "loss_supcon": 3.0, "scaled_focal": 1.0 / k, "scaled_supcon": 0.5}
               for k in (1, 2, 3)]  # fmt: skip
    rows = tree["curves"]["voice_text"]["fold0"]
    tree["curves"]["voice_text"] = {"fold0": [{**row, **more} for row, more in zip(rows, several, strict=True)]}
    text = write(tree, tmp_path)
    assert "The losses, one by one" in text
    file = (tmp_path / "figures" / "components.svg").read_text(encoding="utf-8")
    assert file.count("<title>focal: ") == 2  # what it adds, and as it came
    assert "Losses of voice_text by epoch, added to the sum: focal 1.000 to 0.333, supcon 0.500 to 0.500" in file
    assert "Losses of voice_neutral" not in file
    assert "components.svg" in (tmp_path / "report.md").read_text(encoding="utf-8")
    write(report(), tmp_path)
    assert not (tmp_path / "figures" / "components.svg").exists()


def test_how_sure_answers_are_is_drawn_before_and_after_scaling(tmp_path: Path) -> None:
    text = write(report(), tmp_path)
    file = (tmp_path / "figures" / "reliability.svg").read_text(encoding="utf-8")
    assert "stack (random forest), uncalibrated: ECE 0.123 [0.073, 0.173], 60 answers" in file
    assert "stack (random forest), scaled: ECE 0.050 [0.000, 0.100], 60 answers" in file
    assert "voice_text, uncalibrated" in file
    assert "<title>confidence 0.84: 0.60 right of 30 clips, [0.50, 0.70]</title>" in file
    assert file.count("<circle") == 6
    assert "Scaled: temperature 1.50, fitted on dev." in text
    assert "reliability.svg" in (tmp_path / "report.md").read_text(encoding="utf-8")
    tree = report()
    tree["details"]["stack"]["test"]["reliability"] = [{"from": 0.1}, "no row", {"n": float("nan")}]
    tree["scaled"]["stack"]["test"] = None
    tree["details"]["voice_text"]["test"]["reliability"] = 7
    assert "Reliability on" not in write(tree, tmp_path)
    assert not (tmp_path / "figures" / "reliability.svg").exists()


def test_same_report_same_bytes(tmp_path: Path) -> None:
    write(report(), tmp_path / "a")
    write(report(), tmp_path / "b")
    names = sorted(str(f.relative_to(tmp_path / "a")) for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(names) == 12
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


OPTIONAL = (
    "description", "details", "scaled", "design", "curves", "comparisons", "stack", "mistakes", "counts", "speakers",
    "provenance",
)  # fmt: skip


@pytest.mark.parametrize("missing", [*OPTIONAL, "all"])
def test_a_part_that_is_absent_is_left_out(tmp_path: Path, missing: str) -> None:
    tree = report()
    for key in OPTIONAL if missing == "all" else [missing]:
        del tree[key]
    page = Page(write(tree, tmp_path))
    assert ("curves" in page.ids) == ("curves" in tree)
    assert (tmp_path / "figures" / "curves.svg").is_file() == ("curves" in tree)


def test_one_system_without_stack_and_test_labels(tmp_path: Path) -> None:
    tree = report()
    tree["systems"] = {"voice_text": {"dev": numbers(0.5)}}
    tree["details"] = {"voice_text": {"dev": details(0.5)}}
    tree["mistakes"] = {"system": "voice_text", "split": "dev", "rows": []}
    tree.update(comparisons=[], stack={})
    text = write(tree, tmp_path)
    assert "<h1>On dev, voice_text reaches a Macro-F1 of 0.500.</h1>" in text
    assert "numbers on dev, on which models were chosen, so they are optimistic" in text
    tree["provenance"]["recipe"] = {"systems": {"a": {"train": {"select": "last"}}}, "crossfit": {"with_dev": True}}
    kept = write(tree, tmp_path)
    assert "on dev, where no epoch was chosen" in kept
    assert "each is scored by networks not trained on it" in kept.replace("&#39;", "'")
    assert "so they are optimistic" not in kept
    assert 'id="failures"' not in text
    assert '<tr class="best"' not in text, "of one system none is the best"
    assert '<tr class="best"' in write(report(), tmp_path / "several")
    assert not (tmp_path / "figures" / "confusion_best.svg").exists()
    assert not (tmp_path / "figures" / "differences.svg").exists()


def test_differences_of_the_forest_are_not_said_to_be_the_stacks(tmp_path: Path) -> None:
    """Where another stack was kept the forest is compared too: its rows name both sides, the figure has none."""
    tree = report()
    tree["stack"].update(kept="logistic", best_out_of_fold="logistic")
    tree["comparisons"] = [
        difference("vote", 0.05, 0.17, 0.004),
        {**difference("vote", -0.31, -0.21, 0.004), "a": "random_forest"},
    ]
    write(tree, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "−0.260" in line]
    assert rows
    assert all("orest against" in line for line in rows), rows
    assert "−0.26" not in (tmp_path / "figures" / "differences.svg").read_text(encoding="utf-8")


def test_it_leads_with_what_the_run_says() -> None:
    tree = report()
    tree.pop("lead", None)
    assert Source(tree).lead == "stack", "an earlier serkit did not say it"
    for said, found in (("vote", "vote"), ("elsewhere", "stack"), (["vote"], "stack")):
        assert Source(tree | {"lead": said}).lead == found


def test_without_a_stack_it_leads_with_the_mean_logit(tmp_path: Path) -> None:
    tree = report()
    for part in ("systems", "details"):
        tree[part] = {k: v for k, v in tree[part].items() if k not in ("stack", "random_forest", "logistic")}
    rows = [difference("voice_text", 0.05, 0.17, 0.004), difference("vote", -0.02, 0.11, 0.2)]
    tree.update(comparisons=[{**r, "a": "mean_logit"} for r in rows], stack={})
    text = write(tree, tmp_path)
    assert (
        "<h1>On test, the mean logit beats the best single system, but is not shown to beat the majority vote.</h1>"
        in text
    )
    assert "The mean logit reaches a Macro-F1 of 0.550 [0.500, 0.600] on test" in text
    assert "<h2>What the mean logit adds</h2>" in text
    assert "Mean logit against" in text
    assert "By class: mean logit on test" in text or "F1 of voice_text" in text
    assert 'tr class="lead"' in text
    assert 'tr class="stack"' not in text
    assert not re.search(r"\bthe stack\b", re.sub("<style>.*?</style>", "", text, flags=re.DOTALL))
    forest = (tmp_path / "figures" / "forest.svg").read_text(encoding="utf-8")
    assert 'class="mark lead"' in forest
    assert ">the answer<" in forest
    tree["comparisons"] = []  # as an earlier serkit wrote it
    assert "<h1>On test, the mean logit reaches a Macro-F1 of 0.550.</h1>" in write(tree, tmp_path)


@pytest.mark.parametrize("n_series", [1, 2])
def test_labels_of_classes_do_not_touch(n_series: int) -> None:
    rows = [ClassScore(f"class {k}", 20, (0.5,) * n_series) for k in range(9)]
    drawing = class_bars(rows, ["one", "other"][:n_series], alt="nine classes").body
    text = str(drawing)
    names = [float(y) for y in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>class \d', text)]
    clips = [float(y) for y in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>20 clips', text)]
    assert len(names) == len(clips) == 9
    assert all(b - a >= 13 for a, b in zip(names, clips, strict=True))
    assert all(b - a >= 18 for a, b in zip(clips, names[1:], strict=False))


def test_clips_without_a_label_are_counted(tmp_path: Path) -> None:
    tree = report()
    assert "without a label" not in write(tree, tmp_path / "none")
    tree["unlabelled"] = {"train": 29, "dev": 8, "test": 12}
    tree["provenance"]["corpus_info"]["label_map"]["X"] = None
    write(tree, tmp_path / "some")
    text = (tmp_path / "some" / "report.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| clips without a label")]
    assert [c.strip() for c in row.split("|")[2:-1]] == ["29", "8", "12", "49"]
    assert "X → no label" in text


def test_counts_of_pooled_folds_have_no_total(tmp_path: Path) -> None:
    tree = report()
    write(tree, tmp_path / "one")
    one = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert "| Class | train | dev | test | Total |" in one
    numbers_of = {name: {"accuracy": 0.6, "uar": 0.6, "macro_f1": 0.6} for name in VALUES}
    tree["folds"] = [{"fold": k, "speakers": [f"s{k}"], "systems": numbers_of} for k in (1, 3)]
    write(tree, tmp_path / "two")
    two = (tmp_path / "two" / "report.md").read_text(encoding="utf-8")
    assert "| Class | train | dev | test |" in two
    assert "Total" not in two
    assert "| fold | 1, 3 |" in two


def test_several_corpora_are_each_described(tmp_path: Path) -> None:
    tree = report()
    info = tree["provenance"]["corpus_info"]
    other = {**info, "protocol": "other-5fold", "notes": ["other note"]}
    tree["provenance"]["corpus_info"] = {"corpora": {"small": info, "other": other}}
    text = write(tree, tmp_path)
    assert "other-5fold" in text
    assert "other: other note" in text
    assert "small: partial copy" in text


def test_numbers_that_are_none_become_dashes(tmp_path: Path) -> None:
    tree = copy.deepcopy(report())
    tree["systems"]["vote"]["test"]["macro_f1"]["value"] = float("nan")
    tree["comparisons"][0].update(low=None, high=None, detectable=float("nan"))
    tree["mistakes"]["rows"][0]["duration_s"] = None
    text = write(tree, tmp_path)
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()
    assert "–" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no report.json"),
        ("{", "is no JSON"),
        ("[]", "format 1"),
        ('{"format": 9}', "got 9"),
        ('{"format": 1, "name": "x"}', "'corpus' is missing"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(SerkitError, match=re.escape(said)):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_ticks_cover_and_are_round() -> None:
    for low, high in ((0.0, 0.0), (0.31, 0.52), (-0.2, 0.3), (0.0, 1234.0)):
        found = ticks(low, high)
        assert found[0] <= low
        assert found[-1] >= high
        assert 2 <= len(found) <= 9


def test_ticks_are_labelled_as_they_are() -> None:
    for low, high in ((-0.094, 0.031), (0.31, 0.52), (-0.004, 0.003), (0.1, 0.9)):
        found = ticks(low, high)
        assert [float(f"{m:.{digits_of(found)}f}") for m in found] == pytest.approx(found, abs=1e-9)


def test_escaping_for_each_format() -> None:
    assert element("text", "<b>", x=1.0, title='"') == '<text x="1" title="&#34;">&lt;b&gt;</text>'
    assert markdown_text("[x](http://y) <i> a|b") == "\\[x\\](http:\u200b//y) \\<i\\> a\\|b"
    assert tex_text("{a}_\\ %") == r"\{a\}\_\textbackslash{} \%"


@pytest.mark.slow
def test_a_browser_shows_it_without_errors(tmp_path: Path) -> None:
    write(report(), tmp_path)
    assert "<title>width 380 h1 1 narrow none</title>" in in_browser(tmp_path)
