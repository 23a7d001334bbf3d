from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.annotator_dropout import AnnotatorDropout
from serkit.errors import SerkitError


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


def test_shares_need_the_number_of_raters() -> None:
    with pytest.raises(SerkitError, match="n_raters"):
        AnnotatorDropout()(rated(0.6, 0.4), np.random.default_rng(0))
    kept = AnnotatorDropout(n_raters=5, rate=0.0)(rated(0.6, 0.4), np.random.default_rng(0))
    assert kept.votes.tolist() == [3, 2]
