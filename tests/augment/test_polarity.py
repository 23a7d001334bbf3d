from __future__ import annotations

import numpy as np

from serkit.augment import Example
from serkit.augment.polarity import Polarity


def test_every_sample_changes_its_sign() -> None:
    example = Example(np.array([1.0]), np.array([0.5, -0.25, 0], dtype=np.float32))
    assert Polarity()(example, np.random.default_rng(0)).samples.tolist() == [-0.5, 0.25, 0]
