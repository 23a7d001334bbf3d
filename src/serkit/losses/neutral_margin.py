"""Soft margin between neutral and expressive speech (Ueda et al. 2025, eq. 4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from serkit.errors import SerkitError, check_known
from serkit.losses._targets import not_half
from serkit.tensors import Batch, Outputs


def neutral_margin(outputs: Outputs, batch: Batch, *, label_names: tuple[str, ...], neutral: str = "neutral") -> Tensor:
    """Mean of ``log(1 + exp(-y x))``, x the neutral logit, y = 1 for neutral, else -1 (Ueda et al. 2025, eq. 4).

    Args:
        outputs: ``neutral`` (batch,) logit.
        batch: ``labels`` (batch,); rows of -1 count nothing.
        label_names: the classes in order, handed in by training. neutral: the one that is neutral.

    Returns:
        () float32; 0 where no row counts.

    Raises:
        SerkitError: the network has no neutral head, or there is no such label.
    """
    if outputs.neutral is None:
        raise SerkitError("neutral_margin: this network has no neutral logit; set neutral_head: true in its model")
    check_known(neutral, label_names, f"neutral_margin: no label '{neutral}'")
    logit = not_half(outputs.neutral)
    known = (batch.labels >= 0).to(logit.dtype)
    sign = (batch.labels == label_names.index(neutral)).to(logit.dtype) * 2.0 - 1.0
    return (F.softplus(-sign * logit) * known).sum() / known.sum().clamp_min(1.0)


def _divisor(batch: Batch, **_: object) -> float:
    """Rows that the loss of this batch is the mean of."""
    return float((batch.labels >= 0).sum())
