"""Whether an ONNX graph gives torch's numbers: on random clips of mixed lengths, in a batch and alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from serkit.pipeline.inputs import WAVEFORM
from serkit.serving.graphs import numpy

if TYPE_CHECKING:
    from torch import nn

    from serkit.tensors import Batch, Outputs

_N = 8
_LONG = 50  # tokens that one text is longer than its model sees at once
_SAMPLES = 90  # of a waveform, in place of a frame: there are 16 000 a second


@dataclass(frozen=True)
class Clips:
    """Eight clips of random features, zeros in their padding.

    Attributes:
        features: by name, (8, time, dim) float32. lengths: by name, (8,) int64.
    """

    features: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]

    @classmethod
    def random(cls, network: nn.Module, dims: Mapping[str, int], seed: int) -> Self:
        """Clips of 1 to 200 frames, distributed as the network expects; of one length where it sees its padding."""
        rng = np.random.default_rng(seed)
        alone = getattr(network, "masked", True) is False
        lengths: dict[str, np.ndarray] = {
            k: np.full(_N, 57 + 8 * seed) if alone else rng.integers(1, 201, _N) for k in dims
        }
        text = getattr(network, "text_backbone", None)
        tokens = {k for k in dims if getattr(network, "reads", {}).get(k) == "text_backbone"}
        samples = {k for k in dims if k == WAVEFORM or (hasattr(network, "backbone") and k not in tokens)}
        lengths = {k: (_SAMPLES if k in samples else 1) * n for k, n in lengths.items()}
        clips: dict[str, np.ndarray] = {}
        for k, (name, dim) in enumerate(dims.items()):
            if name in tokens:
                clips[name], lengths[name] = _texts(text, lengths[name], rng)
                continue
            mean, std = _expected(network, k, name, dim)
            x = (mean + std * rng.standard_normal((_N, int(lengths[name].max()), dim))).astype(np.float32)
            clips[name] = x * (np.arange(x.shape[1])[None, :] < lengths[name][:, None])[:, :, None]
        return cls(clips, lengths)

    def rows(self, which: slice) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Features and lengths of some clips, as long as the longest of them."""
        lengths = {name: n[which] for name, n in self.lengths.items()}
        return {name: x[which, : int(lengths[name].max())] for name, x in self.features.items()}, lengths

    def batch(self, which: slice = slice(0, _N)) -> Batch:
        """The same for torch."""
        import torch

        from serkit.tensors import Batch

        features, lengths = self.rows(which)
        tensors = {name: torch.from_numpy(x) for name, x in features.items()}
        counts = {name: torch.from_numpy(n) for name, n in lengths.items()}
        ids = tuple(str(k) for k in range(_N))[which]
        return Batch(ids, tensors, counts, torch.full((len(ids),), -1))


_ALONE = [slice(k, k + 1) for k in range(_N)]


def _texts(text: Any, lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random token ids, (8, time, 1), and their (8,) lengths: about those given, one empty and one too long."""
    before, after = len(text.prefix), len(text.suffix)
    lengths = np.maximum(lengths, before + after + 1)
    lengths[0], lengths[1] = 1, before + text.room + _LONG + after
    ids = rng.integers(0, int(text.model.config.vocab_size) - 1, (_N, int(lengths.max())))
    ids += ids >= text.pad
    for row, n in zip(ids, lengths, strict=True):
        row[:before], row[n - after : n], row[n:] = text.prefix, text.suffix, 0
    ids[0, :1], ids[0, 1:] = text.prefix[:1], 0
    return ids[:, :, None].astype(np.float32), lengths


def largest_difference(
    network: nn.Module, content: bytes, *, dims: Mapping[str, int] | None = None, seed: int = 0
) -> float:
    """Largest absolute difference of logits, and attributes, between torch and onnxruntime on clips of mixed lengths.

    The clips are scored as one batch and, in onnxruntime, also one by one: the number covers padding too, but for
    networks that see their padding on purpose. Attributes differ in deviations of their ratings, or widths of a fixed
    scale, so that a scale of 0 to 100 is no harder to keep than one of 1 to 7. A network may have other ``units``, by
    output.

    Args:
        network: in eval mode. content: its graph. dims: width by feature; ``None``: as the network says.
    """
    import onnxruntime

    from serkit.models._attributes import AttributeHead

    widths: Mapping[str, int] = network.dims if dims is None else dims  # type: ignore[assignment]  # of serkit's own
    clips = Clips.random(network, widths, seed)
    found = _answer(network, clips.batch())
    wanted = {"emotion": found.emotion.numpy()}
    if found.attributes is not None:
        wanted["attributes"] = found.attributes.numpy()
    heads = [part for part in network.modules() if isinstance(part, AttributeHead)]
    unit = {"attributes": heads[0].unit.numpy()} if heads else {}
    unit |= getattr(network, "units", {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def given(which: slice) -> Any:
        feed = {}
        for k, (x, n) in enumerate(zip(*(part.values() for part in clips.rows(which)), strict=True)):
            feed[f"x{k}"], feed[f"n{k}"] = x, n
        return session.run(list(wanted), feed)

    pairs = [
        (one, wanted[name][which], unit.get(name, np.ones(1)))
        for which in [slice(0, _N), *_ALONE]
        for name, one in zip(wanted, given(which), strict=True)
    ]
    if any(one.shape != w.shape or not np.array_equal(np.isnan(one), np.isnan(w)) for one, w, _ in pairs):
        return math.inf
    return max(float(np.nan_to_num(np.abs(one - w) / size).max()) for one, w, size in pairs)


def padding_effect(network: nn.Module, dims: Mapping[str, int]) -> float:
    """By how much a batch, with its padding, changes the logits of a clip in torch; 0 where it sees that on purpose."""
    clips = Clips.random(network, dims, seed=0)
    together = _answer(network, clips.batch()).emotion.numpy()
    alone = np.concatenate([_answer(network, clips.batch(which)).emotion.numpy() for which in _ALONE])
    return float(np.abs(together - alone).max())


def _answer(network: nn.Module, batch: Batch) -> Outputs:
    import torch

    with torch.inference_mode():
        outputs: Outputs = network(batch)
    return outputs


def _expected(network: nn.Module, k: int, name: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation that a network expects of a feature as the store has it."""
    from serkit.layer_weights import WeightedLayers

    if isinstance(network, WeightedLayers) and name in network.place:
        return statistics(network.standardise, int(network.place[name]), dim)
    norm = getattr(network, "normalisation", None)
    known = list(getattr(norm, "dims", ()))
    return statistics(norm, known.index(name) if name in known else k, dim)


def statistics(norm: Any, k: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the k-th feature of a :class:`serkit.layers.FeatureNormalisation`, or 0 and 1."""
    from serkit.layers import FeatureNormalisation

    if isinstance(norm, FeatureNormalisation) and norm.keeps_statistics:
        return numpy(getattr(norm, f"mean_{k}")), numpy(getattr(norm, f"std_{k}"))
    return np.zeros(dim), np.ones(dim)
