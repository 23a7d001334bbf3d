"""serkit's networks as ONNX graphs, checked against torch.

A graph takes, for the k-th feature of its network, ``x{k}`` (batch, time, dim) float32 and ``n{k}``
(batch,) int64 lengths, and gives ``emotion`` (batch, classes) logits, ``embedding`` (batch, dim) and, of a network that
learned them, ``attributes`` (batch, 3): arousal, valence, dominance, NaN for one that was not taught.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serkit import registry
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.serving.agreement import statistics
from serkit.serving.export_attention import fused, leg, style_pooled
from serkit.serving.export_own import has_writer, written_by
from serkit.serving.export_stems import convolution, image_stem, time_stem
from serkit.serving.graphs import WEIGHTS, Graph, Weights, numpy
from serkit.types import ATTRIBUTES

if TYPE_CHECKING:
    from torch import nn

    from serkit.models._attributes import AttributeHead
    from serkit.models._flam_head import FlamHead, FramePool
    from serkit.models._style_pooling import StylePooling

_STD_FLOOR, _LENGTH_FLOOR = 1e-5, 0.1
Outputs = dict[str, str]  # tensors of a graph by the name of the output


def to_onnx(
    network: nn.Module,
    model: str,
    labels: tuple[str, ...],
    weights: Weights = "float32",
    *,
    dims: Mapping[str, int] | None = None,
) -> bytes:
    """Write a network as an ONNX model: with this file's function for it, with its own ``write_onnx``, or by torch.

    A model may have a method ``write_onnx(graph, inputs)``: it adds nodes to the :class:`serkit.serving.graphs.Graph`
    and returns the names of its tensors ``emotion`` (batch, classes) and, if it has them, ``embedding`` (batch,
    ``embedding_dim``) and ``attributes`` (batch, 3). ``inputs`` are, by feature, the names of its frames (batch, time,
    dim) and of their lengths (batch,). Every other network goes through :func:`serkit.serving.traced.traced`.

    Args:
        network: in eval mode. model: its name, as in a recipe. labels: class order of the logits.
        weights: how matrices are stored, see :class:`serkit.serving.graphs.Graph`.
        dims: width by feature; ``None``: as the network says.

    Raises:
        SerkitError: a model without an ONNX form, a ``write_onnx`` that gives something else, or unknown ``weights``.
        MissingExtra: the package onnx is not installed.
    """
    from serkit.layer_weights import WeightedLayers

    known: dict[str, Callable[[Graph, Any, dict[str, tuple[str, str]]], Outputs]] = {
        "cross_attention": _cross_attention,
        "mean_pool": _mean_pool,
        "logistic_regression": _logistic_regression,
        "quadratic": _quadratic,
        "flam": _flam,
        "compact": _compact,
        "deepser": _deepser,
        "mdat": _mdat,
        "speech_backbone": _speech_backbone,
        "joint_backbones": _joint_backbones,
    }
    if model not in known and "." not in model and model not in registry.names("models"):
        raise SerkitError(f"no ONNX form of the model '{model}'" + did_you_mean(model, known))
    check_known(weights, WEIGHTS, f"weights '{weights}'")
    widths: Mapping[str, int] = network.dims if dims is None else dims  # type: ignore[assignment]  # of serkit's own
    inner = network.network if isinstance(network, WeightedLayers) else network
    about = {"labels": json.dumps(list(labels)), "features": json.dumps(list(widths)), "model": model}
    if model not in known and not has_writer(inner):
        if weights != "float32":
            raise SerkitError(
                f"model '{model}': torch writes its graph, with float32 weights only; use --weights float32, or give "
                "the model a method write_onnx(graph, inputs)"
            )
        from serkit.serving.traced import traced

        return traced(network, widths, about)
    graph = Graph(weights)
    inputs = {
        name: (graph.input(f"x{k}", ["batch", f"time{k}", dim]), graph.input(f"n{k}", ["batch"], np.int64))
        for k, (name, dim) in enumerate(widths.items())
    }
    if isinstance(network, WeightedLayers):
        inputs = {name: (_one_layer(graph, network, name, x, n), n) for name, (x, n) in inputs.items()}
    found = known[model](graph, inner, inputs) if model in known else written_by(inner, model, graph, inputs)
    sizes = {"emotion": len(labels), "embedding": len(labels), "attributes": len(ATTRIBUTES)}
    if "embedding" in found:
        sizes["embedding"] = int(network.embedding_dim)  # type: ignore[arg-type]  # an int, where torch expects a module
    found = {"embedding": found["emotion"], **found}
    return graph.to_bytes({name: (tensor, sizes[name]) for name, tensor in found.items()}, about)


def _one_layer(graph: Graph, network: Any, name: str, x: str, n: str) -> str:
    """:class:`serkit.layer_weights.WeightedLayers`: (batch, time, layers * dim) to (batch, time, dim)."""
    if name not in network.place:
        return x
    mix = network.stack(name)
    x = _normalised(graph, network.standardise, int(network.place[name]), x, graph.mask(n, graph.time(x)))
    dim = network.dims[name] // mix.n_layers
    x = graph("Reshape", x, graph.constant([0, 0, mix.n_layers, dim], np.int64))
    if mix.kind == "layer_norm":
        ones, zeros = graph.constant(np.ones(dim)), graph.constant(np.zeros(dim))
        x = graph("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-5)
    return graph.total(graph.times(x, graph.constant(numpy(mix.weights())[:, None])), 2)


def _normalised(graph: Graph, norm: Any, k: int, x: str, mask: str) -> str:
    kind = norm.normalize
    if kind == "none":
        return x
    if kind in ("train", "level"):
        mean, std = statistics(norm, k, 0)
        x = graph("Div", graph("Sub", x, graph.constant(mean)), graph.constant(std))
        if kind == "level":
            means, _ = graph.moments(x, mask)
            x = graph("Sub", x, graph.unsqueeze(graph("ReduceMean", means, axes=[1], keepdims=1), 1))
        return graph.masked(x, mask)
    mean_name, variance = graph.moments(x, mask)
    spread = graph("Sqrt", graph.add(variance, graph.constant(_STD_FLOOR)))
    away = graph("Sub", x, graph.unsqueeze(mean_name, 1))
    return graph.masked(graph("Div", away, graph.unsqueeze(spread, 1)), mask)


def _pool(graph: Graph, frames: str, mask: str | None, pool: Any, dim: int) -> str:
    """:class:`serkit.layers.Pool`."""
    if pool.score is not None:
        scores = graph.squeeze(graph.linear(frames, pool.score), 2)
        if pool.pooling == "scaled":
            scores = graph.times(scores, graph.constant(1.0 / math.sqrt(dim)))
        return _weighted(graph, graph.softmax(scores, mask), frames)
    if mask is None:
        time = graph.time(frames)
        mask = graph("Less", graph.positions(time), graph.unsqueeze(graph.unsqueeze(time, 0), 1))
    mean, variance = graph.moments(frames, mask)
    if pool.pooling == "mean":
        return mean
    spread = graph("Sqrt", graph.add(variance, graph.constant(_STD_FLOOR)))
    return graph("Concat", mean, spread, axis=1)


def _weighted(graph: Graph, weights: str, frames: str) -> str:
    """(batch, time) weights and (batch, time, dim) frames to (batch, dim)."""
    return graph.squeeze(graph("MatMul", graph.unsqueeze(weights, 1), frames), 1)


def _cross_attention(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    encoded: list[str] = []
    masks: list[str | None] = []
    for k, (x, n) in enumerate(inputs.values()):
        mask = graph.mask(n, graph.time(x))
        x = _normalised(graph, network.normalisation, k, x, mask)
        if not network.masked:
            n = graph("Expand", graph.time(x), graph("Shape", n))
        x = graph.sequence(x, network.project[k])
        encoded.append(graph.gru(x, n, network.recurrent[k].gru))
        masks.append(mask if network.masked else None)
    aligned = list(encoded)
    for pair in network._pairs:
        query, key = pair
        attend = network.attention[network._attention_of[pair]].inner
        aligned[query] = graph.add(aligned[query], graph.attention(encoded[query], encoded[key], masks[key], attend))
    width = 2 * network.recurrent[0].gru.hidden_size
    pooled = [_pool(graph, x, m, p, width) for x, m, p in zip(aligned, masks, network.pool, strict=True)]
    found = _emotion_head(graph, network.head, pooled)
    if network.attributes is not None:
        normed = graph.layer_norm(found["embedding"], network.head.norm)
        found["attributes"] = _attributes(graph, network.attributes, normed)
    return found


def _mean_pool(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    pooled = []
    for k, (name, (x, n)) in enumerate(inputs.items()):
        mask = graph.mask(n, graph.time(x))
        frames = _embedded(graph, network, k, name, x, mask)
        if network.limit is not None and name not in network.embed:
            frames = graph("Clip", frames, graph.constant(-network.limit), graph.constant(network.limit))
        vector = _pool(graph, frames, mask, network.pool[str(k)], network.embed.dims[name])
        pooled.append(graph.sequence(vector, network.project[k]) if len(network.project) else vector)
    return _emotion_head(graph, network.head, pooled)


def _pooled(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Iterator[str]:
    """:class:`serkit.models._pooled.PooledFeatures`: (batch, pooled dim) of each modality, one after the other."""
    for k, (name, (x, n)) in enumerate(inputs.items()):
        mask = graph.mask(n, graph.time(x))
        frames = _normalised(graph, network.normalisation, k, x, mask)
        if network.limit is not None:
            frames = graph("Clip", frames, graph.constant(-network.limit), graph.constant(network.limit))
        yield _pool(graph, frames, mask, network.pool[k], network.dims[name])


def _logistic_regression(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    x = _joined(graph, list(_pooled(graph, network, inputs)))
    return {"emotion": graph.linear(x, network.linear), "embedding": x}


def _quadratic(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    parts = []
    for vector in _pooled(graph, network, inputs):
        size = graph("Sqrt", graph.total(graph.times(vector, vector), 1, keep=True))
        parts.append(graph("Div", vector, graph("Max", size, graph.constant(_LENGTH_FLOOR))))
    x = graph.times(_joined(graph, parts), graph.constant(len(parts) ** -0.5))
    seen = graph("Reshape", graph.linear(x, network.directions), graph.constant([0, *network.weights.shape], np.int64))
    squares = graph.total(graph.times(graph.times(seen, seen), graph.constant(numpy(network.weights))), 2)
    scores = graph.add(graph.linear(x, network.linear), squares)
    return {"emotion": graph.times(scores, graph.constant(network.scale)), "embedding": x}


def _embedded(graph: Graph, network: Any, k: int, name: str, x: str, mask: str) -> str:
    """The k-th feature of a network that has learned vectors for some and normalises the others."""
    if name in network.embed:
        return graph.linear(x, network.embed.table(name))
    return _normalised(graph, network.normalisation, k, x, mask)


def _mdat(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    states, masks = [], []
    for k, (name, (x, n)) in enumerate(inputs.items()):
        masks.append(graph.mask(n, graph.time(x)))
        states.append(graph.sequence(_embedded(graph, network, k, name, x, masks[k]), network.project[k]))
    vectors = fused(graph, network, states[:2], masks[:2])
    vectors += [graph.moments(x, mask)[0] for x, mask in zip(states[2:], masks[2:], strict=True)]
    embedding = _joined(graph, vectors)
    return {"emotion": graph.sequence(embedding, network.emotion), "embedding": embedding}


def _emotion_head(graph: Graph, head: Any, pooled: list[str]) -> Outputs:
    embedding = graph("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
    return {"emotion": graph.sequence(graph.layer_norm(embedding, head.norm), head.emotion), "embedding": embedding}


def _flam(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    from torch import nn

    frames, masks = [], []
    for k, (x, n) in enumerate(inputs.values()):
        mask = graph.mask(n, graph.time(x))
        x = _normalised(graph, network.normalisation, k, x, mask)
        project = network.project[k]
        frames.append(x if isinstance(project, nn.Identity) else graph.linear(x, project))
        masks.append(mask)
    return _flam_head(graph, network.head, _joined(graph, frames), _joined(graph, masks))


def _compact(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    frames, masks = [], []
    for k, (x, n) in enumerate(inputs.values()):
        x = _normalised(graph, network.normalisation, k, x, graph.mask(n, graph.time(x)))
        stem = network.stems[k]
        x, n = time_stem(graph, stem, x, n) if hasattr(stem, "first") else image_stem(graph, stem, x, n)
        mask = graph.mask(n, graph.time(x))
        for block in network.blocks[k]:
            x = graph.add(x, convolution(graph, block, x, mask))
        frames.append(x)
        masks.append(mask)
    return _flam_head(graph, network.head, _joined(graph, frames), _joined(graph, masks))


def _speech_backbone(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    from serkit.serving.export_speech import speech_states

    ((x, n),) = inputs.values()
    x = _normalised(graph, network.normalisation, 0, x, graph.mask(n, graph.time(x)))
    states, mask = speech_states(graph, network, x, n)
    frames = states[-1]
    if network.layer_weights is not None:
        weights = [graph.constant(w) for w in numpy(network.layer_weights.weights())]
        parts = [graph.times(state, weight) for state, weight in zip(states, weights, strict=True)]
        frames = functools.reduce(graph.add, parts)
    if network.frame_layers is not None:
        frames = graph.sequence(frames, network.frame_layers)
    return _flam_head(graph, network.head, frames, mask)


def _joint_backbones(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    from serkit.serving.export_speech import speech_states
    from serkit.serving.export_text import text_states

    frames = {}
    for name, (x, n) in inputs.items():
        if network.reads[name] == "text_backbone":
            frames[name] = text_states(graph, network.text_backbone, network.max_tokens, x, n)
            continue
        x = _normalised(graph, network.normalisation, 0, x, graph.mask(n, graph.time(x)))
        states, mask = speech_states(graph, network, x, n)
        frames[name] = states[-1], graph.total(graph.cast(mask, np.int64), 1)
    return _cross_attention(graph, network.head, frames)


def _joined(graph: Graph, parts: list[str]) -> str:
    return graph("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _flam_head(graph: Graph, head: FlamHead, frames: str, mask: str) -> Outputs:
    from torch import nn

    if head.attention is not None:
        frames = graph.add(frames, graph.attention(frames, frames, mask, head.attention.inner))
    if isinstance(head.norm, nn.LayerNorm):
        frames = graph.layer_norm(frames, head.norm)
    frames = graph.masked(frames, mask)
    embedding = _frame_pool(graph, head.pool, frames, mask)
    if isinstance(head.embed, nn.Linear):
        embedding = graph.linear(embedding, head.embed)
    found = {"emotion": graph.sequence(embedding, head.emotion), "embedding": embedding}
    if head.attributes is not None:
        found["attributes"] = _attributes(graph, head.attributes, embedding)
    return found


def _attributes(graph: Graph, head: AttributeHead, embedding: str) -> str:
    from serkit.models._attributes import Apart

    if isinstance(head[0], Apart):
        raw = _joined(graph, [graph.sequence(embedding, part) for part in head[0].parts])
    else:
        raw = graph.sequence(embedding, head)
    mean, std = numpy(head.mean), numpy(head.std)
    if head.ends is not None:
        low, high = head.ends
        raw, mean, std = graph("Sigmoid", raw), low + (mean - mean), np.array(high - low)
    return graph.add(graph.times(raw, graph.constant(std)), graph.constant(mean))


def _deepser(graph: Graph, network: Any, inputs: dict[str, tuple[str, str]]) -> Outputs:
    first, last, masks = [], [], []
    for k, (x, n) in enumerate(inputs.values()):
        mask = graph.mask(n, graph.time(x))
        h1, h2 = leg(graph, network.legs[k], _normalised(graph, network.normalisation, k, x, mask), mask)
        first.append(h1)
        last.append(h2)
        masks.append(mask)
    width = network.embedding_dim
    pooled = [_pool(graph, x, mask, network.pool, width) for x, mask in zip(last, masks, strict=True)]
    if len(network.fusion):
        every = _joined(graph, masks)
        _, of_first = leg(graph, network.fusion[0], _joined(graph, first), every)
        twice = graph("Concat", every, every, axis=1)
        _, of_both = leg(graph, network.fusion[1], _joined(graph, [*last, of_first]), twice)
        pooled.append(_pool(graph, of_both, twice, network.pool, width))
    embedding = graph("Relu", graph.linear(_joined(graph, pooled), network.embed))
    found = {"emotion": graph.linear(embedding, network.emotion), "embedding": embedding}
    if network.attributes is not None:
        found["attributes"] = _attributes(graph, network.attributes, embedding)
    return found


def _frame_pool(graph: Graph, pool: FramePool | StylePooling, frames: str, mask: str) -> str:
    from torch import nn

    from serkit.models._style_pooling import StylePooling

    if isinstance(pool, StylePooling):
        return style_pooled(graph, pool, frames, mask)
    if pool.pooling == "max":
        low = graph("Where", graph.unsqueeze(mask, 2), frames, graph.constant(-3.0e38))
        return graph("ReduceMax", low, axes=[1], keepdims=0)
    if pool.pooling == "last":
        place = graph.positions(graph.time(frames))
        real = graph("Where", mask, place, graph.constant(0, np.int64))
        last = graph("ReduceMax", real, axes=[1], keepdims=1)
        return _weighted(graph, graph.real(graph("Equal", place, last)), frames)
    if pool.score is None:
        real = graph.real(mask)
        weights = graph("Div", real, graph.total(real, 1, keep=True))
    else:
        score = pool.score
        scores = graph.linear(frames, score) if isinstance(score, nn.Linear) else graph.sequence(frames, score)
        weights = graph.softmax(graph.squeeze(scores, 2), mask)
    mean = _weighted(graph, weights, frames)
    if pool.pooling != "attentive_statistics":
        return mean
    away = graph("Sub", frames, graph.unsqueeze(mean, 1))
    variance = _weighted(graph, weights, graph.times(away, away))
    kept = graph("Max" if pool.least_variance else "Add", variance, graph.constant(_STD_FLOOR))
    return graph("Concat", mean, graph("Sqrt", kept), axis=1)
