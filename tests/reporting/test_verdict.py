"""What the report claims, and that it claims no more than the numbers bear."""

from __future__ import annotations

from typing import Any

import pytest

from serkit.reporting import ratings, votes
from serkit.reporting.content import content
from serkit.reporting.data_tables import changes
from serkit.reporting.reading import Source
from serkit.reporting.verdict import cautions, judge, outcome

from .example import difference, metric, numbers, report


def verdict(**changes: Any) -> Any:
    return judge(Source({**report(), **changes}))


def test_verdict_says_lost_won_and_open() -> None:
    names = ("voice_text", "vote", "mean_logit")
    won = verdict(comparisons=[difference(n, 0.05, 0.1, 0.002) for n in names])
    assert won.tone == "won"
    assert won.headline == "On test, the stack beats the best single system, the majority vote and the mean logit."
    assert not any("published" in s for s in won.sentences)
    lost = verdict(comparisons=[difference(n, -0.1, -0.05, 0.002) for n in names])
    assert lost.tone == "lost"
    assert "does worse than the best single system" in lost.headline
    unknown = verdict(comparisons=[difference(n, -0.1, 0.05, 0.4) for n in names])
    assert unknown.headline.startswith("On test, the stack is not shown to beat")
    assert "a difference under 0.080 would often be missed" in unknown.sentences[0]


def test_a_small_detectable_difference_is_not_rounded_to_none() -> None:
    """Regression: 0.004 was written as 0.00, as if no difference at all could be missed."""
    row = {**difference("voice_text", -0.003, 0.003, 0.9), "detectable": 0.004}
    assert verdict(comparisons=[row]).sentences[0].endswith("a difference under 0.004 would often be missed.")


def test_what_is_open_beside_a_win_is_not_called_a_defeat() -> None:
    rows = [difference(n, *ends, 0.002) for n, ends in (("voice_text", (0.05, 0.1)), ("vote", (-0.1, 0.05)))]
    assert verdict(comparisons=rows).headline == (
        "On test, the stack beats the best single system, but is not shown to beat the majority vote."
    )
    all_three = verdict(comparisons=[*rows, difference("mean_logit", -0.1, -0.05, 0.002)])
    assert all_three.headline.endswith(
        ", but does worse than the mean logit and is not shown to beat the majority vote."
    )


def test_who_gives_every_clip_the_same_answer_is_named() -> None:
    tree = report()
    assert not [line for line in cautions(Source(tree)) if line.startswith("one answer")]
    for name in ("vote", "stack", "voice_text"):
        column = 2 if name == "voice_text" else 0
        tree["details"][name]["test"]["confusion"] = [[20 * (k == column) for k in range(3)] for _ in range(3)]
    found = [line for line in cautions(Source(tree)) if line.startswith("one answer")]
    assert found == [
        "one answer: voice_text says sadness of every clip on test.",
        "one answer: the stack (random forest) and the majority vote say anger of every clip on test (a forest does "
        "where its rows are too few for leaves of stack.min_leaf).",
    ]


def test_the_answer_of_the_authors_stands_beside_what_the_page_leads_with() -> None:
    """Regression: of systems whose authors vote, the page spoke of the mean logit as if it were their answer."""
    tree = report() | {"published_answer": "vote"}
    said = "The authors' own answer is the row “majority vote”: Macro-F1 0."
    (line,) = (s for s in judge(Source(tree)).sentences if s.startswith(said))
    assert line.endswith("compare it with their figures. A bundle answers with the stack (random forest).")
    assert [t["sub"].endswith("the authors' answer") for t in content(Source(tree))["tiles"]].count(True) == 1
    for other in ("stack", "not_there", None):
        led = Source(tree | {"published_answer": other})
        assert led.authors_answer is None
        assert not any(s.startswith("The authors' own answer") for s in judge(led).sentences)


def test_two_speakers_are_never_a_win() -> None:
    rows = [{**difference("voice_text", 0.05, 0.1, 0.002, swapped=0.45), "speakers": 2}]
    assert outcome(rows[0]) == "leaning+"
    found = verdict(comparisons=rows)
    assert found.tone == "open"
    assert any("With 2 speakers the permutation test cannot go below about 0.50" in s for s in found.sentences)


def test_how_many_comparisons_few_speakers_can_tell_apart_is_said() -> None:
    rows = [
        {**difference(name, 0.05, 0.1, 0.002, swapped=1 / 32), "p_permutation_holm": 3 / 32}
        for name in ("voice_text", "vote", "mean_logit")
    ]
    assert {row["speakers"] for row in rows} == {6}
    said = "With 6 speakers the permutation test, adjusted for 3 comparisons, cannot go below about 0.09: no"
    assert any(said in s for s in verdict(comparisons=rows).sentences)
    assert not any("cannot go below" in s for s in verdict(comparisons=[{**r, "speakers": 9} for r in rows]).sentences)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "better"),
        ({"low": -0.01}, "open"),
        ({"low": -0.3, "high": -0.1}, "worse"),
        ({"p_holm": 0.06}, "leaning+"),
        ({"p_permutation": 0.06}, "leaning+"),
        ({"p_permutation": 0.03, "p_permutation_holm": 0.06}, "leaning+"),
        ({"p_permutation": 0.01, "p_permutation_holm": 0.03}, "better"),
        ({"p_holm": None}, "leaning+"),
        ({"low": None}, "open"),
        ({"high": float("nan")}, "open"),
    ],
)
def test_outcome_needs_the_interval_and_both_tests(changes: dict[str, Any], expected: str) -> None:
    assert outcome({**difference("vote", 0.05, 0.1, 0.002), **changes}) == expected


def test_forest_that_was_not_kept_is_named_with_its_number() -> None:
    tree = report()
    tree["stack"].update(kept="logistic", best_out_of_fold="logistic")
    for name, why in (("auto", "the logistic stack was kept"), ("logistic", "the recipe names the logistic stack")):
        tree["stack"]["settings"] = {**(tree["stack"].get("settings") or {}), "name": name}
        found = judge(Source(tree))
        said = f"The random forest of Ueda et al. (2025) is not the stack here: {why}; the forest reaches"
        assert any(s.startswith(said) for s in found.sentences), "other recipes have published stacks of their own"
    assert "logistic" not in Source(tree).ensembles


def test_a_better_system_that_dev_did_not_choose_is_called_hindsight() -> None:
    tree = report()
    tree["systems"]["voice_neutral"]["test"] = numbers(0.7)
    assert any("voice_neutral reaches 0.700" in s and "hindsight" in s for s in judge(Source(tree)).sentences)


def test_cautions_shared_speakers_in_sample_and_missing_files() -> None:
    tree = report()
    tree["provenance"]["speakers_shared"] = True
    tree["provenance"]["recipe"] = {"crossfit": None, "stack": {"in_sample": True}}
    tree["provenance"]["corpus_info"]["missing_audio"] = {"count": 3, "examples": []}
    text = "\n".join(judge(Source(tree)).cautions)
    assert "speakers shared:" in text
    assert "in sample:" in text
    tree["provenance"]["recipe"]["crossfit"] = {"folds": 3}  # then its scores are out of fold, whatever it would take
    assert "in sample:" not in "\n".join(judge(Source(tree)).cautions)
    assert "3 listed recordings missing on disk." in text


def test_votes_that_were_left_out_are_told_with_the_changes() -> None:
    tree = report()
    labels = tree["provenance"]["corpus_info"]["labels"]
    labels.update(votes_left_out={"pride": 1, "shame": 12}, votes_all_left_out=2)
    line = changes(Source(tree))[-1]
    said = (
        "label is not a class of the clip's corpus here: pride (1 clip) and shame (12 clips); 2 clips lost every vote."
    )
    assert said in line


def test_what_a_reader_leaves_out_of_a_corpus_is_told_with_the_changes() -> None:
    """MSP-Podcast's 'other' and further test sets, IEMOCAP's frustration: counted, and nobody was told."""
    tree = report()
    tree["provenance"]["corpus_info"]["left_out"] = {"Test2": 1, "Train O": 12}
    name = tree["corpus"]
    lines = changes(Source(tree))
    assert lines[0] == f"Left out by the reader of {name}: Test2 (1 clip) and Train O (12 clips)."
    tree["provenance"]["corpus_info"] = {"corpora": {"a": {"left_out": {"fru": 5}}, "b": {"left_out": {}}, "c": {}}}
    assert [line for line in changes(Source(tree)) if "Left out" in line] == [
        "Left out by the reader of a: fru (5 clips)."
    ]
    tree["provenance"]["corpus_info"]["corpora"]["a"]["kept_by"] = "--option x keeps them"
    assert "Left out by the reader of a: fru (5 clips); --option x keeps them." in changes(Source(tree))


def test_speakers_of_dev_that_train_are_said() -> None:
    tree = report()
    assert not any("used for training" in line for line in judge(Source(tree)).cautions)
    tree["provenance"]["recipe"] = {"crossfit": {"folds": 4, "with_dev": True}, "stack": {}}
    assert any(line.startswith("dev speakers are used for training too") for line in judge(Source(tree)).cautions)
    for select, flatters in (("last", False), ("macro_f1", True)):
        tree["provenance"]["recipe"]["systems"] = {"a": {"train": {"select": select}}}
        assert any("out-of-fold scores are optimistic" in line for line in judge(Source(tree)).cautions) == flatters


@pytest.mark.parametrize(
    ("crossfit", "said"),
    [
        ({"refit": True}, "dev and test are scored by 1 network of each system on all of train; other scores"),
        ({"refit": 4, "with_dev": True}, "test is scored by 4 networks of each system on all of train and dev; other"),
        ({"refit": False, "with_dev": True}, None),
    ],
)
def test_networks_that_learned_from_more_than_those_of_the_folds_are_said(crossfit: Any, said: str | None) -> None:
    tree = report()
    tree["provenance"]["recipe"] = {"crossfit": {"folds": 4, **crossfit}, "stack": {}}
    found = [line for line in judge(Source(tree)).cautions if "of each system on all of" in line]
    assert [line.startswith(said or "") for line in found] == ([True] if said else [])


def test_what_is_said_of_the_stack_is_measured_of_the_stack() -> None:
    """The forest that was not kept is compared too: its losses are its own, and nobody is worse than himself."""
    names = ("voice_text", "vote", "mean_logit")
    ours = [difference(n, 0.05, 0.1, 0.002) for n in names]
    forest = [{**difference(n, -0.1, -0.05, 0.002), "a": "random_forest"} for n in names]
    itself = {**difference("logistic", 0.0, 0.0, 1.0), "difference": 0.0}
    found = verdict(comparisons=[*ours, itself, *forest])
    assert found.tone == "won"
    assert found.headline == "On test, the stack beats the best single system, the majority vote and the mean logit."
    assert sum(s.startswith("Better than") for s in found.sentences) == 3
    assert sum(s.startswith("The random forest: worse than") for s in found.sentences) == 3
    assert not any("logistic" in s.split(":")[0] for s in found.sentences[:6])


def test_numbers_on_dev_say_why() -> None:
    tree = report()
    for by_split in tree["systems"].values():
        by_split.pop("test", None)
    assert any(line.startswith("Test has no labels here: ") for line in judge(Source(tree)).cautions)
    tree["provenance"]["corpus_info"] = {"no_test": True}
    assert any(line.startswith("Test was left out: ") for line in judge(Source(tree)).cautions)


def test_counts_that_differ_from_the_published_ones_are_a_caution() -> None:
    tree = report()
    assert any("1 count of clips or speakers not as published" in line for line in cautions(Source(tree)))
    tree["provenance"]["corpus_info"]["count_findings"] = []
    assert not any("as published" in line for line in cautions(Source(tree)))


def test_a_class_without_clips_is_said_to_count_as_zero() -> None:
    tree = report()
    assert not any("counted as 0" in line for line in cautions(Source(tree)))
    tree["counts"]["test"]["sadness"] = 0
    (line,) = [line for line in cautions(Source(tree)) if "counted as 0" in line]
    assert line.startswith("no clip of sadness on test")
    assert "cannot exceed 0.667" in line


def test_networks_that_were_chosen_by_ccc_are_led_by_it() -> None:
    tree = report()
    recipe = {"systems": {name: {"train": {"select": "ccc"}} for name in ("voice_text", "voice_neutral")}}
    tree["provenance"] = {**tree["provenance"], "recipe": recipe}
    plain = judge(Source(tree))
    assert ratings.led(Source(tree), plain) is plain, "what leads was not measured by it"
    for name, value in (("ccc", 0.4), ("ccc_arousal", 0.6), ("ccc_valence", 0.2)):
        tree["systems"]["stack"]["test"][name] = metric(value)
    found = ratings.led(Source(tree), plain)
    assert found.headline == "On test, the stack (random forest) reaches a mean CCC of 0.400."
    assert found.lead == (
        "The stack (random forest) has a CCC of 0.600 for arousal and 0.200 for valence on test, mean 0.400 "
        "[0.350, 0.450]: 60 rated utterances of 6 speakers (95% speaker bootstrap (500 draws), rough: 6 speakers)."
    )
    assert found.sentences[:2] == (plain.lead, plain.headline[:-1] + " in Macro-F1.")
    assert found.sentences[2:] == plain.sentences
    first, second, *_ = content(Source(tree))["tiles"]
    assert (first["value"], first["name"], first["sub"]) == ("0.400", "Mean CCC, stack", "[0.350, 0.450] test")
    assert second["name"] == "Macro-F1, stack"
    for name, value in (("voice_text", 0.3), ("voice_neutral", 0.45)):
        tree["systems"][name]["test"]["ccc"] = metric(value)
    several = ratings.led(Source(tree), plain)
    assert several.headline == "On test, the mean of 2 systems reaches a mean CCC of 0.400."
    assert several.sentences[0].endswith(" has a mean CCC of 0.450 on test; choosing it for that would be hindsight.")
    tree["published"] = ["Published: a mean CCC of 0.6 by others."]
    whole = content(Source(tree))
    assert whole["tiles"][0]["name"] == "Mean CCC, mean of 2 systems"
    assert [tree["published"][0] in whole[key].notes for key in ("attributes", "systems")] == [True, False]
    tree["systems"]["voice_neutral"]["test"]["ccc"] = metric(0.4)
    assert ratings.led(Source(tree), plain).sentences[0] == plain.lead, "none is ahead"
    recipe["systems"]["voice_text"] = {"train": {"select": "macro_f1"}}
    assert ratings.led(Source(tree), plain) is plain, "one of them was chosen otherwise"
    assert content(Source(tree))["tiles"][0]["name"] == "Macro-F1, stack"


def voted(select: str = "kl") -> dict[str, Any]:
    """A report whose networks were chosen by KL divergence; the order of the systems by it is not that by Macro-F1."""
    tree = report()
    recipe = {"systems": {name: {"train": {"select": select}} for name in ("voice_text", "voice_neutral")}}
    tree["provenance"] = {**tree["provenance"], "recipe": recipe}
    tree |= {"best_on_dev": "voice_neutral", "best_by": select}
    for name, value in (("stack", 0.55), ("voice_text", 0.70), ("voice_neutral", 0.50)):
        for split in ("dev", "test"):
            for key, added in (("kl", 0.0), ("kl_prior", 0.6 - value), ("cosine", 0.2), ("cosine_prior", 0.7 - value)):
                tree["systems"][name][split][key] = metric(value + added)
    return tree


def test_networks_that_were_chosen_by_kl_are_led_by_it_beside_the_constant() -> None:
    tree = voted()
    plain = judge(Source(tree))
    found = votes.led(Source(tree), plain)
    assert found.headline == (
        "On test, the stack (random forest) has a KL divergence of 0.550 from the votes, the constant (the mean vote "
        "of train) 0.600."
    )
    assert found.lead.startswith(
        "The stack (random forest) has a KL divergence of 0.550 [0.500, 0.600] from the raters' votes on test, the "
        "constant (the mean vote of train) 0.600 [0.550, 0.650] (less is nearer): 60 clips with votes of 6 speakers"
    )
    assert found.sentences[0] == ("Closeness to the votes otherwise: cosine similarity 0.750 (the constant 0.700).")
    assert found.sentences[1] == "voice_neutral alone has 0.500 on test; dev pointed to it."
    assert found.sentences[2] == f"{plain.lead} Macro-F1 counts a class that is the label of no clip as 0."
    assert found.sentences[-len(plain.sentences) :] == plain.sentences
    first, second, third, *_ = content(Source(tree))["tiles"]
    assert (first["value"], first["name"]) == ("0.550", "KL from the votes, stack")
    assert (second["value"], second["name"]) == ("0.600", "KL from the votes, mean vote of train")
    assert third["name"] == "Macro-F1, stack"
    tree["counts"]["test"]["sadness"] = 0
    assert "as 0: here sadness." in " ".join(votes.led(Source(tree), plain).sentences)
    tree["systems"]["stack"]["test"]["kl"] = metric(0.61)
    assert votes.led(Source(tree), plain).headline.endswith(
        "train) 0.600: it does not come nearer to the votes than a constant."
    )
    assert ratings.led(Source(tree), plain) is plain
    del tree["systems"]["stack"]["test"]["kl"]
    assert votes.led(Source(tree), plain) is plain, "what leads was not measured by it"


@pytest.mark.parametrize(("select", "said"), [("kl", "KL divergence"), ("ccc", "mean CCC")])
def test_the_page_says_by_which_metric_a_system_is_the_best_on_dev(select: str, said: str) -> None:
    tree = voted(select)
    tree["comparisons"] = [difference("voice_neutral", 0.05, 0.17, 0.004)]
    (line, *_) = judge(Source(tree)).sentences
    assert line.startswith(f"Better than the best single system (voice_neutral, chosen on dev by {said}): +0.110")
    names = [tile["name"] for tile in content(Source(tree))["tiles"]]
    assert f"Macro-F1, best single on dev by {said}" in names
    tree["systems"]["voice_text"]["test"]["macro_f1"] = metric(0.9)
    assert any(f"on dev it was behind voice_neutral by {said}, so" in x for x in judge(Source(tree)).sentences)
    del tree["best_by"]
    assert (
        judge(Source(tree))
        .sentences[0]
        .startswith("Better than the best single system (voice_neutral, chosen on dev):")
    )


def test_the_stack_is_compared_with_the_best_by_what_leads_the_page() -> None:
    tree = voted()
    row = {**difference("voice_neutral", -0.09, -0.03, 0.004), "metric": "kl", "value_a": 0.55, "value_b": 0.5}
    tree["comparisons"].append(row)
    plain = judge(Source(tree))
    found = votes.led(Source(tree), plain)
    assert found.sentences[0].startswith(
        "KL divergence (a plus is nearer to the votes): worse than the best single system (voice_neutral, chosen on "
        "dev by KL divergence): −0.060 [−0.090, −0.030]"
    )
    table = content(Source(tree))["comparisons"]
    assert any("KL divergence, test" in cell.sub for r in table.rows for cell in r.cells)
    assert any("a plus is nearer to the votes" in note for note in table.notes)
    assert not any("KL divergence" in x for x in plain.sentences), "the verdict by Macro-F1 is of Macro-F1"
