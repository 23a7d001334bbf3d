"""Text models as ONNX graphs: token ids in, states out, a long text in windows as in torch."""

from __future__ import annotations

import numpy as np

from serkit.errors import SerkitError
from serkit.foundation.trainable_text import TextBackbone
from serkit.serving.export_transformers import bert, deberta, modernbert
from serkit.serving.graphs import Graph

KINDS = {
    "bert": bert, "roberta": bert, "xlm-roberta": bert, "camembert": bert, "modernbert": modernbert,
    "deberta-v2": deberta,
}  # fmt: skip


def text_states(graph: Graph, backbone: TextBackbone, most: int | None, x: str, n: str) -> tuple[str, str]:
    """Token ids through a text backbone, in windows where a text is too long for one; as its ``states``.

    Args:
        most: tokens of a text that are read, or all of them. x: (batch, time, 1) ids, anything in the padding.
        n: (batch,) int64 lengths.

    Returns:
        What the last layer gives, (batch, states, dim), and the (batch,) int64 number of real states.

    Raises:
        SerkitError: an architecture that has no form here.
    """
    kind = str(backbone.model.config.model_type)
    if kind not in KINDS:
        raise SerkitError(f"no ONNX form of a text backbone of type '{kind}', only of {', '.join(KINDS)}")
    before, after = len(backbone.prefix), len(backbone.suffix)

    def number(value: int) -> str:
        return graph.constant(value, np.int64)

    def minus(a: str, b: str) -> str:
        return graph("Sub", a, b)

    n = graph("Max", minus(n, number(before + after)), number(0))  # tokens without markers
    if most is not None:
        n = graph("Min", n, number(max(1, most - before - after)))
    rows = _marked(graph, backbone, graph.cast(graph("Round", graph.squeeze(x, 2)), np.int64), n)
    several = _divided_up(graph, n, number(backbone.room - 2 * backbone.context))
    count = graph("Where", graph("LessOrEqual", n, number(backbone.room)), number(1), several)
    windows = graph("ReduceMax", count, axes=[0], keepdims=0)
    column, counts = graph.unsqueeze(n, 1), graph.unsqueeze(count, 1)
    k = graph("Min", graph.positions(windows), minus(counts, number(1)))
    start, end = _seen(graph, backbone, column, counts, k)
    seen = graph.unsqueeze(minus(end, start), 2)
    size = graph.add(graph("ReduceMax", seen, axes=[0, 1, 2], keepdims=0), number(before + after))
    place = graph.unsqueeze(graph.positions(size), 0)
    inside = graph("Less", place, graph.add(seen, number(before)))
    beside = graph("Where", inside, graph.unsqueeze(start, 2), minus(graph.unsqueeze(column, 2), seen))
    at = graph.add(place, graph("Where", graph("Less", place, number(before)), number(0), beside))
    real = graph("Less", place, graph.add(seen, number(before + after)))
    last = minus(graph.time(rows), number(1))
    ids = graph("GatherElements", _beside(graph, rows, windows), graph("Min", at, last), axis=2)
    ids = graph("Where", real, ids, number(backbone.pad))
    flat = graph("Concat", graph.constant([-1], np.int64), graph.unsqueeze(size, 0), axis=0)
    states = KINDS[kind](graph, backbone, graph("Reshape", ids, flat), graph("Reshape", real, flat))
    n_states = graph("Where", graph("Less", number(0), n), graph.add(n, number(before + after)), number(1))
    place = graph.positions(graph("ReduceMax", n_states, axes=[0], keepdims=0))
    token = graph("Max", minus(place, number(before)), number(0))
    token = graph("Min", token, graph("Max", minus(column, number(1)), number(0)))
    k = graph("Div", graph.times(token, counts), graph("Max", column, number(1)))
    start, _ = _seen(graph, backbone, column, counts, k)
    inner = graph("Where", graph("Less", place, number(before)), place, minus(place, start))
    at = graph.add(graph.times(k, size), graph("Min", inner, minus(size, number(1))))
    each = graph("Shape", at)
    joined = graph("Concat", graph("Shape", n), graph.constant([-1, backbone.dim], np.int64), axis=0)
    states = graph("Reshape", states, joined)
    wide = graph("Concat", each, graph.constant([backbone.dim], np.int64), axis=0)
    return graph("GatherElements", states, graph("Expand", graph.unsqueeze(at, 2), wide), axis=1), n_states


def _marked(graph: Graph, backbone: TextBackbone, ids: str, n: str) -> str:
    """(batch, time) ids, longer by their markers: those before a text first, the others after its (batch,) tokens."""
    before, after = len(backbone.prefix), len(backbone.suffix)
    ids = graph("Pad", ids, graph.constant([0, 0, 0, before + after], np.int64))
    place = graph.positions(graph.time(ids))
    for k, marker in enumerate(backbone.prefix):
        ids = graph("Where", graph("Equal", place, graph.constant(k, np.int64)), graph.constant(marker, np.int64), ids)
    for k, marker in enumerate(backbone.suffix):
        end = graph.unsqueeze(graph.add(n, graph.constant(before + k, np.int64)), 1)
        ids = graph("Where", graph("Equal", place, end), graph.constant(marker, np.int64), ids)
    return ids


def _beside(graph: Graph, rows: str, windows: str) -> str:
    """(batch, time) rows as (batch, windows, time), the same in each."""
    one = graph.constant([1], np.int64)
    return graph("Expand", graph.unsqueeze(rows, 1), graph("Concat", one, graph.unsqueeze(windows, 0), one, axis=0))


def _seen(graph: Graph, backbone: TextBackbone, n: str, count: str, k: str) -> tuple[str, str]:
    """First and last token that window ``k`` of ``count`` sees of a text of ``n`` tokens."""
    context = graph.constant(backbone.context, np.int64)
    first = _divided_up(graph, graph.times(n, k), count)
    last = _divided_up(graph, graph.times(n, graph.add(k, graph.constant(1, np.int64))), count)
    start = graph("Max", graph("Sub", first, context), graph.constant(0, np.int64))
    return start, graph("Min", graph.add(last, context), n)


def _divided_up(graph: Graph, a: str, b: str) -> str:
    """``a / b`` of int64, a not negative and b positive, rounded up."""
    return graph("Div", graph("Sub", graph.add(a, b), graph.constant(1, np.int64)), b)
