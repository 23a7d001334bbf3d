from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.vector_scaling import vector_scaling
from serkit.tensors import Batch, Outputs

LABELS = torch.tensor([0, 1, 2, 1])
COUNTS = torch.tensor([80, 5, 15])
BATCH = Batch(tuple("abcd"), {}, {}, LABELS)


def logits_of() -> torch.Tensor:
    torch.manual_seed(2)
    return (2 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()


def test_agrees_with_a_slow_reference_and_its_gradient() -> None:
    logits = logits_of()
    value = vector_scaling(Outputs(logits), BATCH, class_counts=COUNTS)
    expected = torch.zeros((), dtype=torch.float64)
    for z, label in zip(logits, LABELS.tolist(), strict=True):
        moved = [z[c] * (n / 80) ** 0.3 + math.log(n / 100) for c, n in enumerate([80, 5, 15])]
        expected = expected - (moved[label] - torch.logsumexp(torch.stack(moved), dim=0)) / 4
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    ours, theirs = torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-9)


def test_without_scaling_and_shift_it_is_weighted_cross_entropy() -> None:
    logits = logits_of()
    weights = [1.0, 4.0, 2.0]
    value = vector_scaling(Outputs(logits), BATCH, gamma=0, tau=0, class_weights=weights, class_counts=COUNTS)
    rows = F.cross_entropy(logits, LABELS, reduction="none") * torch.tensor(weights, dtype=torch.float64)[LABELS]
    assert value.item() == pytest.approx(rows.mean().item())


def test_rare_classes_must_win_by_a_margin() -> None:
    even = Outputs(torch.zeros(1, 3))
    rare, common = (
        vector_scaling(even, Batch(("a",), {}, {}, torch.tensor([c])), class_counts=COUNTS).item() for c in (1, 0)
    )
    assert rare == pytest.approx(-math.log(0.05), rel=1e-5)
    assert common == pytest.approx(-math.log(0.8), rel=1e-5)


def test_an_empty_class_stays_finite_and_counts_are_needed() -> None:
    value = vector_scaling(Outputs(logits_of()), BATCH, class_counts=torch.tensor([80, 0, 15]))
    assert math.isfinite(value.item())
    with pytest.raises(SerkitError, match="class_counts"):
        vector_scaling(Outputs(logits_of()), BATCH)


def test_large_counts_in_half_precision() -> None:
    value = vector_scaling(Outputs(logits_of().half()), BATCH, class_counts=torch.tensor([800_000, 5, 15]))
    assert math.isfinite(value.item())
