"""Vectors of one class against all others of a batch: what the contrastive losses share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(
    vectors: Tensor,
    targets: Tensor,
    items: Tensor,
    temperature: float,
    anchors: Literal["paired", "all"] = "paired",
) -> Tensor:
    """For each anchor ``a`` of unit length, ``−Σ_p m_ap log softmax_j(z_a·z_j / τ)_p / Σ_p m_ap``; their mean.

    ``m_ap`` is the agreement of the two labels, ``Σ_c t_ac t_pc``; j and p run over the vectors of other items.

    Args:
        vectors: (anchors, dim) of any length. targets: (anchors, classes) distributions. items: (anchors,) int64;
            vectors with the same number are not compared. temperature: τ.
        anchors: the mean is over the anchors that have a positive (Khosla et al. 2020), or over all of them, where
            those without one add 0 (released code of StableRep, 2306.00984, and Crab, 2603.23673).

    Returns:
        Scalar, with a graph; 0 where no anchor has a positive.
    """
    if not len(vectors):
        return vectors.sum()
    z = F.normalize(vectors, dim=1)
    other = items[:, None] != items[None, :]
    similarity = (z @ z.T / temperature).masked_fill(~other, -1e9)
    log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
    agreement = (targets @ targets.T) * other
    total = agreement.sum(dim=1)
    paired = total > 0
    terms = -(agreement * log_share).sum(dim=1) / torch.where(paired, total, torch.ones_like(total))
    terms = torch.where(paired, terms, torch.zeros_like(terms))
    return terms.mean() if anchors == "all" else terms.sum() / paired.sum().clamp(min=1)
