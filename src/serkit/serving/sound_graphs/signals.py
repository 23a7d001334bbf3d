"""What the graphs of several encoders need: frames, spectra, ranges and order statistics.

Tensors are of one clip, without a batch axis: samples are (samples,), frames (time, dim). Functions take and return
names of tensors, as :class:`serkit.serving.graphs.Graph` does.
"""

from __future__ import annotations

import numpy as np

from serkit import dsp
from serkit.serving.graphs import Graph


def size(graph: Graph, x: str, axis: int = 0) -> str:
    """() int64: the size of an axis."""
    return graph.time(x, axis)


def number(graph: Graph, value: int) -> str:
    """() int64 constant."""
    return graph.constant(value, np.int64)


def count_up(graph: Graph, n: str) -> str:
    """(n,) int64: 0, 1, 2 …; n is () int64."""
    return graph("Range", number(graph, 0), n, number(graph, 1))


def sliced(graph: Graph, x: str, start: str | int, end: str | int, axis: int = 0, step: int = 1) -> str:
    """``x[start:end:step]`` along an axis; bounds are numbers, or names of () int64."""
    bounds = [
        graph.constant([b], np.int64) if isinstance(b, int) else graph("Reshape", b, graph.constant([1], np.int64))
        for b in (start, end)
    ]
    return graph("Slice", x, *bounds, graph.constant([axis], np.int64), graph.constant([step], np.int64))


def framed(graph: Graph, samples: str, window: int, hop: int) -> str:
    """As :func:`serkit.dsp.framed`: (samples,) at least ``window`` long to (frames, window)."""
    n = graph.add(
        graph("Div", graph("Sub", size(graph, samples), number(graph, window)), number(graph, hop)), number(graph, 1)
    )
    starts = graph.unsqueeze(graph.times(count_up(graph, n), number(graph, hop)), 1)
    return graph("Gather", samples, graph.add(starts, graph.constant(np.arange(window), np.int64)), axis=0)


def waves(graph: Graph, rows: int, n_fft: int, n_bins: int, part: str) -> str:
    """(rows, n_bins) float64: ``cos`` or ``sin`` of 2 π row bin / n_fft, made as the graph loads: the file is small."""
    at = graph.constant(np.arange(rows)[:, None], np.int64)
    turns = graph("Mod", graph.times(at, graph.constant(np.arange(n_bins), np.int64)), number(graph, n_fft))
    table = graph.double(getattr(np, part)(2 * np.pi * np.arange(n_fft) / n_fft))
    return graph("Gather", table, turns, axis=0)


def power_spectrum(graph: Graph, frames: str, window: int, n_fft: int) -> str:
    """As :func:`serkit.dsp.power_spectrum`: (frames, window) windowed to (frames, n_fft // 2 + 1), both float32.

    The transform is in float64: as a product of matrices, a float32 one blurs bins 60 dB below the loudest one. Rounded
    before it is squared, it has the very bits of numpy's nearly everywhere.
    """
    frames = graph.cast(frames, np.float64)
    square: list[str] = []
    for part in ("cos", "sin"):
        table = waves(graph, window, n_fft, n_fft // 2 + 1, part)
        wave = graph.cast(graph("MatMul", frames, table), np.float32)
        square.append(graph.times(wave, wave))
    return graph.add(*square)


def hann(graph: Graph, length: int) -> str:
    """(length,) periodic Hann window."""
    return graph.constant(dsp.hann(length))


def decibel(graph: Graph, x: str, floor: float) -> str:
    """``10 log10(max(x, floor))``."""
    return graph.times(graph("Log", graph("Max", x, graph.constant(floor))), graph.constant(10 / np.log(10)))


def mean(graph: Graph, x: str, axis: int, keep: bool = False) -> str:
    """Over an axis."""
    return graph("ReduceMean", x, axes=[axis], keepdims=int(keep))


def highest(graph: Graph, x: str, axis: int) -> str:
    """Maximum over an axis."""
    return graph("ReduceMax", x, axes=[axis], keepdims=0)


def vertex(graph: Graph, left: str, middle: str, right: str, least_bend: float) -> str:
    """Where the parabola through a peak and its neighbours is highest: samples from the middle, at most 0.5.

    Args:
        least_bend: the second difference is taken to be at least this far below zero.
    """
    bend = graph.add(graph("Sub", left, graph.times(middle, graph.constant(2.0))), right)
    half = graph.times(graph("Sub", left, right), graph.constant(0.5))
    shift = graph("Div", half, graph("Min", bend, graph.constant(-least_bend)))
    return graph("Clip", shift, graph.constant(-0.5), graph.constant(0.5))


def neighbours(graph: Graph, x: str, axis: int = 0) -> tuple[str, str]:
    """All but the last and all but the first: ``x[:-1]`` and ``x[1:]`` along an axis."""
    return sliced(graph, x, 0, -1, axis), sliced(graph, x, 1, size(graph, x, axis), axis)


def changes(graph: Graph, x: str, axis: int = 0) -> str:
    """``np.diff`` along an axis."""
    before, after = neighbours(graph, x, axis)
    return graph("Sub", after, before)


def at_least(graph: Graph, samples: str, length: int) -> str:
    """As :func:`serkit.dsp.at_least`: zeros after a clip that is shorter than ``length``."""
    missing = graph("Max", graph("Sub", number(graph, length), size(graph, samples)), number(graph, 0))
    pads = graph("Concat", graph.constant([0], np.int64), graph.unsqueeze(missing, 0), axis=0)
    return graph("Pad", samples, pads)
