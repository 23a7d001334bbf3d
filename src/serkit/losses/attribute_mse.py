"""Mean squared error of arousal, valence and dominance."""

from __future__ import annotations

import torch
from torch import Tensor

from serkit.errors import SerkitError
from serkit.losses._targets import not_half
from serkit.tensors import Batch, Outputs


def attribute_mse(outputs: Outputs, batch: Batch) -> Tensor:
    """``mean (ŷ − y)²`` over the known ratings of arousal, valence and dominance (MEDUSA, 2506.09556).

    The second task of MEDUSA (arXiv 2506.09556), there with a weight of 0.4 beside 1.5 for emotions (released code).
    It is in squared units of the corpus's own scale, so the same weight is another one on another scale.

    Args:
        outputs: ``attributes`` (batch, 3). batch: ``attributes`` (batch, 3), NaN where unknown.

    Returns:
        Scalar; 0 where nothing is known.

    Raises:
        SerkitError: the network has no attribute head, or the batch no attributes.
    """
    if outputs.attributes is None:
        raise SerkitError(
            "the loss 'attribute_mse' needs a network with an attribute head, but this one gives emotion only: "
            "set attribute_head: true in a model that has it, or leave the loss out"
        )
    if batch.attributes is None:
        raise SerkitError(
            "the loss 'attribute_mse' needs arousal, valence or dominance, but these clips have none: leave it out"
        )
    predicted = not_half(outputs.attributes)
    gold = batch.attributes.to(predicted)
    known = torch.isfinite(gold)
    away = torch.where(known, predicted - torch.where(known, gold, 0.0), 0.0)
    return (away**2).sum() / known.sum().clamp(min=1)


def _divisor(batch: Batch, **_: object) -> float:
    """Ratings that the loss of this batch is the mean of."""
    return 0.0 if batch.attributes is None else float(torch.isfinite(batch.attributes).sum())
