"""Formants in a graph: linear prediction, and the roots of the predictors of all frames at once.

ONNX has no eigenvalues: the roots are found by simultaneous iteration, in float64.
"""

from __future__ import annotations

import numpy as np

from serkit.encoders import _formants
from serkit.encoders._formants import BAND_HZ, MAX_BANDWIDTH_HZ, MAX_HZ, MAX_REFLECTION, MIN_HZ, ORDER
from serkit.encoders._voice_tables import N_FFT
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import signals

N_FORMANTS = 3
STEPS = 18  # the roots that can be formants are exact after 13 in 10 000 frames of speech, after 16 in hard cases
_TINY = 1e-300  # no division by zero where a root is met exactly
_Complex = tuple[str, str]


def formants(graph: Graph, power: str) -> tuple[str, str]:
    """As :func:`serkit.encoders._formants.formants`.

    Its eigenvalues are those of a float32 matrix, the roots here are exact: the difference is below 0.01 Hz. What the
    rounding of the product with the power makes of them is far more, some Hz where two resonances lie together; it is
    in float32 as there, and adds up the same bits where the machine's products go through the bins in turn.

    Args:
        power: (frames, N_FFT // 2 + 1) float32 power spectrum.

    Returns:
        frequency and bandwidth in Hz, each (frames, 3) float32, NaN where there are fewer roots.
    """
    basis = _formants.to_correlation(N_FFT)
    below = signals.sliced(graph, power, 0, len(basis), axis=1)
    product = graph.cast(graph("MatMul", below, graph.constant(basis)), np.float64)
    loudness = signals.sliced(graph, product, 0, 1, axis=1)
    return _resonances(graph, graph("Div", product, graph("Max", loudness, graph.double(1e-20))))


def _resonances(graph: Graph, correlation: str) -> tuple[str, str]:
    """Frequency and bandwidth, of a normalised autocorrelation (frames, ORDER + 1) float64."""
    return _lowest(graph, *_roots(graph, _predictor(graph, correlation)))


def _predictor(graph: Graph, correlation: str) -> str:
    """As :func:`serkit.encoders._formants._predictor`, with the leading 1: (frames, ORDER + 1) float64."""
    one = graph.double(1.0)
    first = signals.sliced(graph, correlation, 0, 1, axis=1)
    error = graph.add(graph.times(first, graph.double(1 + 1e-6)), graph.double(1e-12))
    zero = graph("Sub", first, first)
    a = graph.add(zero, one)
    for i in range(1, ORDER + 1):
        lags = graph("Gather", correlation, graph.constant(np.arange(i, 0, -1), np.int64), axis=1)
        reflection = graph("Neg", graph("Div", graph.total(graph.times(a, lags), 1, keep=True), error))
        reflection = graph("Clip", reflection, graph.double(-MAX_REFLECTION), graph.double(MAX_REFLECTION))
        mirrored = graph("Gather", a, graph.constant(np.arange(i - 1, -1, -1), np.int64), axis=1)
        added = graph.times(reflection, graph("Concat", zero, mirrored, axis=1))
        a = graph.add(graph("Concat", a, zero, axis=1), added)
        left = graph("Sub", one, graph.times(reflection, reflection))
        error = graph("Max", graph.times(error, left), graph.double(1e-12))
    return a


def _roots(graph: Graph, predictor: str) -> _Complex:
    """Roots of 1 + a1 z^-1 + …: (frames, ORDER + 1) to the real and imaginary parts, each (frames, ORDER) float64.

    O. Aberth (1973), Iteration methods for finding all zeros of a polynomial simultaneously, Math. Comp. 27(122),
    from a circle near the unit circle, where the narrow resonances are: these converge first. All of them turn by
    one angle, which is no symmetry of the roots. Wide ones far inside may be inexact; they are no formants.
    """
    start = 0.9 * np.exp(1j * (2 * np.pi * np.arange(ORDER)[:, None] / ORDER + 0.4))
    factors = graph.many("Split", graph("Transpose", predictor, perm=[1, 0]), n_outputs=ORDER + 1, axis=0)
    nothing = graph("Sub", factors[0], factors[0])
    begun = [graph.add(nothing, graph.double(part)) for part in (start.real, start.imag)]

    def step(states: list[str], _: list[str]) -> tuple[list[str], list[str]]:
        z = (states[0], states[1])
        value, slope = _evaluated(graph, z, factors)
        attraction = _product(graph, value, _pull(graph, z))
        return list(_minus(graph, z, _divided(graph, value, _minus(graph, slope, attraction)))), []

    real, imaginary = graph.scan(begun, [graph.constant(np.zeros(STEPS))], step)
    return graph("Transpose", real, perm=[1, 0]), graph("Transpose", imaginary, perm=[1, 0])


def _evaluated(graph: Graph, z: _Complex, factors: list[str]) -> tuple[_Complex, _Complex]:
    """A polynomial with real factors, the highest first, and its derivative, at complex points of any shape.

    Divided by z^2 - s z + t, whose roots are the point and its conjugate, it leaves a line; the quotient, divided
    once more, gives the derivative: half the arithmetic of complex numbers.
    """
    s, t = graph.add(z[0], z[0]), _square(graph, z)

    def divided(row: list[str]) -> list[str]:
        done = [row[0], graph.add(graph.times(row[0], s), row[1])]
        for factor in row[2:]:
            more = graph("Sub", graph.times(done[-1], s), graph.times(done[-2], t))
            done.append(graph.add(more, factor))
        return done

    def at_point(row: list[str]) -> _Complex:  # row[-2] (z - s) + row[-1]
        return graph("Sub", row[-1], graph.times(row[-2], z[0])), graph.times(row[-2], z[1])

    quotient = divided(factors)
    inner = at_point(divided(quotient[:-2]))
    twice = graph.add(z[1], z[1])  # 2 z - s, imaginary
    slope = (graph("Sub", quotient[-2], graph.times(twice, inner[1])), graph.times(twice, inner[0]))
    return at_point(quotient), slope


def _pull(graph: Graph, z: _Complex) -> _Complex:
    """(ORDER, frames): for each point the sum over the others of 1 / (z - other)."""
    away = [graph("Sub", graph.unsqueeze(part, 1), graph.unsqueeze(part, 0)) for part in z]
    square = graph("Max", _square(graph, (away[0], away[1])), graph.double(_TINY))  # to itself it is 0 / tiny
    real, imaginary = (graph.total(graph("Div", part, square), 1) for part in away)
    return real, graph("Neg", imaginary)


def _lowest(graph: Graph, real: str, imaginary: str) -> tuple[str, str]:
    """Frequency and bandwidth of the three lowest roots that can be formants."""
    above = graph("Greater", imaginary, graph.double(0.0))
    safe = graph("Where", above, imaginary, graph.double(1.0))
    turned = graph("Atan", graph.cast(graph("Div", real, safe), np.float32))
    frequency = graph.times(graph("Sub", graph.constant(np.pi / 2), turned), graph.constant(BAND_HZ / np.pi))
    decay = graph("Log", graph("Max", _square(graph, (real, imaginary)), graph.double(1e-12)))
    bandwidth = graph.cast(graph.times(decay, graph.double(-BAND_HZ / np.pi)), np.float32)
    inside = [
        graph("Greater", frequency, graph.constant(MIN_HZ)),
        graph("Less", frequency, graph.constant(MAX_HZ)),
        graph("Less", bandwidth, graph.constant(MAX_BANDWIDTH_HZ)),
    ]
    for condition in inside:
        above = graph("And", above, condition)
    ranked = graph("Where", above, frequency, graph.constant(np.inf))
    lowest, at = graph.many(
        "TopK", ranked, graph.constant([N_FORMANTS], np.int64), n_outputs=2, axis=1, largest=0, sorted=1
    )
    absent, nothing = graph("IsInf", lowest), graph.constant(np.nan)
    width = graph("GatherElements", bandwidth, at, axis=1)
    return graph("Where", absent, nothing, lowest), graph("Where", absent, nothing, width)


def _square(graph: Graph, x: _Complex) -> str:
    """Of the magnitude."""
    return graph.add(graph.times(x[0], x[0]), graph.times(x[1], x[1]))


def _minus(graph: Graph, x: _Complex, y: _Complex) -> _Complex:
    return graph("Sub", x[0], y[0]), graph("Sub", x[1], y[1])


def _product(graph: Graph, x: _Complex, y: _Complex) -> _Complex:
    real = graph("Sub", graph.times(x[0], y[0]), graph.times(x[1], y[1]))
    return real, graph.add(graph.times(x[0], y[1]), graph.times(x[1], y[0]))


def _divided(graph: Graph, x: _Complex, y: _Complex) -> _Complex:
    """x / y, 0 where both are."""
    real, imaginary = _product(graph, x, (y[0], graph("Neg", y[1])))
    square = graph("Max", _square(graph, y), graph.double(_TINY))
    return graph("Div", real, square), graph("Div", imaginary, square)
