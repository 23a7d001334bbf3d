from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from serkit.errors import SerkitError
from serkit.loss_sum import LossSum


def values(a: float, b: float) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor(a, requires_grad=True), "b": torch.tensor(b, requires_grad=True)}


def test_fixed_is_the_weighted_sum() -> None:
    given = values(2.0, 3.0)
    total = LossSum(["a", "b"], [1.0, 0.5])(given)
    assert total.item() == pytest.approx(3.5)
    total.backward()
    assert given["a"].grad == 1.0
    assert given["b"].grad == 0.5


def test_initial_divides_by_the_first_value_that_is_not_zero() -> None:
    scaled = LossSum(["a", "b"], [1.0, 2.0], "initial")
    assert scaled(values(4.0, 0.0)).item() == pytest.approx(1.0)
    given = values(2.0, 5.0)
    total = scaled(given)
    assert total.item() == pytest.approx(0.5 + 2.0)
    total.backward()
    assert given["a"].grad == 0.25, "the divisor is a constant to the gradient"
    assert scaled(values(8.0, 10.0)).item() == pytest.approx(2.0 + 4.0)


def test_running_max_keeps_every_component_in_0_1() -> None:
    scaled = LossSum(["a", "b"], [1.0, 1.0], "running_max")
    largest = {"a": 0.0, "b": 0.0}
    torch.manual_seed(0)
    for _ in range(50):
        a, b = (10 * torch.rand(2)).tolist()
        largest = {"a": max(largest["a"], a), "b": max(largest["b"], b)}
        assert scaled(values(a, b)).item() == pytest.approx(a / largest["a"] + b / largest["b"], rel=1e-5)
        parts = scaled.components(values(a, b))
        assert parts == pytest.approx({"a": a / largest["a"], "b": b / largest["b"]}, rel=1e-5)
        assert all(0 <= p <= 1 for p in parts.values())


@pytest.mark.parametrize("rule", ["initial", "running_max"])
def test_evaluation_changes_no_state_and_a_fresh_sum_scales_by_one(rule: str) -> None:
    scaled = LossSum(["a", "b"], [1.0, 1.0], rule).eval()  # type: ignore[arg-type]
    assert scaled(values(3.0, 4.0)).item() == 7.0
    scaled.train()(values(2.0, 2.0))
    scaled.eval()(values(100.0, 100.0))
    assert scaled(values(2.0, 2.0)).item() == 2.0


@pytest.mark.parametrize("rule", ["initial", "running_max"])
def test_a_loss_that_is_not_finite_leaves_no_trace(rule: str) -> None:
    scaled = LossSum(["a", "b"], [1.0, 1.0], rule)  # type: ignore[arg-type]
    assert math.isnan(scaled(values(float("nan"), 1.0)).item())
    assert scaled(values(2.0, 1.0)).item() == pytest.approx(2.0)


def test_uncertainty_is_learned_and_starts_as_the_weighted_sum() -> None:
    scaled = LossSum(["a", "b"], [1.0, 2.0], "uncertainty")
    total = scaled(values(2.0, 3.0))
    assert total.item() == pytest.approx(8.0)
    total.backward()
    assert scaled.log_variances is not None
    assert scaled.log_variances.grad.tolist() == pytest.approx([-2.0 + 0.5, 2 * (-3.0 + 0.5)])
    with torch.no_grad():
        scaled.log_variances.copy_(torch.tensor([math.log(2.0), 0.0]))
    assert scaled(values(2.0, 3.0)).item() == pytest.approx(2.0 / 2 + math.log(2) / 2 + 6.0)
    (group,) = scaled.param_groups()
    assert group["params"] == [scaled.log_variances]
    assert group["weight_decay"] == 0.0
    assert LossSum(["a"], [1.0]).param_groups() == []


@pytest.mark.parametrize("rule", ["fixed", "initial", "running_max", "uncertainty"])
def test_resuming_goes_on_exactly(rule: str) -> None:
    first = LossSum(["a", "b"], [1.0, 0.3], rule)  # type: ignore[arg-type]
    first(values(1.7, 0.9))
    second = LossSum(["a", "b"], [1.0, 0.3], rule)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(values(0.4, 1.1)), second(values(0.4, 1.1)))
    assert torch.equal(first.divisors, second.divisors)


def test_misuse_is_refused() -> None:
    with pytest.raises(SerkitError, match="did you mean 'running_max'"):
        LossSum(["a"], [1.0], "running_maximum")  # type: ignore[arg-type]
    for names, weights in (([], []), (["a", "a"], [1.0, 1.0]), (["a"], [])):
        with pytest.raises(SerkitError, match="each name once"):
            LossSum(names, weights)
    with pytest.raises(SerkitError, match="not negative"):
        LossSum(["a"], [-1.0])
    with pytest.raises(SerkitError, match="was given"):
        LossSum(["a"], [1.0])({"b": torch.tensor(1.0)})


@pytest.mark.parametrize("rule", ["fixed", "initial", "running_max", "uncertainty"])
def test_other_weights_act_after_the_scaling_of_every_rule(rule: Any) -> None:
    scaled = LossSum(["a", "b"], [1.0, 1.0], rule)
    scaled(values(4.0, 2.0))
    before = scaled.state_dict()
    first = scaled.components(values(2.0, 1.0))
    scaled.set_weights([1.0, 0.01])
    assert scaled.components(values(2.0, 1.0)) == pytest.approx({"a": first["a"], "b": 0.01 * first["b"]})
    assert scaled.state_dict().keys() == before.keys()
    for wrong in ([1.0], [1.0, -0.1], [1.0, math.nan]):
        with pytest.raises(SerkitError, match="weights"):
            scaled.set_weights(wrong)
