from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.annotator_dropout import AnnotatorDropout


def rated(*votes: float) -> Example:
    counts = np.array(votes)
    return Example(counts / counts.sum(), votes=counts)


def test_each_rater_leaves_with_the_rate() -> None:
    kept = np.array([AnnotatorDropout()(rated(3, 2, 0), np.random.default_rng(s)).votes for s in range(4000)])
    assert kept.max(axis=0).tolist() == [3, 2, 0]
    assert kept.mean(axis=0) == pytest.approx([2.4, 1.6, 0], abs=0.05)
    assert (kept.sum(axis=1) >= 1).all()


def test_target_is_the_share_of_those_who_stay() -> None:
    for seed in range(50):
        after = AnnotatorDropout(rate=0.5)(rated(3, 2, 1), np.random.default_rng(seed))
        assert after.target == pytest.approx(after.votes / after.votes.sum())


def test_where_all_would_go_all_stay_and_no_votes_no_change() -> None:
    results = [AnnotatorDropout(rate=0.99)(rated(1, 1), np.random.default_rng(s)).votes.tolist() for s in range(50)]
    assert [1.0, 1.0] in results
    assert [0.0, 0.0] not in results
    plain = Example(np.array([0.0, 1.0]))
    assert AnnotatorDropout()(plain, np.random.default_rng(0)) is plain


def test_shares_are_of_the_number_of_raters_given() -> None:
    kept = AnnotatorDropout(n_raters=5, rate=0.0)(rated(0.6, 0.4), np.random.default_rng(0))
    assert kept.votes.tolist() == pytest.approx([3, 2])


def test_a_rater_of_two_emotions_counts_half_for_each() -> None:
    """Regression: on IEMOCAP, where raters may name several, a run stopped at the first such clip of an epoch."""
    drawn = [AnnotatorDropout(rate=0.2)(rated(1.5, 0.0, 0.5), np.random.default_rng(s)) for s in range(4000)]
    kept = np.array([example.votes for example in drawn])
    assert set(kept[:, 0]) == {0.0, 0.5, 1.0, 1.5}
    assert set(kept[:, 2]) == {0.0, 0.5}
    assert kept.mean(axis=0) == pytest.approx([1.2, 0.0, 0.4], abs=0.03)
    assert [example.target.sum() for example in drawn] == pytest.approx([1.0] * 4000)
    one = [AnnotatorDropout(rate=0.9)(rated(0.5, 0.0), np.random.default_rng(s)).votes.tolist() for s in range(20)]
    assert one == [[0.5, 0.0]] * 20, "where all would go, all stay"


def test_whole_raters_are_drawn_as_before_whatever_others_have() -> None:
    after, plain = np.random.default_rng(3), np.random.default_rng(3)
    kept = AnnotatorDropout()(rated(3, 2, 1), after).votes
    assert kept.tolist() == plain.binomial([3, 2, 1], 0.8).tolist()
    assert after.random() == plain.random(), "and the steps after it draw what they drew"
