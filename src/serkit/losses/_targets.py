"""What the losses over classes share: the target of a row, masked classes, class weights, mixed labels.

The rules, for every loss that uses them:

- A row's target is its row of ``batch.targets`` (normalised, so rater counts serve too), or the one-hot of its label
  where it has no such row. A row of zeros, or one that is not finite, is not a target. Rows with neither are left out.
- Classes that a row's corpus cannot have (``batch.class_mask``) take no part in the softmax.
- A loss is the plain mean over the rows that take part, and 0, still with a graph, where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.tensors import Batch

ClassWeights = Literal["inverse_frequency", "sqrt_inverse_frequency", "none"] | Sequence[float] | None
Mixed = Literal["soft", "dominant", "skip"]
_FAR_BELOW = -1e9


def label_rows(batch: Batch, n_classes: int, like: Tensor) -> Tensor:
    """(batch, classes) one-hot rows of the labels; zeros where there is none.

    Args:
        batch: labels. n_classes: width. like: its floating type is taken.

    Raises:
        SerkitError: a label that is not a class.
    """
    labels = batch.labels
    if bool((labels >= n_classes).any()):
        raise SerkitError(f"a label of the batch is {int(labels.max())}, but the network has {n_classes} classes")
    return (labels[:, None] == torch.arange(n_classes, device=labels.device)).to(like)


def target_rows(batch: Batch, n_classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Targets as distributions.

    Args:
        batch: labels and targets. n_classes: width. like: its device and floating type are taken.

    Returns:
        (batch, classes) rows summing to 1 (zeros where there is no target), and (batch,) bool: has one.

    Raises:
        SerkitError: targets of another width, or a label that is not a class.
    """
    hard = label_rows(batch, n_classes, like)
    if batch.targets is not None:
        if batch.targets.shape != hard.shape:
            raise SerkitError(
                f"targets are {tuple(batch.targets.shape)}; expected {tuple(hard.shape)}, (batch, classes)"
            )
        given = batch.targets.to(like)
        total = given.sum(dim=1, keepdim=True)
        usable = torch.isfinite(total) & (total > 0)
        hard = torch.where(usable, given / torch.where(usable, total, torch.ones_like(total)), hard)
        hard = torch.where(torch.isfinite(hard), hard, torch.zeros_like(hard))
    return hard, hard.sum(dim=1) > 0


def not_half(values: Tensor) -> Tensor:
    """The values, as float32 where they are in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_scores(logits: Tensor, batch: Batch) -> Tensor:
    """(batch, classes) log-softmax, at least float32, over the classes a row can have; 0 for the others."""
    logits = not_half(logits)
    if batch.class_mask is None:
        return F.log_softmax(logits, dim=1)
    possible = batch.class_mask
    return F.log_softmax(logits.masked_fill(~possible, _FAR_BELOW), dim=1).masked_fill(~possible, 0.0)


def weights_by_class(rule: ClassWeights, class_counts: Tensor | None, like: Tensor, *, shared: bool = True) -> Tensor:
    """(classes,) factor on each class: ones, ``N / (C · N_c)``, its root, or the numbers given.

    A class without a clip counts as having one.

    Args:
        rule: which of them; ``none``, as earlier recipes write it, is ``None``. class_counts: (classes,) N_c.
        like: its floating type is taken, and its last dimension is C.
        shared: N is shared among the classes; else the factor is ``N / N_c``, N of the clips there are.

    Raises:
        SerkitError: an unknown rule, counts needed and not given, or as many numbers as there are no classes.
    """
    n_classes = like.shape[-1]
    if rule is None or rule == "none":
        return torch.ones(n_classes, dtype=like.dtype, device=like.device)
    if not isinstance(rule, str):
        weights = torch.tensor(list(rule), dtype=like.dtype, device=like.device)
        if weights.shape != (n_classes,) or bool((weights < 0).any()):
            raise SerkitError(f"class_weights {list(rule)}: expected {n_classes} numbers, none negative")
        return weights
    known = ("inverse_frequency", "sqrt_inverse_frequency")
    check_known(rule, known, f"no class_weights '{rule}'")
    counts = counts_of(class_counts, like)
    if shared:
        weights = counts.reciprocal() * counts.sum() / n_classes
    else:
        weights = counts_of(class_counts, like, least=0).sum() / counts
    return weights.sqrt() if rule == "sqrt_inverse_frequency" else weights


def counts_of(class_counts: Tensor | None, like: Tensor, least: int = 1) -> Tensor:
    """(classes,) training rows by class, at least ``least`` each.

    Raises:
        SerkitError: they are not given, or of another number of classes.
    """
    if class_counts is None or class_counts.shape != like.shape[-1:]:
        got = "none" if class_counts is None else f"{tuple(class_counts.shape)}"
        raise SerkitError(f"this loss needs class_counts of {like.shape[-1]} classes; got {got}")
    return class_counts.to(like).clamp(min=least)


def settle_mixed(targets: Tensor, known: Tensor, rule: Mixed) -> tuple[Tensor, Tensor]:
    """What a label that is not one class counts as.

    Args:
        targets: (batch, classes) distributions. known: (batch,) bool.
        rule: ``soft`` leaves them; ``dominant`` puts everything on the largest class (a tie has none and is
            left out); ``skip`` leaves out every row that is not one class.

    Returns:
        Targets and known rows under the rule.

    Raises:
        SerkitError: an unknown rule.
    """
    if rule == "soft":
        return targets, known
    if rule == "dominant":
        top = targets.topk(min(2, targets.shape[1]), dim=1)
        clear = top.values[:, 0] - (top.values[:, 1] if top.values.shape[1] > 1 else 0.0) > 1e-6
        known = known & clear
        return F.one_hot(top.indices[:, 0], targets.shape[1]).to(targets) * known.to(targets)[:, None], known
    if rule == "skip":
        return targets, known & (targets.amax(dim=1) > 1 - 1e-6)
    raise SerkitError(f"no rule '{rule}' for mixed labels" + did_you_mean(rule, ("soft", "dominant", "skip")))


def mean_of_rows(values: Tensor, known: Tensor) -> Tensor:
    """Scalar mean of (batch,) ``values`` over the ``known`` rows; 0 where there are none."""
    return torch.where(known, values, torch.zeros_like(values)).sum() / known.sum().clamp(min=1)
