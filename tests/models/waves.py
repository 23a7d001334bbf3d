"""Made-up samples, and padded batches of them, for networks that read a waveform."""

from __future__ import annotations

import torch
from torch import nn

from serkit.tensors import Batch, pad_sequences


def waves(*lengths: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(n, 1, generator=g) + 0.02 for n in lengths]


def batch_of(clips: list[torch.Tensor], extra: int = 0, filler: float = 0.0) -> Batch:
    padded, lengths = pad_sequences(clips)
    padded = nn.functional.pad(padded, (0, 0, 0, extra), value=filler)
    ids = tuple(str(k) for k in range(len(clips)))
    return Batch(ids, {"waveform": padded}, {"waveform": lengths}, torch.arange(len(clips)) % 3)
