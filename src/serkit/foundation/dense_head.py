"""The head of a much copied class of published classifiers: the mean over the frames, a hidden layer with tanh.

It is that of ``Wav2Vec2ForSpeechClassification`` and ``HubertForSpeechClassification`` of m3hrdadfi/soxan
(``src/models.py``), which is no part of transformers. Dropout aside, it computes ``out_proj(tanh(dense(mean)))``, where
the mean is over all frames that the network gives, those of padding too: of a clip alone, over its own. The class also
has a sum or a maximum in the place of the mean, which are not read here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError

SOURCE = "m3hrdadfi/soxan"
PREFIX = "classifier."
_HIDDEN = "classifier.dense"
_LAST = ("classifier.out_proj", "classifier.output")


class DenseHead(nn.Module):
    """Frames of clips to logits.

    Args:
        dense, out: its two layers. last: name of the second one among the weights.
    """

    def __init__(self, dense: nn.Linear, out: nn.Linear, last: str) -> None:
        super().__init__()
        self.dense, self.out, self.last = dense, out, last

    @property
    def renamed(self) -> bool:
        """Whether its last layer has another name than in the code that is known."""
        return self.last != _LAST[0]

    def forward(self, frames: Tensor) -> Tensor:
        """(clips, time, dim) without padding to (clips, classes)."""
        logits: Tensor = self.out(torch.tanh(self.dense(frames.mean(dim=1))))
        return logits


def is_dense(tensors: Mapping[str, Tensor]) -> bool:
    """Whether weights that begin with :data:`PREFIX` have the hidden layer of this head."""
    return any(name.startswith(f"{_HIDDEN}.") for name in tensors)


def dense_head(name: str, tensors: Mapping[str, Tensor], *, dim: int, n_classes: int) -> DenseHead:
    """The head from all weights that begin with :data:`PREFIX`; each of them is used.

    Args:
        name: of the checkpoint, for messages. dim: width of a frame. n_classes: labels in ``config.json``.

    Raises:
        SerkitError: a weight that is missing, unexpected or of another shape.
    """
    last = next((n for n in _LAST if any(key.startswith(f"{n}.") for key in tensors)), _LAST[0])
    shapes = {
        f"{_HIDDEN}.weight": (dim, dim), f"{_HIDDEN}.bias": (dim,),
        f"{last}.weight": (n_classes, dim), f"{last}.bias": (n_classes,),
    }  # fmt: skip
    missing, more = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    for what, keys in (("lacks", missing), ("has an unexpected", more)):
        if keys:
            raise SerkitError(f"'{name}' {what} weight '{min(keys)}': its head has {_HIDDEN} and {last} as in {SOURCE}")
    for key, shape in shapes.items():
        found = tuple(tensors[key].shape)
        if found != shape:
            raise SerkitError(
                f"'{name}' has another shape for weight '{key}': {found}, expected {shape}; config.json names "
                f"{n_classes} labels and a width of {dim}"
            )
    return DenseHead(_linear(tensors, _HIDDEN), _linear(tensors, last), last).eval().requires_grad_(False)


def _linear(tensors: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
