"""All of a bundle as one ONNX graph: encoders, adaptation, networks, stack, calibration and correction.

What :class:`serkit.serving.scorer.Scorer` computes of a clip, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from serkit import __version__
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.serving import answer_graph
from serkit.serving.bundle import Bundle
from serkit.serving.bundle_head import NetworkEntry
from serkit.serving.correction import uniform
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs.sound import Sound
from serkit.serving.thresholds import Thresholds
from serkit.types import ATTRIBUTES


def to_onnx(bundle: Bundle) -> bytes:
    """The ONNX model of a bundle: what :func:`serkit.serving.exporting.export` writes, not compared with anything.

    Raises:
        SerkitError: an encoder or a stack without an ONNX form, or a model that reads text.
        MissingExtra: the package onnx is not installed.
    """
    encoders = bundle.encoders()
    reading = [name for name, encoder in encoders.items() if encoder.spec.modality == "text"]
    if reading:
        raise SerkitError(
            f"'{bundle.name}' reads text ({', '.join(reading)}), and an ONNX file of a whole model hears sound alone; "
            "bundle one of its systems that does not: serkit bundle RUN --system NAME"
        )
    graph = Graph()
    sound = Sound(graph, graph.input("samples", ["samples"]))
    features = {}
    for name, encoder in encoders.items():
        encoder.load()
        features[name] = _adapted(graph, bundle, name, sound.features(name, encoder))
    answers = [(entry, _answer(graph, bundle, entry, features)) for entry in bundle.networks]
    logits: dict[str, list[str]] = {}
    rated: dict[str, list[str]] = {}
    for entry, found in sorted(answers, key=lambda pair: pair[0].model):
        logits.setdefault(entry.system, []).append(found["emotion"])
        if entry.attributes and entry.system in bundle.stack.systems_:
            rated.setdefault(entry.system, []).append(found["attributes"])
    embedding = graph("Concat", *(_of_length_1(graph, found["embedding"]) for _, found in answers), axis=0)
    shares = answer_graph.probabilities(graph, logits, bundle.stack, bundle.calibration)
    if bundle.own_labels:
        shares = graph.constant(uniform(1, len(bundle.labels))[0])
    if bundle.correction is not None:
        shares = answer_graph.corrected(graph, bundle.correction, shares, embedding, len(bundle.labels))
    outputs: dict[str, tuple[str, Sequence[int | str]]] = {"probabilities": (shares, [len(bundle.labels)])}
    if bundle.attributes:
        places = graph.constant([ATTRIBUTES.index(name) for name in bundle.attributes], np.int64)
        chosen = graph("Gather", answer_graph.attributes(graph, rated), places)
        outputs["attributes"] = (chosen, [len(bundle.attributes)])
    outputs["embedding"] = (embedding, ["dim"])
    return graph.to_bytes(outputs, _metadata(bundle))


def _adapted(graph: Graph, bundle: Bundle, name: str, frames: str) -> str:
    adaptation = bundle.adaptation
    if adaptation is None or name not in adaptation.scale:
        return frames
    scaled = graph.times(frames, graph.constant(adaptation.scale[name]))
    return graph.add(scaled, graph.constant(adaptation.offset[name]))


def _answer(graph: Graph, bundle: Bundle, entry: NetworkEntry, features: dict[str, str]) -> dict[str, str]:
    """One network's outputs, without the batch axis."""
    feeds = {}
    for k, name in enumerate(entry.features):
        feeds[f"x{k}"] = graph.unsqueeze(features[name], 0)
        feeds[f"n{k}"] = graph("Shape", features[name], start=0, end=1)
    found = graph.inline(bundle.network(entry), feeds)
    return {output: graph.squeeze(name, 0) for output, name in found.items()}


def _of_length_1(graph: Graph, vector: str) -> str:
    size = graph("Sqrt", graph.total(graph.times(vector, vector), 0))
    return graph("Div", vector, graph("Max", size, graph.constant(1e-12)))


def _metadata(bundle: Bundle) -> dict[str, str]:
    licence = bundle.head.get("licence", {}).get("weights") or "unknown"
    return {
        "labels": json.dumps(list(bundle.labels), ensure_ascii=False),
        "attributes": json.dumps(list(bundle.attributes)),
        "rate_hz": str(SAMPLE_RATE_HZ),
        "max_clip_s": f"{bundle.max_clip_s:g}",
        "unsure_below": str(Thresholds(bundle).unsure_below(bundle.labels, None)),
        "name": bundle.id,
        "licence": str(licence),
        "serkit": __version__,
    }
