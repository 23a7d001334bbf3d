"""Statistics of a whole clip as a graph: one frame with the distribution and change of its descriptors.

Tensors within are float64, as in :mod:`serkit.encoders.functionals`: frames (time, dim), statistics (rows, dim). No
tensor is ever empty, however short the clip: where numpy would take the mean of nothing, a row of zeros stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit import dsp
from serkit.encoders.functionals import (
    BANDS,
    CONTOUR_COLUMNS,
    CONTOUR_POINTS,
    CONTOUR_TERMS,
    FRAME_RATE_HZ,
    LAG_FRAMES,
    MODULATION_FRAMES,
    MODULATION_HZ,
    N_CEPSTRA,
    N_CORRELATED,
    QUANTILES,
    VOICED_FROM,
    VOICING_COLUMN,
)
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import count_up, mean, number, size, sliced, waves

_SPOKEN_QUANTILES = (0.2, 0.5, 0.8)
_FEWEST = 4  # chosen frames that statistics are made of; with fewer, of all frames


def functionals(graph: Graph, logmel: str, voice: str) -> str:
    """As :class:`serkit.encoders.functionals.Functionals`: a clip's descriptors to one frame.

    Args:
        logmel: (time, 41) float32, frames of ``logmel/40``.
        voice: (time', 27) float32, frames of ``voice`` of the same samples; at least one.

    Returns:
        (1, 2111) float32.
    """
    logmel, voice = graph.cast(logmel, np.float64), graph.cast(voice, np.float64)
    bands = sliced(graph, logmel, 0, BANDS, axis=1)
    cepstra = graph("MatMul", bands, graph.double(dsp.cosine_basis(BANDS, N_CEPSTRA)))
    voicing = graph("Gather", voice, number(graph, VOICING_COLUMN), axis=1)
    voiced = graph("Greater", voicing, graph.double(VOICED_FROM))
    at = graph("Max", graph.add(count_up(graph, size(graph, logmel)), number(graph, -LAG_FRAMES)), number(graph, 0))
    heard = graph("Gather", voiced, graph("Min", at, _last(graph, voice)), axis=0)
    spoken = _some(graph, voice, voiced)
    whole = _statistics(graph, graph("Concat", logmel, cepstra, axis=1))  # both at once: they have the same frames
    parts = [sliced(graph, whole, 0, BANDS + 1, axis=1), sliced(graph, whole, BANDS + 1, BANDS + 1 + N_CEPSTRA, axis=1)]
    parts += [_statistics(graph, voice), *_moments(graph, spoken), _quantiles(graph, spoken, _SPOKEN_QUANTILES)]
    parts.append(_trend(graph, voice))
    for chosen in (heard, graph("Not", heard)):
        parts += _moments(graph, _some(graph, logmel, chosen))
    parts += [_contours(graph, voice), _correlations(graph, sliced(graph, cepstra, 0, N_CORRELATED, axis=1))]
    parts.append(_shares(graph, graph.cast(voiced, np.float64)))
    flat = [graph("Reshape", part, graph.constant([1, -1], np.int64)) for part in parts]
    return graph.cast(graph("Concat", *flat, axis=1), np.float32)


def _last(graph: Graph, frames: str) -> str:
    """() int64: the place of the last frame."""
    return graph("Sub", size(graph, frames), number(graph, 1))


def _some(graph: Graph, frames: str, chosen: str) -> str:
    """The (time,) chosen frames, or all of them where these are fewer than four."""
    n = graph.total(graph.cast(chosen, np.int64), 0)
    return graph("Compress", frames, graph("Or", chosen, graph("Less", n, number(graph, _FEWEST))), axis=0)


def _moments(graph: Graph, frames: str) -> tuple[str, str]:
    """(1, dim) mean and population standard deviation over time."""
    centre = mean(graph, frames, 0, keep=True)
    away = graph("Sub", frames, centre)
    return centre, graph("Sqrt", mean(graph, graph.times(away, away), 0, keep=True))


def _slope(graph: Graph, frames: str) -> str:
    """Differences of neighbours, (time - 1, dim); of a single frame one row of zeros."""
    last = _last(graph, frames)
    one = number(graph, 1)
    after = sliced(graph, frames, graph("Min", last, one), size(graph, frames))
    return graph("Sub", after, sliced(graph, frames, 0, graph("Max", last, one)))


def _statistics(graph: Graph, frames: str) -> str:
    """(19, dim): the statistics of each column, one after the other in the order of the encoder."""
    centre, spread = _moments(graph, frames)
    centred = graph("Sub", frames, centre)
    slope = _slope(graph, frames)
    cube = mean(graph, graph.times(graph.times(centred, centred), centred), 0, keep=True)
    floored = graph.add(spread, graph.double(1e-2))
    rows = [
        centre,
        spread,
        _quantiles(graph, frames, QUANTILES),
        mean(graph, graph("Abs", slope), 0, keep=True),
        _moments(graph, slope)[1],
        _moments(graph, _slope(graph, slope))[1],
        graph("Div", cube, graph.times(graph.times(floored, floored), floored)),
        _thirds(graph, centred),
        _modulation(graph, centred),
    ]
    return graph("Concat", *rows, axis=0)


def _between(graph: Graph, frames: str, at: str) -> str:
    """Rows at (rows,) float64 places on the time axis, on the straight line between neighbours: (rows, dim)."""
    low = graph("Floor", at)
    share = graph.unsqueeze(graph("Sub", at, low), 1)
    low = graph.cast(low, np.int64)
    high = graph("Min", graph.add(low, number(graph, 1)), _last(graph, frames))
    below, above = (graph("Gather", frames, rows, axis=0) for rows in (low, high))
    return graph.add(below, graph.times(graph("Sub", above, below), share))


def _quantiles(graph: Graph, frames: str, quantiles: Sequence[float]) -> str:
    """As :func:`numpy.quantile` over time: (len(quantiles), dim)."""
    n = graph.unsqueeze(size(graph, frames), 0)
    ordered = graph("TopK", frames, n, axis=0, largest=0, n_outputs=2)
    return _between(graph, ordered, graph.times(graph.double(quantiles), graph.cast(_last(graph, frames), np.float64)))


def _thirds(graph: Graph, centred: str) -> str:
    """(3, dim) means of the parts of :func:`numpy.array_split`; zeros where one has no frame."""
    n, three = size(graph, centred), number(graph, 3)
    each, more = graph("Div", n, three), graph("Mod", n, three)
    bounds = []
    for k in (np.arange(3), np.arange(1, 4)):
        place = graph.constant(k[:, None], np.int64)
        bounds.append(graph.add(graph.times(place, each), graph("Min", place, more)))
    time = count_up(graph, n)
    inside = graph("And", graph("GreaterOrEqual", time, bounds[0]), graph("Less", time, bounds[1]))  # (3, time)
    sizes = graph("Max", graph("Sub", bounds[1], bounds[0]), number(graph, 1))
    total = graph("MatMul", graph.cast(inside, np.float64), centred)
    return graph("Div", total, graph.cast(sizes, np.float64))


def _modulation(graph: Graph, centred: str) -> str:
    """(octaves, dim) log energy of the modulation spectrum, averaged over stretches that overlap by half."""
    length, step = MODULATION_FRAMES, MODULATION_FRAMES // 2
    n, one = size(graph, centred), number(graph, 1)
    rest = graph("Max", graph("Sub", n, number(graph, step)), one)  # stretches start at 0, step … below it
    n_pieces = graph("Div", graph.add(rest, number(graph, step - 1)), number(graph, step))
    covered = graph.times(graph.add(n_pieces, one), number(graph, step))
    missing = graph.unsqueeze(graph("Sub", covered, n), 0)
    ends = graph("Concat", graph.constant([0, 0], np.int64), missing, graph.constant([0], np.int64), axis=0)
    padded = graph("Pad", centred, ends)
    starts = graph.unsqueeze(graph.times(count_up(graph, n_pieces), number(graph, step)), 1)
    places = graph.add(starts, graph.constant(np.arange(length), np.int64))
    pieces = graph("Gather", padded, places, axis=0)  # (pieces, length, dim)
    rate_hz = np.fft.rfftfreq(length, 1.0 / FRAME_RATE_HZ)
    n_bins = int(np.count_nonzero(rate_hz < MODULATION_HZ[-1][1]))
    window = graph.double(np.hanning(length)[:, None])
    square = []
    for part in ("cos", "sin"):
        table = graph.times(waves(graph, length, length, n_bins, part), window)
        wave = graph("MatMul", graph("Transpose", table, perm=[1, 0]), pieces)  # (pieces, bins, dim)
        square.append(graph.times(wave, wave))
    power = mean(graph, graph.add(*square), 0)
    octaves = np.stack([(rate_hz >= low) & (rate_hz < high) for low, high in MODULATION_HZ])[:, :n_bins]
    energy = graph("MatMul", graph.double(octaves / octaves.sum(axis=1, keepdims=True)), power)
    return graph("Log", graph.add(energy, graph.double(1e-3)))


def _trend(graph: Graph, frames: str) -> str:
    """(1, dim) slope of the regression on time from -1 to 1; zeros for a single frame."""
    n, last = size(graph, frames), _last(graph, frames)
    place = graph.cast(graph("Sub", graph.times(count_up(graph, n), number(graph, 2)), last), np.float64)
    time = graph("Div", place, graph.cast(graph("Max", last, number(graph, 1)), np.float64))
    square = graph("Max", graph.total(graph.times(time, time), 0), graph.double(1.0))  # of two frames or more: ≥ 2
    return graph("Div", graph("MatMul", graph.unsqueeze(time, 0), frames), square)


def _contours(graph: Graph, voice: str) -> str:
    """(terms, contours) of the cosine transform of four contours, each brought to the same number of points."""
    share = graph.double(np.arange(CONTOUR_POINTS) / (CONTOUR_POINTS - 1))
    at = graph.times(share, graph.cast(_last(graph, voice), np.float64))
    contours = graph("Gather", voice, graph.constant(CONTOUR_COLUMNS, np.int64), axis=1)
    points = _between(graph, contours, at)
    return graph("MatMul", graph.double(dsp.cosine_basis(CONTOUR_POINTS, CONTOUR_TERMS).T), points)


def _correlations(graph: Graph, cepstra: str) -> str:
    """(pairs,) upper triangle of the correlation matrix; towards 0 where a cepstrum hardly moves."""
    centre, spread = _moments(graph, cepstra)
    floored = graph.add(spread, graph.double(1e-3))
    scaled = graph("Div", graph("Sub", cepstra, centre), floored)
    products = graph("MatMul", graph("Transpose", scaled, perm=[1, 0]), scaled)
    matrix = graph("Div", products, graph.cast(size(graph, cepstra), np.float64))
    first, second = np.triu_indices(N_CORRELATED, 1)
    places = graph.constant(first * N_CORRELATED + second, np.int64)
    return graph("Gather", graph("Reshape", matrix, graph.constant([-1], np.int64)), places, axis=0)


def _shares(graph: Graph, voiced: str) -> str:
    """(3,) share of voiced frames, voiced stretches a second, and length in seconds, of (time,) zeros and ones."""
    length_s = graph("Div", graph.cast(size(graph, voiced), np.float64), graph.double(FRAME_RATE_HZ))
    rises = graph.total(graph("Relu", _slope(graph, voiced)), 0)
    row = [mean(graph, voiced, 0), graph("Div", rises, length_s), length_s]
    return graph("Concat", *(graph.unsqueeze(part, 0) for part in row), axis=0)
