from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.feature_mixup import FeatureMixup
from serkit.errors import SerkitError


def clip(label: int, **frames: tuple[int, float]) -> Example:
    features = {name: np.full((n, 3), level, dtype=np.float32) for name, (n, level) in frames.items()}
    return Example(np.eye(2)[label], features=features)


def test_mixture_and_label_follow_weight_and_coverage() -> None:
    for seed in range(50):
        mixed = FeatureMixup(alpha=1.0)(
            clip(0, a=(10, 0.0), b=(20, 0.0)), np.random.default_rng(seed), clip(1, a=(4, 1.0), b=(40, 1.0))
        )
        a, b = mixed.features["a"][:, 0], mixed.features["b"][:, 0]
        weight = b[0]
        assert 0 < weight <= 0.5
        assert b == pytest.approx(np.full(20, weight))
        inside = np.flatnonzero(a)
        assert len(inside) == 4
        assert inside[-1] - inside[0] == 3
        assert a[inside] == pytest.approx(np.full(4, weight))
        assert mixed.target[1] == pytest.approx(weight * (0.4 + 1.0) / 2, rel=1e-5)


def test_partner_of_another_shape_is_refused() -> None:
    with pytest.raises(SerkitError, match="'a' are 3 wide, the partner's: none"):
        FeatureMixup()(clip(0, a=(5, 0.0)), np.random.default_rng(0), clip(1, b=(5, 0.0)))
    with pytest.raises(SerkitError, match="alpha"):
        FeatureMixup(alpha=0)
