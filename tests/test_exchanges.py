"""The permutation test against a plain loop: numbers, standard errors, exchanges within blocks."""

from __future__ import annotations

import numpy as np
import pytest

from serkit import metrics
from serkit.exchanges import Members, _largest, _sums, f1s, p_values, recalls

C = 3


def members(seed=0, n=14, groups=2, in_errors=True, blocks=1):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2.0, (n, C * C)).astype(float) + 3 * np.eye(C).reshape(-1)
    return Members(counts, np.arange(n) % groups, np.arange(n) % blocks, groups, in_errors)


@pytest.mark.parametrize(("name", "ratios"), [("uar", recalls), ("macro_f1", f1s)])
def test_numbers_are_the_metrics_and_gaps_are_in_standard_errors(name, ratios):
    """The standard error is of the linearised mean of ratios: checked against a jackknife over members."""
    them = members(n=60)
    every = ratios(np.arange(C), C, np.ones(2, bool))
    values, errors = [], []
    for g in (0, 1):
        own = them.counts[them.group == g].reshape(-1, C, C)
        values.append(float(metrics.measure(name, own.sum(axis=0))))
        without = np.array([metrics.measure(name, own.sum(axis=0) - one) for one in own])
        errors.append((len(own) - 1) / len(own) * ((without - without.mean()) ** 2).sum())
    plain = Members(them.counts, them.group, them.block, 2, in_errors=False)
    assert _largest(them.counts, them.group[None], plain, every)[0] == pytest.approx(abs(values[0] - values[1]))
    found = _largest(them.counts, them.group[None], them, every)[0]
    assert found == pytest.approx(abs(values[0] - values[1]) / np.sqrt(sum(errors)), rel=0.05)


def test_only_the_groups_asked_for_are_compared():
    them = members(groups=3, in_errors=False)
    two = recalls(np.array([1]), C, np.array([True, False, True]))
    sums = _sums(them.counts, them.group[None], 3)[0].reshape(3, C, C)
    recall = metrics.recall(sums)[:, 1]
    assert _largest(them.counts, them.group[None], them, two)[0] == pytest.approx(abs(recall[0] - recall[2]))


def test_members_change_groups_within_their_block_alone():
    """Each block is of one group, so that nothing can change and every exchange is as the groups are."""
    them = members(groups=2, blocks=2)
    numbers = {"uar": recalls(np.arange(C), C, np.ones(2, bool))}
    assert p_values(them, numbers, draws=50, rng=np.random.default_rng(0)) == {"uar": 1.0}
    free = members(groups=2, blocks=1)
    assert p_values(free, numbers, draws=50, rng=np.random.default_rng(0))["uar"] < 1.0


def test_groups_that_cannot_differ_and_groups_that_do():
    right = np.tile(np.eye(C).reshape(-1) * 5, (16, 1))
    numbers = {"uar": recalls(np.arange(C), C, np.ones(2, bool)), "macro_f1": f1s(np.arange(C), C, np.ones(2, bool))}
    group, block = np.arange(16) // 8, np.zeros(16, dtype=np.int64)
    alike = p_values(Members(right, group, block, 2, True), numbers, draws=200, rng=np.random.default_rng(0))
    assert alike == {"uar": 1.0, "macro_f1": 1.0}
    wrong = right.copy()
    wrong[8:] = np.roll(np.eye(C), 1, axis=1).reshape(-1) * 5
    for in_errors in (True, False):
        found = p_values(Members(wrong, group, block, 2, in_errors), numbers, draws=200, rng=np.random.default_rng(0))
        assert max(found.values()) < 0.02
