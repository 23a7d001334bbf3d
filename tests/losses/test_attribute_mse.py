from __future__ import annotations

import numpy as np
import pytest
import torch

from serkit.errors import SerkitError
from serkit.losses.attribute_mse import _divisor, attribute_mse

from .attributes import NAN, batch_of, drawn, outputs_of


def test_agrees_with_numpy_on_what_is_known() -> None:
    predicted, gold = drawn()
    expected = np.mean((predicted.detach().numpy() - gold.numpy()) ** 2)
    assert attribute_mse(outputs_of(predicted), batch_of(gold)).item() == pytest.approx(expected)
    gold[[0, 3], 0] = NAN
    gold[1:, 1] = NAN
    value = attribute_mse(outputs_of(predicted), batch_of(gold))
    assert value.item() == pytest.approx(np.nanmean((predicted.detach().numpy() - gold.numpy()) ** 2))
    slope = torch.autograd.grad(value, predicted)[0]
    assert torch.isfinite(slope).all()
    assert not slope[torch.isnan(gold)].any()
    assert slope[torch.isfinite(gold)].all()


def test_gradient_agrees_with_finite_differences() -> None:
    predicted, gold = drawn()
    gold[1, 2] = NAN
    assert torch.autograd.gradcheck(lambda p: attribute_mse(outputs_of(p), batch_of(gold)), (predicted,))


def test_nothing_known_is_0() -> None:
    predicted, gold = drawn()
    none = attribute_mse(outputs_of(predicted), batch_of(torch.full_like(gold, NAN)))
    none.backward()
    assert none.item() == 0
    assert not predicted.grad.any()


def test_parts_of_a_batch_add_up_by_what_is_known_in_each() -> None:
    predicted, gold = drawn()
    gold[:2] = NAN
    gold[4, 1] = NAN
    whole = attribute_mse(outputs_of(predicted), batch_of(gold)).item()
    parts = [slice(0, 3), slice(3, 6)]
    sizes = [_divisor(batch_of(gold[s], 3)) for s in parts]
    assert sizes == [3.0, 8.0]
    values = [attribute_mse(outputs_of(predicted[s], 3), batch_of(gold[s], 3)).item() for s in parts]
    assert sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes) == pytest.approx(whole)
    assert _divisor(batch_of(None)) == 0


def test_missing_head_or_ratings_are_said() -> None:
    predicted, gold = drawn()
    with pytest.raises(SerkitError, match="'attribute_mse' needs a network with an attribute head"):
        attribute_mse(outputs_of(None), batch_of(gold))
    with pytest.raises(SerkitError, match="these clips have none: leave it out"):
        attribute_mse(outputs_of(predicted), batch_of(None))
