"""Fitted stacks as plain arrays, evaluated in numpy: scikit-learn's numbers without scikit-learn.

An array stack is an :class:`~serkit.combining.Ensemble` like the one it was made from: alignment, averaging
over fold models and masking are the same code. Nothing here can be anything but numbers when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from serkit.combining import Aligned, Ensemble, MajorityVote, MeanLogit, Scores, Unfitted
from serkit.errors import SerkitError
from serkit.pooling import LogPool, MeanProbability
from serkit.predictions import Predictions
from serkit.probabilities import masked, softmax
from serkit.types import Manifest


@dataclass(eq=False)
class _Arrays(Ensemble):
    """An ensemble that is loaded, never fitted."""

    decimals: int | None = None
    classes_: np.ndarray = field(init=False, repr=False)

    def fit(self, predictions: Scores, manifest: Manifest) -> Self:
        """Refused: these arrays are the result of a fit."""
        raise SerkitError("a bundle's stack is already fitted")

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(rows, systems x classes) scores to (rows, ``classes_``) probabilities."""
        raise NotImplementedError

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        found = np.zeros((len(table.ids), len(table.labels)))
        found[:, self.classes_] = self.probabilities(table.features(self.decimals))
        if not allowed.all():
            found = masked(found, allowed)
        return Predictions(self.system, table.labels, "prob", table.ids, table.models, table.seen, found)


@dataclass(eq=False)
class ForestArrays(_Arrays):
    """Forests as node tables, all trees side by side.

    Attributes:
        nodes_: by name: ``feature`` (nodes,) int16, -1 in a leaf; ``threshold`` (nodes,) float32; ``left``,
            ``right`` (nodes,) int32; ``leaf`` (nodes,) int32 row of ``values``; ``values`` (leaves, classes);
            ``roots`` (trees,) int32; ``forest`` (trees,) int16: which forest a tree belongs to.
    """

    nodes_: dict[str, np.ndarray] = field(init=False, repr=False)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Mean over forests of the mean over their trees; a row goes left where its float32 is ``<=``."""
        t = self.nodes_
        X = features.astype(np.float32)
        at = np.repeat(t["roots"][None, :], len(X), axis=0)
        rows = np.arange(len(X))[:, None]
        while True:
            feature = t["feature"][at]
            inner = feature >= 0
            if not inner.any():
                break
            below = X[rows, np.maximum(feature, 0)] <= t["threshold"][at]
            at = np.where(inner, np.where(below, t["left"][at], t["right"][at]), at)
        values = t["values"][t["leaf"][at]].astype(np.float64)  # (rows, trees, classes)
        shares = values / values.sum(axis=2, keepdims=True)
        forests = [shares[:, t["forest"] == k].mean(axis=1) for k in np.unique(t["forest"])]
        return np.asarray(np.mean(forests, axis=0))


@dataclass(eq=False)
class LogisticArrays(_Arrays):
    """Standardised scores through a multinomial logistic regression.

    Attributes:
        mean_, scale_: (features,). weights_: (classes, features). bias_: (classes,).
    """

    mean_: np.ndarray = field(init=False, repr=False)
    scale_: np.ndarray = field(init=False, repr=False)
    weights_: np.ndarray = field(init=False, repr=False)
    bias_: np.ndarray = field(init=False, repr=False)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Softmax of the linear scores; of two classes, their one score is that of the second."""
        z = ((features - self.mean_) / self.scale_) @ self.weights_.T + self.bias_
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        return softmax(z)


@dataclass(eq=False)
class Alone(_Arrays):
    """One system: its own scores."""

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        scores = table.scores[:, 0]
        return Predictions(self.system, table.labels, table.kinds[0], table.ids, table.models, table.seen, scores)


KINDS: Mapping[Any, type[Ensemble]] = {
    "forest": ForestArrays,
    "logistic": LogisticArrays,
    "log_pool": LogPool,
    "vote": MajorityVote,
    "mean_logit": MeanLogit,
    "mean_probability": MeanProbability,
    "alone": Alone,
}
"""What ``bundle.json`` calls an ensemble: a stack by what it is made of."""


def to_arrays(ensemble: Ensemble) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a bundle keeps of a fitted ensemble: a JSON-able head, and arrays by name.

    Raises:
        SerkitError: an ensemble of another kind, or not fitted.
    """
    head: dict[str, Any] = {"systems": list(ensemble.systems_), "labels": list(ensemble.labels_)}
    for kind, known in KINDS.items():
        if issubclass(known, Unfitted) and isinstance(ensemble, known):
            return {"kind": kind, **head}, {}
    if isinstance(ensemble, LogPool):
        return {"kind": "log_pool", **head}, {"weights": ensemble.weights_}
    models: list[Any] = getattr(ensemble, "models_", [])
    if not models:
        raise SerkitError(f"no arrays of an ensemble of type {type(ensemble).__name__}")
    head["decimals"] = getattr(ensemble, "decimals", None)
    arrays = {"classes": np.asarray(ensemble.classes_, dtype=np.int64)}  # type: ignore[attr-defined]  # both stacks
    if hasattr(models[0], "estimators_"):
        return {"kind": "forest", **head}, {**arrays, **_forest(models)}
    scaler, regression = models[0][0], models[0][-1]
    arrays["mean"], arrays["scale"] = scaler.mean_, scaler.scale_
    arrays["weights"], arrays["bias"] = regression.coef_, regression.intercept_
    return {"kind": "logistic", **head}, {k: np.ascontiguousarray(v) for k, v in arrays.items()}


def alone(system: str, labels: tuple[str, ...]) -> dict[str, Any]:
    """The head of a bundle of one system."""
    return {"kind": "alone", "systems": [system], "labels": list(labels), "decimals": None}


def from_arrays(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Ensemble:
    """The ensemble that :func:`to_arrays` described; every index is checked before it is followed.

    Raises:
        SerkitError: an unknown kind, a missing array, or arrays that do not fit each other.
    """
    kind = head.get("kind")
    if kind not in KINDS:
        raise SerkitError(f"stack of kind {kind!r}, expected one of {', '.join(KINDS)}")
    made = KINDS[kind](system="stack")
    made.systems_, made.labels_ = tuple(head["systems"]), tuple(head["labels"])
    n_features, n_classes = len(made.systems_) * len(made.labels_), len(made.labels_)
    try:
        if isinstance(made, _Arrays):
            made.decimals = head["decimals"]
            made.classes_ = np.asarray(arrays["classes"]) if kind != "alone" else np.arange(n_classes)
            classes = made.classes_.tolist()
            if made.classes_.dtype.kind not in "iu" or sorted(set(classes) & set(range(n_classes))) != sorted(classes):
                raise SerkitError(f"stack: classes {classes} are not among {n_classes} labels")
        if isinstance(made, ForestArrays):
            made.nodes_ = {name: np.asarray(arrays[name]) for name in _NODES}
            _check_forest(made.nodes_, n_features, len(made.classes_))
        if isinstance(made, LogPool):
            made.restore(arrays)
        if isinstance(made, LogisticArrays):
            for name in ("mean", "scale", "weights", "bias"):
                setattr(made, f"{name}_", np.asarray(arrays[name], dtype=np.float64))
            rows = len(made.classes_) if len(made.classes_) > 2 else made.weights_.shape[0]
            shapes = [made.mean_.shape, made.scale_.shape, made.weights_.shape, made.bias_.shape]
            if shapes != [(n_features,), (n_features,), (rows, n_features), (rows,)]:
                raise SerkitError(f"stack: shapes {shapes} do not fit {n_features} scores and {rows} classes")
    except KeyError as error:
        raise SerkitError(f"stack: {error} is missing") from None
    except (TypeError, ValueError, IndexError) as error:  # arrays of another number of dimensions
        raise SerkitError(f"stack: its arrays do not fit each other: {error}") from None
    return made


_NODES = ("feature", "threshold", "left", "right", "leaf", "values", "roots", "forest")


def _forest(models: list[Any]) -> dict[str, np.ndarray]:
    """Node tables of fitted forests.

    scikit-learn compares a float32 with a float64 threshold: the same as comparing with the largest float32
    that is not above it. Shares in leaves are counts over their sum where the trees saw whole rows.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _NODES}
    start = leaves = 0
    for k, model in enumerate(models):
        for estimator in model.estimators_:
            tree = estimator.tree_
            leaf = tree.children_left == -1
            parts["feature"].append(np.where(leaf, -1, tree.feature).astype(np.int16))
            parts["threshold"].append(_at_most(tree.threshold))
            for name, child in (("left", tree.children_left), ("right", tree.children_right)):
                parts[name].append(np.where(leaf, 0, child + start).astype(np.int32))
            row = np.cumsum(leaf) - 1 + leaves
            parts["leaf"].append(np.where(leaf, row, 0).astype(np.int32))
            parts["values"].append(tree.value[leaf, 0] * tree.weighted_n_node_samples[leaf][:, None])
            parts["roots"].append(np.array([start], dtype=np.int32))
            parts["forest"].append(np.array([k], dtype=np.int16))
            start, leaves = start + tree.node_count, leaves + int(leaf.sum())
    found = {name: np.concatenate(part) for name, part in parts.items()}
    counts = np.round(found["values"])
    if np.abs(counts - found["values"]).max() < 1e-6 and counts.max() < 65536:
        found["values"] = counts.astype(np.uint16)
    return found


def _at_most(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64."""
    near = threshold.astype(np.float32)
    return np.where(near.astype(np.float64) > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def _check_forest(nodes: Mapping[str, np.ndarray], n_features: int, n_classes: int) -> None:
    """Refuse tables whose walk could leave them or never end: children lie after their parent."""
    feature, own = nodes["feature"], np.arange(len(nodes["feature"]))
    inner = feature >= 0
    n = len(own)
    good = all(nodes[name].shape == (n,) for name in ("threshold", "left", "right", "leaf"))
    good = good and all(nodes[name].dtype.kind in "iu" for name in _NODES if name not in ("threshold", "values"))
    good = good and nodes["values"].ndim == 2 and nodes["values"].shape[1] == n_classes
    good = good and nodes["roots"].shape == nodes["forest"].shape and len(nodes["roots"]) > 0
    if good:
        for name in ("left", "right"):
            good = good and bool(((nodes[name] > own) & (nodes[name] < n))[inner].all())
        leaf, values = nodes["leaf"][~inner], nodes["values"]
        good = good and bool(((leaf >= 0) & (leaf < len(values))).all()) and bool((feature < n_features).all())
        good = good and bool(((nodes["roots"] >= 0) & (nodes["roots"] < n)).all()) and bool((values.sum(1) > 0).all())
    if not good:
        raise SerkitError("stack: a tree points outside itself, or its tables do not fit; the bundle is damaged")
