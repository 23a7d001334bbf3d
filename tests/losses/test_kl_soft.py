"""The reference is PyTorch's ``kl_div`` on rows one at a time; the shared rules for targets are tested here too."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.kl_soft import kl_soft
from serkit.tensors import Batch, Outputs


def batch_of(labels: list[int], targets: torch.Tensor | None = None, **more: torch.Tensor) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets, **more)


def logits_of(rows: int, classes: int = 4) -> torch.Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(rows, classes, dtype=torch.float64)).requires_grad_()


def gradient(value: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, of)[0]


VOTES = torch.tensor([[1, 3, 1, 0], [0.25, 0.25, 0.5, 0], [0, 0, 0, 1.0]], dtype=torch.float64)


def test_agrees_with_pytorch_row_by_row() -> None:
    logits = logits_of(3)
    value = kl_soft(Outputs(logits), batch_of([-1, 0, 3], VOTES))
    rows = [F.kl_div(F.log_softmax(logits[k], dim=0), VOTES[k] / VOTES[k].sum(), reduction="sum") for k in range(3)]
    reference = torch.stack(rows).mean()
    assert value.item() == pytest.approx(reference.item(), abs=1e-9)
    assert torch.allclose(gradient(value, logits), gradient(reference, logits), atol=1e-9)


def test_one_hot_is_cross_entropy() -> None:
    logits = logits_of(3)
    value = kl_soft(Outputs(logits), batch_of([2, 0, 3]))
    assert value.item() == pytest.approx(F.cross_entropy(logits, torch.tensor([2, 0, 3])).item())


def test_zero_at_the_target_and_positive_elsewhere() -> None:
    share = VOTES[:2] / VOTES[:2].sum(dim=1, keepdim=True)
    right = Outputs(share.clamp(min=1e-30).log())
    assert kl_soft(right, batch_of([-1, -1], VOTES[:2])).item() == pytest.approx(0, abs=1e-12)
    assert kl_soft(Outputs(logits_of(2)), batch_of([-1, -1], VOTES[:2])).item() > 0


def test_weights_act_by_class() -> None:
    logits = logits_of(2)
    targets = VOTES[:2] / VOTES[:2].sum(dim=1, keepdim=True)
    weights, counts = [1.0, 2.0, 0.5, 3.0], torch.tensor([10, 30, 20, 40])
    expected = 0.0
    log_p = F.log_softmax(logits.detach(), dim=1)
    for i in range(2):
        for c in range(4):
            if targets[i, c] > 0:
                expected += weights[c] * float(targets[i, c] * (targets[i, c].log() - log_p[i, c])) / 2
    assert kl_soft(Outputs(logits), batch_of([0, 0], targets), class_weights=weights).item() == pytest.approx(expected)
    inverse = kl_soft(
        Outputs(logits), batch_of([0, 0], targets), class_weights="inverse_frequency", class_counts=counts
    )
    by_hand = kl_soft(Outputs(logits), batch_of([0, 0], targets), class_weights=[2.5, 100 / 120, 1.25, 0.625])
    assert inverse.item() == pytest.approx(by_hand.item())
    rooted = kl_soft(
        Outputs(logits), batch_of([0, 0], targets), class_weights="sqrt_inverse_frequency", class_counts=counts
    )
    by_hand = kl_soft(
        Outputs(logits), batch_of([0, 0], targets), class_weights=[w**0.5 for w in (2.5, 100 / 120, 1.25, 0.625)]
    )
    assert rooted.item() == pytest.approx(by_hand.item())


def test_rows_without_a_target_do_not_count() -> None:
    logits = logits_of(5)
    nothing = torch.zeros(4, dtype=torch.float64)
    targets = torch.stack([VOTES[0], nothing, torch.full((4,), float("nan"), dtype=torch.float64), nothing, VOTES[1]])
    value = kl_soft(Outputs(logits), batch_of([-1, -1, -1, 2, -1], targets))
    kept = [0, 3, 4]
    labelled = torch.stack([VOTES[0], F.one_hot(torch.tensor(2), 4).double(), VOTES[1]])
    alone = kl_soft(Outputs(logits[kept]), batch_of([-1] * 3, labelled))
    assert value.item() == pytest.approx(alone.item())
    assert not gradient(value, logits)[[1, 2]].any()


def test_no_target_at_all_is_zero_with_a_graph() -> None:
    logits = logits_of(2)
    value = kl_soft(Outputs(logits), batch_of([-1, -1]))
    assert value.item() == 0
    assert not gradient(value, logits).any()


def test_classes_that_a_corpus_cannot_have_take_no_part() -> None:
    logits = logits_of(2)
    mask = torch.tensor([[True, True, False, True], [True] * 4])
    value = kl_soft(Outputs(logits), batch_of([1, 2], class_mask=mask))
    first = F.cross_entropy(logits[:1, [0, 1, 3]], torch.tensor([1]))
    second = F.cross_entropy(logits[1:], torch.tensor([2]))
    assert value.item() == pytest.approx(((first + second) / 2).item())
    assert gradient(value, logits)[0, 2] == 0


def test_half_precision_is_computed_in_full() -> None:
    logits = logits_of(3).detach().bfloat16()
    value = kl_soft(Outputs(logits), batch_of([-1, 0, 3], VOTES))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        kl_soft(Outputs(logits.double()), batch_of([-1, 0, 3], VOTES)).item(), rel=1e-5
    )


def test_misuse_is_refused() -> None:
    outputs, batch = Outputs(logits_of(3)), batch_of([0, 1, 2])
    with pytest.raises(SerkitError, match="a label of the batch is 7"):
        kl_soft(outputs, batch_of([0, 7, 1]))
    with pytest.raises(SerkitError, match="targets are"):
        kl_soft(outputs, dataclasses.replace(batch, targets=torch.ones(3, 5)))
    with pytest.raises(SerkitError, match="did you mean 'inverse_frequency'"):
        kl_soft(outputs, batch, class_weights="inverse_frequenzy")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="needs class_counts of 4 classes; got none"):
        kl_soft(outputs, batch, class_weights="inverse_frequency")
    with pytest.raises(SerkitError, match="expected 4 numbers"):
        kl_soft(outputs, batch, class_weights=[1.0, 2.0])
