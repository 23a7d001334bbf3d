"""Stacks as arrays give scikit-learn's numbers, and damaged ones are refused before they are walked."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from serkit.combining import Ensemble
from serkit.errors import SerkitError
from serkit.predictions import Predictions
from serkit.serving.ensembles import alone, from_arrays, to_arrays
from serkit.stacking import make
from serkit.types import Manifest, Utterance

LABELS = ("anger", "joy", "neutral", "sadness")
FOREST = {"trees": 20, "max_depth": 5, "min_leaf": 2, "min_split": 4, "folds": 3}


def world(labels: tuple[str, ...] = LABELS, n: int = 120) -> tuple[dict[str, Predictions], Manifest]:
    rng = np.random.default_rng(0)
    truth = np.arange(n) % len(labels)
    rows = [Utterance(f"u{k}", "x.wav", emotion=labels[truth[k]], speaker=f"s{k % 9}", split="train") for k in range(n)]
    manifest = Manifest("toy", labels, tuple(rows), speakers_shared=True)
    tables = {}
    for name in ("one", "two"):
        scores = rng.standard_normal((n, len(labels))) + 1.5 * np.eye(len(labels))[truth]
        tables[name] = Predictions(name, labels, "logit", manifest.ids, ("f",) * n, np.zeros(n, bool), scores)
    return tables, manifest


def folds(labels: tuple[str, ...] = LABELS) -> dict[str, Predictions]:
    """Scores of new clips by two fold models each, some of them on a threshold's float32 neighbour."""
    rng = np.random.default_rng(1)
    found = {}
    for name in ("one", "two"):
        ids = tuple(f"n{k}" for k in range(300) for _ in range(2))
        scores = rng.standard_normal((600, len(labels))).round(2) * 2
        found[name] = Predictions(name, labels, "logit", ids, ("a", "b") * 300, np.zeros(600, bool), scores)
    return found


def through_a_file(ensemble: Ensemble) -> Ensemble:
    head, arrays = to_arrays(ensemble)
    return from_arrays(head, load(save(arrays)) if arrays else {})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("random_forest", FOREST),
        ("random_forest", {**FOREST, "decimals": 1, "max_depth": None, "min_leaf": 1, "min_split": 2}),
        ("logistic", {}),
        ("log_pool", {}),
        ("vote", {}),
        ("mean_logit", {}),
        ("mean_probability", {}),
    ],
)
def test_arrays_give_what_scikit_learn_gives(name: str, parameters: dict[str, object]) -> None:
    tables, manifest = world()
    fitted = make(name, **parameters).fit(tables, manifest)
    wanted = fitted.predict(folds())
    found = through_a_file(fitted).predict(folds())
    assert found.ids == wanted.ids
    assert found.kind == wanted.kind
    assert np.abs(found.scores - wanted.scores).max() < 1e-12
    assert np.ptp(wanted.scores) > 0.1


@pytest.mark.parametrize("name", ["random_forest", "logistic"])
def test_two_classes_and_a_class_without_rows(name: str) -> None:
    for labels in (("a", "b"), ("a", "b", "c")):
        tables, manifest = world(labels)
        parameters = FOREST if name == "random_forest" else {}
        if labels == ("a", "b", "c"):
            kept = manifest.where(lambda u: u.emotion != "c")
            tables = {k: p.take(kept.ids) for k, p in tables.items()}
            manifest = kept
        fitted = make(name, **parameters).fit(tables, manifest)
        found = through_a_file(fitted).predict(folds(labels))
        assert np.abs(found.scores - fitted.predict(folds(labels)).scores).max() < 1e-12
        assert found.scores.shape[1] == len(labels)


def test_thresholds_are_compared_as_scikit_learn_does() -> None:
    """Rows that lie exactly on thresholds, and one float32 step to either side."""
    tables, manifest = world()
    fitted = make("random_forest", **FOREST).fit(tables, manifest)
    model = fitted.models_[0]  # type: ignore[attr-defined]
    tree = model.estimators_[0].tree_
    inner = np.flatnonzero(tree.feature >= 0)
    rows = np.zeros((3 * len(inner), 8))
    for k, node in enumerate(inner):
        near = np.float32(tree.threshold[node])
        for j, value in enumerate((near, np.nextafter(near, np.float32(9e9)), np.nextafter(near, np.float32(-9e9)))):
            rows[3 * k + j, tree.feature[node]] = value
    arrays = through_a_file(fitted)
    wanted = np.mean([m.predict_proba(rows) for m in fitted.models_], axis=0)  # type: ignore[attr-defined]
    assert np.abs(arrays.probabilities(rows) - wanted).max() < 1e-12  # type: ignore[attr-defined]


def test_one_system_alone_keeps_its_scores() -> None:
    tables = {"one": folds()["one"]}
    found = from_arrays(alone("one", LABELS), {}).predict(tables)
    assert np.array_equal(found.scores, tables["one"].pooled().scores)


def test_damaged_tables_are_refused() -> None:
    tables, manifest = world()
    head, arrays = to_arrays(make("random_forest", **FOREST).fit(tables, manifest))
    loop = {**arrays, "left": np.zeros_like(arrays["left"])}
    itself = {**arrays, "left": np.where(arrays["feature"] >= 0, np.arange(len(arrays["left"])), 0).astype(np.int32)}
    outside = {**arrays, "right": arrays["right"] + 100_000}
    feature = {**arrays, "feature": np.where(arrays["feature"] >= 0, 99, -1).astype(np.int16)}
    leaf = {**arrays, "leaf": arrays["leaf"] + 100_000}
    short = {**arrays, "threshold": arrays["threshold"][:-1]}
    number = {**arrays, "left": arrays["left"].astype(np.float64)}
    for broken in (loop, itself, outside, feature, leaf, short, number):
        with pytest.raises(SerkitError, match="points outside itself"):
            from_arrays(head, broken)
    for classes in ([], [0, 0], [[0]], 0, [0.0, 1.0], [True, False]):
        with pytest.raises(SerkitError, match=r"are not among|do not fit"):
            from_arrays(head, {**arrays, "classes": np.array(classes)})
    with pytest.raises(SerkitError, match="do not fit each other"):
        from_arrays(head, {**arrays, "feature": np.array(0)})
    with pytest.raises(SerkitError, match="'values' is missing"):
        from_arrays(head, {k: v for k, v in arrays.items() if k != "values"})
    with pytest.raises(SerkitError, match="expected one of forest"):
        from_arrays({**head, "kind": "pickle"}, arrays)
    logistic, numbers = to_arrays(make("logistic").fit(tables, manifest))
    with pytest.raises(SerkitError, match="do not fit 8 scores"):
        from_arrays(logistic, {**numbers, "mean": numbers["mean"][:-1]})


def test_a_bundle_s_stack_cannot_be_fitted() -> None:
    tables, manifest = world()
    stack = through_a_file(make("logistic").fit(tables, manifest))
    with pytest.raises(SerkitError, match="already fitted"):
        stack.fit(tables, manifest)
