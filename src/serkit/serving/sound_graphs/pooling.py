"""Pooling of neighbouring frames as a graph."""

from __future__ import annotations

import numpy as np

from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import count_up, number, size


def pooled(graph: Graph, frames: str, pool: int, spread: bool) -> str:
    """As :func:`serkit.encoding.pool_frames`; with ``spread``, as descriptor encoders pool by ``mean+std``.

    The mean in numpy is a float32 sum, and the spread is what its square leaves of the mean square: where a descriptor
    does not move, that is the rounding of the sum. So this adds in numpy's order; only with groups of
    more than 8 may the last one, where it is smaller, be added in another order.

    Args:
        frames: (time, dim) float32, at least one frame.
        pool: frames per group; the last group may be smaller.
        spread: the standard deviation within each group follows the means.

    Returns:
        (ceil(time / pool), dim) float32, or (…, 2 dim) with the spread.
    """
    if pool == 1:
        means = frames
    else:
        groups, sizes = _groups(graph, frames, pool)
        total = graph.squeeze(_total(graph, graph.many("Split", groups, n_outputs=pool, axis=1)), 1)
        means = graph.cast(graph("Div", graph.cast(total, np.float64), sizes), np.float32)
    if not spread:
        return means
    double = graph.cast(frames, np.float64)
    groups, sizes = _groups(graph, graph.times(double, double), pool)
    square, mean = graph("Div", graph.total(groups, 1), sizes), graph.cast(means, np.float64)
    variance = graph("Max", graph("Sub", square, graph.times(mean, mean)), graph.double(0.0))
    return graph("Concat", means, graph.cast(graph("Sqrt", variance), np.float32), axis=1)


def _groups(graph: Graph, frames: str, pool: int) -> tuple[str, str]:
    """(groups, pool, dim), zeros after the last frame, and (groups, 1) float64 sizes of the groups."""
    n, per_group = size(graph, frames), number(graph, pool)
    n_groups = graph("Div", graph.add(n, number(graph, pool - 1)), per_group)
    missing = graph("Sub", graph.times(n_groups, per_group), n)
    ends = graph("Concat", graph.constant([0, 0], np.int64), graph.unsqueeze(missing, 0),
                 graph.constant([0], np.int64), axis=0)  # fmt: skip
    padded = graph("Pad", frames, ends)
    shape = graph("Concat", graph.unsqueeze(n_groups, 0), graph.constant([pool, -1], np.int64), axis=0)
    left = graph("Sub", n, graph.times(count_up(graph, n_groups), per_group))
    sizes = graph.cast(graph("Min", left, per_group), np.float64)
    return graph("Reshape", padded, shape), graph.unsqueeze(sizes, 1)


def _total(graph: Graph, rows: list[str]) -> str:
    """The sum of tensors in the order of :func:`numpy.add.reduceat`: the first, and the pairwise sum of the others."""
    first, *rest = rows
    n_lanes = 8
    if len(rest) < n_lanes:
        return graph.add(first, graph("Sum", *rest))
    whole = len(rest) - len(rest) % n_lanes
    lanes = [graph("Sum", *rest[k:whole:n_lanes]) for k in range(n_lanes)]
    while len(lanes) > 1:
        lanes = [graph.add(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
    return graph.add(first, graph("Sum", *lanes, *rest[whole:]))
