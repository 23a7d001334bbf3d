from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.overlap_mix import OverlapMix
from serkit.errors import SerkitError

RATE = 16000


def clip(n: int, level: float, target: list[float]) -> Example:
    return Example(np.array(target), np.full(n, level, dtype=np.float32))


def test_lengths_levels_and_average_label() -> None:
    a, b = clip(5 * RATE, 0.25, [1, 0]), clip(3 * RATE, 0.5, [0.5, 0.5])
    orders, overlaps = set(), []
    for seed in range(60):
        mixed = OverlapMix()(a, np.random.default_rng(seed), b)
        overlap = 8 * RATE - len(mixed.samples)
        assert 0 <= overlap <= 2 * RATE
        assert np.sum(mixed.samples == 0.75) == overlap
        assert np.sum(mixed.samples == 0.25) == 5 * RATE - overlap
        assert np.sum(mixed.samples == 0.5) == 3 * RATE - overlap
        assert mixed.target.tolist() == [0.75, 0.25]
        orders.add(float(mixed.samples[0]))
        overlaps.append(overlap / RATE)
    assert orders == {0.25, 0.5}
    assert np.mean(overlaps) == pytest.approx(1.0, abs=0.3)


def test_plain_concatenation_without_overlap() -> None:
    a, b = clip(10, 0.25, [1, 0]), clip(30, 0.5, [0, 1])
    mixed = OverlapMix(overlap_high_s=0.0, label="length")(a, np.random.default_rng(0), b)
    assert len(mixed.samples) == 40
    assert mixed.target.tolist() == [0.25, 0.75]


def test_overlap_is_at_most_the_shorter_clip() -> None:
    mixed = OverlapMix(overlap_low_s=2.0)(clip(100, 0.25, [1, 0]), np.random.default_rng(0), clip(7, 0.5, [0, 1]))
    assert len(mixed.samples) == 100
    assert np.sum(mixed.samples == 0.75) == 7


def test_negative_overlap_is_refused() -> None:
    with pytest.raises(SerkitError, match="from 0 on"):
        OverlapMix(overlap_low_s=-1.0)
