"""Gaps between groups against plain numpy and scikit-learn; tests that hold their level, and find what is planted."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from serkit.evaluate_settings import Group
from serkit.evaluation import Decisions
from serkit.gaps import gaps
from serkit.reporting.group_words import is_found
from serkit.types import Utterance

LABELS = ("anger", "joy", "neutral", "sadness")


def answered(
    seed=0, speakers=24, clips=30, *, within=False, lowered=0.0, spread=0.5, mix=None, groups=("a", "b"), known=True
):
    """Answers that are right by a skill of each speaker and class, less by ``lowered`` in the first group."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), clips)
    of = rng.integers(len(groups), size=len(who)) if within else who * len(groups) // speakers
    n, skill = len(who), rng.normal(0.6, spread, (speakers, 4))
    truth = rng.integers(4, size=n)
    if mix is not None:
        truth = np.where(of == 0, rng.choice(4, size=n, p=mix), truth)
    right = rng.random(n) < 1 / (1 + np.exp(-(skill[who, truth] - lowered * (of == 0))))
    answer = np.where(right, truth, (truth + rng.integers(1, 4, size=n)) % 4)
    rows = [
        Utterance(f"s{s}_{k}", "x.wav", speaker=f"s{s}" if known else None, emotion=LABELS[t], meta={"side": groups[g]})
        for k, (s, t, g) in enumerate(zip(who, truth, of, strict=True))
    ]
    shares = np.full((n, 4), 0.25)
    return Decisions("one", "test", LABELS, tuple(rows), truth, answer, shares, np.ones(4, bool), 0)


def side(rows, **options):
    return gaps(rows, [Group(name="side")], **{"draws": 300, **options})["side"]


def test_numbers_agree_with_scikit_learn():
    rows = answered(groups=("a", "b", "c"))
    found = side(rows)
    of = np.array([u.meta["side"] for u in rows.utterances])
    uar = {g: recall_score(rows.truth[of == g], rows.answer[of == g], average="macro") for g in "abc"}
    f1 = {g: f1_score(rows.truth[of == g], rows.answer[of == g], average="macro") for g in "abc"}
    for gap, reference in ((found.metrics["uar"], uar), (found.metrics["macro_f1"], f1)):
        assert dict(gap.values) == pytest.approx(reference)
        assert gap.difference == pytest.approx(max(reference.values()) - min(reference.values()))
        assert (gap.highest, gap.lowest) == (max(reference, key=reference.get), min(reference, key=reference.get))
    for k, label in enumerate(LABELS):
        recall = {g: ((rows.answer == k) & (rows.truth == k) & (of == g)).sum() / ((rows.truth == k) & (of == g)).sum()
                  for g in "abc"}  # fmt: skip
        assert dict(found.recall[label].values) == pytest.approx(recall)
        assert dict(found.share[label].values) == pytest.approx({g: (rows.answer[of == g] == k).mean() for g in "abc"})
        assert found.truth[label] == pytest.approx({g: (rows.truth[of == g] == k).mean() for g in "abc"})
        assert found.share[label].p is None
    assert (found.clips, found.speakers) == (dict.fromkeys("abc", 240), dict.fromkeys("abc", 8))
    assert found.interval == "95% speaker bootstrap (300 draws), rough: 8 speakers in the smallest group"


def test_interval_and_p_agree_with_a_plain_loop_over_speakers():
    rows = answered(seed=3, lowered=0.4)
    found = side(rows, draws=2000).metrics["uar"]
    of = np.array([u.meta["side"] for u in rows.utterances])
    who = np.array([u.speaker for u in rows.utterances])
    hits, support = (
        np.array([[(m & (who == s) & (rows.truth == k)).sum() for k in range(4)] for s in dict.fromkeys(who)])
        for m in (rows.answer == rows.truth, np.ones(len(who), bool))
    )
    first = np.array([of[who == s][0] == "a" for s in dict.fromkeys(who)])

    def gap(a, b):
        return (hits[b].sum(0) / support[b].sum(0)).mean() - (hits[a].sum(0) / support[a].sum(0)).mean()

    rng = np.random.default_rng(1)
    a, b = np.flatnonzero(first), np.flatnonzero(~first)
    drawn = [gap(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(2000)]
    null = []
    for _ in range(2000):
        moved = rng.permutation(first)
        null.append(abs(gap(np.flatnonzero(moved), np.flatnonzero(~moved))))
    assert found.highest == "b"
    assert found.difference == pytest.approx(gap(a, b))
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    assert found.p == pytest.approx(np.mean(np.array(null) >= gap(a, b)), abs=0.03)
    assert found.detectable == pytest.approx(2.8016 * np.std(drawn), rel=0.1)


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({}, "speakers"),
        ({"groups": ("a", "b", "c")}, "speakers"),
        ({"within": True, "mix": [0.55, 0.25, 0.1, 0.1]}, "clips of the same speaker and class"),
    ],
)
def test_p_is_uniform_where_groups_do_not_matter(options, moved):
    runs = [side(answered(seed=s, clips=16, **options), draws=99, seed=s) for s in range(100)]
    assert {r.moved for r in runs} == {moved}
    p = np.array([r.metrics["uar"].p for r in runs])
    assert (p <= 0.05).sum() <= 11, "5 of 100 are expected; more than 11 happen once in 200"
    assert 0.4 < p.mean() < 0.6
    assert abs((p <= 0.5).mean() - 0.5) < 0.15
    single = np.array([gap.p for r in runs for gap in r.recall.values()])
    assert abs((single <= 0.05).mean() - 0.05) < 0.04


def test_p_is_uniform_where_one_group_has_few_clips_of_each_speaker():
    """A plain gap would be below 0.05 in a fifth of these: the group of few clips varies more."""
    p = []
    for s in range(100):
        rows = answered(seed=s, clips=40, spread=0.0)
        few = np.array([u.meta["side"] == "b" or int(u.id.partition("_")[2]) % 40 < 8 for u in rows.utterances])
        p.append(side(rows.where(few), draws=99, seed=s).metrics["uar"].p)
    assert (np.array(p) <= 0.05).sum() <= 11
    assert 0.4 < np.mean(p) < 0.6


@pytest.mark.parametrize("within", [False, True])
def test_a_planted_gap_is_found(within):
    found = side(answered(seed=1, clips=60, lowered=1.2, within=within))
    gap = found.metrics["uar"]
    assert (gap.highest, gap.lowest) == ("b", "a")
    assert gap.low > 0.1
    assert gap.p_holm < 0.02
    assert is_found(asdict(gap))
    assert sum(is_found(asdict(g)) for g in found.recall.values()) >= 2
    assert found.crossed == (24 if within else 0)
    assert ("paired" in found.interval) == within


def test_clips_and_speakers_are_not_the_same():
    """Five speakers in each of two groups differ by luck: clips taken as independent would be sure of a gap."""
    tries = [answered(seed=s, speakers=10, clips=60, spread=2.0) for s in range(20)]
    by_speaker = np.mean([side(rows, draws=99).metrics["uar"].p <= 0.05 for rows in tries])
    unknown = [answered(seed=s, speakers=10, clips=60, spread=2.0, known=False) for s in range(20)]
    by_clip = np.mean([side(rows, draws=99).metrics["uar"].p <= 0.05 for rows in unknown])
    assert by_speaker < 0.2 < 0.4 < by_clip
    found = side(unknown[0])
    assert found.moved == "clips, as speakers are unknown"
    assert "speakers unknown" in found.interval


def test_small_groups_are_named_and_left_out():
    rows = answered(speakers=26)

    def name(k, u):
        if u.speaker in ("s0", "s1"):
            return "few"
        return "rare" if k > 770 else u.meta["side"] if k % 50 else ""

    utterances = [
        Utterance(u.id, u.audio, speaker=u.speaker, emotion=u.emotion, meta={"side": name(k, u)})
        for k, u in enumerate(rows.utterances)
    ]
    some = Decisions(**{**rows.__dict__, "utterances": tuple(utterances)})
    found = side(some)
    assert found.left_out == {
        "few": "2 speakers, fewer than 5", "rare": "9 clips, fewer than 30", "unknown": "no value in this column"
    }  # fmt: skip
    assert set(found.metrics["uar"].values) == {"a", "b"}
    assert set(found.clips) == {"a", "b", "few", "rare", "unknown"}
    alone = side(some.where(np.array([u.meta["side"] != "b" for u in utterances])))
    assert alone.note == "fewer than two groups are large enough to be compared"
    assert alone.metrics == {}


def test_a_class_that_one_group_lacks_is_in_no_gap():
    rows = answered(seed=2)
    lacking = rows.where(np.array([u.meta["side"] == "a" or u.emotion != "joy" for u in rows.utterances]))
    found = side(lacking)
    assert found.classes == ("anger", "neutral", "sadness")
    assert found.missing == ("joy",)
    of = np.array([u.meta["side"] for u in lacking.utterances])
    mine = (of == "a") & (lacking.truth != 1)
    reference = recall_score(lacking.truth[mine], lacking.answer[mine], average="macro", labels=[0, 2, 3])
    assert found.metrics["uar"].values["a"] == pytest.approx(reference)
    one = rows.where(np.array([(u.meta["side"] == "a") == (u.emotion == "joy") for u in rows.utterances]))
    assert side(one).note.startswith("the groups have fewer than two classes in common, counting those of 5 speakers")


@pytest.mark.parametrize("voices", [1, 4, 5])
def test_a_class_of_few_speakers_in_a_group_is_in_no_gap(voices):
    """Their recall has no spread, so that its gap in standard errors would be large wherever there is none."""
    rows = answered(seed=2)
    some = {f"s{k}" for k in range(voices)}
    kept = [u.meta["side"] == "b" or u.emotion != "joy" or u.speaker in some for u in rows.utterances]
    found = side(rows.where(np.array(kept)))
    assert (found.missing, "joy" in found.classes) == (((), True) if voices == 5 else (("joy",), False))
    assert set(found.recall) <= set(found.classes) == set(found.share)


def test_p_is_uniform_where_one_group_has_a_class_of_one_speaker_alone():
    """With that class in the gap, p would be below 0.05 in a fifth of these."""
    p = []
    for s in range(100):
        rows = answered(seed=s, clips=40, spread=1.0)
        kept = [u.meta["side"] == "b" or u.emotion != "joy" or u.speaker == "s0" for u in rows.utterances]
        p.append(side(rows.where(np.array(kept)), draws=99, seed=s).metrics["uar"].p)
    assert (np.array(p) <= 0.05).sum() <= 11


def test_clips_of_one_class_change_groups_among_themselves():
    """Every speaker has the clips of each class in one group: there is nothing that could be exchanged."""
    rows = answered(seed=1, clips=60)
    sides = [(int(u.speaker[1:]) + t) % 2 for u, t in zip(rows.utterances, rows.truth, strict=True)]
    placed = tuple(replace(u, meta={"side": "ab"[k]}) for u, k in zip(rows.utterances, sides, strict=True))
    found = side(replace(rows, utterances=placed))
    assert found.moved == "clips of the same speaker and class"
    assert {gap.p for gap in (*found.metrics.values(), *found.recall.values())} == {1.0}


def test_a_rare_class_is_not_tested():
    rows = answered(seed=2)
    kept = np.cumsum(rows.truth == 3) <= 8
    found = side(rows.where(kept | (rows.truth != 3)))
    assert "sadness" not in found.recall


def test_holm_is_over_the_columns_and_the_classes():
    rows = answered(seed=1, clips=60, lowered=1.2)
    twice = [
        Utterance(u.id, u.audio, speaker=u.speaker, emotion=u.emotion, meta={**u.meta, "odd": f"{k % 2}"})
        for k, u in enumerate(rows.utterances)
    ]
    both = Decisions(**{**rows.__dict__, "utterances": tuple(twice)})
    found = gaps(both, [Group(name="side"), Group(name="odd")], draws=300)
    assert found["side"].metrics["uar"].p_holm == pytest.approx(2 * found["side"].metrics["uar"].p)
    ps = sorted(g.p for g in found["side"].recall.values())
    assert min(g.p_holm for g in found["side"].recall.values()) == pytest.approx(4 * ps[0])


def test_a_few_speakers_in_two_groups_count_in_both():
    rows = answered(seed=4)
    turned = [
        Utterance(u.id, u.audio, speaker=u.speaker, emotion=u.emotion,
                  meta={"side": "b" if u.id in ("s0_1", "s0_2") else u.meta["side"]})
        for u in rows.utterances
    ]  # fmt: skip
    found = side(Decisions(**{**rows.__dict__, "utterances": tuple(turned)}))
    assert (found.moved, found.crossed) == ("speakers", 1)


def test_same_seed_same_bytes_and_a_row_of_plain_values():
    rows = answered()
    first, again, other = (json.dumps(side(rows, draws=50, seed=s).to_row()) for s in (0, 0, 1))
    assert first == again != other
    equal = answered()
    right = Decisions(**{**equal.__dict__, "answer": equal.truth})
    gap = side(right).metrics["uar"]
    assert (gap.difference, gap.p, is_found(asdict(gap))) == (0.0, 1.0, False)
    assert gap.highest != gap.lowest


def test_clips_of_a_class_that_a_group_lacks_are_in_no_number():
    """The same gaps as without these clips, in recall, F1, shares and the mix of classes."""
    rows = answered(mix=(0.4, 0.3, 0.3, 0.0))
    found, without = (side(r, draws=20) for r in (rows, rows.where(rows.truth < 3)))
    assert found.missing == ("sadness",)
    assert found.clips["b"] > without.clips["b"]
    for name in ("classes", "metrics", "recall", "share", "truth"):
        assert getattr(found, name) == getattr(without, name)


@pytest.mark.parametrize(("crossed", "moved"), [(11, "speakers"), (12, "clips of the same speaker and class")])
def test_from_half_of_the_speakers_in_both_groups_their_clips_change_groups(crossed, moved):
    rows = answered()
    here = [int(u.speaker[1:]) for u in rows.utterances]
    turned = [
        replace(u, meta={"side": "ab"[k % 2]}) if s < crossed else u
        for k, (s, u) in enumerate(zip(here, rows.utterances, strict=True))
    ]
    found = side(replace(rows, utterances=tuple(turned)), draws=10)
    assert (found.crossed, found.moved) == (crossed, moved)


@pytest.mark.parametrize("n", [9, 10])
def test_the_recall_of_a_class_is_compared_from_ten_clips_in_a_group_on(n):
    rows = answered()
    joyful = np.flatnonzero((rows.truth == 1) & np.array([u.meta["side"] == "a" for u in rows.utterances]))
    spread = joyful[np.linspace(0, len(joyful) - 1, n).astype(int)]  # of nine speakers or more
    found = side(rows.where(~np.isin(np.arange(len(rows.truth)), np.setdiff1d(joyful, spread))), draws=10)
    assert "joy" in found.classes
    assert ("joy" in found.recall) == (n == 10)


def test_an_interval_is_as_rough_as_the_smaller_group():
    rows = answered(speakers=46)
    few = [u.meta["side"] == "b" or int(u.speaker[1:]) < 6 for u in rows.utterances]
    found = side(rows.where(np.array(few)), draws=10)
    assert found.speakers == {"a": 6, "b": 23}
    assert found.interval == "95% speaker bootstrap (10 draws), rough: 6 speakers in the smallest group"
