from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example, apply_chain
from serkit.augment.crop import Crop
from serkit.augment.lam import Lam
from serkit.errors import SerkitError


def clip(n: int, label: int = 0) -> Example:
    return Example(np.eye(2)[label], np.arange(n, dtype=np.float32) / n)


def test_a_stretch_of_the_clip_from_anywhere() -> None:
    long, rng = clip(16_000), np.random.default_rng(0)
    starts = []
    for _ in range(300):
        cut = Crop(max_s=0.25)(long, rng)
        assert cut.samples is not None
        assert len(cut.samples) == 4_000
        start = round(float(cut.samples[0]) * 16_000)
        assert np.array_equal(cut.samples, long.samples[start : start + 4_000])  # type: ignore[index]
        assert np.array_equal(cut.target, long.target)
        starts.append(start)
    assert min(starts) < 500
    assert max(starts) > 11_500


def test_what_is_not_longer_is_the_same_object() -> None:
    short = clip(4_000)
    assert Crop(max_s=0.25)(short, np.random.default_rng(0)) is short


def test_before_a_mixture_both_are_cropped() -> None:
    chain = [Crop(max_s=0.25), Lam(probability=1.0)]
    mixed = apply_chain(chain, clip(16_000), np.random.default_rng(0), lambda _: clip(9_000, 1))
    assert mixed.samples is not None
    assert len(mixed.samples) == 4_000
    assert mixed.target.tolist() == [0.5, 0.5]


def test_a_length_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SerkitError, match=r"max_s is 0\.0, expected at least 0.1"):
        Crop(max_s=0.0)
