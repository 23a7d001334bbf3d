"""The states of Silero's speech detectors as a graph."""

from __future__ import annotations

import numpy as np

from serkit.encoders import _silero
from serkit.encoders.silero import PEAK, SPEECH_FROM, Silero
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.signals import framed, highest, mean, number

_LEAST_FRAMES = 3
Heard = list[tuple[str, str]]  # (time, 320) states and (time,) probabilities of speech, by network


def heard(graph: Graph, samples: str, networks: tuple[str, ...]) -> Heard:
    """As :func:`serkit.encoders._silero.states` of (samples,), at least one window, brought to a peak of 0.5."""
    peak = highest(graph, graph("Abs", samples), 0)
    level = graph("Div", graph.constant(PEAK), graph("Max", peak, graph.constant(1e-6)))
    chunks = framed(graph, graph.times(samples, level), Silero.WINDOW, Silero.HOP)
    mirror = np.r_[0 : Silero.WINDOW, Silero.WINDOW - 2 : Silero.WINDOW - 2 - _silero.REFLECTED : -1]
    n_windows = (len(mirror) - _silero.N_FFT) // _silero.STEP + 1
    places = np.arange(n_windows)[:, None] * _silero.STEP + np.arange(_silero.N_FFT)
    windows = graph("Gather", chunks, graph.constant(mirror[places], np.int64), axis=1)  # (time, windows, samples)
    waves = graph("MatMul", windows, graph.constant(_silero.basis()))
    square = graph.times(waves, waves)
    parts = graph.many("Split", square, graph.constant([_silero.BINS] * 2, np.int64), n_outputs=2, axis=2)
    spectra = graph("Transpose", graph("Sqrt", graph.add(*parts)), perm=[0, 2, 1])  # (time, bins, windows)
    return [_states(graph, spectra, _silero.network(name)) for name in networks]


def states(graph: Graph, found: Heard) -> str:
    """(time, 320 · networks): ``silero`` and ``silero/all``."""
    return graph("Concat", *(name for name, _ in found), axis=1)


def statistics(graph: Graph, found: Heard) -> str:
    """(1, 640 · networks): mean and deviation of each network's frames of speech, as ``silero/functionals``."""
    parts = []
    for frames, speech in found:
        spoken = graph("Greater", speech, graph.constant(SPEECH_FROM))
        count = graph.total(graph.cast(spoken, np.int64), 0)
        few = graph("Less", count, number(graph, _LEAST_FRAMES))
        kept = graph("Compress", frames, graph("Or", spoken, few), axis=0)
        average = mean(graph, kept, 0, keep=True)
        away = graph("Sub", kept, average)
        parts += [average, graph("Sqrt", mean(graph, graph.times(away, away), 0, keep=True))]
    return graph("Concat", *parts, axis=1)


def _states(graph: Graph, spectra: str, network: _silero.Network) -> tuple[str, str]:
    """(time, 129, windows) magnitudes to (time, 320) states and (time,) probabilities of speech."""
    x = graph.times(spectra, graph.constant(network.scale))
    if network.bins != _silero.BINS:
        axes = graph.constant([1], np.int64)
        x = graph("Slice", x, graph.constant([0], np.int64), graph.constant([network.bins], np.int64), axes)
    convolved = []
    for layer in network.layers:
        kernel = layer.weight.reshape(3, -1, layer.weight.shape[1]).transpose(2, 1, 0)
        weights = graph.constant(kernel), graph.constant(layer.bias)
        x = graph("Relu", graph("Conv", x, *weights, strides=[layer.stride], pads=[1, 1]))
        convolved.append(x)
    third, fourth = (graph("Gather", x, number(graph, 0), axis=2) for x in convolved[2:])
    width = _silero.WIDTHS[2]
    whole = np.repeat(np.array([2.0, 2.0, 1.0, 2.0], dtype=np.float32), width)  # what the network halved
    entering, recurrent, bias = (_gates((w * whole).T) for w in (network.input, network.recurrent, network.bias))
    both = np.concatenate([bias, np.zeros_like(bias)])[None]
    y = graph(
        "LSTM", graph.unsqueeze(fourth, 1), graph.constant(entering[None]), graph.constant(recurrent[None]),
        graph.constant(both), hidden_size=width,
    )  # fmt: skip
    last = graph("Reshape", y, graph.constant([-1, width], np.int64))
    score = graph.affine(graph("Relu", last), network.out[:, None], None)
    speech = graph("Sigmoid", graph.add(graph.squeeze(score, 1), graph.constant(network.out_bias)))
    return graph("Concat", third, fourth, last, axis=1), speech


def _gates(weight: np.ndarray) -> np.ndarray:
    """Enter, keep, candidate, leave to ONNX's order: enter, leave, keep, candidate."""
    enter, keep, candidate, leave = np.split(weight, 4)
    return np.concatenate([enter, leave, keep, candidate])
