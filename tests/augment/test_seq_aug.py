from __future__ import annotations

import numpy as np
import pytest
import torch

from serkit.augment import Example
from serkit.augment.seq_aug import SeqAug
from serkit.errors import SerkitError
from serkit.models.mdat import Mdat
from serkit.models.mean_pool import MeanPool
from serkit.tensors import Batch, pad_sequences


def example(time: int = 30, dim: int = 20) -> Example:
    rng = np.random.default_rng(0)
    return Example(np.array([1.0]), features={n: rng.random((time, dim)).astype(np.float32) for n in "ab"})


def test_chosen_dimensions_move_together_and_the_others_stay() -> None:
    before, shares = example().features["a"], []
    for seed in range(200):
        after = SeqAug()(example(), np.random.default_rng(seed)).features["a"]
        moved = (after != before).any(axis=0)
        shares.append(moved.mean())
        if moved.any():
            first = np.flatnonzero(moved)[0]
            order = [int(np.flatnonzero(before[:, first] == value)[0]) for value in after[:, first]]
            assert sorted(order) == list(range(30))
            np.testing.assert_array_equal(after[:, moved], before[order][:, moved])
    # int(w * 20) / 20 for w ~ Beta(½, ½), the arcsine law: rounding down takes 1/40 off a mean of ½
    assert np.mean(shares) == pytest.approx(0.475, abs=0.08)
    assert np.mean(np.array(shares) < 0.2) == pytest.approx(2 / np.pi * np.arcsin(np.sqrt(0.2)), abs=0.1)


def test_only_named_encoders_change() -> None:
    before = example()
    results = [SeqAug(encoders=("b",))(before, np.random.default_rng(seed)) for seed in range(5)]
    assert all(np.array_equal(r.features["a"], before.features["a"]) for r in results)
    assert not all(np.array_equal(r.features["b"], before.features["b"]) for r in results)
    with pytest.raises(SerkitError, match=r"no features 'c'; the example has \['a', 'b'\]"):
        SeqAug(encoders=("c",))(before, np.random.default_rng(0))


def test_one_frame_stays_as_it_is() -> None:
    before = example(time=1)
    after = SeqAug()(before, np.random.default_rng(0))
    np.testing.assert_array_equal(after.features["a"], before.features["a"])


def test_alpha_is_positive() -> None:
    with pytest.raises(SerkitError, match="alpha is 0"):
        SeqAug(alpha=0)


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_a_network_that_pools_first_sees_nothing_of_it(pooling: str) -> None:
    torch.manual_seed(0)
    dims = {"a": 20, "b": 20}
    pooled = MeanPool(dims=dims, n_classes=3, hidden=8, pooling=pooling, project=6).eval()
    attends = Mdat(dims=dims, n_classes=3, hidden=8).eval()
    before = example()
    after = SeqAug()(before, np.random.default_rng(3))
    assert any(not np.array_equal(after.features[n], before.features[n]) for n in "ab")
    one, two = (batch(e) for e in (before, after))
    torch.testing.assert_close(pooled(one).emotion, pooled(two).emotion, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(attends(one).emotion, attends(two).emotion, atol=1e-4)


def batch(given: Example) -> Batch:
    padded = {name: pad_sequences([frames]) for name, frames in given.features.items()}
    features, lengths = ({name: pair[k] for name, pair in padded.items()} for k in (0, 1))
    return Batch(("x",), features, lengths, torch.tensor([0]))
