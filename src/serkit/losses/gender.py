"""The speaker's gender as a second task of the embedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from serkit.losses._targets import mean_of_rows, not_half
from serkit.parameters import Size
from serkit.tensors import Batch, Outputs
from serkit.types import GENDERS


class Gender(nn.Module):
    """Cross-entropy of the speaker's gender, from the embedding by a head of its own (SAIL, 2506.10930).

    SAIL (arXiv 2506.10930) adds it with a weight of 0.1 to 1 − CCC; on their validation set the mean CCC was .6605 with
    it and .6588 without (read in notes on the paper, no interval). What their head reads and is are unknown: chosen
    here is Linear-ReLU-Linear on the embedding. It belongs to this loss: it is trained and resumed with the network,
    and not saved with it, so that the network does not tell anyone's gender.

    Args:
        dim: width of the network's embedding. width: units of the head's hidden layer.
    """

    def __init__(self, *, dim: int, width: Size = 256) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, len(GENDERS)))

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Scalar, the mean over the clips whose speaker's gender is known; 0 where there are none.

        Args:
            outputs: ``embedding`` (batch, dim). batch: ``genders`` (batch,), -1 where unknown.
        """
        like = next(self.parameters())
        scores = not_half(self.head(outputs.embedding.to(like.dtype)))  # type: ignore[union-attr]  # dim was its width
        given = batch.genders
        genders = batch.labels.new_full((len(batch),), -1) if given is None else given
        values = F.cross_entropy(scores, genders, ignore_index=-1, reduction="none")
        return mean_of_rows(values, genders >= 0)

    def param_groups(self) -> list[dict[str, Any]]:
        """The head, with the network's learning rate and decay."""
        return [{"params": list(self.parameters())}]


def _divisor(batch: Batch, **_: object) -> float:
    """Clips that the loss of this batch is the mean of."""
    return 0.0 if batch.genders is None else float((batch.genders >= 0).sum())
