"""Vectors for features that say which share of a frame lies in which bin, as ``f0_bins`` does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from serkit.errors import check_known
from serkit.layers import FeatureNormalisation


class ShareEmbedding(nn.Module):
    """A learned vector for each bin of some modalities; a frame is their mean, weighted by its shares.

    For a frame with one bin this is ``nn.Embedding``, and it starts as that does, from N(0, 1).

    Args:
        dims: width of the features by encoder name.
        embed: width of the vectors by encoder name, of those that hold shares; ``None``: none does.

    Attributes:
        dims: width of all modalities by encoder name, those of shares as vectors.

    Raises:
        SerkitError: ``embed`` names a modality that is not there.
    """

    def __init__(self, dims: Mapping[str, int], embed: Mapping[str, int] | None) -> None:
        super().__init__()
        chosen = dict(embed or {})
        for name in chosen:
            check_known(name, dims, f"embed '{name}' is not a modality of this network")
        self.dims = {name: chosen.get(name, dim) for name, dim in dims.items()}
        self._place = {name: str(k) for k, name in enumerate(chosen)}
        self.tables = nn.ModuleDict(
            {self._place[name]: nn.Linear(dims[name], width, bias=False) for name, width in chosen.items()}
        )
        for name in chosen:
            nn.init.normal_(self.table(name).weight)

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def table(self, name: str) -> nn.Linear:
        """The vectors of one modality, as a linear layer without bias."""
        found: nn.Linear = self.tables[self._place[name]]  # type: ignore[assignment]  # a ModuleDict forgets its types
        return found

    def forward(self, name: str, frames: Tensor) -> Tensor:
        """(batch, time, bins) shares to (batch, time, width)."""
        embedded: Tensor = self.table(name)(frames)
        return embedded

    def or_normalised(self, normalisation: FeatureNormalisation, name: str, given: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) features of a modality: vectors if they are shares, normalised if they are not."""
        frames: Tensor = self(name, given) if name in self else normalisation(name, given, mask)
        return frames

    def set_statistics(self, normalisation: FeatureNormalisation, name: str, mean: Tensor, std: Tensor) -> None:
        """Give ``normalisation`` the (dim,) mean and deviation of a modality; shares stay as they are."""
        if name in self:
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        normalisation.set_statistics(name, mean, std)
