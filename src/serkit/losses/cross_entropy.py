"""Cross-entropy of the emotion logits, weighted by class frequency (Ueda et al. 2025, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import ClassWeights, label_rows, log_scores, weights_by_class
from serkit.parameters import Share
from serkit.tensors import Batch, Outputs


def cross_entropy(
    outputs: Outputs,
    batch: Batch,
    *,
    class_weights: ClassWeights = None,
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
        class_weights: ``None``, ``inverse_frequency``: ``N / N_j`` (eq. 3), ``sqrt_inverse_frequency``: its root, or
            numbers.
        label_smoothing: share of the target spread over all (allowed) classes.
        soft: learn ``batch.targets`` (batch, classes), the distribution of raters or of a mixture of clips, instead of
            the label, where the batch has them; a row of NaN or of zeros counts nothing, one without a label may count.
        class_counts: (classes,) number of training clips, handed in by training.

    Returns:
        () float32; 0 where no row counts.

    Raises:
        SerkitError: weights asked for without counts, an unknown kind, as many numbers as there are no classes, or a
            label that its corpus cannot have.
    """
    log_probs = log_scores(outputs.emotion, batch)
    targets, real = _targets(batch, log_probs, soft)
    weights = weights_by_class(class_weights, class_counts, log_probs, shared=False)
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
    class_weights: ClassWeights = None,
    soft: bool = False,
    **_: object,
) -> float:
    """The sum of weights that the loss of this batch is divided by."""
    targets, real = _targets(batch, torch.zeros(len(batch), len(class_counts)), soft)
    weights = weights_by_class(class_weights, class_counts, targets, shared=False)
    return float(((targets * weights).sum(1) * real).sum())


def _targets(batch: Batch, like: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """(batch, classes) distribution by row, over the classes it can have, and (batch,) 1.0 where the row counts."""
    given = batch.targets if soft else None
    if given is not None:  # as they are, without the label in place of an unknown one
        known = given.isfinite().all(1) & (given.sum(1) > 0)
        targets = torch.where(known[:, None], given, 0.0).to(like)
    else:
        known = batch.labels >= 0
        targets = label_rows(batch, like.shape[1], like)
    if batch.class_mask is not None:
        denied = targets * ~batch.class_mask
        if given is None and bool(denied.any()):
            row = int(denied.sum(1).argmax())
            raise SerkitError(f"utterance '{batch.ids[row]}' has a label that its corpus is said not to have")
        targets = targets * batch.class_mask
        targets = targets / targets.sum(1, keepdim=True).clamp_min(torch.finfo(targets.dtype).tiny)
    return targets, known.to(targets.dtype)
