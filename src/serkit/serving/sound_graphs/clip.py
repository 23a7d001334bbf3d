"""What is done to the samples of a clip before any encoder: a constant offset, and silence at both ends."""

from __future__ import annotations

import numpy as np

from serkit.dsp import TRIM_BLOCK
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import at_least, highest, mean, number, size, sliced

_LEAST_BLOCKS = 3


def without_offset(graph: Graph, samples: str, least: float = 0.05) -> str:
    """As :func:`serkit.dsp.without_offset`: (samples,) to the same less their mean, where that is large."""
    wide = graph.cast(samples, np.float64)
    average = mean(graph, wide, 0)
    away = graph("Sub", wide, average)
    deviation = graph("Sqrt", mean(graph, graph.times(away, away), 0))
    large = graph("Greater", graph("Abs", average), graph.times(deviation, graph.double(least)))
    return graph("Where", large, graph.cast(away, np.float32), samples)


def trimmed(graph: Graph, samples: str, *, threshold_db: float, margin_s: float) -> str:
    """As :func:`serkit.dsp.trim_silence`: (samples,), at least one, without the silence at both ends."""
    n, block = size(graph, samples), number(graph, TRIM_BLOCK)
    n_blocks = graph("Div", n, block)
    some = graph("Max", n_blocks, number(graph, 1))
    grid = sliced(graph, at_least(graph, samples, TRIM_BLOCK), 0, graph.times(some, block))
    grid = graph.cast(graph("Reshape", grid, graph.constant([-1, TRIM_BLOCK], np.int64)), np.float64)
    away = graph("Sub", grid, mean(graph, grid, 1, keep=True))
    energy = mean(graph, graph.times(away, away), 1)
    most = highest(graph, energy, 0)
    loud = graph("Greater", energy, graph.times(most, graph.double(10 ** (threshold_db / 10))))
    long = graph("Not", graph("Less", n_blocks, number(graph, _LEAST_BLOCKS)))
    cut = graph("And", long, graph("Greater", most, graph.double(0.0)))  # then the loudest block is loud
    margin = number(graph, round(margin_s * SAMPLE_RATE_HZ / TRIM_BLOCK))
    ends = [graph("ArgMax", graph.real(loud), axis=0, keepdims=0, select_last_index=k) for k in (0, 1)]
    first = graph("Max", graph("Sub", ends[0], margin), number(graph, 0))
    last = graph.add(graph.add(ends[1], margin), number(graph, 1))
    start = graph("Where", cut, graph.times(first, block), number(graph, 0))
    shorter = graph("And", cut, graph("Less", last, n_blocks))
    return sliced(graph, samples, start, graph("Where", shorter, graph.times(last, block), n))
