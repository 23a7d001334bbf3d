"""Stacks, calibration and correction in a graph give the numbers of the arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serkit.calibration import Calibration
from serkit.combining import Ensemble, MajorityVote, MeanLogit
from serkit.pipeline import Run
from serkit.pooling import LogPool, MeanProbability
from serkit.predictions import Predictions
from serkit.serving import answer_graph
from serkit.serving.building import build
from serkit.serving.bundle import open_bundle
from serkit.serving.ensembles import alone, from_arrays
from serkit.serving.graphs import Graph

from .sound_graphs.running import run

LABELS = ("anger", "neutral", "sadness")
SYSTEMS, FOLDS = ("a", "b"), ("fold0", "fold1", "fold2")
NONE = Calibration("none", LABELS, (1.0,) * 3, (0.0,) * 3, {})
VECTOR = Calibration("vector", LABELS, (0.7, 1.2, 1.0), (0.1, -0.2, 0.0), {})


def scores(seed: int, labels: tuple[str, ...] = LABELS) -> dict[str, np.ndarray]:
    """(folds, classes) logits by system."""
    rng = np.random.default_rng(seed)
    return {name: (3 * rng.standard_normal((len(FOLDS), len(labels)))).astype(np.float32) for name in SYSTEMS}


def expected(stack: Ensemble, calibration: Calibration, given: dict[str, np.ndarray]) -> np.ndarray:
    ids, seen = ("0",) * len(FOLDS), np.zeros(len(FOLDS), dtype=bool)
    tables = {
        name: Predictions(name, stack.labels_, "logit", ids, FOLDS, seen, values.astype(np.float64))
        for name, values in given.items()
    }
    return np.asarray(calibration.apply(stack.predict(tables).probabilities())[0])


def found(stack: Ensemble, calibration: Calibration, given: dict[str, np.ndarray]) -> np.ndarray:
    def add(graph: Graph, *names: str) -> list[str]:
        rows = [apart(graph, name, len(FOLDS)) for name in names]
        return [answer_graph.probabilities(graph, dict(zip(given, rows, strict=True)), stack, calibration)]

    return run(add, **given)[0]


def apart(graph: Graph, name: str, n: int) -> list[str]:
    """The rows of a tensor."""
    return [graph("Gather", name, graph.constant(k, np.int64), axis=0) for k in range(n)]


def unfitted(stack: Ensemble) -> Ensemble:
    stack.systems_, stack.labels_ = SYSTEMS, LABELS
    return stack


def weighted() -> LogPool:
    pool = LogPool()
    pool.systems_, pool.labels_, pool.weights_ = SYSTEMS, LABELS, np.array([0.2, 0.9])
    return pool


STACKS = {
    "mean_logit": unfitted(MeanLogit()),
    "mean_probability": unfitted(MeanProbability()),
    "vote": unfitted(MajorityVote()),
    "log_pool": weighted(),
    "alone": from_arrays(alone("b", LABELS), {}),
}


@pytest.mark.parametrize("calibration", [NONE, VECTOR], ids=["none", "vector"])
@pytest.mark.parametrize("stack", list(STACKS.values()), ids=list(STACKS))
def test_ensembles(stack: Ensemble, calibration: Calibration) -> None:
    for seed in range(5):
        given = scores(seed)
        assert found(stack, calibration, given) == pytest.approx(expected(stack, calibration, given), abs=1e-6)


@pytest.mark.parametrize("system", ["stack", "logistic"])
def test_fitted_stacks(finished: Path, tmp_path: Path, system: str) -> None:
    bundle = open_bundle(build(Run(finished), tmp_path / "b", system=system).path)
    assert bundle.head["stack"]["kind"] == {"stack": "forest", "logistic": "logistic"}[system]
    for seed in range(5):
        given = dict(zip(bundle.stack.systems_, scores(seed, bundle.labels).values(), strict=True))
        wanted = expected(bundle.stack, bundle.calibration, given)
        assert found(bundle.stack, bundle.calibration, given) == pytest.approx(wanted, abs=1e-6)


def test_a_score_on_the_threshold_of_a_tree_goes_left() -> None:
    arrays = {
        "classes": np.arange(3), "feature": np.array([4, -1, -1]), "threshold": np.array([0.5, 0, 0], np.float32),
        "left": np.array([1, 0, 0]), "right": np.array([2, 0, 0]), "leaf": np.array([0, 0, 1]),
        "values": np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "roots": np.array([0]), "forest": np.array([0]),
    }  # fmt: skip
    stack = from_arrays({"kind": "forest", "systems": SYSTEMS, "labels": LABELS, "decimals": None}, arrays)
    for value, answer in ((0.5, [0.75, 0.25, 0.0]), (0.51, [0.0, 0.0, 1.0])):
        given = {"a": np.zeros((3, 3), np.float32), "b": np.full((3, 3), value, np.float32)}
        assert found(stack, NONE, given) == pytest.approx(answer, abs=1e-6)
        assert expected(stack, NONE, given) == pytest.approx(answer, abs=1e-6)


def test_two_classes_of_a_logistic_stack() -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "classes": np.array([0, 2]), "mean": rng.standard_normal(6), "scale": rng.uniform(1, 2, 6),
        "weights": rng.standard_normal((1, 6)), "bias": rng.standard_normal(1),
    }  # fmt: skip
    stack = from_arrays({"kind": "logistic", "systems": SYSTEMS, "labels": LABELS, "decimals": 2}, arrays)
    given = scores(1)
    assert found(stack, NONE, given) == pytest.approx(expected(stack, NONE, given), abs=1e-6)


def test_attributes_are_means_over_the_systems_that_learned_them() -> None:
    nan = float("nan")
    given = {"a": [[1.0, nan, nan], [3.0, nan, nan]], "b": [[4.0, 5.0, nan], [4.0, 7.0, nan]]}

    def add(graph: Graph, *names: str) -> list[str]:
        rows = [apart(graph, name, 2) for name in names]
        return [answer_graph.attributes(graph, dict(zip("ab", rows, strict=True)))]

    assert run(add, **given)[0] == pytest.approx([3.0, 6.0, nan], nan_ok=True)
