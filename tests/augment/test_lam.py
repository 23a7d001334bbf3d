from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.lam import Lam

MAIN = Example(np.array([1.0, 0.0]), np.array([0.2, -0.4, 0.2], dtype=np.float32))
OTHER = Example(np.array([0.0, 1.0]), np.array([0.1], dtype=np.float32))


def test_half_and_half_from_the_beginning_with_labels_by_length() -> None:
    mixed = Lam()(MAIN, np.random.default_rng(0), OTHER)
    assert mixed.samples.tolist() == pytest.approx([0.25 + 0.5, -0.5, 0.25])
    assert mixed.target.tolist() == pytest.approx([0.75, 0.25])


def test_longer_partner_makes_the_result_longer() -> None:
    mixed = Lam(normalize=False)(OTHER, np.random.default_rng(0), MAIN)
    assert mixed.samples.tolist() == pytest.approx([0.05 + 0.1, -0.2, 0.1])
    assert mixed.target.tolist() == pytest.approx([0.75, 0.25])  # OTHER is the main clip here: 1/4 its own
