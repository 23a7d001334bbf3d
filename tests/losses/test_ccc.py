from __future__ import annotations

import numpy as np
import pytest
import torch

from serkit.errors import SerkitError
from serkit.losses.ccc import ccc

from .attributes import NAN, batch_of, drawn, outputs_of


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's coefficient from NumPy's population covariance."""
    c = np.cov(x, y, bias=True)
    return float(2 * c[0, 1] / (c[0, 0] + c[1, 1] + (x.mean() - y.mean()) ** 2))


def test_agrees_with_numpy() -> None:
    predicted, gold = drawn()
    each = [concordance(predicted.detach().numpy()[:, a], gold.numpy()[:, a]) for a in range(3)]
    assert ccc(outputs_of(predicted), batch_of(gold)).item() == pytest.approx(3 - sum(each), abs=1e-6)
    weighted = ccc(outputs_of(predicted), batch_of(gold), weights=(0.5, 0, 2)).item()
    assert weighted == pytest.approx(0.5 * (1 - each[0]) + 2 * (1 - each[2]), abs=1e-6)


def test_gradient_agrees_with_finite_differences() -> None:
    predicted, gold = drawn()
    gold[1, 2] = NAN
    assert torch.autograd.gradcheck(lambda p: ccc(outputs_of(p), batch_of(gold)), (predicted,))


def test_zero_when_equal_two_when_opposite() -> None:
    _, gold = drawn()
    assert ccc(outputs_of(gold), batch_of(gold)).item() == pytest.approx(0, abs=1e-6)
    centred = gold - gold.mean(dim=0)
    assert ccc(outputs_of(-centred), batch_of(centred)).item() == pytest.approx(6, abs=1e-6)


def test_unknown_ratings_are_left_out() -> None:
    predicted, gold = drawn()
    gold[[0, 3], 0] = NAN
    gold[1:, 1] = NAN  # one clip left: nothing to correlate
    kept = [1, 2, 4, 5]
    first = 1 - concordance(predicted.detach().numpy()[kept, 0], gold.numpy()[kept, 0])
    third = 1 - concordance(predicted.detach().numpy()[:, 2], gold.numpy()[:, 2])
    value = ccc(outputs_of(predicted), batch_of(gold))
    assert value.item() == pytest.approx(first + third, abs=1e-6)
    slope = torch.autograd.grad(value, predicted)[0]
    assert torch.isfinite(slope).all()
    assert not slope[[0, 3], 0].any()
    assert not slope[:, 1].any()


def test_what_has_no_weight_may_be_answered_with_nothing() -> None:
    predicted, gold = drawn()
    whole = ccc(outputs_of(predicted), batch_of(gold), weights=(1, 0, 1))
    with torch.no_grad():
        predicted[:, 1] = NAN
    value = ccc(outputs_of(predicted), batch_of(gold), weights=(1, 0, 1))
    assert value.item() == pytest.approx(whole.item())
    assert torch.isfinite(torch.autograd.grad(value, predicted)[0]).all()


def test_one_rating_alone_is_left_out_and_may_be_answered_with_nothing() -> None:
    predicted, gold = drawn()
    gold[1:, 1] = NAN
    whole = ccc(outputs_of(predicted), batch_of(gold))
    with torch.no_grad():
        predicted[:, 1] = NAN
    value = ccc(outputs_of(predicted), batch_of(gold))
    assert value.item() == pytest.approx(whole.item())
    assert torch.isfinite(torch.autograd.grad(value, predicted)[0]).all()


def test_constant_answers_and_no_ratings_stay_finite() -> None:
    _, gold = drawn()
    flat = torch.full((6, 3), 4.0, dtype=torch.float64, requires_grad=True)
    value = ccc(outputs_of(flat), batch_of(gold))
    value.backward()
    assert torch.isfinite(flat.grad).all()
    none = ccc(outputs_of(flat), batch_of(torch.full((6, 3), NAN)))
    assert none.item() == 0
    none.backward()


def test_missing_head_or_ratings_are_said() -> None:
    predicted, gold = drawn()
    with pytest.raises(SerkitError, match="attribute head"):
        ccc(outputs_of(None), batch_of(gold))
    with pytest.raises(SerkitError, match="these clips have none: leave it out"):
        ccc(outputs_of(predicted), batch_of(None))
    with pytest.raises(SerkitError, match="weights"):
        ccc(outputs_of(predicted), batch_of(gold), weights=(1.0,))
