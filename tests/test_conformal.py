"""Sets of classes: their promise on exchangeable clips, their order, their limits, and what is measured of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from serkit.conformal import covered, crossed, least_probability, members, ranked
from serkit.errors import SerkitError
from serkit.probabilities import softmax
from serkit.serving.card_parts import sets_table

COVERAGES = (0.5, 0.8, 0.9, 0.95)


def clips(n: int, seed: int, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Answers of a model that is ``sharp`` times as sure as it may be, and the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)) * 1.5
    truth = (softmax(logits).cumsum(axis=1) < rng.uniform(size=(n, 1)) * (1 - 1e-12)).sum(axis=1)
    return softmax(logits * sharp), truth


def held(probabilities: np.ndarray, truth: np.ndarray, least: float) -> np.ndarray:
    return members(probabilities, least)[np.arange(len(truth)), truth]


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("sharp", [0.3, 1.0, 4.0])
def test_sets_hold_the_true_class_as_often_as_asked_however_wrong_the_probabilities(
    coverage: float, sharp: float
) -> None:
    """On average over held-out clips and further ones; within four standard errors of the 300 pairs."""
    shares = []
    for seed in range(300):
        p, truth = clips(140, seed, sharp)
        shares.append(held(p[40:], truth[40:], least_probability(coverage, p[:40], truth[:40])).mean())
    error = np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) >= coverage - 4 * error
    right = np.mean([(p.argmax(1) == y).mean() for p, y in (clips(140, seed, sharp) for seed in range(20))])
    assert np.mean(shares) <= max(coverage + 1 / 41, right + 0.03) + 4 * error, "not larger than they must be"


def test_the_cut_is_the_quantile_of_the_finite_sample() -> None:
    """Against the definition: the smallest cut-off score that ceil((n + 1) coverage) held-out scores do not exceed."""
    for n, coverage in [(20, 0.9), (20, 0.95), (37, 0.8), (99, 0.99), (100, 0.55), (250, 0.7)]:
        p, truth = clips(n, n)
        scores = np.where(p.argmax(1) == truth, 0.0, 1.0 - p[np.arange(n), truth])
        k = next(k for k in range(1, n + 1) if k >= (n + 1) * coverage - 1e-9)
        assert least_probability(coverage, p, truth) == pytest.approx(1.0 - np.sort(scores)[k - 1])


def test_a_higher_coverage_keeps_every_class() -> None:
    p, truth = clips(400, 1)
    asked, rest = p[200:], (p[:200], truth[:200])
    sets = [members(asked, least_probability(coverage, *rest)) for coverage in np.linspace(0.05, 0.99, 40)]
    for less, more in itertools.pairwise(sets):
        assert (more | ~less).all()
    assert sets[0].sum(axis=1).tolist() == [1] * 200, "the label alone is right more often than that"
    assert sets[-1].sum(axis=1).mean() > sets[0].sum(axis=1).mean() + 1


def test_the_most_probable_class_is_in_every_set_and_comes_first() -> None:
    p, _ = clips(200, 2)
    for least in (0.0, 0.2, 0.6, 1.0):
        inside = members(p, least)
        assert inside[np.arange(len(p)), p.argmax(axis=1)].all()
        for row, one in zip(p, inside, strict=True):
            found = ranked({str(k): float(share) for k, share in enumerate(row)}, least)
            assert int(found[0]) == row.argmax()
            assert sorted(map(int, found)) == np.flatnonzero(one).tolist()
            assert [row[int(k)] for k in found] == sorted((row[int(k)] for k in found), reverse=True)
    even = ranked({"b": 0.5, "a": 0.5}, 1.0)
    assert even == ("b",), "of equal ones the label: the first"
    assert ranked({"a": 0.5, "b": 0.3, "c": 0.2}, 0.3) == ("a", "b"), "what is the cut itself is in, as in members"


def test_a_model_that_is_always_right_or_always_wrong() -> None:
    p, _ = clips(50, 3)
    best, worst = p.argmax(axis=1), p.argmin(axis=1)
    assert least_probability(0.9, p, best) == 1.0
    assert least_probability(0.9, np.eye(5)[best], worst) == 0.0
    assert members(p, 0.0).all()


@pytest.mark.parametrize(
    ("n", "coverage", "said"),
    [
        (50, 90.0, "coverage 90: expected a share between 0 and 1, such as 0.9"),
        (50, 0.0, "expected a share between 0 and 1"),
        (50, 1.0, "expected a share between 0 and 1"),
        (50, -0.5, "expected a share between 0 and 1"),
        (50, math.nan, "expected a share between 0 and 1"),
        (19, 0.5, "19 held-out clips, and 20 or more are needed"),
        (0, 0.9, "0 held-out clips, and 20"),
        (50, 0.99, "coverage 0.99 takes 99 held-out clips or more, and there are 50; ask for 0.98 or less"),
        (98, 0.99, "takes 99 held-out clips or more"),
    ],
)
def test_what_cannot_be_promised_is_refused(n: int, coverage: float, said: str) -> None:
    p, truth = clips(n, 4) if n else (np.zeros((0, 5)), np.zeros(0, dtype=int))
    with pytest.raises(SerkitError, match=said):
        least_probability(coverage, p, truth)


def test_what_is_asked_for_instead_is_possible() -> None:
    p, truth = clips(50, 4)
    assert 0 <= least_probability(0.98, p, truth) <= 1


def test_what_sets_are_worth_is_counted() -> None:
    inside = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=bool)
    found = covered(0.8, inside, np.array([0, 1, 1, 0]), "abc", ["x", "x", "y", "y"], draws=50)
    assert found.held.value == 0.75
    assert (found.held.n, found.held.speakers) == (4, 2)
    assert found.held.low == 0.5
    assert found.held.high == 1.0
    assert found.size.value == 7 / 4
    assert found.alone == 0.5
    assert found.by_class == {"a": {"held": 1.0, "size": 2.5, "n": 2}, "b": {"held": 0.5, "size": 1.0, "n": 2}}
    assert found.by_speaker == {"mean": 0.75, "low": 0.5}
    assert found.to_row()["held"]["value"] == 0.75
    assert covered(0.8, inside, np.array([0, 1, 1, 0]), "abc", [None] * 4, draws=50).by_speaker == {}


@pytest.mark.parametrize(("n", "low"), [(9, 0.0), (10, 0.0), (11, 0.25), (20, 0.25), (21, 0.5)])
def test_of_ten_speakers_the_lowest_is_one_and_of_eleven_two(n: int, low: float) -> None:
    """Speaker 0 is never in the set, speaker 1 every second time, the others always."""
    speakers = [f"s{k}" for k in range(n) for _ in range(2)]
    truth = np.zeros(2 * n, dtype=int)
    inside = np.ones((2 * n, 2), dtype=bool)
    inside[[0, 1, 2], 0] = False
    found = covered(0.8, inside, truth, "ab", speakers, draws=10)
    assert found.by_speaker == pytest.approx({"mean": (n - 1.5) / n, "low": low})


def test_a_card_is_measured_on_speakers_that_the_cut_does_not_know() -> None:
    p, truth = clips(400, 5)
    speakers = [f"s{k % 8}" for k in range(400)]
    rows = crossed(p, truth, "abcde", speakers)
    assert [row["coverage"] for row in rows] == [0.8, 0.9, 0.95]
    assert all(row["measured"] == "cross-validated by speaker, 5 folds" for row in rows)
    for row in rows:
        assert row["held"]["value"] == pytest.approx(row["coverage"], abs=0.05)
    assert rows[0]["size"]["value"] < rows[1]["size"]["value"] < rows[2]["size"]["value"]
    text = sets_table(rows)
    assert f"| 0.9 | {rows[1]['held']['value']:.3f} | " in text
    low = min(rows[1]["by_class"].items(), key=lambda item: item[1]["held"])
    assert (
        f"| {rows[1]['size']['value']:.2f} | {low[0]} {low[1]['held']:.2f} | {rows[1]['by_speaker']['low']:.2f} |"
        in text
    )
    assert sets_table(crossed(p, truth, "abcde", [None] * 400)).count("| unknown |") == 3


def test_a_card_leaves_out_what_its_clips_do_not_suffice_for() -> None:
    p, truth = clips(24, 6)
    assert crossed(p, truth, "abcde", [None] * 24) == [], "19 clips are left to measure on"
    p, truth = clips(30, 6)
    assert [row["coverage"] for row in crossed(p, truth, "abcde", [None] * 30)] == [0.8, 0.9, 0.95]
    assert crossed(p, np.zeros(30, dtype=int), "abcde", [None] * 30) == []
    assert crossed(p[:5], np.arange(5), "abcde", [None] * 5) == []


def test_a_coverage_of_nearly_nothing_is_the_label_alone() -> None:
    shares = np.tile([[0.6, 0.4]], (30, 1))
    for truth in (np.zeros(30, dtype=int), np.arange(30) % 2):
        for coverage in (5e-324, 1e-12):
            assert least_probability(coverage, shares, truth) == 1.0
