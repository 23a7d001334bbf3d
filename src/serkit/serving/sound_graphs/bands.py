"""Log-mel bands and cepstra as graphs, from spectra that they share."""

from __future__ import annotations

import numpy as np

from serkit import dsp
from serkit.encoders import mfcc as cepstral
from serkit.encoders.logmel import FLOOR, N_FFT, Logmel
from serkit.encoders.mfcc import Mfcc
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import framed, hann, number, power_spectrum, size, sliced


def spectra(graph: Graph, samples: str) -> tuple[str, str]:
    """(samples,), at least one window of 25 ms, to (time, 400) frames and their (time, 257) power, both float32."""
    frames = framed(graph, samples, Logmel.WINDOW, Logmel.HOP)
    windowed = graph.times(frames, hann(graph, Logmel.WINDOW))
    return frames, power_spectrum(graph, windowed, Logmel.WINDOW, N_FFT)


def logmel(graph: Graph, frames: str, power: str, n_bands: int) -> str:
    """As :class:`serkit.encoders.logmel.Logmel` before pooling: :func:`spectra` to (time, n_bands + 1) float32."""
    energy = graph.total(graph.times(frames, frames), 1, keep=True)
    return graph(
        "Log", graph("Max", graph("Concat", _mel(graph, power, n_bands), energy, axis=1), graph.constant(FLOOR))
    )


def mfcc(graph: Graph, power: str, encoder: Mfcc) -> str:
    """As :class:`serkit.encoders.mfcc.Mfcc` before pooling: (time, 257) power to (time, coefficients · (1 + deltas)).

    Args:
        encoder: says how many coefficients, and how often slopes follow.
    """
    level = graph("Log", graph("Max", _mel(graph, power, cepstral.N_BANDS), graph.constant(cepstral.FLOOR)))
    basis = graph.constant(dsp.cosine_basis(cepstral.N_BANDS, encoder.n_coefficients))
    stages = [graph("MatMul", level, basis)]
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


def _mel(graph: Graph, power: str, n_bands: int) -> str:
    return graph("MatMul", power, graph.constant(dsp.mel_weights(n_bands, N_FFT)))
