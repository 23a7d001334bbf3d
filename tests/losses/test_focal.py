from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.focal import focal
from serkit.tensors import Batch, Outputs

COUNTS = torch.tensor([100, 10, 40])


def batch_of(labels: list[int], targets: torch.Tensor | None = None) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets)


def reference(logits: torch.Tensor, targets: torch.Tensor, gamma: float, weights: list[float]) -> torch.Tensor:
    total = torch.zeros((), dtype=logits.dtype)
    for z, t in zip(logits, targets, strict=True):
        p = z.exp() / z.exp().sum()
        for c in range(len(z)):
            total = total + t[c] * weights[c] * (1 - p[c]) ** gamma * -torch.log(p[c])
    return total / len(logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_agrees_with_a_slow_reference_and_its_gradient(gamma: float, weighted: bool, soft: bool) -> None:
    torch.manual_seed(0)
    logits = (2 * torch.randn(7, 3, dtype=torch.float64)).requires_grad_()
    labels = [0, 1, 2, 2, 1, 0, 0]
    targets = F.one_hot(torch.tensor(labels), 3).double()
    if soft:
        targets = 0.7 * targets + 0.3 * targets.roll(1, dims=0)
    weights = [150 / 300, 150 / 30, 150 / 120] if weighted else [1.0, 1.0, 1.0]
    value = focal(
        Outputs(logits),
        batch_of(labels, targets if soft else None),
        gamma=gamma,
        class_weights="inverse_frequency" if weighted else None,
        class_counts=COUNTS,
    )
    expected = reference(logits, targets, gamma, weights)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    ours, theirs = torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_gamma_zero_is_cross_entropy() -> None:
    logits = torch.randn(5, 3)
    value = focal(Outputs(logits), batch_of([0, 1, 2, 0, 1]), gamma=0.0)
    assert value.item() == pytest.approx(F.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).item(), rel=1e-5)


def test_class_weights_act_on_each_clip() -> None:
    """Regression: (B, 1) losses times (B,) weights broadcast to (B, B), whose mean is mean(loss) · mean(weight)."""
    logits = torch.tensor([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]], dtype=torch.float64)
    batch = batch_of([0, 1])  # the first is right, the second wrong
    weights = [1.0, 9.0, 1.0]
    value = focal(Outputs(logits), batch, class_weights=weights).item()
    p = torch.softmax(logits[0], dim=0).tolist()
    losses = [(1 - p[0]) ** 2 * -math.log(p[0]), (1 - p[1]) ** 2 * -math.log(p[1])]
    assert value == pytest.approx((1.0 * losses[0] + 9.0 * losses[1]) / 2)
    assert value != pytest.approx(5.0 * (losses[0] + losses[1]) / 2, rel=0.1)


def test_confident_and_right_stays_finite() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value = focal(Outputs(logits), batch_of([0]), gamma=0.5)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_negative_gamma_is_refused() -> None:
    with pytest.raises(SerkitError, match="gamma"):
        focal(Outputs(torch.zeros(1, 3)), batch_of([0]), gamma=-1)
