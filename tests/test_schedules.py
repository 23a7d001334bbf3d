import itertools
import math

import pytest
import torch

from serkit.schedules import learning_rate
from serkit.settings import Train


def test_cosine_epoch_is_torch_s_stepped_once_an_epoch():
    settings = Train(lr=1e-4, lr_min=1e-6, epochs=20)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    published = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=1e-6)
    for epoch in range(20):
        for step in (0, 6):
            assert learning_rate(settings, 1e-4, 7 * epoch + step, 7) == pytest.approx(
                optimizer.param_groups[0]["lr"], rel=1e-9
            )
        optimizer.step()
        published.step()


def test_cosine_warms_up_then_falls_every_step():
    settings = Train(lr=1.0, lr_min=0.0, epochs=2, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(settings, 1.0, step, 10) for step in range(20)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.5)  # half of the 16 steps behind the warm-up
    assert rates[19] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_exponential_and_constant():
    settings = Train(lr=1.0, epochs=5, schedule="exponential", decay=0.5)
    assert [learning_rate(settings, 1.0, step, 2) for step in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    constant = Train(lr=1.0, epochs=5, schedule="constant", warmup_steps=2)
    assert [learning_rate(constant, 0.2, step, 2) for step in range(3)] == pytest.approx([0.1, 0.2, 0.2])


def test_a_group_slower_than_the_floor_is_not_raised_to_it():
    settings = Train(lr=1e-4, lr_min=1e-6, epochs=4)
    assert learning_rate(settings, 1e-7, 30, 10) == pytest.approx(1e-7)
