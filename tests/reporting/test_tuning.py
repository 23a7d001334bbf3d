"""The page of a search: what was chosen on dev is told as a choice, and only test says whether it is better."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from serkit.errors import SerkitError
from serkit.reporting import write_tuning
from serkit.reporting.tuning_words import headline, lead, ranked, sentences

from .example import LABELS, Page, check_drawings, check_tables
from .example import report as example_report

ROUGH = "95% paired speaker and seed bootstrap (500 draws, 2 seeds), rough: 6 speakers"
METRICS = ("macro_f1", "uar", "accuracy", "weighted_f1")


def values(mean: float) -> dict[str, Any]:
    m = {"mean": mean, "sd": 0.01, "by_seed": [mean - 0.007, mean + 0.007], "n": 60, "speakers": 6}
    return dict.fromkeys(METRICS, m)


def gap(low: float, high: float, p: float = 0.5, swapped: float = 0.5) -> dict[str, Any]:
    return {
        "metric": "macro_f1", "a": "x", "b": "y", "value_a": 0.6, "value_b": 0.6 - (low + high) / 2,
        "difference": (low + high) / 2, "low": low, "high": high, "p": p, "p_permutation": swapped, "p_mcnemar": None,
        "p_holm": min(1.0, 2 * p), "detectable": 0.08, "n": 60, "speakers": 6, "interval": ROUGH,
        "by_seed": [low, high],
    }  # fmt: skip


def trial(settings: dict[str, Any], mean: float, behind: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    title = ", ".join(f"{k} {v}" for k, v in settings.items()) or "the recipe as it is"
    key = ",".join(f"{k}={v}" for k, v in settings.items()) or "as-it-is"
    found = {"key": key, "title": title, "settings": settings, "tried": settings, "values": values(mean)}
    return {**found, "behind": behind, "fingerprint": key, **more}


def search(test: dict[str, Any] | None = None) -> dict[str, Any]:
    """A whole tuning.json: two keys of two values, the best ahead of one trial for sure."""
    sure = gap(0.03, 0.09, 0.002, 0.01)
    trials = [
        trial({}, 0.55, gap(-0.01, 0.11), tried={"train.lr": 0.01, "model.hidden": 8}),
        trial({"train.lr": 0.05, "model.hidden": 8}, 0.60, None),
        trial({"train.lr": 0.01, "model.hidden": 12}, 0.54, sure),
        trial({"train.lr": 0.05, "model.hidden": 12}, 0.58, gap(-0.02, 0.06)),
    ]
    base = example_report()
    tested = {"values": {"chosen": values(0.57), "as-it-is": values(0.56)}, "difference": test or gap(-0.03, 0.05)}
    return {
        "format": 1, "name": "two", "description": "", "corpus": "small", "labels": LABELS, "metric": "macro_f1",
        "keys": {"train.lr": [0.01, 0.05], "model.hidden": [8, 12]}, "combinations": 4, "drawn": 4,
        "left_out": ["model.hidden 0: expected at least 1"], "seeds": [7, 8], "folds": [1], "draws": 500,
        "trials": trials, "best": trials[1]["key"], "chosen": {"1": trials[1]["key"]}, "test": tested,
        "counts": base["counts"], "speakers": base["speakers"], "provenance": base["provenance"],
    }  # fmt: skip


def write(tree: dict[str, Any], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuning.json").write_text(json.dumps(tree), encoding="utf-8")
    return write_tuning(folder).read_text(encoding="utf-8")


def written(tree: dict[str, Any], folder: Path) -> str:
    write(tree, folder)
    return (folder / "tuning.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (gap(-0.03, 0.05), "is not shown to differ from the recipe as it is"),
        (gap(0.03, 0.09, 0.002, 0.01), "is better than the recipe as it is"),
        (gap(-0.09, -0.03, 0.002, 0.01), "is worse than the recipe as it is"),
        (gap(0.03, 0.09, 0.002, 0.2), "seems better than the recipe as it is, not certain"),
    ],
)
def test_test_alone_says_whether_the_choice_is_better(difference: dict[str, Any], said: str) -> None:
    assert headline(search(difference)) == f"On test, train.lr 0.05, model.hidden 8 {said}."


def test_p_on_test_is_the_larger_of_two_as_on_other_pages(tmp_path: Path) -> None:
    """Regression: the bootstrap's came first, where ``compare`` and the other pages begin with the larger."""
    page = written(search(gap(0.03, 0.09, 0.001, 0.2)), tmp_path)
    assert "p = 0.200 (bootstrap 0.002, permuted 0.200)" in page


def test_one_training_of_each_shows_nothing_for_certain() -> None:
    """Regression: with one seed, two networks of the same recipe could be called better and worse."""
    for low, high, word in ((0.03, 0.09, "better"), (-0.09, -0.03, "worse")):
        found = headline(search(gap(low, high, 0.002, 0.01)) | {"seeds": [7]})
        assert found.endswith(f" seems {word} than the recipe as it is, by one training of each.")


def test_what_the_choice_is_worth() -> None:
    tree = search()
    assert [t["values"]["macro_f1"]["mean"] for t in ranked(tree)] == [0.60, 0.58, 0.55, 0.54]
    assert lead(tree).startswith("Macro-F1 0.600 on dev, the highest of 4 trials with 2 seeds each (60 utterances of 6")
    assert lead(tree).endswith("0.570 on test (60 utterances of 6 speakers).")
    lines = sentences(tree)
    assert lines[0].startswith("1 of 3 other trials is behind the chosen one on dev by more than chance among speakers")
    assert lines[0].endswith("among speakers and seeds explains; 0 seem so, not certain; 2 are not shown to be worse.")
    assert "under 0.080 a difference would often be missed" in lines[1]
    assert len(lines) == 2
    tree["combinations"] = 40
    assert sentences(tree)[-1] == "4 of 40 combinations were drawn at random."


@pytest.mark.parametrize(("p", "swapped"), [(0.03, 0.01), (0.002, 0.5)])  # of many trials; of two speakers
def test_an_interval_alone_shows_no_trial_to_be_worse(p: float, swapped: float, tmp_path: Path) -> None:
    tree = search() | {"seeds": [7]}
    tree["trials"][2]["behind"] = gap(0.03, 0.09, p, swapped)
    assert sentences(tree)[0] == (
        "0 of 3 other trials are behind the chosen one on dev by more than chance among speakers explains; 1 seems so, "
        "not certain; 2 are not shown to be worse."
    )
    assert "<b>3</b><span>of 3 other trials not shown to be worse</span>" in write(tree, tmp_path)


def test_folds_may_all_choose_what_all_of_them_together_do_not(tmp_path: Path) -> None:
    other = "train.lr=0.05,model.hidden=12"
    tree = search() | {"folds": [1, 2], "chosen": {"1": other, "2": other}}
    assert headline(tree).startswith("On test, train.lr 0.05, model.hidden 12 is not shown to differ")
    assert "; 0.570 on test, train.lr 0.05, model.hidden 12 (60 utterances" in lead(tree)
    assert sentences(tree)[-1] == "By fold: 1: no. 2, 2: no. 2."
    assert "| train.lr 0.05, model.hidden 12 | 0.570" in written(tree, tmp_path / "a")
    tree["chosen"] = {"1": "as-it-is", "2": "as-it-is"}
    tree["test"] = {"values": {"chosen": values(0.56)}, "difference": None}
    assert headline(tree) == (
        "On dev of all folds, train.lr 0.05, model.hidden 8 is chosen, but each fold alone chooses the recipe as it is."
    )
    assert "| the recipe as it is | 0.560" in written(tree, tmp_path / "b")


def test_a_recipe_whose_own_value_was_not_tried_is_not_among_those_of_none(tmp_path: Path) -> None:
    tree = search() | {"keys": {"balance": [None, "class"], "x": [True, 1]}}
    tree["trials"][0]["tried"] = {}
    for t, balance, x in zip(tree["trials"][1:], (None, "class", None), (True, 1, 1), strict=True):
        t["tried"] = {"balance": balance, "x": x}
    write(tree, tmp_path)
    assert "balance null: 0.590" in (tmp_path / "figures" / "key-1.svg").read_text(encoding="utf-8")
    assert "x true: 0.600" in (tmp_path / "figures" / "key-2.svg").read_text(encoding="utf-8")


def test_folds_that_choose_differently_are_told_as_a_way_of_choosing(tmp_path: Path) -> None:
    tree = search()
    tree |= {"folds": [1, 2], "chosen": {"1": tree["best"], "2": "as-it-is"}}
    assert headline(tree).startswith("On test, what each fold chooses on its dev is not shown to differ")
    assert "0.570 on test, what each fold chooses on its dev (" in lead(tree)
    assert sentences(tree)[-1] == "By fold: 1: no. 1, 2: no. 3."
    assert "what each fold chooses on its dev" in write(tree, tmp_path)


def test_the_recipe_as_it_is_may_be_the_best_and_test_may_have_no_labels(tmp_path: Path) -> None:
    tree = search()
    tree |= {"best": "as-it-is", "chosen": {"1": "as-it-is"}}
    tree["test"] = {"values": {"chosen": values(0.56)}, "difference": None}
    assert headline(tree) == "On dev, no trial is ahead of two as it is."
    assert "<h1>On dev, no trial is ahead" in write(tree, tmp_path / "a")
    tree = search() | {"test": None}
    assert headline(tree).endswith("is chosen; there is no test to measure it on.")
    assert "On test" not in write(tree, tmp_path / "b").split("<h2>Method")[0]


def test_what_was_measured_on_test_before_and_classes_without_clips_are_told(tmp_path: Path) -> None:
    tree = search()
    assert "test again" not in written(tree, tmp_path / "a")
    tree["test"]["before"] = ["train.lr=1"]
    tree["counts"] = {split: dict.fromkeys(LABELS, 9) for split in ("train", "dev", "test")}
    tree["counts"]["dev"][LABELS[0]] = 0
    text = written(tree, tmp_path / "b")
    assert "test again: 1 other choice of this folder was measured on test before" in text
    assert f"no clip of {LABELS[0]} on dev" in text


def test_of_more_trials_than_the_draws_can_tell_apart_it_is_said(tmp_path: Path) -> None:
    said = "no p Holm is below"
    assert said not in written(search(), tmp_path / "few")
    tree = search()
    tree["trials"] += [trial({"train.lr": 0.01 + k}, 0.5, gap(0.03, 0.09, 0.002, 0.01)) for k in range(1, 11)]
    assert f"with 500 draws and 13 other trials {said} 0.052" in written(tree, tmp_path / "many")


def test_page_is_well_formed_with_everything_asked_for(tmp_path: Path) -> None:
    text = write(search(), tmp_path)
    Page(text)
    for said in ("optimistic twice", "Owen 2007", "± 0.010 over 2 seeds", "Not tried, because they make no recipe",
                 "rough intervals: 6 speakers on dev and 6", "--fold all", "partial copy"):  # fmt: skip
        assert said in text, said
    check_drawings(tmp_path, {"trials", "behind", "key-1", "key-2"})
    rates = (tmp_path / "figures" / "key-1.svg").read_text(encoding="utf-8")
    assert "train.lr 0.01: 0.545" in rates, "the recipe as it is, 0.55, is of this value as well"
    assert "train.lr 0.05: 0.590" in rates
    markdown = (tmp_path / "tuning.md").read_text(encoding="utf-8")
    assert check_tables(markdown) > 0
    assert "# two on small, search" in markdown.splitlines()


def test_of_many_trials_the_best_and_the_recipe_as_it_is_are_drawn(tmp_path: Path) -> None:
    tree = search()
    more = [trial({"train.lr": k / 1000}, 0.5 - k / 1000, gap(0.0, 0.1)) for k in range(1, 40)]
    tree["trials"] = [{**tree["trials"][0], "values": values(0.1)}, *tree["trials"][1:], *more]
    text = write(tree, tmp_path)
    drawn = (tmp_path / "figures" / "trials.svg").read_text(encoding="utf-8")
    assert drawn.count("<title>") >= 25
    assert "43. the recipe as it is: 0.100" in drawn
    assert "train.lr 0.039" not in drawn
    assert "18 trials behind these: in the table." in text
    assert text.count("train.lr=0.039") == 1, "in the table alone"


def test_no_text_is_markup_and_same_json_same_bytes(tmp_path: Path) -> None:
    tree = search()
    tree["name"] = "<script>alert(1)</script>"
    tree["trials"][2]["title"] = "<img src=x onerror=1>"
    text = write(tree, tmp_path / "a")
    Page(text)
    assert write(copy.deepcopy(tree), tmp_path / "b") == text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no tuning.json"),
        ("{", "is no JSON"),
        ('{"format": 9}', "expected a search of format 1, got 9"),
        (json.dumps(search() | {"best": "other"}), "expected at least two trials, and the best among them"),
    ],
)
def test_what_is_no_search_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "tuning.json").write_text(content, encoding="utf-8")
    with pytest.raises(SerkitError, match=said):
        write_tuning(tmp_path)


def by_kl() -> dict[str, Any]:
    """The same search by KL divergence, of which less is better: of the trials the one with 0.54 is chosen."""
    tree = search()
    tree |= {"metric": "kl", "best": tree["trials"][2]["key"], "chosen": {"1": tree["trials"][2]["key"]}}
    for t, behind in zip(tree["trials"], (gap(0.002, 0.018, 0.3), gap(0.03, 0.09, 0.002, 0.01), None, gap(0.01, 0.07)),
                         strict=True):  # fmt: skip
        t["values"] = {**values(0.9), "kl": t["values"]["macro_f1"]}
        t["behind"] = behind and {**behind, "metric": "kl", "value_a": 0.54, "value_b": 0.54 + behind["difference"]}
    for name, mean in (("chosen", 0.61), ("as-it-is", 0.65)):
        tree["test"]["values"][name] = {**values(0.9), "kl": values(mean)["uar"]}
    tree["test"]["difference"] = {**gap(0.01, 0.07, 0.002, 0.01), "metric": "kl", "value_a": 0.61, "value_b": 0.65}
    return tree


def test_of_the_kl_divergence_the_lowest_is_the_best(tmp_path: Path) -> None:
    tree = by_kl()
    assert [t["values"]["kl"]["mean"] for t in ranked(tree)] == [0.54, 0.55, 0.58, 0.60]
    assert headline(tree) == "On test, train.lr 0.01, model.hidden 12 is better than the recipe as it is."
    assert lead(tree).startswith("KL divergence 0.540 on dev, the lowest of 4 trials")
    assert "has KL divergence 0.610, the recipe as it is 0.650: nearer by +0.040 [+0.010, +0.070]" in sentences(tree)[1]
    text = write(tree, tmp_path)
    Page(text)
    assert "KL divergence of the other minus the chosen trial, dev" in text
    assert "The trial with the lowest mean over seeds on dev is chosen" in text
    assert "Behind is another one minus the chosen trial" in text
    assert "highest" not in text.split("<h2>Method")[-1]
    page = (tmp_path / "tuning.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert any("dev KL divergence" in line and "dev Macro-F1" in line for line in rows)
    assert next(line for line in rows if "1. train.lr" in line).startswith("| 1. train.lr 0.01, model.hidden 12")
    assert "As it is minus chosen, KL divergence: +0.040" in page


def test_a_trial_without_a_number_is_the_last(tmp_path: Path) -> None:
    for tree in (search(), by_kl()):
        tree["trials"][0]["values"] = {k: {**v, "mean": None} for k, v in tree["trials"][0]["values"].items()}
        assert not ranked(tree)[-1]["settings"]
