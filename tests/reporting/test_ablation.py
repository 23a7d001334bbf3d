"""The page of an ablation: sentences follow from numbers, nothing is claimed that they do not show."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from serkit.errors import SerkitError
from serkit.reporting import write_ablation
from serkit.reporting.ablation_words import claim, headline, outcomes, sentences

from .example import LABELS, Page, check_drawings, check_tables
from .example import report as example_report

ROUGH = "95% paired speaker and seed bootstrap (500 draws, 3 seeds), rough: 6 speakers"


def values(mean: float, seeds: int = 3) -> dict[str, Any]:
    each = [mean + 0.01 * (k - 1) for k in range(seeds)] if seeds > 1 else [mean]
    m = {"mean": mean, "sd": 0.01 if seeds > 1 else None, "by_seed": each, "n": 60, "speakers": 6}
    return {s: dict.fromkeys(("uar", "macro_f1", "accuracy"), m) for s in ("dev", "test")}


def differences(low: float, high: float, p: float, swapped: float, speakers: int) -> dict[str, Any]:
    d = {
        "metric": "uar", "a": "full", "b": "x", "value_a": 0.6, "value_b": 0.6 - (low + high) / 2,
        "difference": (low + high) / 2, "low": low, "high": high, "p": p, "p_permutation": swapped, "p_mcnemar": None,
        "p_holm": min(1.0, 2 * p), "detectable": 0.08, "n": 60, "speakers": speakers, "interval": ROUGH,
        "by_seed": [low, (low + high) / 2, high],
    }  # fmt: skip
    return {s: dict.fromkeys(("uar", "macro_f1", "accuracy"), d) for s in ("dev", "test")}


def variant(key: str, over: str, title: str, part: str, instead: str = "", **numbers: float) -> dict[str, Any]:
    found = {"low": -0.02, "high": 0.04, "p": 0.5, "swapped": 0.5, "speakers": 6, **numbers}
    return {
        "key": key, "over": over, "title": title, "part": part, "instead": instead, "losses": ["kl_soft"],
        "augment": [], "model": {"name": "flam"}, "epochs": 8, "fingerprint": key,
        "values": values(0.6 - (found["low"] + found["high"]) / 2), "differences": differences(**found),  # type: ignore[arg-type]
    }  # fmt: skip


def ablation() -> dict[str, Any]:
    """A whole ablation.json."""
    full = {**variant("full", "full", "full recipe", ""), "differences": {}, "losses": ["kl_soft", "focal"]}
    rows = [{"epoch": k, "loss": 2 / k, "loss_kl_soft": 1 / k, "loss_focal": 0.5 / k, "scaled_kl_soft": 1 / k,
             "scaled_focal": 0.4, "dev_macro_f1": 0.1 * k, "dev_cross_entropy": 1.6} for k in (1, 2, 3)]  # fmt: skip
    sure = {"low": 0.03, "high": 0.09, "p": 0.002, "swapped": 0.01}
    variants = [
        full,
        variant("without-focal", "losses", "without focal", "focal", **sure),
        variant("without-center_loss", "losses", "without center_loss", "center_loss", low=-0.09, high=-0.03, p=0.002,
                swapped=0.01),
        variant("lam-for-eam", "augment", "LAM instead of EAM", "EAM", "LAM", **{**sure, "swapped": 0.2}),
        variant("mean-pooling", "pooling", "mean pooling instead of FLAM", "FLAM", "mean pooling"),
        variant("plain", "plain", "plain: all of it off", "all of it together", **sure),
    ]  # fmt: skip
    base = example_report()
    return {
        "format": 1, "name": "two", "description": "", "corpus": "small", "labels": LABELS, "system": "net",
        "over": ["losses", "augment", "pooling"], "left_out": ["without kl_soft: nothing would train the classifier"],
        "seeds": [7, 8, 9], "folds": [1], "quick": None, "draws": 500, "variants": variants,
        "curves": {v["key"]: {"seed7": rows, "seed8": rows[:2]} for v in variants},
        "counts": base["counts"], "speakers": base["speakers"], "provenance": base["provenance"],
    }  # fmt: skip


def write(tree: dict[str, Any], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablation.json").write_text(json.dumps(tree), encoding="utf-8")
    return write_ablation(folder).read_text(encoding="utf-8")


def test_headline_and_sentences_say_what_the_numbers_show() -> None:
    tree = ablation()
    assert outcomes(tree) == {
        "without-focal": "better", "without-center_loss": "worse", "lam-for-eam": "leaning+", "mean-pooling": "open",
        "plain": "better",
    }  # fmt: skip
    assert headline(tree) == (
        "On test, by UAR, focal helps, center_loss harms and all of it together helps; 2 other changes: nothing shown."
    )
    lines = sentences(tree)
    assert lines[0].startswith(
        "focal helps: UAR 0.600 against 0.540 (without focal), difference +0.060 [+0.030, +0.090]"
    )
    assert lines[1].startswith("center_loss harms: ")
    assert lines[3].startswith("EAM seems better than LAM, not certain: ")
    assert "permuted p\u00a0=\u00a00.200" in lines[3]
    assert lines[4].startswith("FLAM and mean pooling are not distinguishable: ")
    assert lines[4].endswith("under 0.080 a difference would often be missed.")


@pytest.mark.parametrize(
    ("part", "instead", "result", "said"),
    [
        ("focal", "", "better", "focal helps"),
        ("focal", "", "open", "focal is not shown to matter"),
        ("focal", "", "leaning-", "focal seems to harm"),
        ("the other losses (a, b)", "", "better", "the other losses (a, b) help"),
        ("the other losses (a, b)", "", "open", "the other losses (a, b) are not shown to matter"),
        ("the other losses (a, b)", "", "leaning+", "the other losses (a, b) seem to help"),
        ("EAM", "LAM", "worse", "EAM is worse than LAM"),
        ("EAM", "LAM", "leaning-", "EAM seems worse than LAM"),
    ],
)
def test_claims(part: str, instead: str, result: str, said: str) -> None:
    assert claim({"part": part, "instead": instead}, result) == said


def test_nothing_shown_is_said_and_two_speakers_show_nothing(tmp_path: Path) -> None:
    tree = ablation()
    tree["variants"] = [tree["variants"][0], variant("x", "losses", "without focal", "focal", low=0.03, high=0.09,
                                                     p=0.002, swapped=0.5, speakers=2)]  # fmt: skip
    text = write(tree, tmp_path)
    assert "<h1>On test, by UAR, no part of two is shown to help or to harm.</h1>" in text
    assert "focal seems to help, not certain" in text
    assert "too few speakers: with 2 on test the permutation test cannot go below about 0.50" in text
    assert "--fold all" in text
    tree["provenance"]["corpus_info"]["folds"] = 1
    assert "--fold all" not in write(tree, tmp_path), "a protocol of one fold has no others to pool"


def test_of_more_variants_than_the_draws_can_tell_apart_it_is_said(tmp_path: Path) -> None:
    tree = ablation()
    least = 2 * (len(tree["variants"]) - 1) / (tree["draws"] + 1)
    assert least < 0.05
    assert "no p Holm is below" not in write(tree, tmp_path / "enough")
    few = write({**tree, "draws": 60}, tmp_path / "few")
    assert f"with 60 draws and {len(tree['variants']) - 1} variants no p Holm is below" in few


def test_page_is_well_formed_with_everything_asked_for(tmp_path: Path) -> None:
    text = write(ablation(), tmp_path)
    Page(text)
    for said in ("pigeonhole", "Owen 2007", "0.080 would leave out zero four times in five (with few speakers, less",
                 "± 0.010 over 3 seeds", "Not trained:",
                 "rough intervals: 6 speakers", "partial copy"):  # fmt: skip
        assert said in text, said
    check_drawings(tmp_path, {"differences", "seeds", "curves", "components"})
    components = (tmp_path / "figures" / "components.svg").read_text(encoding="utf-8")
    assert "kl_soft 1.000 to 0.500" in components  # as far as both seeds go
    assert "added to the sum" in components
    markdown = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    assert check_tables(markdown) > 0
    assert "# two on small, ablation" in markdown.splitlines()


def test_one_seed_and_a_quick_look_are_said(tmp_path: Path) -> None:
    tree = ablation()
    tree["seeds"], tree["quick"] = [7], {"epochs": 8, "of": 40}
    for v in tree["variants"]:
        v["values"] = values(0.6, seeds=1)
    text = write(tree, tmp_path)
    assert "quick look: 8 epochs instead of 40, 1 seed" in text
    assert "one seed: intervals hold for these networks" in text
    assert headline(tree).endswith("no part of two is shown to help or to harm: none can be by one training of each.")
    assert set(outcomes(tree).values()) <= {"leaning+", "leaning-", "open"}
    assert "±" not in text.split("<h2>Method")[0].split("</header>")[0]


def test_no_text_is_markup_and_same_json_same_bytes(tmp_path: Path) -> None:
    tree = ablation()
    tree["name"] = "<script>alert(1)</script>"
    tree["variants"][1]["title"] = "<img src=x onerror=1>"
    text = write(tree, tmp_path / "a")
    Page(text)
    assert write(copy.deepcopy(tree), tmp_path / "b") == text


def test_dev_leads_where_test_has_no_labels(tmp_path: Path) -> None:
    tree = ablation()
    for v in tree["variants"]:
        v["values"].pop("test")
        v["differences"].pop("test", None)
    text = write(tree, tmp_path)
    assert "<h1>On dev, by UAR, " in text
    assert "on which checkpoints were chosen" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no ablation.json"),
        ("{", "is no JSON"),
        ('{"format": 9}', "expected an ablation of format 1, got 9"),
        ('{"format": 1}', "'name' is missing"),
    ],
)
def test_what_is_no_ablation_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ablation.json").write_text(content, encoding="utf-8")
    with pytest.raises(SerkitError, match=said):
        write_ablation(tmp_path)


def test_the_data_of_an_ablation_are_told_as_those_of_a_run(tmp_path: Path) -> None:
    tree = {**ablation(), "folds": [1, 3], "unlabelled": {"train": 5, "dev": 0, "test": 2}}
    (tmp_path / "ablation.json").write_text(json.dumps(tree), encoding="utf-8")
    write_ablation(tmp_path)
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    assert "folds 1, 3 of 3 pooled" in text
    assert "Counts that differ from published ones" in text
    assert "| clips without a label | 5 | 0 | 2 |" in text
    assert "Labels dropped: surprise (4 clips)." in text
    assert "Total" not in text


def by_kl() -> dict[str, Any]:
    """The same ablation led by the KL divergence; by UAR the order is another."""
    tree = ablation() | {"metric": "kl"}
    for v in tree["variants"]:
        for s in ("dev", "test"):
            mean = 0.5 if v["key"] == "full" else 0.5 + v["differences"][s]["uar"]["difference"]
            v["values"][s] = {**v["values"][s], "kl": values(mean)[s]["uar"]}
            if v["differences"]:
                d = v["differences"][s]["uar"]
                unsure = {**d, "low": -0.1, "high": 0.1, "difference": 0.0}
                v["differences"][s] = dict.fromkeys(("uar", "macro_f1", "accuracy"), unsure)
                v["differences"][s]["kl"] = {**d, "metric": "kl", "value_a": 0.5, "value_b": mean}
    return tree


def test_the_metric_of_the_recipe_leads(tmp_path: Path) -> None:
    tree = by_kl()
    assert headline(tree) == (
        "On test, by KL divergence, focal helps, center_loss harms and all of it together helps; 2 other changes: "
        "nothing shown."
    )
    assert sentences(tree)[0].startswith(
        "focal helps: KL divergence 0.500 against 0.560 (without focal), nearer by +0.060 [+0.030, +0.090]"
    )
    text = write(tree, tmp_path)
    Page(text)
    assert "KL divergence of the variant minus the full recipe, test" in text
    assert "KL divergence on test: each variant minus the full recipe" in text
    assert text.index("KL divergence on test: each") < text.index("UAR on test: the full recipe minus each variant")
    assert "The full recipe reaches a KL divergence of 0.500" in text
    assert "its differences are the variant minus the full recipe" in text
    assert headline(tree | {"metric": "uar"}) == "On test, by UAR, no part of two is shown to help or to harm."
    assert headline(ablation()).startswith("On test, by UAR,"), "as an earlier serkit left it"
