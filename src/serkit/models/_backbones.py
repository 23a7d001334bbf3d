"""What networks on pretrained networks share: how these are trained, at which rate, and what they read of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.foundation.backbones import add_adapters
from serkit.foundation.trainable import Trainable
from serkit.tensors import Batch

Tuning = Literal["full", "frozen", "lora"]
WaveNormalize = Literal["checkpoint", "train", "none"]


def tune(
    backbone: Trainable,
    tuning: Tuning,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    targets: Sequence[str],
    freeze_front: bool = False,
    frozen_layers: int = 0,
    checkpointing: bool = False,
) -> None:
    """Say which weights of a pretrained network are trained, in place.

    Args:
        tuning: all of them (``full``), none (``frozen``), or low-rank adapters put on them (``lora``).
        rank, alpha, dropout, targets: of the adapters. freeze_front: leave the convolutions as they are.
        frozen_layers: leave the first so many layers, and everything below them, as they are.
        checkpointing: compute activations again in the backward pass.

    Raises:
        MissingExtra: peft is not installed. SerkitError: no layer has the name of a target.
    """
    if tuning == "frozen":
        backbone.requires_grad_(False)
    elif tuning == "lora":
        add_adapters(backbone, rank=rank, alpha=alpha, dropout=dropout, targets=targets)
    if freeze_front:
        backbone.freeze_front()
    if frozen_layers:
        still = (*backbone.layers[frozen_layers:], *backbone.top)
        above = {id(p) for module in still for p in module.parameters()}
        for parameter in backbone.parameters():
            if id(parameter) not in above:
                parameter.requires_grad_(False)
    if checkpointing and tuning != "frozen":
        backbone.checkpoint_activations()


def graph_of(tuning: Tuning) -> AbstractContextManager[Any]:
    """The context in which a backbone runs: without gradients where it is frozen."""
    return torch.no_grad() if tuning == "frozen" else nullcontext()


def first_seconds(batch: Batch, name: str, max_s: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, time, 1) samples of a batch, their (batch, time) mask and (batch,) lengths, at most ``max_s`` of each.

    Raises:
        SerkitError: the waveform is missing.
    """
    samples, mask = batch.frames(name, 1)
    lengths = batch.lengths[name]
    if max_s is None:
        return samples, mask, lengths
    longest = max(1, round(max_s * SAMPLE_RATE_HZ))
    return samples[:, :longest], mask[:, :longest], lengths.clamp(max=longest)


def parameter_group(module: nn.Module, lr: float, placed: set[int]) -> dict[str, Any]:
    """The trained parameters of a module that no group has yet; their ids go into ``placed``."""
    found = [p for p in module.parameters() if p.requires_grad and id(p) not in placed]
    placed |= {id(p) for p in found}
    return {"params": found, "lr": lr}
