"""From the networks' logits to probabilities, as nodes of an ONNX graph: stack, calibration and correction."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from serkit.calibration import Calibration
from serkit.combining import Ensemble, MajorityVote, MeanLogit
from serkit.errors import SerkitError
from serkit.pooling import LogPool, MeanProbability
from serkit.probabilities import COMBINED_FLOOR, MEASURED_FLOOR
from serkit.serving.correction import Correction
from serkit.serving.ensembles import Alone, ForestArrays, LogisticArrays
from serkit.serving.graphs import Graph

Logits = Mapping[str, Sequence[str]]  # (classes,) float32 of each of its models, by system


def probabilities(graph: Graph, logits: Logits, stack: Ensemble, calibration: Calibration) -> str:
    """(classes,) float32, as :class:`serkit.serving.scorer.Scorer` has them.

    Args:
        logits: names, the models of every system in the same order.

    Raises:
        SerkitError: a stack without an ONNX form.
    """
    wide = {system: [graph.cast(name, np.float64) for name in logits[system]] for system in stack.systems_}
    shares = _voted(graph, wide) if isinstance(stack, MajorityVote) else _stacked(graph, wide, stack)
    if calibration.method != "none":
        logs = graph("Log", graph("Max", shares, graph.double(MEASURED_FLOOR)))
        scaled = graph.times(logs, graph.double(calibration.weights))
        shares = _softmax(graph, graph.add(scaled, graph.double(calibration.bias)))
    return graph.cast(shares, np.float32)


def attributes(graph: Graph, given: Logits) -> str:
    """(3,) float32: each is the mean over the systems that learned it, whose models are averaged; NaN where none did.

    Args:
        given: (3,) float32 of each model, by system, of those that have attributes.
    """
    systems = [_mean(graph, [graph.cast(name, np.float64) for name in names]) for names in given.values()]
    known = [graph("Not", graph("IsNaN", x)) for x in systems]
    zero = graph.double(0.0)
    total = _sum(graph, [graph("Where", k, x, zero) for k, x in zip(known, systems, strict=True)])
    count = _sum(graph, [graph.cast(k, np.float64) for k in known])
    return graph.cast(graph("Div", total, count), np.float32)  # 0 / 0 is NaN


def corrected(graph: Graph, correction: Correction, shares: str, embedding: str, n_classes: int) -> str:
    """(classes,) float32, as :meth:`serkit.serving.correction.Correction.apply`.

    Args:
        shares: (classes,) float32 probabilities. embedding: (dim,) float32 of all networks, each of length 1.
    """
    places = np.eye(n_classes)[correction.columns]
    weights, bias = correction.weights.astype(np.float64) @ places, correction.bias @ places
    logs = graph("Log", graph("Max", graph.cast(shares, np.float64), graph.double(COMBINED_FLOOR)))
    moved = graph("MatMul", graph.cast(embedding, np.float64), graph.double(weights))
    moved = graph.add(moved, graph.double(bias))
    return graph.cast(_softmax(graph, graph.add(logs, moved)), np.float32)


def _sum(graph: Graph, names: Sequence[str]) -> str:
    return functools.reduce(graph.add, names)


def _mean(graph: Graph, names: Sequence[str]) -> str:
    return graph("Div", _sum(graph, names), graph.double(len(names)))


def _log_softmax(graph: Graph, x: str) -> str:
    away = graph("Sub", x, graph("ReduceMax", x, axes=[0], keepdims=1))
    return graph("Sub", away, graph("Log", graph.total(graph("Exp", away), 0, keep=True)))


def _softmax(graph: Graph, x: str) -> str:
    return graph("Exp", _log_softmax(graph, x))


def _stacked(graph: Graph, logits: Logits, stack: Ensemble) -> str:
    """The stack applied to the systems' scores of each fold, and the mean of its answers."""
    folds = zip(*logits.values(), strict=True)
    if isinstance(stack, (MeanLogit, LogPool)):
        weights = getattr(stack, "weights_", np.full(len(logits), 1.0 / len(logits)))
        pooled = [
            _sum(
                graph,
                [graph.times(_log_softmax(graph, x), graph.double(w)) for x, w in zip(fold, weights, strict=True)],
            )
            for fold in folds
        ]
        return _softmax(graph, _mean(graph, pooled))
    if isinstance(stack, Alone):
        return _softmax(graph, _mean(graph, [fold[0] for fold in folds]))
    if isinstance(stack, MeanProbability):
        return _mean(graph, [_mean(graph, [_softmax(graph, x) for x in fold]) for fold in folds])
    if isinstance(stack, (LogisticArrays, ForestArrays)):
        return _mean(graph, [_learned(graph, fold, stack) for fold in folds])
    raise SerkitError(f"no ONNX form of a stack of type {type(stack).__name__}")


def _learned(graph: Graph, fold: Sequence[str], stack: LogisticArrays | ForestArrays) -> str:
    """(classes,) of a fitted stack, from the scores of the systems side by side."""
    scores = graph("Concat", *fold, axis=0)
    if stack.decimals is not None:
        power = graph.double(10.0**stack.decimals)
        scores = graph("Div", graph("Round", graph.times(scores, power)), power)
    found = _logistic(graph, scores, stack) if isinstance(stack, LogisticArrays) else _forest(graph, scores, stack)
    places = np.eye(len(stack.labels_))[stack.classes_]
    return graph("MatMul", found, graph.double(places))


def _logistic(graph: Graph, scores: str, stack: LogisticArrays) -> str:
    weights, bias = stack.weights_, stack.bias_
    if len(weights) == 1:  # of two classes, the one score is that of the second
        weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
    z = graph("Div", graph("Sub", scores, graph.double(stack.mean_)), graph.double(stack.scale_))
    return _softmax(graph, graph.add(graph("MatMul", z, graph.double(weights.T)), graph.double(bias)))


def _forest(graph: Graph, scores: str, stack: ForestArrays) -> str:
    """All trees side by side, one level after the other, as :meth:`ForestArrays.probabilities`."""
    t = stack.nodes_
    x = graph.cast(scores, np.float32)
    tables = {name: graph.constant(t[name], np.int64) for name in ("feature", "left", "right", "leaf")}
    threshold, zero = graph.constant(t["threshold"]), graph.constant(0, np.int64)
    at, deepest = graph.constant(t["roots"], np.int64), _depth(t)
    for _ in range(deepest):
        feature = graph("Gather", tables["feature"], at)
        value = graph("Gather", x, graph("Max", feature, zero))
        below = graph("LessOrEqual", value, graph("Gather", threshold, at))
        on = graph("Where", below, graph("Gather", tables["left"], at), graph("Gather", tables["right"], at))
        at = graph("Where", graph("Less", feature, zero), at, on)
    leaves = t["values"].astype(np.float64)
    shares = leaves / leaves.sum(axis=1, keepdims=True)
    found = graph("Gather", graph.double(shares), graph("Gather", tables["leaf"], at))  # (trees, classes)
    forests = np.unique(t["forest"])
    weight = np.mean([(t["forest"] == k) / (t["forest"] == k).sum() for k in forests], axis=0)
    return graph.total(graph.times(found, graph.double(weight[:, None])), 0)


def _depth(nodes: Mapping[str, np.ndarray]) -> int:
    """How many questions the longest way to a leaf asks."""
    at, depth = np.unique(nodes["roots"]), 0
    while (inner := at[nodes["feature"][at] >= 0]).size:
        at, depth = np.unique(np.concatenate([nodes["left"][inner], nodes["right"][inner]])), depth + 1
    return depth


def _voted(graph: Graph, logits: Logits) -> str:
    """As :class:`serkit.combining.MajorityVote`, which averages a system's models first."""
    parts = []
    for names in logits.values():
        score = _mean(graph, names)
        best = graph("ArgMax", score, axis=0, keepdims=1)
        n_classes = graph.time(score, 0)
        counted = graph("Range", graph.constant(0, np.int64), n_classes, graph.constant(1, np.int64))
        vote = graph.cast(graph("Equal", counted, best), np.float64)
        parts.append(graph.add(vote, graph("Div", _softmax(graph, score), graph.double(len(logits)))))
    return graph("Div", _sum(graph, parts), graph.double(len(logits) + 1))
