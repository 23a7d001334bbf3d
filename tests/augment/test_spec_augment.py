from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.spec_augment import SpecAugment
from serkit.errors import SerkitError


def example(time: int = 100, dim: int = 40) -> Example:
    rng = np.random.default_rng(0)
    return Example(np.array([1.0]), features={n: 1 + rng.random((time, dim)).astype(np.float32) for n in "ab"})


def test_masks_are_stripes_within_their_bounds() -> None:
    step = SpecAugment(n_time_masks=1, n_dim_masks=1, value="zero")
    widths = []
    for seed in range(300):
        masked = step(example(), np.random.default_rng(seed)).features["a"] == 0
        rows, columns = np.flatnonzero(masked.all(axis=1)), np.flatnonzero(masked.all(axis=0))
        for stripe in (rows, columns):
            assert not len(stripe) or stripe[-1] - stripe[0] + 1 == len(stripe)
        rest = np.delete(np.delete(masked, rows, axis=0), columns, axis=1)
        assert not rest.any()
        widths.append((len(rows), len(columns)))
    assert np.max(widths, axis=0).tolist() == [20, 6]  # 0.2 · 100 frames, 0.15 · 40 dimensions
    assert np.min(widths, axis=0).tolist() == [0, 0]
    assert (
        SpecAugment(max_time_frames=3, n_dim_masks=0, n_time_masks=1, value="zero")(example(), np.random.default_rng(5))
        .features["a"]
        .any(axis=1)
        .sum()
        >= 97
    )


def test_mean_is_that_of_the_clip() -> None:
    before = example().features["a"]
    after = SpecAugment(n_dim_masks=0)(example(), np.random.default_rng(3)).features["a"]
    rows = np.flatnonzero((after != before).any(axis=1))
    assert len(rows)
    assert after[rows] == pytest.approx(np.broadcast_to(before.mean(axis=0), after[rows].shape), rel=1e-5)


def test_only_the_named_features() -> None:
    after = SpecAugment(encoders=("b",))(example(), np.random.default_rng(3))
    assert np.array_equal(after.features["a"], example().features["a"])
    assert not np.array_equal(after.features["b"], example().features["b"])
    with pytest.raises(SerkitError, match="no features 'c'"):
        SpecAugment(encoders=("c",))(example(), np.random.default_rng(3))


def test_one_frame_is_never_masked_away() -> None:
    for seed in range(50):
        assert SpecAugment(value="zero")(example(time=1, dim=4), np.random.default_rng(seed)).features["a"].any()
