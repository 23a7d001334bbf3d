"""Paired differences: size, honesty under no effect, pooling, Holm."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp
from sklearn.metrics import f1_score

from serkit import paired
from serkit.comparison import against_all, compare, compare_seeds, holm, mcnemar, with_holm
from serkit.errors import SerkitError
from serkit.evaluation import evaluate
from serkit.metrics import METRICS
from serkit.predictions import Predictions
from serkit.reporting.verdict import outcome
from serkit.types import Manifest, Utterance

LABELS = ("anger", "happiness", "neutral")


def make_manifest(n=400, speakers=20):
    rows = [Utterance(f"u{k}", "x", speaker=f"s{k % speakers}", split="test", emotion=LABELS[k % 3]) for k in range(n)]
    return Manifest("made", LABELS, tuple(rows))


def score(manifest, right, seed, system):
    rng = np.random.default_rng(seed)
    truth, n = manifest.label_index(), len(manifest)
    answer = np.where(rng.random(n) < right, truth, rng.integers(0, 3, n))
    scores = np.eye(3)[answer] + 0.01 * rng.normal(size=(n, 3))
    return Predictions(system, LABELS, "logit", manifest.ids, ("m",) * n, np.zeros(n, bool), scores)


def test_a_real_difference_is_found():
    manifest = make_manifest()
    a, b = score(manifest, 0.7, 1, "good"), score(manifest, 0.4, 2, "poor")
    found = compare(a, b, manifest, split="test")
    assert [d.metric for d in found] == list(METRICS)
    reports = [evaluate(p, manifest, split="test", draws=10).metrics for p in (a, b)]
    for d in found:
        assert d.difference == pytest.approx(reports[0][d.metric].value - reports[1][d.metric].value, abs=1e-12)
        assert 0 < d.low < d.difference < d.high
        assert d.p < 0.01
        assert d.p_permutation < 0.01
        assert 0.02 < d.detectable < d.difference
        assert (d.a, d.b, d.n, d.speakers) == ("good", "poor", 400, 20)
        assert d.interval == "95% paired speaker bootstrap (1000 draws)"
    assert [d.p_mcnemar is None for d in found] == [m != "accuracy" for m in METRICS]
    back = compare(b, a, manifest, split="test")
    assert [d.difference for d in back] == pytest.approx([-d.difference for d in found])
    assert json.dumps(found[0].to_row())


def test_a_system_against_itself():
    manifest = make_manifest(90)
    a = score(manifest, 0.5, 1, "one")
    for d in compare(a, dataclasses.replace(a, system="two"), manifest, split="test", draws=200):
        assert (d.difference, d.low, d.high, d.p, d.p_permutation, d.detectable) == (0, 0, 0, 1, 1, 0)


def test_p_values_are_honest_where_there_is_no_difference():
    """200 pairs of equally good systems on 20 speakers: about 5 % may look different."""
    manifest = make_manifest(200)
    p = [
        compare(score(manifest, 0.5, 2 * k, "a"), score(manifest, 0.5, 2 * k + 1, "b"), manifest,
                split="test", metrics=["macro_f1"], draws=200, seed=k)[0]
        for k in range(200)
    ]  # fmt: skip
    assert 0.005 <= np.mean([d.p_permutation < 0.05 for d in p]) <= 0.10
    assert 0.005 <= np.mean([d.p < 0.05 for d in p]) <= 0.13
    assert np.mean([d.p_permutation for d in p]) == pytest.approx(0.5, abs=0.08)


def test_pairing_narrows_the_interval():
    manifest = make_manifest()
    a = score(manifest, 0.6, 1, "a")
    scores = a.scores.copy()
    scores[:20] = np.roll(scores[:20], 1, axis=1)
    b = dataclasses.replace(a, system="b", scores=scores)
    d = compare(a, b, manifest, split="test", metrics=["uar"])[0]
    alone = evaluate(a, manifest, split="test").metrics["uar"]
    assert d.high - d.low < 0.7 * (alone.high - alone.low)


def test_speakers_not_clips_carry_the_evidence():
    """One of four speakers makes all the difference: clips would call it certain, speakers do not."""
    rows = [
        Utterance(f"{s}{k}", "x", speaker=s, split="test", emotion=LABELS[k % 3]) for s in "abcd" for k in range(60)
    ]
    manifest = Manifest("four", LABELS, tuple(rows))
    b = score(manifest, 0.4, 0, "b")
    scores = b.scores.copy()
    scores[:60] = np.eye(3)[manifest.label_index()[:60]]
    a = dataclasses.replace(b, system="a", scores=scores)
    d = compare(a, b, manifest, split="test", metrics=["accuracy"], draws=2000)[0]
    assert d.p_mcnemar < 1e-6
    assert d.p > 0.2
    assert d.p_permutation > 0.2
    assert d.low == 0
    assert "rough: 4 speakers" in d.interval


@pytest.mark.parametrize(("speakers", "exact"), [(2, True), (6, True), (7, False)])
def test_of_few_speakers_every_swap_is_counted_once(speakers, exact):
    """Against scikit-learn on every way to swap; with 64 draws, those of 7 speakers are a sample."""
    manifest = make_manifest(60, speakers)
    a, b = score(manifest, 0.6, 1, "a"), score(manifest, 0.4, 2, "b")
    d = compare(a, b, manifest, split="test", metrics=["macro_f1"], draws=64)[0]
    truth, one, two = manifest.label_index(), a.scores.argmax(1), b.scores.argmax(1)
    who = np.arange(60) % speakers
    gaps = []
    for ways in itertools.product([False, True], repeat=speakers):
        swap = np.array(ways)[who]
        first, second = np.where(swap, two, one), np.where(swap, one, two)
        gaps.append(abs(f1_score(truth, first, average="macro") - f1_score(truth, second, average="macro")))
    share = np.mean(np.array(gaps) >= abs(d.difference) - 1e-9)
    assert (d.p_permutation == pytest.approx(share, abs=1e-12)) == exact
    assert d.p_permutation == pytest.approx(share, abs=0.2)
    assert share >= 2 / 2**speakers


def test_folds_are_pooled_with_speakers_as_clusters_across_them():
    manifest = make_manifest(360, 18)
    folds = [
        dataclasses.replace(manifest, utterances=tuple(
            dataclasses.replace(u, split="test" if int(u.speaker[1:]) % 3 == k else "train") for u in manifest
        ))
        for k in range(3)
    ]  # fmt: skip
    a, b = score(manifest, 0.7, 1, "a"), score(manifest, 0.5, 2, "b")
    parts = [[p.take(f.split("test").ids) for f in folds] for p in (a, b)]
    d = compare(parts[0], parts[1], folds, split="test", metrics=["macro_f1"])[0]
    assert (d.n, d.speakers) == (360, 18)
    whole = compare(a, b, manifest, split="test", metrics=["macro_f1"])[0]
    assert d.difference == pytest.approx(whole.difference, abs=1e-12)
    assert d.high - d.low == pytest.approx(whole.high - whole.low, rel=0.15)
    with pytest.raises(SerkitError, match="of two folds"):
        compare([parts[0][0]] * 2, [parts[1][0]] * 2, [folds[0]] * 2, split="test")


def test_seed_and_unknown_metric():
    manifest = make_manifest(100)
    a, b = score(manifest, 0.7, 1, "a"), score(manifest, 0.5, 2, "b")
    one, same, other = (compare(a, b, manifest, split="test", draws=100, seed=s) for s in (0, 0, 1))
    assert one == same
    assert one != other
    with pytest.raises(SerkitError, match="no metric 'f1'"):
        compare(a, b, manifest, split="test", metrics=["f1"], draws=10)
    with pytest.raises(SerkitError, match="first 'u99'"):
        compare(a, b.take(b.ids[:-1]), manifest, split="test", draws=10)


def test_unknown_speakers_are_drawn_singly():
    manifest = make_manifest(300)
    loose = dataclasses.replace(manifest, utterances=tuple(dataclasses.replace(u, speaker=None) for u in manifest))
    d = compare(score(loose, 0.7, 1, "a"), score(loose, 0.4, 2, "b"), loose, split="test", draws=300)[2]
    assert d.metric == "accuracy"
    assert d.speakers == 0
    assert "paired utterance bootstrap" in d.interval
    assert 0 < d.low < d.difference < d.high
    assert d.p_permutation < 0.05


def test_mcnemar_is_the_exact_binomial():
    a, b = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 0, 0, 0, 1, 0], bool)
    assert mcnemar(a, b) == pytest.approx(binomtest(5, 6).pvalue)
    assert mcnemar(a, a) == 1.0


def test_of_several_comparisons_of_few_speakers_none_is_called_sure_by_chance():
    """Eight speakers: a table of ten differences that are none, 60 times. Both p have to be adjusted for that."""
    rng, kinds = np.random.default_rng(1), np.arange(8)
    sure = {"adjusted": 0, "as they are": 0}
    for _ in range(60):
        ps, swapped, apart = [], [], []
        for _ in range(10):
            gaps = rng.normal(size=8)
            drawn = rng.multinomial(8, [1 / 8] * 8, size=400) @ gaps / 8
            ways, exact = paired.trades(np.ones_like(kinds), 400, rng)
            low, high = np.percentile(drawn, [2.5, 97.5])
            apart.append(low > 0 or high < 0)
            ps.append(paired.bootstrap_p(drawn))
            swapped.append(paired.permutation_p((1 - 2 * ways) @ gaps / 8, float(gaps.mean()), exact=exact))
        for name, p in (("adjusted", holm(swapped)), ("as they are", swapped)):
            rows = zip(apart, holm(ps), p, strict=True)
            found = [
                {"low": 1.0 if away else -1.0, "high": 2.0, "p_holm": one, "p_permutation_holm": other}
                for away, one, other in rows
            ]
            sure[name] += any(outcome(row) == "better" for row in found)
    assert sure["adjusted"] <= 4 < 9 <= sure["as they are"]


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()
    manifest = make_manifest()
    table = {name: score(manifest, r, k, name) for k, (name, r) in enumerate({"a": 0.7, "b": 0.4, "c": 0.69}.items())}
    found = against_all("a", table, manifest, split="test", draws=300)
    assert [d.b for d in found] == ["b", "c"]
    assert [d.p_holm for d in found] == list(holm([d.p for d in found]))
    assert [d.p_permutation_holm for d in found] == list(holm([d.p_permutation for d in found]))
    assert compare(table["a"], table["b"], manifest, split="test", draws=20)[0].p_permutation_holm is None
    assert with_holm(found) == found
    with pytest.raises(SerkitError, match="no predictions of 'aa'; did you mean"):
        against_all("aa", table, manifest, split="test")


def test_one_seed_is_the_plain_comparison():
    manifest = make_manifest(120, 6)
    a, b = score(manifest, 0.6, 1, "a"), score(manifest, 0.5, 2, "b")
    plain = compare(a, b, manifest, split="test", draws=100)
    for d, s in zip(plain, compare_seeds([a], [b], manifest, split="test", draws=100), strict=True):
        row = s.to_row()
        assert row.pop("by_seed") == (pytest.approx(d.difference),)
        assert row == d.to_row()
    with pytest.raises(SerkitError, match="2 seeds of the one system and 1 of the other"):
        compare_seeds([a, a], [b], manifest, split="test")


def test_the_number_is_the_mean_over_seeds_and_its_interval_knows_both_sources():
    manifest = make_manifest(600, 30)
    a = [score(manifest, right, k, "a") for k, right in enumerate((0.60, 0.72, 0.66))]
    b = [score(manifest, 0.6, 10 + k, "b") for k in range(3)]
    found = {d.metric: d for d in compare_seeds(a, b, manifest, split="test")}
    for name, d in found.items():
        each = [compare(x, y, manifest, split="test", metrics=[name], draws=50)[0] for x, y in zip(a, b, strict=True)]
        assert d.by_seed == pytest.approx([e.difference for e in each])
        assert d.difference == pytest.approx(np.mean([e.difference for e in each]))
        assert d.value_a == pytest.approx(np.mean([e.value_a for e in each]))
        assert d.p_mcnemar is None
        assert d.interval == "95% paired speaker and seed bootstrap (1000 draws, 3 seeds)"
    # the same differences on every seed: only speakers are left to vary
    steady = compare_seeds([a[1]] * 3, [b[1]] * 3, manifest, split="test")[1]
    alone = compare(a[1], b[1], manifest, split="test")[1]
    assert (steady.low, steady.high) == pytest.approx((alone.low, alone.high))
    assert found["uar"].high - found["uar"].low > 1.2 * (steady.high - steady.low)


def test_draws_of_speakers_and_seeds_have_the_spread_of_brute_force():
    manifest = make_manifest(120, 12)
    a = [score(manifest, right, k, "a") for k, right in enumerate((0.5, 0.7, 0.6))]
    b = [score(manifest, 0.5, 10 + k, "b") for k in range(3)]
    d = compare_seeds(a, b, manifest, split="test", metrics=["accuracy"], draws=4000)[0]
    truth = manifest.label_index()
    right = np.array([[(p.scores.argmax(axis=1) == truth) for p in ps] for ps in (a, b)]).astype(float)
    speaker = np.arange(120) % 12
    rng = np.random.default_rng(3)
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(speaker == s) for s in rng.integers(12, size=12)])
        gaps = right[0][:, rows].mean(axis=1) - right[1][:, rows].mean(axis=1)
        chosen = gaps[rng.integers(3, size=3)].mean()
        drawn.append(gaps.mean() + np.sqrt(3 / 2) * (chosen - gaps.mean()))
    assert d.detectable / (1.959964 + 0.841621) == pytest.approx(np.std(drawn), rel=0.06)
    assert (d.low, d.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.025)


def test_trainings_that_differ_by_chance_are_seldom_called_different():
    manifest = make_manifest(400, 20)
    rng = np.random.default_rng(5)
    both, speakers_alone = 0, 0
    for k in range(40):  # every network has an accuracy of its own: no method is better than the other
        rights = rng.normal(0.6, 0.05, size=(2, 3))
        a, b = ([score(manifest, r, 100 * k + 10 * s + j, "ab"[s]) for j, r in enumerate(rights[s])] for s in (0, 1))
        d = compare_seeds(a, b, manifest, split="test", metrics=["uar"], draws=200)[0]
        both += not d.low <= 0 <= d.high
        one = compare(a[0], b[0], manifest, split="test", metrics=["uar"], draws=200)[0]
        speakers_alone += not one.low <= 0 <= one.high
    assert both <= 7
    assert speakers_alone > both  # one training each, speakers drawn: sure of what the seed did


def test_seeds_that_agree_by_chance_are_not_certain_however_many_speakers_there_are():
    manifest = make_manifest(2000, 200)
    a = [score(manifest, right, k, "a") for k, right in enumerate((0.60, 0.66, 0.72))]
    b = [score(manifest, 0.57, 10 + k, "b") for k in range(3)]
    d = compare_seeds(a, b, manifest, split="test", metrics=["accuracy"], draws=200)[0]
    assert d.low > 0
    assert all(x > 0.01 for x in d.by_seed)
    assert d.p_permutation < 0.01  # of these networks
    assert 0.05 < d.p < 0.25


def test_the_p_of_seeds_is_that_of_a_t_test_where_one_source_varies():
    rng = np.random.default_rng(0)
    of_units, by_seed = rng.normal(0.3, 1.0, 12), np.array([0.1, 0.5, 0.2, 0.4])
    still = np.tile(by_seed, (50, 1))  # all draws of speakers alike: a t-test of the seeds
    assert paired.seeded_p(still, by_seed, 12) == pytest.approx(ttest_1samp(by_seed, 0).pvalue)
    draws = rng.normal(of_units.mean(), of_units.std(ddof=1) / np.sqrt(12), 100_000)
    alike = np.full(4, of_units.mean())  # all seeds alike: a t-test of the speakers
    found = paired.seeded_p(np.tile(draws[:, None], (1, 4)), alike, 12)
    assert found == pytest.approx(ttest_1samp(of_units, 0).pvalue, rel=0.02)
    assert paired.seeded_p(still[:, :1], by_seed[:1], 12) == 0.0
    few = of_units[:4]  # with four speakers three degrees of freedom
    draws = rng.normal(few.mean(), few.std(ddof=1) / 2, 100_000)
    found = paired.seeded_p(np.tile(draws[:, None], (1, 4)), np.full(4, few.mean()), 4)
    assert found == pytest.approx(ttest_1samp(few, 0).pvalue, rel=0.03)
    assert paired.seeded_p(-still, -by_seed, 12) == pytest.approx(ttest_1samp(by_seed, 0).pvalue)


def test_a_difference_without_any_spread_has_the_smallest_p_of_its_draws():
    """A system that is right about everything and one about nothing, of every speaker and seed: 2 in draws + 1."""
    manifest = make_manifest(60, 6)
    truth = manifest.label_index()
    right, wrong = (
        Predictions(name, LABELS, "prob", manifest.ids, ("m",) * 60, np.zeros(60, bool), np.eye(3)[answer])
        for name, answer in (("right", truth), ("wrong", (truth + 1) % 3))
    )
    for n in (1, 3):
        d = compare_seeds([right] * n, [wrong] * n, manifest, split="test", metrics=["uar"], draws=99)[0]
        assert (d.difference, d.low, d.high) == (1.0, 1.0, 1.0)
        assert d.p == pytest.approx(2 / 100)
        assert d.p_permutation == 2 / 64
        assert d.larger_p == d.p_permutation > d.p
    back = compare_seeds([wrong] * 3, [right] * 3, manifest, split="test", metrics=["uar"], draws=99)[0]
    assert (back.difference, back.p, back.larger_p) == (-1.0, d.p, d.larger_p)
    many = compare(right, wrong, make_manifest(60, 20), split="test", metrics=["uar"], draws=99)[0]
    assert (many.p_permutation, many.larger_p) == (1 / 100, many.p), "the larger of the two, whichever that is"


def test_clips_alike_trade_places_in_any_number():
    """Six clips of unknown speakers in two kinds: a swap is of 0 to 3 of each kind, as often as coins say."""
    times = np.array([3, 3])
    ways, exact = paired.trades(times, 4000, np.random.default_rng(0))
    assert not exact
    assert ways.shape == (4000, 2)
    for kind in ways.T:
        shares = np.bincount(kind.astype(int), minlength=4) / 4000
        assert shares == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8], abs=0.03)


def test_a_draw_that_loses_the_speaker_of_a_class_leaves_the_class_out():
    """One speaker alone is sad: both systems are right, so no draw has another difference than 0."""
    rows = [
        Utterance(f"{s}{k}", "x", speaker=s, split="test", emotion=LABELS[2 if s == "c" else k % 2])
        for s in "abc"
        for k in range(4)
    ]
    manifest = Manifest("made", LABELS, tuple(rows))
    scores = np.eye(3)[manifest.label_index()]
    worse = scores.copy()
    worse[0] = [0, 1, 0]  # of speaker a, one of two clips of anger
    a, b = (
        Predictions(name, LABELS, "prob", manifest.ids, ("m",) * 12, np.zeros(12, bool), x)
        for name, x in (("a", scores), ("b", worse))
    )
    d = compare(a, b, manifest, split="test", metrics=["uar"], draws=400)[0]
    # speaker a alone, three times over: 1 of 2 clips of anger, all of happiness; the class that is lost does not count
    assert d.high == pytest.approx(1 / 4)
    assert d.low == 0.0
