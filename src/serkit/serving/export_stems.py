"""The first layers of the network ``compact`` as ONNX graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from serkit.serving.graphs import Graph


def convolution(graph: Graph, layer: Any, x: str, mask: str) -> str:
    """A residual block's convolution over (batch, time, dim), GELU and normalisation."""
    x = graph("Transpose", x, perm=[0, 2, 1])
    x = graph("Transpose", graph.convolution(x, layer.conv), perm=[0, 2, 1])
    return graph.masked(graph.gelu(graph.layer_norm(x, layer.norm)), mask)


def time_stem(graph: Graph, stem: Any, x: str, n: str) -> tuple[str, str]:
    """Two convolutions over time of stride 2: (batch, time, dim) and (batch,) lengths to a quarter of the frames."""
    for layer in (stem.first, stem.second):
        n = graph.halved(n)
        x = convolution(graph, layer, x, graph.mask(n, graph.halved(graph.time(x))))
    return x, n


def image_stem(graph: Graph, stem: Any, x: str, n: str) -> tuple[str, str]:
    """Convolutions over time and frequency, then a linear layer: frames and lengths as :func:`time_stem` has them."""
    image = graph.unsqueeze(x, 1)
    for layer in stem.layers:
        n = graph.halved(n) if layer.stride == 2 else n
        image = graph("Transpose", graph.convolution(image, layer.conv), perm=[0, 2, 3, 1])
        image = graph.gelu(graph.layer_norm(image, layer.norm))
        real = graph.unsqueeze(graph.real(graph.mask(n, graph.time(image))), 2, 3)
        image = graph("Transpose", graph.times(image, real), perm=[0, 3, 1, 2])
    flat = graph("Transpose", image, perm=[0, 2, 1, 3])
    flat = graph("Reshape", flat, graph.constant([0, 0, stem.out[0].in_features], np.int64))
    x = graph.sequence(flat, stem.out)
    return graph.masked(x, graph.mask(n, graph.time(x))), n
