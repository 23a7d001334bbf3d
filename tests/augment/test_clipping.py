from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.clipping import Clipping
from serkit.errors import SerkitError


def clip(samples: list[float]) -> Example:
    return Example(np.array([1.0]), np.array(samples, dtype=np.float32))


def test_peaks_are_cut_and_the_rest_stays() -> None:
    after = Clipping(low_db=6.0206, high_db=6.0206)(clip([0.8, -0.8, 0.39, -0.1, 0.5]), np.random.default_rng(0))
    assert after.samples == pytest.approx([0.4, -0.4, 0.39, -0.1, 0.4], abs=1e-5)
    assert np.array_equal(Clipping(low_db=0, high_db=0)(clip([0.5, -0.2]), np.random.default_rng(0)).samples,
                          clip([0.5, -0.2]).samples)  # fmt: skip


def test_the_level_is_drawn_within_the_range() -> None:
    peaks = [Clipping()(clip([0.8, 0.1]), np.random.default_rng(s)).samples.max() for s in range(300)]
    below_db = -20 * np.log10(np.array(peaks) / 0.8)
    assert 3 <= below_db.min() < 3.5
    assert 14.5 < below_db.max() <= 15.001


def test_a_level_above_the_peak_is_refused() -> None:
    with pytest.raises(SerkitError, match=r"runs from -3 to 15\.0, expected low ≤ high from 0 on"):
        Clipping(low_db=-3)
