import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.cross_entropy import cross_entropy
from serkit.tensors import Batch, Outputs

COUNTS = torch.tensor([100, 10, 40, 50])
LABELS = torch.tensor([0, 1, 2, 3, 1, -1])


def batch(labels=LABELS, **fields):
    n = len(labels)
    return Batch(tuple(f"u{k}" for k in range(n)), {}, {}, labels, **fields)


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["none", "inverse_frequency", "sqrt_inverse_frequency"])
def test_value_and_gradient_are_those_of_torch(logits, kind, smoothing):
    weight = {
        "none": torch.ones(4),
        "inverse_frequency": 200 / COUNTS,
        "sqrt_inverse_frequency": (200 / COUNTS).sqrt(),
    }[kind]
    ours = cross_entropy(Outputs(logits), batch(), class_weights=kind, label_smoothing=smoothing, class_counts=COUNTS)
    reference = F.cross_entropy(logits, LABELS, weight, ignore_index=-1, label_smoothing=smoothing)
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(reference, logits))


def test_weights_of_single_rows_act(logits):
    """A per-sample weight broadcast over the batch would give the unweighted mean."""
    options = {"class_weights": "inverse_frequency", "class_counts": COUNTS}
    losses = F.cross_entropy(logits, LABELS.clamp_min(0), reduction="none")
    w = torch.tensor([2.0, 20.0, 5.0, 4.0, 20.0])
    expected = (losses[:5] * w).sum() / w.sum()
    ours = cross_entropy(Outputs(logits), batch(), **options)
    torch.testing.assert_close(ours, expected)
    assert (ours - losses[:5].mean()).abs() > 1e-3
    grad = torch.autograd.grad(ours, logits)[0]
    assert not grad[5].any()


def test_a_class_the_corpus_cannot_have_is_out_of_the_softmax(logits):
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[0, 3] = mask[2, 0] = False
    ours = cross_entropy(Outputs(logits), batch(class_mask=mask), label_smoothing=0.1)
    ours.backward()
    assert ours.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 3] == 0
    assert logits.grad[2, 0] == 0
    for smoothing in (0.0, 0.3):  # spread over the classes that can be
        row = cross_entropy(Outputs(logits[:1]), batch(LABELS[:1], class_mask=mask[:1]), label_smoothing=smoothing)
        alone = F.cross_entropy(logits[:1, :3], LABELS[:1], label_smoothing=smoothing)
        torch.testing.assert_close(row, alone)
    votes = torch.tensor([[0.5, 0.0, 0.25, 0.25]])  # a quarter of them for the class that cannot be
    row = cross_entropy(Outputs(logits[:1]), batch(LABELS[:1], class_mask=mask[:1], targets=votes), soft=True)
    torch.testing.assert_close(row, F.cross_entropy(logits[:1, :3], votes[:, :3] / 0.75))


def test_a_label_the_corpus_cannot_have_is_an_error(logits):
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[1, 1] = False
    with pytest.raises(SerkitError, match="'u1' has a label"):
        cross_entropy(Outputs(logits), batch(class_mask=mask))


def test_soft_targets(logits):
    targets = torch.rand(6, 4).softmax(1)
    targets[4] = math.nan
    known = targets[[0, 1, 2, 3, 5]]
    ours = cross_entropy(Outputs(logits), batch(targets=targets), soft=True)
    torch.testing.assert_close(ours, F.cross_entropy(logits[[0, 1, 2, 3, 5]], known))
    hard = cross_entropy(Outputs(logits), batch(targets=targets))
    torch.testing.assert_close(hard, F.cross_entropy(logits, LABELS, ignore_index=-1))


def test_a_row_of_zeros_is_no_target(logits):
    targets = torch.rand(6, 4).softmax(1)
    targets[2] = 0.0
    kept = [0, 1, 3, 4, 5]
    options = {"soft": True, "label_smoothing": 0.2}
    ours = cross_entropy(Outputs(logits), batch(targets=targets), **options)
    alone = batch(LABELS[kept], targets=targets[kept])
    torch.testing.assert_close(ours, cross_entropy(Outputs(logits[kept]), alone, **options))
    assert cross_entropy(Outputs(logits), batch(targets=torch.zeros(6, 4)), **options).item() == 0.0


def test_one_hot_soft_targets_equal_labels(logits):
    one_hot = F.one_hot(LABELS[:5], 4).float()
    options = {"class_weights": "inverse_frequency", "class_counts": COUNTS, "label_smoothing": 0.1}
    b = batch(LABELS[:5], targets=one_hot)
    soft = cross_entropy(Outputs(logits[:5]), b, soft=True, **options)
    torch.testing.assert_close(soft, cross_entropy(Outputs(logits[:5]), replace(b, targets=None), soft=True, **options))


def test_a_batch_without_labels_is_zero_with_a_gradient(logits):
    loss = cross_entropy(Outputs(logits), batch(torch.full((6,), -1)))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_weights_without_counts_or_of_an_unknown_kind_are_refused(logits):
    with pytest.raises(SerkitError, match="class_counts"):
        cross_entropy(Outputs(logits), batch(), class_weights="inverse_frequency")
    with pytest.raises(SerkitError, match="inverse"):
        cross_entropy(Outputs(logits), batch(), class_weights="inverse", class_counts=COUNTS)


@pytest.mark.parametrize("kind", [None, "none"])
def test_without_weights_every_row_counts_alike(logits, kind):
    ours = cross_entropy(Outputs(logits), batch(), class_weights=kind)
    torch.testing.assert_close(ours, F.cross_entropy(logits, LABELS, ignore_index=-1))


def test_weights_may_be_numbers(logits):
    numbers = [0.5, 2.0, 1.0, 4.0]
    ours = cross_entropy(Outputs(logits), batch(), class_weights=numbers)
    torch.testing.assert_close(ours, F.cross_entropy(logits, LABELS, torch.tensor(numbers), ignore_index=-1))
    with pytest.raises(SerkitError, match="expected 4 numbers, none negative"):
        cross_entropy(Outputs(logits), batch(), class_weights=[1.0, -1.0, 1.0, 1.0])


def test_a_label_that_is_no_class_is_an_error(logits):
    with pytest.raises(SerkitError, match="a label of the batch is 9, but the network has 4 classes"):
        cross_entropy(Outputs(logits), batch(torch.tensor([0, 1, 2, 3, 9, -1])))
