"""The arithmetic of an adaptation, against numpy on all frames at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serkit.errors import SerkitError
from serkit.serving.adaptation import LEAST_DEVIATION, PRIOR, Adaptation, Moments, from_arrays, to_arrays


def frames(seed: int, n: int = 40, dim: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * [1, 5, 0.2] + [0, -30, 4]).astype(np.float32)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int]) -> None:
    parts = [frames(k, n) for k, n in enumerate(sizes)]
    total = Moments.of(parts[0])
    for part in parts[1:]:
        total = total + Moments.of(part)
    whole = np.concatenate(parts).astype(np.float64)
    assert total.frames == len(whole)
    assert total.mean == pytest.approx(whole.mean(axis=0), rel=1e-9, abs=1e-9)
    assert total.deviation == pytest.approx(whole.std(axis=0), rel=1e-6, abs=1e-6)


def test_many_pieces_bring_the_features_to_the_trainings_moments() -> None:
    own, trained = frames(0, 2000), {"a": (np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 1.0]))}
    found = Adaptation.from_moments({"a": Moments.of(own)}, trained, pieces=10**9)
    moved = found.apply({"a": own})["a"].astype(np.float64)
    assert moved.mean(axis=0) == pytest.approx(trained["a"][0], abs=1e-3)
    assert moved.std(axis=0) == pytest.approx(trained["a"][1], rel=1e-3)
    assert moved.dtype == np.float64
    assert found.apply({"a": own})["a"].dtype == np.float32


def test_few_pieces_are_drawn_to_the_training_and_none_change_nothing() -> None:
    own, mean, deviation = frames(0, 500), np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 1.0])
    heard = {"a": Moments.of(own)}
    nothing = Adaptation.from_moments(heard, {"a": (mean, deviation)}, pieces=0)
    assert nothing.apply({"a": own})["a"] == pytest.approx(own, rel=1e-5, abs=1e-4)
    half = Adaptation.from_moments(heard, {"a": (mean, deviation)}, pieces=int(PRIOR))
    scale = np.sqrt(deviation / own.std(axis=0))
    assert half.scale["a"] == pytest.approx(scale, rel=1e-4)
    between = (own.mean(axis=0) + mean) / 2
    assert between * half.scale["a"] + half.offset["a"] == pytest.approx(mean, abs=1e-3)


def test_a_feature_that_does_not_move_is_not_blown_up() -> None:
    still = np.full((50, 1), 7.0, dtype=np.float32)
    found = Adaptation.from_moments({"a": Moments.of(still)}, {"a": (np.zeros(1), np.ones(1))}, pieces=10**9)
    assert found.scale["a"] == pytest.approx([1 / LEAST_DEVIATION])
    assert found.apply({"a": still})["a"] == pytest.approx(np.zeros((50, 1)), abs=1e-5)


def test_features_without_statistics_stay() -> None:
    found = Adaptation.from_moments({"a": Moments.of(frames(0))}, {"a": (np.zeros(3), np.ones(3))}, pieces=5)
    given_ = {"a": frames(1), "b": frames(2)}
    assert found.apply(given_)["b"] is given_["b"]


def test_arrays_go_into_a_file_and_come_back_by_feature() -> None:
    features = {"a": {"spec": {"dim": 2}}, "z[k=1]": {"spec": {"dim": 3}}}
    arrays = to_arrays(({"z[k=1]": np.arange(3.0)}, {"z[k=1]": np.ones(3)}), ("mean", "deviation"), features)
    assert sorted(arrays) == ["1.deviation", "1.mean"]
    mean, deviation = from_arrays(arrays, ("mean", "deviation"), features, "here")
    assert mean["z[k=1]"].tolist() == [0, 1, 2]
    assert list(deviation) == ["z[k=1]"]
    for other in (np.ones(2), np.ones((1, 3)), np.array([1.0, np.nan, 1.0]), np.ones(3, dtype=bool)):
        with pytest.raises(
            SerkitError, match=r"here is damaged: mean of 'z\[k=1\]' is expected to be 3 finite numbers"
        ):
            from_arrays({**arrays, "1.mean": other}, ("mean", "deviation"), features, "here")
    with pytest.raises(SerkitError, match="mean and deviation are not of the same features"):
        from_arrays({"1.mean": arrays["1.mean"]}, ("mean", "deviation"), features, "here")
