"""Log-mel band energies as a graph."""

from __future__ import annotations

from serkit import dsp
from serkit.encoders.logmel import FLOOR, N_FFT, Logmel
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import framed, hann, power_spectrum


def logmel(graph: Graph, samples: str, n_bands: int) -> str:
    """As :class:`serkit.encoders.logmel.Logmel`: (samples,), at least one window, to (time, n_bands + 1)."""
    frames = framed(graph, samples, Logmel.WINDOW, Logmel.HOP)
    power = power_spectrum(graph, graph.times(frames, hann(graph, Logmel.WINDOW)), Logmel.WINDOW, N_FFT)
    bands = graph("MatMul", power, graph.constant(dsp.mel_weights(n_bands, N_FFT)))
    energy = graph.total(graph.times(frames, frames), 1, keep=True)
    return graph("Log", graph("Max", graph("Concat", bands, energy, axis=1), graph.constant(FLOOR)))
