"""Generalised cross-entropy: between cross-entropy and mean absolute error."""

from __future__ import annotations

import torch
from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import log_scores, mean_of_rows, target_rows
from serkit.parameters import Fraction
from serkit.tensors import Batch, Outputs


def generalized_cross_entropy(outputs: Outputs, batch: Batch, *, q: Fraction = 0.7) -> Tensor:
    """``mean_i Σ_c t_ic (1 − p_ic^q) / q`` (Zhang & Sabuncu 2018, remembered).

    Confident clips weigh more in the gradient than under cross-entropy: robust to noisy labels, and the loss
    with which CO-VADA (arXiv 2506.06071) lets a network lean on its biases.

    Args:
        outputs: ``emotion`` (batch, classes) logits. batch: labels or ``targets``.
        q: from just above 0 (cross-entropy) to 1 (half the mean absolute error); 0.7 is Zhang & Sabuncu's, unknown
            in CO-VADA.

    Returns:
        Scalar; 0 where no row has a target.

    Raises:
        SerkitError: q outside (0, 1], or targets of another width.
    """
    if not 0.0 < q <= 1.0:
        raise SerkitError(f"generalized_cross_entropy: q is {q}, expected more than 0, at most 1")
    log_p = log_scores(outputs.emotion, batch)
    targets, known = target_rows(batch, log_p.shape[1], log_p)
    return mean_of_rows((targets * -torch.expm1(q * log_p)).sum(dim=1) / q, known)
