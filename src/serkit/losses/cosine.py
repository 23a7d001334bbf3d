"""One minus the cosine of the predicted and the true label distribution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from serkit.losses._targets import log_scores, mean_of_rows, target_rows
from serkit.tensors import Batch, Outputs


def cosine(outputs: Outputs, batch: Batch) -> Tensor:
    """``mean_i (1 − ⟨p_i, t_i⟩ / (‖p_i‖ ‖t_i‖))`` of softmax and label distribution (EM2LDL, 2511.20106).

    Read in the released code of EM2LDL (arXiv 2511.20106), there with a weight of 0.3 beside the KL divergence
    (``kl_soft``). It is 0 where the shares are right, and at most 1: an unlikely class weighs little in it, whereas
    the divergence goes to infinity with it. For one-hot labels its least value is 0 as well, so that it works on them.

    Args:
        outputs: ``emotion`` (batch, classes) logits.
        batch: ``targets`` (batch, classes), or labels where there are none; see :mod:`serkit.losses._targets`.

    Returns:
        Scalar, 0 to 1; 0 where no row has a target.

    Raises:
        SerkitError: targets of another width.
    """
    log_p = log_scores(outputs.emotion, batch)
    shares = log_p.exp() if batch.class_mask is None else log_p.exp() * batch.class_mask
    targets, known = target_rows(batch, log_p.shape[1], log_p)
    return mean_of_rows(1.0 - F.cosine_similarity(shares, targets, dim=1), known)
