"""The pitch track in a graph: candidates from autocorrelation, and the cheapest path through them."""

from __future__ import annotations

import numpy as np

from serkit.encoders import _pitch
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import signals

_UNVOICED = _pitch.N_CANDIDATES  # the last state of the path


def track(graph: Graph, samples: str) -> tuple[str, str, str]:
    """As :func:`serkit.encoders._pitch.track`.

    Args:
        samples: (samples,) float32, at least ``_pitch.WINDOW`` long.

    Returns:
        Of float32: f0_hz (time,), 0 where unvoiced; harmonicity (time,) in [0, 1]; power (time, HARMONIC_BINS).
    """
    frames = signals.framed(graph, samples, _pitch.WINDOW, _pitch.HOP)
    centred = graph("Sub", frames, signals.mean(graph, frames, 1, keep=True))
    local = signals.highest(graph, graph("Abs", centred), 1)
    loudest = graph("Max", signals.highest(graph, local, 0), graph.constant(1e-4))
    windowed = graph.times(centred, signals.hann(graph, _pitch.WINDOW))
    power = signals.power_spectrum(graph, windowed, _pitch.WINDOW, _pitch.N_FFT)
    lag, peak = _candidates(graph, _correlation(graph, power))
    f0, harmonicity = _path(graph, lag, peak, graph("Div", local, loudest))
    return f0, harmonicity, signals.sliced(graph, power, 0, _pitch.HARMONIC_BINS, axis=1)


def _correlation(graph: Graph, power: str) -> str:
    """(time, MAX_LAG + 2): autocorrelation over the window's own and over that of lag 0, by the real inverse DFT.

    The sums are float64: rounding makes peaks where there is nothing but a click, and all lags are nearly as high.
    """
    n, lags = _pitch.N_FFT // 2 + 1, _pitch.MAX_LAG + 2
    share = np.full((n, 1), 2 / _pitch.N_FFT)  # every bin but the outer two stands for its mirror image as well
    share[[0, -1]] /= 2
    wave = signals.waves(graph, n, _pitch.N_FFT, lags, "cos")
    inverse = graph.times(wave, graph.double(share))
    correlation = graph.cast(graph("MatMul", graph.cast(power, np.float64), inverse), np.float32)
    first = graph("Max", signals.sliced(graph, correlation, 0, 1, axis=1), graph.constant(1e-12))
    return graph.times(correlation, graph("Div", graph.constant(_pitch.window_correlation()), first))


def _candidates(graph: Graph, correlation: str) -> tuple[str, str]:
    """As :func:`serkit.encoders._pitch._candidates`, the best first: (time, N_CANDIDATES) lags, and heights."""
    low, high = _pitch.MIN_LAG, _pitch.MAX_LAG + 1
    before, body, after = (signals.sliced(graph, correlation, low + k, high + k, axis=1) for k in (-1, 0, 1))
    tilt = _pitch.OCTAVE_COST * np.log2(_pitch.LOW_HZ / SAMPLE_RATE_HZ * np.arange(low, high))
    rises, stays = graph("Greater", body, before), graph("GreaterOrEqual", body, after)
    is_peak = graph("And", graph("And", rises, stays), graph("Greater", body, graph.constant(0.0)))
    none = graph.constant(-1.0)
    ranked = graph("Where", is_peak, graph("Sub", body, graph.constant(tilt)), none)
    k = graph.constant([_pitch.N_CANDIDATES], np.int64)
    rank, best = graph.many("TopK", ranked, k, n_outputs=2, axis=1)
    left, middle, right = (graph("GatherElements", x, best, axis=1) for x in (before, body, after))
    shift = signals.vertex(graph, left, middle, right, 1e-9)
    lag = graph.add(graph.cast(graph.add(best, signals.number(graph, low)), np.float32), shift)
    slope = graph.times(graph("Sub", left, right), graph.constant(0.25))
    height = graph("Sub", middle, graph.times(slope, shift))
    height = graph("Where", graph("Greater", rank, none), height, graph.constant(0.0))
    return lag, graph("Clip", height, graph.constant(0.0), graph.constant(1.0))


def _path(graph: Graph, lag: str, peak: str, loudness: str) -> tuple[str, str]:
    """As :func:`serkit.encoders._pitch._path`: f0_hz and harmonicity, (time,) each."""
    octave = graph.times(graph("Log", graph("Div", graph.constant(SAMPLE_RATE_HZ), lag)), graph.constant(1 / np.log(2)))
    state = _states(graph, _step_gain(graph, octave, _gain(graph, octave, peak, loudness)))
    voiced = graph("Less", state, signals.number(graph, _UNVOICED))
    chosen = graph.unsqueeze(graph("Where", voiced, state, signals.number(graph, 0)), 1)
    lag, height = (graph.squeeze(graph("GatherElements", x, chosen, axis=1), 1) for x in (lag, peak))
    f0 = graph("Where", voiced, graph("Div", graph.constant(SAMPLE_RATE_HZ), lag), graph.constant(0.0))
    return f0, graph("Where", voiced, height, signals.highest(graph, peak, 1))


def _gain(graph: Graph, octave: str, peak: str, loudness: str) -> str:
    """(time, N_CANDIDATES + 1): how well each candidate, and the unvoiced state, fits its frame."""
    above = graph("Sub", octave, graph.constant(np.log2(_pitch.LOW_HZ)))
    strength = graph.add(peak, graph.times(above, graph.constant(_pitch.OCTAVE_COST)))
    exists = graph("Greater", peak, graph.constant(0.0))
    strength = graph("Where", exists, strength, graph.constant(-2.0))
    silent = _pitch.SILENCE_THRESHOLD / (1.0 + _pitch.VOICING_THRESHOLD)
    missing = graph("Sub", graph.constant(2.0), graph("Div", loudness, graph.constant(silent)))
    unvoiced = graph.add(graph("Max", missing, graph.constant(0.0)), graph.constant(_pitch.VOICING_THRESHOLD))
    return graph("Concat", strength, graph.unsqueeze(unvoiced, 1), axis=1)


def _step_gain(graph: Graph, octave: str, gain: str) -> str:
    """(time, to, from) float64: the gain of a state less the cost of coming to it from a state of the frame before.

    The first frame comes from itself: no state costs anything there.
    """
    earlier = graph("Concat", signals.sliced(graph, octave, 0, 1), signals.sliced(graph, octave, 0, -1), axis=0)
    away = graph("Abs", graph("Sub", graph.unsqueeze(octave, 2), graph.unsqueeze(earlier, 1)))
    jump = graph.times(away, graph.constant(_pitch.OCTAVE_JUMP_COST))
    pads = graph.constant([0, 0, 0, 0, 1, 1], np.int64)
    turn = np.zeros((_UNVOICED + 1, _UNVOICED + 1))
    turn[-1, :-1] = turn[:-1, -1] = _pitch.VOICING_COST
    cost = graph.add(graph.cast(graph("Pad", jump, pads), np.float64), graph.double(turn))
    return graph("Sub", graph.cast(graph.unsqueeze(gain, 2), np.float64), cost)


def _states(graph: Graph, step_gain: str) -> str:
    """(time,) int64: the state of each frame on the path of the highest gain, by Viterbi's algorithm."""
    one = graph.constant([1], np.int64)

    def forwards(states: list[str], items: list[str]) -> tuple[list[str], list[str]]:
        best, origin = graph.many("TopK", graph.add(items[0], states[0]), one, n_outputs=2, axis=1)
        return [graph.squeeze(best, 1)], [graph.squeeze(origin, 1)]

    def backwards(states: list[str], items: list[str]) -> tuple[list[str], list[str]]:
        return [graph("Gather", items[0], states[0], axis=0)], [states[0]]

    score, origins = graph.scan([graph.double(np.zeros(_UNVOICED + 1))], [step_gain], forwards)
    last = graph("ArgMax", score, axis=0, keepdims=0)
    return graph.scan([last], [origins], backwards, backwards=True)[1]
