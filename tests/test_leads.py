"""The metric that a recipe chooses its networks by: measured as by hand, compared by speaker and seed, best on dev."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from made import LABELS, made_manifest, made_system
from made_leads import answers, heard
from serkit import comparison, leads
from serkit.concordance import ratings
from serkit.errors import SerkitError
from serkit.evaluation import evaluate
from serkit.pipeline.best_on_dev import best_of_each, best_single, metric_of
from serkit.types import Manifest


@pytest.fixture(scope="module")
def manifest():
    return heard()


def kl_by_hand(manifest, table):
    """KL(votes to softmax of the scores) of every clip with votes, by id."""
    found = {}
    for u, scores in zip([u for u in manifest if u.id in set(table.ids)], table.scores, strict=True):
        p = np.array([u.votes.get(label, 0.0) for label in LABELS])
        p = p / p.sum()
        q = np.exp(scores) / np.exp(scores).sum()
        found[u.id] = sum(a * np.log(a / max(b, 1e-6)) for a, b in zip(p, q, strict=True) if a > 0)
    return found


def test_the_order_by_macro_f1_is_another_than_by_ccc_and_kl(manifest):
    value = {
        (name, system): leads.measured(name, [answers(manifest, "dev", system)], [manifest], "dev").value
        for name in ("macro_f1", "ccc", "kl")
        for system in ("sharp", "soft")
    }
    assert value["macro_f1", "sharp"] == 1.0
    assert value["macro_f1", "soft"] < 0.9
    assert value["kl", "soft"] < 0.2 < value["kl", "sharp"]
    assert value["ccc", "soft"] > 0.8 > value["ccc", "sharp"]
    assert [leads.sign(name) for name in ("macro_f1", "ccc", "kl")] == [1.0, 1.0, -1.0]


def test_values_are_those_of_the_report_and_of_the_definition(manifest):
    for system in ("sharp", "soft"):
        table = answers(manifest, "test", system)
        report = evaluate(table, manifest, split="test", draws=20)
        for name in leads.LEADS:
            found = leads.measured(name, [table], [manifest], "test")
            stored = report.metrics[name]
            assert found.value == pytest.approx(stored.value, abs=1e-12), name
            assert (found.n, found.speakers) == (stored.n, stored.speakers), name
        by_hand = kl_by_hand(manifest, table)
        found = leads.measured("kl", [table], [manifest], "test")
        assert found.value == pytest.approx(np.mean(list(by_hand.values())))
        assert found.n == len(by_hand) > sum(u.emotion is not None for u in manifest.split("test"))


def test_a_difference_is_how_much_better_the_first_is_whatever_the_metric(manifest):
    soft, sharp = ([[answers(manifest, "test", s, seed)] for seed in (1, 2, 3)] for s in ("soft", "sharp"))
    for name, better, worse in (("kl", soft, sharp), ("ccc", soft, sharp), ("macro_f1", sharp, soft)):
        d = leads.compare_seeds(name, better, worse, [manifest], split="test", draws=300, seed=1)
        back = leads.compare_seeds(name, worse, better, [manifest], split="test", draws=300, seed=1)
        assert 0 < d.low < d.difference < d.high, name
        assert back.difference == pytest.approx(-d.difference), name
        assert d.difference == pytest.approx(leads.sign(name) * (d.value_a - d.value_b)), name
        assert (d.value_a, d.value_b) == pytest.approx((back.value_b, back.value_a))
        each = [leads.measured(name, table, [manifest], "test").value for table in better]
        assert d.value_a == pytest.approx(np.mean(each))
        assert d.metric == name
        assert "3 seeds" in d.interval
        assert np.mean(d.by_seed) == pytest.approx(d.difference)


def test_of_one_seed_ccc_is_compared_as_two_bundles_are(manifest):
    rated = manifest.where(lambda u: u.arousal is not None)
    a, b = answers(rated, "test", "soft", 1), answers(rated, "test", "soft", 2)
    (expected,) = [d for d in comparison.compare_attributes([a], [b], [rated], split="test", draws=200, seed=4)
                   if d.metric == "ccc"]  # fmt: skip
    found = leads.compare_seeds("ccc", [[a]], [[b]], [rated], split="test", draws=200, seed=4)
    for f in dataclasses.fields(comparison.Difference):
        assert getattr(found, f.name) == pytest.approx(getattr(expected, f.name)), f.name


def test_clips_that_lack_a_rating_or_a_score_of_one_network_are_compared_as_far_as_they_go(manifest):
    """Clips with arousal alone count in arousal; KL is over the clips that both networks scored."""
    one_rating = [dataclasses.replace(u, valence=None) if k % 2 == 0 else u for k, u in enumerate(manifest)]
    some = dataclasses.replace(manifest, utterances=tuple(one_rating))
    a, b = answers(manifest, "test", "soft", 1), answers(manifest, "test", "soft", 2)
    d = leads.compare_seeds("ccc", [[a]], [[b]], [some], split="test", draws=50)
    for value, table in ((d.value_a, a), (d.value_b, b)):
        report = evaluate(table, some, split="test", draws=20).metrics["ccc"]
        assert (value, d.n) == (pytest.approx(report.value), report.n)
    unlabelled = [u.id for u in manifest.split("test") if u.emotion is None]
    fewer = b.take([i for i in b.ids if i not in unlabelled[:2]])
    for pair in ((a, fewer), (fewer, a)):
        d = leads.compare_seeds("kl", [[pair[0]]], [[pair[1]]], [manifest], split="test", draws=50)
        by_hand = [kl_by_hand(manifest, table) for table in pair]
        shared = by_hand[0].keys() & by_hand[1].keys()
        assert d.n == len(shared) == len(a) - 2
        assert d.value_a == pytest.approx(np.mean([by_hand[0][i] for i in shared]))
        assert d.value_b == pytest.approx(np.mean([by_hand[1][i] for i in shared]))


def test_draws_without_any_rating_of_an_attribute_leave_it_out(manifest):
    """One speaker of four has ratings of dominance: where he is not drawn, the mean is that of the others."""
    who = manifest.split("test").utterances[0].speaker
    rows = [
        dataclasses.replace(u, dominance=1.0 + k % 5) if u.speaker == who and u.arousal is not None else u
        for k, u in enumerate(manifest)
    ]
    some = dataclasses.replace(manifest, utterances=tuple(rows))
    right = answers(some, "test", "soft", 1)
    right.attributes[:] = np.nan_to_num(ratings(some.split("test").utterances), nan=3.0)
    turned = dataclasses.replace(right, attributes=-right.attributes)
    d = leads.compare_seeds("ccc", [[right]], [[turned]], [some], split="test", draws=300)
    assert d.value_a == pytest.approx(1.0)
    lowest = min(
        leads.compare_seeds("ccc", [[right]], [[turned]], [some], split="test", draws=n, seed=n).low for n in (50, 60)
    )
    assert lowest >= 1.0, "all are right in every draw, so the difference is never below 1"


def test_seeds_count_in_the_p_of_ratings_and_votes(manifest):
    """Three seeds, each better by another measure: in every draw better, and still not sure by a t-test over seeds."""
    soft, sharp = (answers(manifest, "test", name, 1) for name in ("soft", "sharp"))
    mixed = [
        dataclasses.replace(
            soft,
            scores=share * soft.scores + (1 - share) * sharp.scores,
            attributes=share * soft.attributes + (1 - share) * sharp.attributes,
        )
        for share in (0.9, 0.6, 0.4)
    ]
    for name in ("ccc", "kl"):
        d = leads.compare_seeds(name, [[m] for m in mixed], [[sharp]] * 3, [manifest], split="test", draws=999)
        assert min(d.by_seed) > 0.1
        assert d.low > 0
        assert 0.01 < d.p < 0.4
        assert leads.compare_seeds(name, [[mixed[0]]], [[sharp]], [manifest], split="test", draws=999).p == 2 / 1000


def test_swapping_speakers_is_exact_for_kl(manifest):
    """With four speakers every way to swap is taken once."""
    a, b = answers(manifest, "test", "soft", 1), answers(manifest, "test", "soft", 2)
    one, other = kl_by_hand(manifest, a), kl_by_hand(manifest, b)
    speaker = {u.id: u.speaker for u in manifest}
    sums = {}
    for i in one:
        sums[speaker[i]] = sums.get(speaker[i], 0.0) + other[i] - one[i]
    observed = abs(sum(sums.values()))
    ways = list(itertools.product((1, -1), repeat=len(sums)))
    as_large = [abs(sum(s * x for s, x in zip(way, sums.values(), strict=True))) >= observed - 1e-12 for way in ways]
    found = leads.compare_seeds("kl", [[a]], [[b]], [manifest], split="test", draws=100)
    assert len(sums) == 4
    assert found.p_permutation == pytest.approx(np.mean(as_large))


def test_folds_are_pooled(manifest):
    parts = [manifest.where(lambda u, k=k: int(u.id[1:]) % 2 == k) for k in (0, 1)]
    for name in ("ccc", "kl"):
        tables = [answers(p, "test", "soft") for p in parts]
        whole = evaluate(tables, parts, split="test", draws=20).metrics[name]
        found = leads.measured(name, tables, parts, "test")
        assert (found.value, found.n) == (pytest.approx(whole.value), whole.n)


def test_what_cannot_be_measured_is_one_line(manifest):
    plain = made_manifest()
    table = dataclasses.replace(answers(manifest, "test", "soft"), attributes=None)
    with pytest.raises(SerkitError, match=r"'soft' cannot be measured by CCC on test: expected a network that learned"):
        leads.measured("ccc", [table], [manifest], "test")
    rows = plain.split("test")
    unvoted = answers(heard(), "test", "soft").take([])
    assert len(rows) > 0
    assert leads.lacking("kl", plain, "test") == "no votes"
    assert leads.lacking("ccc", plain, "test") == "no two ratings of an attribute"
    assert leads.lacking("macro_f1", plain, "test") is None
    assert leads.lacking("kl", manifest, "test") is leads.lacking("ccc", manifest, "test") is None
    assert leads.lacking("kl", dataclasses.replace(plain, utterances=plain.utterances[:1]), "test") is None, "no clips"
    with pytest.raises(SerkitError, match="no clip of test has rater votes"):
        leads.measured("kl", [unvoted], [Manifest("made", LABELS, ())], "test")


@pytest.mark.parametrize(
    ("selects", "expected"),
    [(["ccc", "ccc"], "ccc"), (["uar"], "uar"), (["ccc", "macro_f1"], None), (["last", "last"], None), ([], None)],
)
def test_a_metric_is_a_recipes_where_all_of_its_systems_have_it(selects, expected):
    assert leads.chosen_by([made_system(train={"select": s}) for s in selects]) == expected


# ---------------------------------------------------------------- the best system on dev


def run_of(manifest, select, fold=0):
    """What is asked of a run: its recipe, rows and scores; in the second fold the names are exchanged."""
    train = {"select": select, **({"targets": "votes"} if select == "kl" else {})}
    systems = {name: made_system(train=train) for name in ("first", "second")}
    who = {"first": ("sharp", "soft")[fold], "second": ("soft", "sharp")[fold]}
    return SimpleNamespace(
        recipe=SimpleNamespace(systems=systems),
        manifest=manifest,
        predictions=lambda n, split: dataclasses.replace(answers(manifest, split, who[n]), system=n),
    )


@pytest.mark.parametrize(
    ("select", "metric", "best"),
    [("macro_f1", "macro_f1", "first"), ("uar", "macro_f1", "first"), ("ccc", "ccc", "second"), ("kl", "kl", "second")],
)
def test_the_best_single_system_is_best_by_what_chose_its_networks(manifest, select, metric, best):
    run = run_of(manifest, select)
    assert metric_of([run]) == metric
    assert best_single(run, metric) == best


def test_without_ratings_on_dev_the_best_is_by_macro_f1(manifest):
    bare = tuple(dataclasses.replace(u, arousal=None, valence=None, votes=None) for u in manifest if u.emotion)
    run = run_of(dataclasses.replace(manifest, utterances=bare), "ccc")
    assert metric_of([run]) == "macro_f1"


def test_each_fold_answers_with_its_own_best(manifest):
    runs = [run_of(manifest, "ccc", fold) for fold in (0, 1)]
    scores = {n: {s: [r.predictions(n, s) for r in runs] for s in ("dev", "test")} for n in ("first", "second")}
    for metric, expected in (("ccc", "soft"), ("kl", "soft"), ("macro_f1", "sharp")):
        found = best_of_each(runs, scores, metric)
        assert {t.system for t in found["test"]} == {"best_on_dev"}
        for table in found["test"]:
            assert np.array_equal(table.scores, answers(manifest, "test", expected).scores), metric
