"""Kullback–Leibler divergence from a label distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from serkit.losses._targets import ClassWeights, log_scores, mean_of_rows, target_rows, weights_by_class
from serkit.tensors import Batch, Outputs


def kl_soft(
    outputs: Outputs,
    batch: Batch,
    *,
    class_weights: ClassWeights = None,
    class_counts: Tensor | None = None,
) -> Tensor:
    """``mean_i Σ_c w_c t_ic (log t_ic − log p_ic)``: soft labels of a mixup, or rater votes (Wang et al. 2026).

    The L_KL of Wang et al. 2026 (arXiv 2512.04551) with the soft label of EAM; SAILER's objective with rater
    distributions (2505.22133). With weights its gradient is that of the weighted soft cross-entropy.

    Args:
        outputs: ``emotion`` (batch, classes) logits.
        batch: ``targets`` (batch, classes), or labels where there are none; see :mod:`serkit.losses._targets`.
        class_weights: ``None``, ``inverse_frequency`` N/(C N_c), ``sqrt_inverse_frequency`` (MEDUSA), or numbers.
        class_counts: (classes,) training rows by class, where weights need them.

    Returns:
        Scalar; 0 where no row has a target.

    Raises:
        SerkitError: targets or weights of another width.
    """
    log_p = log_scores(outputs.emotion, batch)
    targets, known = target_rows(batch, log_p.shape[1], log_p)
    weights = weights_by_class(class_weights, class_counts, log_p)
    divergence = torch.xlogy(targets, targets) - targets * log_p
    return mean_of_rows((divergence * weights).sum(dim=1), known)
