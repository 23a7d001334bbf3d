"""Made-up ratings of arousal, valence and dominance, and answers to them, for the losses that learn them."""

from __future__ import annotations

import torch

from serkit.tensors import Batch, Outputs

NAN = float("nan")


def batch_of(attributes: torch.Tensor | None, n: int = 6) -> Batch:
    return Batch(tuple(str(k) for k in range(n)), {}, {}, torch.zeros(n, dtype=torch.int64), attributes=attributes)


def outputs_of(predicted: torch.Tensor | None, n: int = 6) -> Outputs:
    return Outputs(torch.zeros(n, 2), attributes=predicted)


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    gold = 4 + torch.randn(6, 3, dtype=torch.float64)
    return (gold + torch.randn(6, 3, dtype=torch.float64)).detach().requires_grad_(), gold
