import math

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.losses.neutral_margin import neutral_margin
from serkit.tensors import Batch, Outputs

NAMES = ("anger", "neutral", "sadness")
BATCH = Batch(("a", "b", "c", "d"), {}, {}, torch.tensor([1, 0, 2, -1]))


def outputs(x):
    return Outputs(torch.zeros(4, 3), neutral=x)


def test_value_is_equation_4():
    x = torch.tensor([0.3, -1.2, 2.0, 9.0], requires_grad=True)
    y = [1, -1, -1]
    expected = sum(math.log(1 + math.exp(-s * v)) for s, v in zip(y, x[:3].tolist(), strict=True)) / 3
    loss = neutral_margin(outputs(x), BATCH, label_names=NAMES)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(loss, F.soft_margin_loss(x[:3], torch.tensor([1.0, -1.0, -1.0])))
    loss.backward()
    assert x.grad[0] < 0
    assert x.grad[3] == 0


def test_large_logits_stay_finite():
    assert neutral_margin(outputs(torch.tensor([-200.0, 200.0, 0.0, 0.0])), BATCH, label_names=NAMES).isfinite()


def test_no_neutral_head_and_no_neutral_label_are_refused():
    with pytest.raises(SerkitError, match="neutral_head: true"):
        neutral_margin(Outputs(torch.zeros(4, 3)), BATCH, label_names=NAMES)
    with pytest.raises(SerkitError, match="no label 'neutral'"):
        neutral_margin(outputs(torch.zeros(4)), BATCH, label_names=("anger", "joy", "fear"))
