"""Cross-entropy of the emotion logits, weighted by class frequency (Ueda et al. 2025, eq. 3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import not_half
from serkit.parameters import Share
from serkit.tensors import Batch, Outputs

ClassWeights = Literal["none", "inverse_frequency", "sqrt_inverse_frequency"]


def cross_entropy(
    outputs: Outputs,
    batch: Batch,
    *,
    class_weights: ClassWeights = "none",
    label_smoothing: Share = 0.0,
    soft: bool = False,
    class_counts: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the negative log-likelihood of each row's emotion (Ueda et al. 2025, eq. 3).

    Without a class mask and with hard labels this is ``F.cross_entropy(logits, labels, weight,
    ignore_index=-1, label_smoothing)``: every row counts with the weight of its class, and the sum is
    divided by the sum of those weights, so that only ratios of weights matter.

    Args:
        outputs: ``emotion`` (batch, classes) logits.
        batch: ``labels`` (batch,), rows of -1 count nothing. A class that ``class_mask`` (batch,
            classes) denies a row is taken out of the row's softmax.
        class_weights: ``inverse_frequency``: ``N / N_j`` (eq. 3); ``sqrt_inverse_frequency``: its root.
        label_smoothing: share of the target spread over all (allowed) classes.
        soft: learn ``batch.targets`` (batch, classes), the raters' distribution, instead of the label,
            where the batch has them; a row of NaN counts nothing, a row without a label may count.
        class_counts: (classes,) number of training clips, handed in by training.

    Returns:
        () float32; 0 where no row counts.

    Raises:
        SerkitError: weights asked for without counts, an unknown kind, or a label that its corpus cannot have.
    """
    logits = not_half(outputs.emotion)
    targets, real = _targets(logits, batch, soft)
    if batch.class_mask is not None:
        if bool((targets * ~batch.class_mask).any()) and not (soft and batch.targets is not None):
            row = int((targets * ~batch.class_mask).sum(1).argmax())
            raise SerkitError(f"utterance '{batch.ids[row]}' has a label that its corpus is declared not to have")
        targets = _among(targets, batch.class_mask)
        logits = logits.masked_fill(~batch.class_mask, -math.inf)
    log_probs = logits.log_softmax(1)
    if batch.class_mask is not None:
        log_probs = log_probs.masked_fill(~batch.class_mask, 0.0)
    weights = _weights(class_weights, class_counts, log_probs)
    row_weights = (targets * weights).sum(1) * real
    loss = -(targets * weights * log_probs).sum(1)
    if label_smoothing:
        allowed = torch.ones_like(log_probs) if batch.class_mask is None else batch.class_mask.to(log_probs.dtype)
        spread = -(allowed * weights * log_probs).sum(1) / allowed.sum(1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * spread
    return (loss * real).sum() / row_weights.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def _divisor(
    batch: Batch,
    *,
    class_counts: Tensor,
    class_weights: ClassWeights = "none",
    soft: bool = False,
    **_: object,
) -> float:
    """The sum of weights that the loss of this batch is divided by."""
    targets, real = _targets(torch.zeros(len(batch), len(class_counts)), batch, soft)
    if batch.class_mask is not None:
        targets = _among(targets, batch.class_mask)
    return float(((targets * _weights(class_weights, class_counts, targets)).sum(1) * real).sum())


def _targets(logits: Tensor, batch: Batch, soft: bool) -> tuple[Tensor, Tensor]:
    """(batch, classes) distribution by row, and (batch,) 1.0 where the row counts."""
    if soft and batch.targets is not None:
        known = batch.targets.isfinite().all(1)
        return batch.targets.nan_to_num().to(logits.dtype), known.to(logits.dtype)
    known = batch.labels >= 0
    targets = torch.nn.functional.one_hot(batch.labels.clamp_min(0), logits.shape[1]).to(logits.dtype)
    return targets * known[:, None], known.to(logits.dtype)


def _among(targets: Tensor, mask: Tensor) -> Tensor:
    """(batch, classes) distributions over the classes of (batch, classes) ``mask`` alone."""
    targets = targets * mask
    return targets / targets.sum(1, keepdim=True).clamp_min(torch.finfo(targets.dtype).tiny)


def _weights(kind: ClassWeights, counts: Tensor | None, like: Tensor) -> Tensor:
    """(classes,) weights; a class without a training clip is treated as having one."""
    if kind == "none":
        return like.new_ones(like.shape[1])
    if kind not in ("inverse_frequency", "sqrt_inverse_frequency"):
        raise SerkitError(
            f"cross_entropy: class_weights '{kind}' is not none, inverse_frequency or sqrt_inverse_frequency"
        )
    if counts is None:
        raise SerkitError(f"cross_entropy: class_weights '{kind}' needs class_counts, the training clips by class")
    counts = counts.to(like.device, like.dtype)
    weights = counts.sum() / counts.clamp_min(1.0)
    return weights if kind == "inverse_frequency" else weights.sqrt()
