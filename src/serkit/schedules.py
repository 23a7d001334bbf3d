"""Learning rates: what each optimiser step of a training uses, as a function of its number."""

from __future__ import annotations

import math

from serkit.settings import Train


def learning_rate(settings: Train, base: float, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one optimiser step.

    ``cosine_epoch`` is the published schedule (Ueda et al. 2025, paper and code): PyTorch's
    ``CosineAnnealingLR(T_max=epochs, eta_min=lr_min)`` stepped once an epoch, so that every step of an
    epoch has the same rate and the last epoch does not quite reach ``lr_min``. ``cosine`` moves every
    step, after the warm-up. ``exponential`` is ``base · decay^epoch``.

    Args:
        settings: ``schedule``, ``epochs``, ``lr_min``, ``decay``, ``warmup_steps``.
        base: learning rate of the parameter group; below ``lr_min`` it is never raised.
        step: counted from 0 over the whole training. steps_per_epoch: optimiser steps.

    Returns:
        The rate; during the first ``warmup_steps`` it rises linearly.

    >>> half = Train(lr=1.0, lr_min=0.0, epochs=2)
    >>> [learning_rate(half, 1.0, step, 3) for step in (0, 2, 3)]
    [1.0, 1.0, 0.5]
    """
    epoch = step // steps_per_epoch
    value = base
    if settings.schedule in ("cosine_epoch", "cosine"):
        progress = epoch / settings.epochs
        if settings.schedule == "cosine":
            whole = max(1, settings.epochs * steps_per_epoch - settings.warmup_steps)
            progress = max(0, step - settings.warmup_steps) / whole
        floor = min(settings.lr_min, base)
        value = floor + (base - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    elif settings.schedule == "exponential":
        value = base * settings.decay**epoch
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return value * warm
