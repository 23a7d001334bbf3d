from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.gain import Gain


def clip(level: float) -> Example:
    return Example(np.array([1.0]), level * np.array([1, -1, 0.5], dtype=np.float32))


def test_factor_is_the_gain_asked_for() -> None:
    louder = Gain(low_db=6, high_db=6)(clip(0.1), np.random.default_rng(0))
    assert louder.samples == pytest.approx(clip(0.1).samples * 10 ** (6 / 20), rel=1e-6)
    drawn = [20 * np.log10(Gain()(clip(0.1), np.random.default_rng(s)).samples[0] / 0.1) for s in range(300)]
    assert -10 <= min(drawn) < -9 < 9 < max(drawn) <= 10.001


def test_never_louder_than_full_scale() -> None:
    assert Gain(low_db=40, high_db=40)(clip(0.5), np.random.default_rng(0)).samples.tolist() == [1, -1, 0.5]
