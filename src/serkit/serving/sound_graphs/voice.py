"""The encoder ``voice`` as a graph; pitch and periods are given as functions that add their own nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from serkit import dsp
from serkit.encoders import _pitch, _voice_tables
from serkit.encoders._voice_tables import BIN_HZ, N_BANDS, N_FFT, SHORT
from serkit.encoders.voice import VOICED, Voice
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import signals
from serkit.serving.sound_graphs.bands import deltas
from serkit.serving.sound_graphs.formants import formants

Pitch = Callable[[Graph, str], tuple[str, str, str]]
Periods = Callable[[Graph, str, str], tuple[str, str]]


def voice(graph: Graph, samples: str, encoder: Voice, pitch: Pitch, periods: Periods) -> str:
    """As :meth:`serkit.encoders.voice.Voice._frames`: before trimming and pooling.

    Args:
        samples: (samples,) float32, at least ``Voice.WINDOW``.
        encoder: says whether there are deltas, and what stands where there is no voice.
        pitch: adds what :func:`serkit.encoders._pitch.track` computes of samples: F0 in Hz (time,), 0 where
            unvoiced, harmonicity (time,), and the power spectrum (time, HARMONIC_BINS), all float32.
        periods: adds what :func:`serkit.encoders._pitch.perturbation` computes of samples and F0: jitter, a ratio,
            and shimmer in dB, each (time,) float32. It is asked only where a frame is voiced.

    Returns:
        (time, len(FEATURES)) float32; with deltas twice as many columns.
    """
    f0, harmonicity, harmonics = pitch(graph, samples)
    spectral, power = _spectral(graph, samples)
    r = graph("Clip", harmonicity, graph.constant(1e-3), graph.constant(1 - 1e-3))
    ratio = graph("Div", r, graph("Sub", graph.constant(1.0), r))
    periodic = _columns(graph, harmonicity, signals.decibel(graph, ratio, 1e-6))
    voiced = graph("Greater", f0, graph.constant(0.0))

    def with_voice() -> list[str]:
        at = graph.squeeze(graph("NonZero", voiced), 0)
        of_time = (f0, *periods(graph, samples, f0), power, harmonics)
        known = _voiced(graph, *(graph("Gather", x, at, axis=0) for x in of_time))
        return [(_interpolated if encoder.unvoiced == "interpolate" else _with_zeros)(graph, known, at, voiced)]

    def without() -> list[str]:
        return [graph.times(graph.unsqueeze(f0, 1), graph.constant(np.zeros((1, len(VOICED)))))]

    any_voiced = graph("Greater", signals.highest(graph, f0, 0), graph.constant(0.0))
    (of_voice,) = graph.either(any_voiced, with_voice, without)
    frames = graph("Concat", spectral, periodic, of_voice, axis=1)
    return graph("Concat", frames, deltas(graph, frames), axis=1) if encoder.deltas else frames


def _columns(graph: Graph, *columns: str) -> str:
    """(rows,) each, side by side."""
    return graph("Concat", *(graph.unsqueeze(column, 1) for column in columns), axis=1)


def _cube_root(graph: Graph, x: str) -> str:
    """Of numbers that are not negative."""
    return graph("Pow", x, graph.constant(1 / 3))


def _spectral(graph: Graph, samples: str) -> tuple[str, str]:
    """As :func:`serkit.encoders.voice._spectral`: (time, len(SPECTRAL)), and (time, bins) power of all frames."""
    offset = (_pitch.WINDOW - SHORT) // 2
    frames = signals.framed(graph, signals.sliced(graph, samples, offset, -offset), SHORT, _pitch.HOP)
    windowed = graph.times(frames, signals.hann(graph, SHORT))
    power = signals.power_spectrum(graph, windowed, SHORT, N_FFT)
    power = graph("Div", power, graph.constant(dsp.hann(SHORT).sum() ** 2))
    bands = graph("MatMul", power, graph.constant(dsp.mel_weights(N_BANDS, N_FFT)))
    top, one, two, low = (round(hz / BIN_HZ) + more for hz, more in ((5000, 1), (1000, 1), (2000, 1), (50, 0)))
    below = signals.sliced(graph, power, 0, top, axis=1)
    decibel = signals.decibel(graph, below, 1e-12)
    loud = graph.times(bands, graph.constant(_voice_tables.equal_loudness()))
    cepstrum = graph("Log", graph("Max", bands, graph.constant(1e-10)))
    columns = [
        signals.decibel(graph, signals.mean(graph, graph.times(frames, frames), 1), 1e-10),
        graph.total(_cube_root(graph, loud), 1),
        _alpha_ratio(graph, power, (low, one, top)),
        graph("Sub", *(signals.highest(graph, signals.sliced(graph, decibel, *part, axis=1), 1)
                       for part in ((0, two), (two, top)))),
    ]  # fmt: skip
    return graph(
        "Concat",
        _columns(graph, *columns),
        graph("MatMul", decibel, graph.constant(_voice_tables.slope_basis()[:top])),
        _columns(graph, _flux(graph, below)),
        graph("MatMul", cepstrum, graph.constant(_voice_tables.cepstrum_basis())),
        axis=1,
    ), power


def _alpha_ratio(graph: Graph, power: str, bounds: tuple[int, int, int]) -> str:
    """(time,) dB: the upper part of a spectrum over the lower."""
    low, one, top = bounds
    upper, lower = (
        graph.add(graph.total(signals.sliced(graph, power, *part, axis=1), 1), graph.constant(1e-12))
        for part in ((one, top), (low, one))
    )
    return signals.decibel(graph, graph("Div", upper, lower), 1e-30)


def _flux(graph: Graph, power: str) -> str:
    """(time,) root mean square change of the cube root from the frame before; 0 in the first."""
    root = _cube_root(graph, power)
    before = graph("Concat", signals.sliced(graph, root, 0, 1), signals.sliced(graph, root, 0, -1), axis=0)
    change = graph("Sub", root, before)
    return graph("Sqrt", signals.mean(graph, graph.times(change, change), 1))


def _voiced(graph: Graph, f0: str, jitter: str, shimmer: str, power: str, harmonics: str) -> str:
    """As :func:`serkit.encoders.voice._voiced`: of the voiced frames alone, at least one."""
    found = formants(graph, power)
    frequency = _filled(graph, found[0], (500.0, 1500.0, 2500.0))
    bandwidth = _filled(graph, found[1], (100.0, 150.0, 200.0))
    hz, width = ([graph.squeeze(part, 1) for part in graph.many("Split", x, n_outputs=3, axis=1)]
                 for x in (frequency, bandwidth))  # fmt: skip
    first = _peak_db(graph, harmonics, f0, 2)
    second = _peak_db(graph, harmonics, graph.add(f0, f0), 2)
    amplitude = [graph("Sub", _peak_db(graph, harmonics, k, 8), first) for k in hz]
    octaves = graph("Log", graph("Div", f0, graph.constant(27.5)))
    columns = [
        graph.times(octaves, graph.constant(12 / np.log(2))),
        jitter,
        shimmer,
        graph("Sub", first, second),
        graph("Neg", amplitude[2]),
    ]
    kilo = graph.constant(1000.0)
    for k in range(3):
        columns += [graph("Div", hz[k], kilo), graph("Div", width[k], kilo), amplitude[k]]
    return _columns(graph, *columns)


def _filled(graph: Graph, values: str, default: tuple[float, float, float]) -> str:
    """As :func:`serkit.encoders.voice._filled`: (rows, 3), at least one row."""
    absent = graph("IsNaN", values)
    n = graph.total(graph.cast(graph("Not", absent), np.int64), 0, keep=True)  # (1, 3)
    ranked = graph("Where", absent, graph.constant(np.inf), values)
    rows = graph.unsqueeze(signals.size(graph, values), 0)
    ranked = graph("TopK", ranked, rows, n_outputs=2, axis=0, largest=0, sorted=1)
    half = graph("Div", graph("Max", graph("Sub", n, signals.number(graph, 1)), signals.number(graph, 0)),
                 signals.number(graph, 2))  # fmt: skip
    middle = [graph("GatherElements", ranked, k, axis=0) for k in (half, graph("Div", n, signals.number(graph, 2)))]
    median = graph.times(graph.add(*middle), graph.constant(0.5))
    none = graph("Equal", n, signals.number(graph, 0))
    return graph("Where", absent, graph("Where", none, graph.constant([default]), median), values)


def _peak_db(graph: Graph, power: str, frequency_hz: str, reach: int) -> str:
    """As :func:`serkit.encoders.voice._peak_db`: (rows,) highest power within ``reach`` bins of a frequency."""
    at = graph.cast(graph("Round", graph("Div", frequency_hz, graph.constant(_pitch.BIN_HZ))), np.int64)
    near = graph.add(graph.unsqueeze(at, 1), graph.constant(np.arange(-reach, reach + 1), np.int64))
    near = graph("Max", near, signals.number(graph, 0))
    near = graph("Min", near, signals.number(graph, _pitch.HARMONIC_BINS - 1))
    return signals.decibel(graph, signals.highest(graph, graph("GatherElements", power, near, axis=1), 1), 1e-12)


def _neighbours(graph: Graph, voiced: str) -> tuple[str, str]:
    """Of each frame the number of the voiced frame at or before it, and at or after it: (time,) int64 each.

    Before the first and after the last there is only one: it is both.
    """
    one = graph.cast(voiced, np.int64)
    so_far = graph("CumSum", one, signals.number(graph, 0))
    last = graph("Sub", graph.total(one, 0), signals.number(graph, 1))
    left = graph("Max", graph("Sub", so_far, signals.number(graph, 1)), signals.number(graph, 0))
    return left, graph("Min", graph("Sub", so_far, one), last)


def _interpolated(graph: Graph, known: str, at: str, voiced: str) -> str:
    """As :func:`serkit.encoders.voice._interpolated`, of the known rows alone: (known, dim) to (time, dim)."""
    left, right = _neighbours(graph, voiced)
    low, high = (graph("Gather", at, side, axis=0) for side in (left, right))
    rows = signals.count_up(graph, signals.size(graph, voiced))
    gone, gap = (graph.cast(graph("Sub", x, low), np.float32) for x in (rows, high))
    share = graph.unsqueeze(graph("Div", gone, graph("Max", gap, graph.constant(1.0))), 1)
    # beyond the first and the last voiced frame both are that one, and the share counts for nothing
    before, after = (graph("Gather", known, side, axis=0) for side in (left, right))
    return graph.add(before, graph.times(graph("Sub", after, before), share))


def _with_zeros(graph: Graph, known: str, at: str, voiced: str) -> str:
    """Zeros in the rows that are not known: (known, dim) to (time, dim)."""
    nearest, _ = _neighbours(graph, voiced)
    return graph("Where", graph.unsqueeze(voiced, 1), graph("Gather", known, nearest, axis=0), graph.constant(0.0))
