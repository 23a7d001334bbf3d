from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.generalized_cross_entropy import generalized_cross_entropy
from serkit.tensors import Batch, Outputs

LABELS = [0, 1, 2, 1]


def batch_of(targets: torch.Tensor | None = None) -> Batch:
    return Batch(tuple("abcd"), {}, {}, torch.tensor(LABELS), targets=targets)


def logits_of() -> torch.Tensor:
    torch.manual_seed(1)
    return (2 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_agrees_with_a_slow_reference_and_its_gradient(q: float, soft: bool) -> None:
    logits = logits_of()
    targets = F.one_hot(torch.tensor(LABELS), 3).double()
    targets = 0.6 * targets + 0.4 * targets.roll(1, dims=0) if soft else targets
    value = generalized_cross_entropy(Outputs(logits), batch_of(targets if soft else None), q=q)
    expected = torch.zeros((), dtype=torch.float64)
    for z, t in zip(logits, targets, strict=True):
        p = z.exp() / z.exp().sum()
        expected = expected + sum(t[c] * (1 - p[c] ** q) / q for c in range(3)) / 4
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    ours, theirs = torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-9)


def test_limits_are_cross_entropy_and_mean_absolute_error() -> None:
    logits = logits_of().detach()
    cross_entropy = F.cross_entropy(logits, torch.tensor(LABELS)).item()
    assert generalized_cross_entropy(Outputs(logits), batch_of(), q=1e-6).item() == pytest.approx(
        cross_entropy, rel=1e-4
    )
    absolute = (F.one_hot(torch.tensor(LABELS), 3) - logits.softmax(dim=1)).abs().sum(dim=1).mean().item()
    assert generalized_cross_entropy(Outputs(logits), batch_of(), q=1.0).item() == pytest.approx(absolute / 2)


def test_an_impossible_answer_stays_finite() -> None:
    logits = torch.tensor([[-300.0, 0.0, 0.0]] * 4, requires_grad=True)
    value = generalized_cross_entropy(Outputs(logits), batch_of())
    value.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("q", [0.0, 1.5])
def test_q_out_of_range_is_refused(q: float) -> None:
    with pytest.raises(SerkitError, match="q is"):
        generalized_cross_entropy(Outputs(torch.zeros(4, 3)), batch_of(), q=q)
