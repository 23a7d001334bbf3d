"""The classifier on the vector of a clip: one hidden layer, with ReLU or gated."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from serkit.errors import check_known

Activation = Literal["relu", "swiglu"]


class EmotionHead(nn.Module):
    """LayerNorm and a hidden layer to the classes; beside it the same to one neutral logit.

    Args:
        dim: width of the embedding. hidden: of the layer between. n_classes: emotions.
        dropout: in both heads. neutral_head: whether there is a neutral/expressive logit; it reads the
            normalised embedding through a hidden layer of its own (published code).
        activation: of the hidden layers, see :func:`hidden_layer`.

    Raises:
        SerkitError: an unknown activation.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        n_classes: int,
        dropout: float,
        neutral_head: bool,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.emotion = hidden_layer(dim, hidden, n_classes, dropout, activation)
        self.neutral = hidden_layer(dim, hidden, 1, dropout, activation) if neutral_head else None

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Of (batch, dim): logits, neutral logits, and the hidden layer of the classes.

        Returns:
            (batch, classes); (batch,) where there is that head; (batch, hidden) before the ReLU.
        """
        normed = self.norm(embedding)
        hidden = self.emotion[0](normed)
        emotion = self.emotion[1:](hidden)
        return emotion, None if self.neutral is None else self.neutral(normed)[:, 0], hidden


class SwiGlu(nn.Module):
    """A gated hidden layer, ``silu(x W + b) * (x V + c)`` (Shazeer 2020, arXiv 2002.05202, eq. 5).

    Args:
        dim: width of x. hidden: units.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(dim, hidden), nn.Linear(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., hidden)."""
        gated: Tensor = F.silu(self.gate(x)) * self.value(x)
        return gated


def hidden_layer(dim: int, hidden: int, out: int, dropout: float, activation: Activation = "relu") -> nn.Sequential:
    """Linear, ReLU, Dropout, Linear; or with :class:`SwiGlu` for the first two.

    Raises:
        SerkitError: an unknown activation.
    """
    check_known(activation, get_args(Activation), f"no activation '{activation}'")
    first = [SwiGlu(dim, hidden)] if activation == "swiglu" else [nn.Linear(dim, hidden), nn.ReLU()]
    return nn.Sequential(*first, nn.Dropout(dropout), nn.Linear(hidden, out))
