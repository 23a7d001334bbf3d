"""States of Smart Turn's encoder: Whisper tiny, trained further on many languages, from a package of the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from serkit.encoders import _smart_turn
from serkit.encoders._offline import WHOLE_CLIP, OfflineEncoder, Pooling, remembered
from serkit.errors import SerkitError

TINY_DIM, TINY_LAYERS = 16, 2
TOGETHER = 2  # layers that are computed at once: recipes read the first two side by side


class SmartTurn(OfflineEncoder):
    """Hidden states of Smart Turn v3.2, 50 frames a second; a pretrained speech encoder that needs no hub.

    Smart Turn tells from the sound whether somebody has finished speaking. It is the encoder of Whisper tiny (four
    layers of 384; Radford et al. 2022) with windows of 8 s, trained further by Daily on recordings and synthetic speech
    in 23 languages (read in its authors' announcement; which recordings, and how much of the weights moved, was not
    looked up). It comes with the package pipecat-ai, of which the one file is read and nothing imported, so that it can
    be installed without what that package needs: ``pip install --no-deps 'pipecat-ai>=1.0,<2'`` (12 MB). The weights
    are of eight bits, and are multiplied here in float32, by numpy alone. That its lower layers tell emotions apart is
    serkit's finding.

    - ``smart_turn``: the states that leave a layer.
    - ``smart_turn/functionals``: one frame a clip, their mean and standard deviation over time.

    A clip sees itself alone: the zeros that its authors put in front of short clips are left out, which costs less and
    tells emotions better (docs/encoders.md). A clip of more than 8 s is cut into stretches of one length.

    Args:
        name: one of these. layer: 0 (what enters the first layer) to 4. pool, pooling, trim: see
            :class:`OfflineEncoder`.

    Raises:
        MissingExtra: by :meth:`load` and the first call, where the package is not installed.
        SerkitError: a layer that there is not; the package has other weights.
    """

    WINDOW = _smart_turn.HOP
    HOP = _smart_turn.HOP
    LICENCE = "Apache-2.0; the weights of Smart Turn: BSD-2-Clause, of Whisper: MIT"

    def __init__(
        self,
        name: str = "smart_turn",
        *,
        layer: int = 2,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
    ) -> None:
        self.whole = name.endswith("/functionals")
        if self.whole and (pool != 1 or pooling != "mean"):
            raise SerkitError(
                f"encoder '{name}': one frame per clip, nothing to pool; 'smart_turn' has pool and pooling"
            )
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= _smart_turn.LAYERS:
            raise SerkitError(
                f"encoder '{name}': layer {layer!r}, expected a whole number from 0 to {_smart_turn.LAYERS}"
            )
        self._made: _smart_turn.Network | None = None
        self._specify(name, _smart_turn.DIM * (2 if self.whole else 1), pool, pooling, trim)
        self.spec = dataclasses.replace(
            self.spec,
            layer=layer,
            source="smart-turn-v3.2-cpu.onnx",
            revision=_smart_turn.SHA256[:16],
            hop=WHOLE_CLIP if self.whole else self.HOP,
            note="weights: BSD-2-Clause, MIT",
        )

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        weights = "weights of pipecat-ai: BSD-2-Clause, of Whisper: MIT; pip install --no-deps pipecat-ai"
        return {
            "smart_turn": f"384 states of Smart Turn's encoder, a Whisper tiny, 50 frames a second ({weights})",
            "smart_turn/functionals": f"their mean and deviation over time, one frame a clip ({weights})",
        }

    @classmethod
    def tiny(cls) -> SmartTurn:
        """Random weights of the same kind, two layers of 16; without the package."""
        made = cls(pool=2)
        made._made = _random()
        made.spec = dataclasses.replace(made.spec, dim=TINY_DIM, source="serkit", revision="random")
        return made

    def load(self, device: str = "cpu") -> None:
        """Read the weights."""
        if self._made is None:
            _smart_turn.published()

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        layer = int(self.spec.layer or 0)
        depth = max(layer, TOGETHER)
        heard = remembered(f"smart_turn {self.spec.revision} {depth}", samples, lambda given: self._heard(given, depth))
        dim = heard.shape[1] // (depth + 1)
        states = heard[:, layer * dim : (layer + 1) * dim]
        return np.concatenate([states.mean(0), states.std(0)])[None] if self.whole else states

    def _heard(self, samples: np.ndarray, depth: int) -> np.ndarray:
        """(samples,) to (frames, (depth + 1) · dim): the states of each layer, side by side."""
        network = self._made or _smart_turn.published()
        frames = len(samples) // self.HOP
        parts = -(-frames // _smart_turn.LONGEST)
        bounds = [frames * k // parts * self.HOP for k in range(parts + 1)]
        found = [
            np.concatenate(network.states(_smart_turn.log_mel(samples[begin:end]), depth), axis=1)
            for begin, end in pairwise(bounds)
        ]
        return np.concatenate(found)


def _random() -> _smart_turn.Network:
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), dtype=np.float32)

    dim, inner = TINY_DIM, 2 * TINY_DIM
    weights = {"conv1.weight": matrix(dim, _smart_turn.BANDS, 3), "conv2.weight": matrix(dim, dim, 3)}
    weights["embed_positions.weight"] = matrix(_smart_turn.LONGEST, dim)
    for k in range(TINY_LAYERS):
        at = f"layers.{k}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights[f"{at}self_attn.{name}.weight"] = matrix(dim, dim)
        weights[f"{at}fc1.weight"], weights[f"{at}fc2.weight"] = matrix(inner, dim), matrix(dim, inner)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            weights[f"{at}{name}.weight"] = np.ones(dim, dtype=np.float32)
            weights[f"{at}{name}.bias"] = np.zeros(dim, dtype=np.float32)
    for name in [name for name in weights if name.endswith("weight") and "norm" not in name and "k_proj" not in name]:
        if not name.startswith("embed"):
            weights[name.removesuffix("weight") + "bias"] = np.zeros(len(weights[name]), dtype=np.float32)
    return _smart_turn.Network(weights, heads=2)
