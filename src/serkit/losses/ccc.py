"""One minus the concordance correlation of arousal, valence and dominance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import not_half
from serkit.parameters import NotNegative, Positive
from serkit.tensors import Batch, Outputs


def ccc(
    outputs: Outputs, batch: Batch, *, weights: Sequence[NotNegative] = (1.0, 1.0, 1.0), epsilon: Positive = 1e-8
) -> Tensor:
    """``Σ_a w_a (1 − CCC_a)`` over the batch, of arousal, valence, dominance (as in EmoSphere-SER, 2505.19693).

    ``CCC = 2 cov(x, y) / (var x + var y + (mean x − mean y)²)`` with variances of the batch itself (divided by n),
    as in EmoSphere-SER (arXiv 2505.19693) and the challenge baseline. It is a property of a batch, not a mean over
    clips: small batches give other values than large ones. An attribute known of fewer than two clips is left out.

    Args:
        outputs: ``attributes`` (batch, 3). batch: ``attributes`` (batch, 3), NaN where unknown.
        weights: of arousal, valence and dominance. epsilon: added to the denominator.

    Returns:
        Scalar; 0 where no attribute is known of two clips.

    Raises:
        SerkitError: the network has no attribute head, the batch no attributes, or not three weights.
    """
    if outputs.attributes is None:
        raise SerkitError(
            "the loss 'ccc' needs a network with an attribute head, but this one gives emotion only: "
            "set attribute_head: true in a model that has it, or leave the loss out"
        )
    if batch.attributes is None:
        raise SerkitError("the loss 'ccc' needs arousal, valence or dominance, but these clips have none: leave it out")
    if len(weights) != 3:
        raise SerkitError(f"the loss 'ccc' needs weights of arousal, valence and dominance; got {list(weights)}")
    predicted = not_half(outputs.attributes)
    gold = batch.attributes.to(predicted)
    factor = torch.tensor(list(weights), dtype=predicted.dtype, device=predicted.device)
    known = torch.isfinite(gold) & (factor > 0)
    known = known & (known.sum(dim=0) > 1)  # what is left out here is not taught, and may be answered with NaN
    n = known.sum(dim=0).clamp(min=1)
    x, y = torch.where(known, predicted, 0.0), torch.where(known, gold, 0.0)
    mean_x, mean_y = x.sum(dim=0) / n, y.sum(dim=0) / n
    dx, dy = (x - mean_x) * known, (y - mean_y) * known
    spread = (dx**2).sum(dim=0) / n + (dy**2).sum(dim=0) / n + (mean_x - mean_y) ** 2
    concordance = 2.0 * (dx * dy).sum(dim=0) / n / (spread + epsilon)
    return (factor * (1.0 - concordance) * known.any(dim=0)).sum()
