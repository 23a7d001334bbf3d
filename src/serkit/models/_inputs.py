"""Taking a network's features out of a batch."""

from __future__ import annotations

from torch import Tensor

from serkit.errors import SerkitError, did_you_mean
from serkit.tensors import Batch


def frames_of(batch: Batch, name: str, dim: int) -> tuple[Tensor, Tensor]:
    """(batch, time, dim) of one encoder and its (batch, time) mask.

    Raises:
        SerkitError: the batch lacks that encoder, or its width is another than the network was built for.
    """
    if name not in batch.features:
        raise SerkitError(f"batch without features of '{name}'" + did_you_mean(name, batch.features))
    frames = batch.features[name]
    if frames.shape[2] != dim:
        raise SerkitError(f"features of '{name}': the network was built for width {dim}, got {frames.shape[2]}")
    return frames, batch.mask(name)
