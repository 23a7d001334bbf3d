"""Vector-scaling loss: logits scaled and shifted by class frequency, in training only."""

from __future__ import annotations

from torch import Tensor

from serkit.losses._targets import (
    ClassWeights,
    counts_of,
    log_scores,
    mean_of_rows,
    not_half,
    target_rows,
    weights_by_class,
)
from serkit.parameters import NotNegative
from serkit.tensors import Batch, Outputs


def vector_scaling(
    outputs: Outputs,
    batch: Batch,
    *,
    gamma: NotNegative = 0.3,
    tau: NotNegative = 1.0,
    class_weights: ClassWeights = None,
    class_counts: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of ``(N_c/N_max)^γ z_c + τ log(N_c/N)`` (Kini et al. 2021; constants read in 2505.18217).

    Rare classes must win by a margin while the network is trained; its answers are the logits ``z`` themselves.

    Args:
        outputs: ``emotion`` (batch, classes) logits. batch: labels or ``targets``.
        gamma: exponent of the factor. tau: strength of the shift; 0.3 and 1 in ABHINAYA.
        class_weights: as in ``focal``; ABHINAYA's code adds fixed numbers here, its paper does not.
        class_counts: (classes,) training rows by class; a class without any counts as having one.

    Returns:
        Scalar; 0 where no row has a target.

    Raises:
        SerkitError: no ``class_counts``, or targets or weights of another width.
    """
    logits = not_half(outputs.emotion)
    counts = counts_of(class_counts, logits)
    factor = (counts / counts.max()) ** gamma
    shift = tau * (counts / counts.sum()).log()
    log_p = log_scores(logits * factor + shift, batch)
    targets, known = target_rows(batch, log_p.shape[1], log_p)
    weights = weights_by_class(class_weights, class_counts, log_p)
    return mean_of_rows((targets * weights * -log_p).sum(dim=1), known)
