"""Vectors for features that say which share of a frame lies in which bin, as ``f0_bins`` does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from serkit.errors import SerkitError, did_you_mean


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
            if name not in dims:
                raise SerkitError(f"embed '{name}' is not a modality of this network{did_you_mean(name, dims)}")
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
