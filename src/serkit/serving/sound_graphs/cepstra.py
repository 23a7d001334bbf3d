"""Mel-frequency cepstral coefficients as a graph."""

from __future__ import annotations

import numpy as np

from serkit import dsp
from serkit.encoders.mfcc import FLOOR, N_BANDS, N_FFT, Mfcc
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import framed, hann, number, power_spectrum, size, sliced


def mfcc(graph: Graph, samples: str, encoder: Mfcc) -> str:
    """As :class:`serkit.encoders.mfcc.Mfcc`, before pooling.

    Args:
        samples: (samples,) float32, at least one window.
        encoder: says how many coefficients, and how often slopes follow.

    Returns:
        (time, coefficients · (1 + deltas)) float32.
    """
    frames = graph.times(framed(graph, samples, Mfcc.WINDOW, Mfcc.HOP), hann(graph, Mfcc.WINDOW))
    power = power_spectrum(graph, graph.cast(frames, np.float64), Mfcc.WINDOW, N_FFT, dtype=np.float64)
    bands = graph("MatMul", graph.cast(power, np.float32), graph.constant(dsp.mel_weights(N_BANDS, N_FFT)))
    level = graph("Log", graph("Max", bands, graph.constant(FLOOR)))
    stages = [graph("MatMul", level, graph.constant(dsp.cosine_basis(N_BANDS, encoder.n_coefficients)))]
    for _ in range(encoder.deltas):
        stages.append(deltas(graph, stages[-1]))
    return graph("Concat", *stages, axis=1)


def deltas(graph: Graph, frames: str, reach: int = 2) -> str:
    """As :func:`serkit.dsp.deltas`: (time, dim) float32 to its change per frame over ``2 reach + 1`` frames."""
    padded = graph("Pad", frames, graph.constant([reach, 0, reach, 0], np.int64), mode="edge")
    n = size(graph, frames)
    shifted = [sliced(graph, padded, k, graph.add(n, number(graph, k))) for k in range(2 * reach + 1)]
    steps = [
        graph.times(graph("Sub", shifted[reach + k], shifted[reach - k]), graph.constant(float(k)))
        for k in range(1, reach + 1)
    ]
    return graph("Div", graph("Sum", *steps), graph.constant(2.0 * sum(k * k for k in range(1, reach + 1))))
