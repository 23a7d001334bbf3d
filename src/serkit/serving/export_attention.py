"""Attention as ONNX graphs: parts of ``deepser`` and ``mdat``, and the pooling ``style``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serkit.serving.graphs import Graph, numpy


def leg(graph: Graph, module: Any, x: str, mask: str) -> tuple[str, str]:
    """What the first and what the last transformer layer of a leg of :class:`serkit.models.deepser.Deepser` gives."""
    states = [graph.sequence(x, module.project)]
    for layer in module.layers:
        states.append(_transformed(graph, layer, states[-1], mask))
    return states[1], states[-1]


def fused(graph: Graph, network: Any, states: list[str], masks: list[str]) -> list[str]:
    """The two modalities that attend to each other in a :class:`serkit.models.mdat.Mdat`.

    Args:
        states: (batch, time, hidden) each, projected. masks: (batch, time) bool each.

    Returns:
        (batch, hidden) of each.
    """
    nodes = [_attended(graph, layer, x, mask) for layer, x, mask in zip(network.graph, states, masks, strict=True)]
    first, second = (graph.linear(x, layer) for layer, x in zip(network.affinity, nodes, strict=True))
    vectors = []
    for k, (own, others) in enumerate(((first, second), (second, first))):
        scores = graph("MatMul", own, _turned(graph, others))
        weights = graph.softmax(scores, graph.unsqueeze(masks[1 - k], 1))
        x = graph.add(nodes[k], graph("MatMul", weights, nodes[1 - k]))
        frames = _transformed(graph, network.transformer[k], x, masks[k])
        by_time = _turned(graph, graph.linear(frames, network.weigh[k]))
        over_time = graph.softmax(by_time, graph.unsqueeze(masks[k], 1))
        vectors.append(graph.total(graph.times(over_time, _turned(graph, frames)), 2))
    return vectors


def style_pooled(graph: Graph, pool: Any, frames: str, mask: str) -> str:
    """:class:`serkit.models._style_pooling.StylePooling`: (batch, time, dim) and their mask to (batch, width)."""
    width, heads = pool.out_dim, pool.heads
    x = graph.sequence(frames, pool.dense)
    for convolution in pool.convolutions:
        x = graph.masked(x, mask)
        both = _turned(graph, graph.convolution(_turned(graph, x), convolution))
        value, gate = graph.many("Split", both, n_outputs=2, axis=2)
        x = graph.add(x, graph.times(value, graph("Sigmoid", gate)))
    x = graph.masked(x, mask)
    shape = graph.constant([0, 0, heads, width // heads], np.int64)
    parts = graph.many("Split", graph.linear(x, pool.project), n_outputs=3, axis=2)
    query, key, value = (graph("Reshape", part, shape) for part in parts)
    query = graph.times(graph("Transpose", query, perm=[0, 2, 1, 3]), graph.constant(1 / math.sqrt(width)))
    scores = graph("MatMul", query, graph("Transpose", key, perm=[0, 2, 3, 1]))
    weights = graph.softmax(scores, graph.unsqueeze(mask, 1, 2))
    mixed = graph("MatMul", weights, graph("Transpose", value, perm=[0, 2, 1, 3]))
    merged = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant([0, 0, width], np.int64))
    x = graph.linear(graph.add(x, graph.linear(merged, pool.merge)), pool.last)
    real = graph.real(mask)
    return graph("Div", graph.total(graph.times(x, graph.unsqueeze(real, 2)), 1), graph.total(real, 1, keep=True))


def _transformed(graph: Graph, layer: Any, x: str, mask: str) -> str:
    """:class:`serkit.models._transformer.TransformerLayer`: (batch, time, dim) to the same."""
    x = graph.layer_norm(graph.add(x, graph.attention(x, x, mask, layer.attention.inner)), layer.norm_attention)
    return graph.layer_norm(graph.add(x, graph.sequence(x, layer.inner)), layer.norm_inner)


def _attended(graph: Graph, layer: Any, x: str, mask: str) -> str:
    nodes = graph.linear(x, layer.transform)
    own, neighbour = numpy(layer.score.weight)[0].reshape(2, -1, 1)
    pairs = graph.add(graph.affine(nodes, own, None), _turned(graph, graph.affine(nodes, neighbour, None)))
    weights = graph.softmax(graph("LeakyRelu", pairs, alpha=float(layer.SLOPE)), graph.unsqueeze(mask, 1))
    return graph("MatMul", weights, nodes)


def _turned(graph: Graph, x: str) -> str:
    """(batch, a, b) to (batch, b, a)."""
    return graph("Transpose", x, perm=[0, 2, 1])
