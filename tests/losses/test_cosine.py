"""The reference is SciPy's cosine distance, row by row; the shared rules for targets are tested with ``kl_soft``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as distance

from serkit.losses.cosine import cosine
from serkit.losses.kl_soft import kl_soft
from serkit.metrics import distribution_distances
from serkit.tensors import Batch, Outputs

VOTES = torch.tensor([[1, 3, 1, 0], [0.25, 0.25, 0.5, 0], [0, 0, 0, 1.0]], dtype=torch.float64)


def batch_of(labels: list[int], targets: torch.Tensor | None = None, **more: torch.Tensor) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets, **more)


def logits_of(rows: int, classes: int = 4) -> torch.Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(rows, classes, dtype=torch.float64)).requires_grad_()


def softmax(rows: np.ndarray) -> np.ndarray:
    grown = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def test_agrees_with_scipy_row_by_row() -> None:
    logits = logits_of(3)
    shares = softmax(logits.detach().numpy())
    expected = np.mean([distance(p, t) for p, t in zip(shares, VOTES.numpy(), strict=True)])
    assert cosine(Outputs(logits), batch_of([-1, 0, 3], VOTES)).item() == pytest.approx(expected, abs=1e-12)
    measured = distribution_distances((VOTES / VOTES.sum(1, keepdim=True)).numpy(), shares)["cosine"]
    assert measured.mean() == pytest.approx(1 - expected), "what reports call cosine similarity"


def test_labels_serve_where_there_are_no_votes() -> None:
    logits = logits_of(3)
    one_hot = np.eye(4)[[2, 0, 3]]
    expected = np.mean([distance(p, t) for p, t in zip(softmax(logits.detach().numpy()), one_hot, strict=True)])
    assert cosine(Outputs(logits), batch_of([2, 0, 3])).item() == pytest.approx(expected)


def test_its_least_value_is_at_the_target_and_its_largest_at_other_classes() -> None:
    shares = VOTES[:2] / VOTES[:2].sum(dim=1, keepdim=True)
    assert cosine(Outputs(shares.clamp(min=1e-30).log()), batch_of([-1, -1], VOTES[:2])).item() == pytest.approx(0)
    never = torch.tensor([[0.0, 0, 0, 500], [0, 0, 0, 500]])
    assert cosine(Outputs(never), batch_of([-1, -1], VOTES[:2])).item() == pytest.approx(1)


def test_what_the_divergence_cannot_bear_weighs_little() -> None:
    """A rare vote whose class gets no share: the divergence grows without end with the logit, the cosine does not."""
    votes = torch.tensor([[0.95, 0.05]], dtype=torch.float64)
    values = [
        (kl_soft(o, batch_of([0], votes)).item(), cosine(o, batch_of([0], votes)).item())
        for o in (Outputs(torch.tensor([[z, 0.0]], dtype=torch.float64)) for z in (3.0, 30.0, 300.0))
    ]
    assert values[2][0] > 9 * values[1][0] > 9 * values[0][0]
    assert values[2][1] == pytest.approx(values[1][1], abs=1e-9)
    assert values[2][1] < 0.01


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits = logits_of(3)
    batch = batch_of([-1, 0, 3], VOTES)
    assert torch.autograd.gradcheck(lambda x: cosine(Outputs(x), batch), logits)


def test_classes_that_a_corpus_cannot_have_take_no_part() -> None:
    logits = logits_of(1)
    mask = torch.tensor([[True, True, False, True]])
    value = cosine(Outputs(logits), batch_of([-1], torch.tensor([[1.0, 2, 0, 1]]), class_mask=mask))
    left = softmax(logits.detach().numpy()[:, [0, 1, 3]])[0]
    assert value.item() == pytest.approx(distance(left, [1, 2, 1]))
    assert torch.autograd.grad(value, logits)[0][0, 2] == 0


def test_rows_without_a_target_do_not_count() -> None:
    logits = logits_of(3)
    targets = torch.stack([VOTES[0], torch.zeros(4).double(), torch.full((4,), float("nan")).double()])
    value = cosine(Outputs(logits), batch_of([-1, -1, -1], targets))
    assert value.item() == pytest.approx(cosine(Outputs(logits[:1]), batch_of([-1], VOTES[:1])).item())
    assert not torch.autograd.grad(value, logits)[0][1:].any()
