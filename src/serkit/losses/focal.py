"""Focal loss: well-classified clips count less."""

from __future__ import annotations

from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import ClassWeights, log_scores, mean_of_rows, target_rows, weights_by_class
from serkit.parameters import NotNegative
from serkit.tensors import Batch, Outputs


def focal(
    outputs: Outputs,
    batch: Batch,
    *,
    gamma: NotNegative = 2.0,
    class_weights: ClassWeights = None,
    class_counts: Tensor | None = None,
) -> Tensor:
    """``mean_i Σ_c t_ic w_c (1 − p_ic)^γ (−log p_ic)`` (Lin et al. 2017; for soft labels, its expectation).

    A class weight acts on each clip of that class. (In one released implementation a (batch, 1) loss times
    (batch,) weights became a matrix whose mean forgets which weight belongs to which clip.)

    Args:
        outputs: ``emotion`` (batch, classes) logits.
        batch: labels or ``targets``; see :mod:`serkit.losses._targets`.
        gamma: focusing exponent, from 0 (cross-entropy) on; 2 as in ABHINAYA (2505.18217), unknown in 2512.04551.
        class_weights: ``None``, ``inverse_frequency`` N/(C N_c) (ABHINAYA), ``sqrt_inverse_frequency``, or
            numbers (the α of Lin et al.).
        class_counts: (classes,) training rows by class, where weights need them.

    Returns:
        Scalar; 0 where no row has a target.

    Raises:
        SerkitError: gamma below 0, or targets or weights of another width.
    """
    if gamma < 0:
        raise SerkitError(f"focal: gamma is {gamma}, expected 0 or more")
    log_p = log_scores(outputs.emotion, batch)
    targets, known = target_rows(batch, log_p.shape[1], log_p)
    weights = weights_by_class(class_weights, class_counts, log_p)
    missing = (-log_p.expm1()).clamp(min=1e-12)  # 1 − p; the bound keeps the gradient of a power below 1 finite
    return mean_of_rows((targets * weights * missing**gamma * -log_p).sum(dim=1), known)
