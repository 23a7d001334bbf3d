"""The baseline of the Odyssey 2024 challenge: WavLM large, attentive statistics, a classifier with hidden layers.

Class ``SERModel`` of the hub's ``3loi/SER-Odyssey-Baseline-WavLM-Categorical``. Where each part was read:

- pooling and classifier: ``net/pooling.py`` and ``net/ser.py`` of MSP-UTD/MSP-Podcast_Challenge;
- ``(samples - mean) / (std + 0.000001)`` and a cut at 12 s in training: its ``utils/dataset/dataset.py``;
- the names of the weights, ``pytorch_model.bin`` and the fields of ``config.json``: public scripts that load the
  multi-attribute model of the same author tensor by tensor. The hub's own ``pipeline_utils.py`` and ``config.json``
  were not read, and the published weights never.

Of a clip alone everything is attended to: the class hands WavLM a mask of ones, and its own count of frames,
``(n - 1) // 320 + 1``, is never below WavLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from serkit.errors import SerkitError
from serkit.foundation import author_weights as weights
from serkit.foundation.author_classes import SER_MODEL, OdysseyConfig

STD_MORE = 1e-6
_FLOOR = 1e-5
_SSL, _POOL, _SER = "ssl_model.", "pool_model.", "ser_model."


class OdysseyHead(nn.Module):
    """Frames of one clip to logits.

    Args:
        dim: width of a frame. n_hidden: hidden layers. n_classes: labels.
    """

    def __init__(self, dim: int, n_hidden: int, n_classes: int) -> None:
        super().__init__()
        self.sap_linear = nn.Linear(dim, dim)
        self.attention = nn.Parameter(torch.zeros(dim, 1))
        sizes = [2 * dim, *[dim] * n_hidden]
        self.fc = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()) for a, b in pairwise(sizes))
        self.out = nn.Sequential(nn.Linear(dim, n_classes))

    def forward(self, frames: Tensor) -> Tensor:
        """(clips, time, dim) without padding to (clips, classes).

        The moments are taken in float64: the class subtracts two squares, which in float32 may be all rounding.
        """
        shares = (torch.tanh(self.sap_linear(frames)) @ self.attention).softmax(dim=1).double()
        wide = frames.double()
        mean = (wide * shares).sum(dim=1)
        spread = ((wide**2 * shares).sum(dim=1) - mean**2).clamp(min=_FLOOR).sqrt()
        hidden = torch.cat([mean, spread], dim=1).float()
        for layer in self.fc:
            hidden = layer(hidden)
        logits: Tensor = self.out(hidden)
        return logits


@dataclass(frozen=True)
class LoadedOdyssey:
    """The network in float32 and evaluation mode.

    Attributes:
        model: ``WavLMModel`` of transformers. head: what stands on it. config: what its file says.
        architecture, origin, window_s, notes: as of :class:`serkit.foundation.classifier_networks.Loaded`.
    """

    model: Any
    head: OdysseyHead
    config: OdysseyConfig
    architecture: str = SER_MODEL
    origin: str = "MSP-UTD/MSP-Podcast_Challenge as serkit computes it"
    window_s: float | None = None
    notes: tuple[str, ...] = (
        "its class is code of its author's own, of which nothing is run: the network was written from the code of "
        "MSP-UTD/MSP-Podcast_Challenge and tried on made-up weights, never on the published ones",
        "that code trains on the first 12 s of a clip: with --max-clip 12 no stretch is longer",
    )

    @property
    def n_parameters(self) -> int:
        """Numbers in its weights."""
        return sum(p.numel() for part in (self.model, self.head) for p in part.parameters())

    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, classes) float32 of (samples,) float32 at 16 kHz each, each clip alone."""
        found = []
        with torch.inference_mode():
            for clip in clips:
                values = torch.from_numpy((clip - self.config.mean) / (self.config.std + STD_MORE)).float()[None]
                frames = self.model(values).last_hidden_state
                found.append(self.head(frames).numpy())
        return np.concatenate(found)


def load(name: str, folder: Path, config: OdysseyConfig) -> LoadedOdyssey:
    """The network of a checkpoint; every name of its weights is used.

    Args:
        name: of the checkpoint, for messages. folder: in the hub's layout.

    Raises:
        SerkitError: weights that are missing, unexpected or damaged, or other sizes than the configuration's.
    """
    tensors = weights.read(name, folder, (_SSL, _POOL, _SER))
    model = weights.wavlm(name, weights.under(tensors, _SSL), _SSL)
    own = model.config
    said = {"hidden_size": config.dim, "num_hidden_layers": config.n_layers}
    for key, size in said.items():
        if size not in (None, getattr(own, key)):
            raise SerkitError(f"'{name}': its config.json says {key} {size}, and its weights {getattr(own, key)}")
    head = OdysseyHead(int(own.hidden_size), config.n_hidden, config.n_classes)
    names = {key: _POOL if key.startswith(("sap_linear.", "attention")) else _SER for key in head.state_dict()}
    given = {}
    for prefix in (_POOL, _SER):
        for key, tensor in weights.under(tensors, prefix).items():
            if names.get(key) != prefix:
                raise SerkitError(
                    f"'{name}' has an unexpected weight '{prefix}{key}': config.json says {config.n_hidden} hidden "
                    "layers of the classifier"
                )
            given[key] = tensor
    for key, prefix in names.items():
        if key not in given:
            raise SerkitError(f"'{name}' lacks weight '{prefix}{key}'")
    weights.filled(name, head, given)
    return LoadedOdyssey(model, head, config)
