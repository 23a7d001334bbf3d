"""Metrics against scikit-learn and scipy, and the bootstrap against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from serkit import metrics
from serkit.bootstrap import (
    balanced_subsets,
    bs_f1,
    clusters,
    percentile_interval,
    resampled_confusions,
    resampled_means,
)
from serkit.errors import SerkitError

SKLEARN = {
    "macro_f1": lambda y, p, k: reference.f1_score(y, p, labels=range(k), average="macro", zero_division=0),
    "uar": lambda y, p, k: reference.recall_score(y, p, labels=range(k), average="macro", zero_division=0),
    "accuracy": lambda y, p, k: reference.accuracy_score(y, p),
    "weighted_f1": lambda y, p, k: reference.f1_score(y, p, labels=range(k), average="weighted", zero_division=0),
}


@st.composite
def answers(draw):
    """Labels where classes are often absent in truth, in answers, or both."""
    n_classes = draw(st.integers(2, 9))
    n = draw(st.integers(1, 60))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return n_classes, draw(classes), draw(classes)


@given(answers())
@settings(max_examples=60, deadline=None)
def test_metrics_agree_with_scikit_learn(case):
    n_classes, truth, answer = case
    matrix = metrics.confusion_matrix(truth, answer, n_classes)
    assert np.array_equal(matrix, reference.confusion_matrix(truth, answer, labels=range(n_classes)))
    for name, expected in SKLEARN.items():
        assert metrics.from_labels(name, truth, answer, n_classes) == pytest.approx(
            expected(truth, answer, n_classes), abs=1e-9
        ), name
    columns = reference.precision_recall_fscore_support(truth, answer, labels=range(n_classes), zero_division=0)
    found = metrics.per_class(matrix, [str(k) for k in range(n_classes)])
    for k in range(n_classes):
        row = found[str(k)]
        np.testing.assert_allclose(
            [row["precision"], row["recall"], row["f1"], row["support"]], [c[k] for c in columns], atol=1e-9
        )


def test_uar_over_the_classes_in_truth_is_balanced_accuracy():
    rng = np.random.default_rng(0)
    truth, answer = rng.choice([0, 2, 3], 200), rng.integers(0, 5, 200)
    matrix = metrics.confusion_matrix(truth, answer, 5)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = reference.balanced_accuracy_score(truth, answer)
    assert metrics.uar(matrix, metrics.with_truth(matrix)) == pytest.approx(expected, abs=1e-12)
    assert metrics.uar(matrix) == pytest.approx(expected * 3 / 5, abs=1e-12)


def test_many_matrices_at_once_equal_one_by_one():
    rng = np.random.default_rng(1)
    stack = rng.integers(0, 9, size=(7, 3, 6, 6)) * (rng.random((7, 3, 6, 6)) > 0.3)
    counted = rng.random((7, 3, 6)) > 0.2
    for name in metrics.METRICS:
        whole = metrics.measure(name, stack, counted)
        assert whole.shape == (7, 3)
        for i in range(7):
            for j in range(3):
                assert whole[i, j] == pytest.approx(float(metrics.measure(name, stack[i, j], counted[i, j])), abs=1e-12)


def test_metric_of_the_pool_is_not_the_mean_of_batches():
    truth, answer = np.array([0] * 6 + [1] * 2), np.array([0, 0, 0, 1, 0, 0, 1, 0])
    pooled = metrics.from_labels("macro_f1", truth, answer, 2)
    batches = np.mean([metrics.from_labels("macro_f1", truth[k : k + 2], answer[k : k + 2], 2) for k in (0, 2, 4, 6)])
    assert pooled == pytest.approx(reference.f1_score(truth, answer, average="macro"))
    assert abs(pooled - batches) > 0.1


def test_refusals():
    with pytest.raises(SerkitError, match="3 true classes and 2 answers"):
        metrics.confusion_matrix([0, 1, 1], [0, 1], 2)
    with pytest.raises(SerkitError, match="truth holds class -1, expected 0 to 1"):
        metrics.confusion_matrix([0, -1], [0, 1], 2)
    with pytest.raises(SerkitError, match="did you mean 'macro_f1'"):
        metrics.measure("macrof1", np.eye(2))


def test_distribution_distances_against_scipy():
    from scipy.spatial import distance
    from scipy.stats import entropy

    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.full(5, 0.7), 40), rng.dirichlet(np.ones(5), 40)
    q = np.maximum(q, 1e-5)
    q /= q.sum(axis=1, keepdims=True)
    p[0], q[1] = [1, 0, 0, 0, 0], p[1]
    found = metrics.distribution_distances(p, q)
    assert set(found) == set(metrics.DISTRIBUTION_METRICS)
    for k in range(40):
        assert found["kl"][k] == pytest.approx(entropy(p[k], q[k]), abs=1e-9)
        assert found["jsd"][k] == pytest.approx(distance.jensenshannon(p[k], q[k]) ** 2, abs=1e-9)
        assert found["cosine"][k] == pytest.approx(1 - distance.cosine(p[k], q[k]), abs=1e-9)
        assert found["intersection"][k] == pytest.approx(1 - distance.cityblock(p[k], q[k]) / 2, abs=1e-9)
        assert found["chebyshev"][k] == pytest.approx(distance.chebyshev(p[k], q[k]), abs=1e-9)
        assert found["canberra"][k] == pytest.approx(distance.canberra(p[k], q[k]), abs=1e-9)
        assert found["clark"][k] == pytest.approx(np.linalg.norm((p[k] - q[k]) / (p[k] + q[k])), abs=1e-9)
    assert np.isfinite(metrics.distribution_distances(np.eye(3), np.eye(3)[[1, 2, 0]])["kl"]).all()


def test_calibration_and_concordance():
    sure = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert metrics.ece(sure, np.array([0, 0, 1, 1])) == 0
    assert metrics.ece(sure, np.array([0, 1, 1, 1])) == pytest.approx(0.25)
    assert metrics.ece(np.full((4, 2), 0.5), np.array([0, 1, 0, 1])) == pytest.approx(0.0)
    assert metrics.confidence_bins(np.array([0.0, 0.25, 0.3, 0.5, 1.0]), 4).tolist() == [0, 0, 1, 1, 3], "edges below"
    x = np.array([1.0, 2.0, 4.0, 3.0])
    assert metrics.ccc(x, x + 1) == pytest.approx(2 * x.var() / (2 * x.var() + 1))
    assert metrics.ccc(x, -x) < 0
    assert metrics.ccc(np.ones(3), np.ones(3)) == 0
    assert metrics.ccc(np.full(7, 3.3), np.full(7, 3.3)) == 0, "the mean of seven 3.3 is not 3.3"


def test_speaker_bootstrap_has_the_spread_of_brute_force():
    rng = np.random.default_rng(3)
    speakers = [f"s{k}" for k in rng.integers(0, 12, 400)] + [None] * 60
    truth = rng.integers(0, 3, 460)
    good = {f"s{k}": rng.random() for k in range(12)}
    answer = np.where(rng.random(460) < [good.get(s, 0.5) for s in speakers], truth, rng.integers(0, 3, 460))
    groups = clusters(speakers)
    assert (groups.speakers, groups.unit) == (12, "speaker")
    fast = metrics.macro_f1(resampled_confusions(truth, answer, 3, groups, draws=4000, seed=0))
    units = [np.flatnonzero(np.array(speakers) == f"s{k}") for k in range(12)] + [
        np.array([k]) for k in range(400, 460)
    ]
    slow = []
    for _ in range(1500):
        rows = np.concatenate([units[k] for k in rng.integers(0, len(units), len(units))])
        slow.append(metrics.from_labels("macro_f1", truth[rows], answer[rows], 3))
    assert fast.mean() == pytest.approx(np.mean(slow), abs=0.01)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.12)
    alone = clusters([None] * 460)
    narrow = metrics.macro_f1(resampled_confusions(truth, answer, 3, alone, draws=1000, seed=0))
    assert narrow.std() < 0.7 * fast.std(), "resampling clips pretends to know more than resampling speakers"


def test_bootstrap_is_seeded_and_every_draw_has_as_many_units():
    speakers = ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    truth, answer = np.arange(15) % 3, np.arange(15) % 2
    one, same, other = (
        resampled_confusions(truth, answer, 3, clusters(speakers), draws=600, seed=s) for s in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert (one.sum(axis=(1, 2)) == 15).all()
    means = resampled_means(np.arange(15.0)[:, None], clusters(speakers), draws=500, seed=0)
    assert means.min() >= 2
    assert means.max() <= 12
    assert means.mean() == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize(
    ("speakers", "text"),
    [
        ([f"s{k}" for k in range(20)], "95% speaker bootstrap (1000 draws)"),
        (["a", "b", "b"], "95% speaker bootstrap (1000 draws), rough: 2 speakers"),
        (["a", "a"], "95% utterance bootstrap (1000 draws), rough: one speaker"),
        (
            ["a", "a", None],
            "95% speaker bootstrap (1000 draws), 1 clip of unknown speakers drawn singly, rough: 1 known speaker",
        ),
        ([None, None], "95% utterance bootstrap (1000 draws), rough: speakers unknown"),
    ],
)
def test_interval_says_how_it_came_about(speakers, text):
    assert clusters(speakers).interval(1000) == text


def test_percentiles():
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_balanced_subsets_are_balanced_differ_and_never_repeat_a_clip():
    matrix = np.array([[300, 50, 10], [40, 200, 20], [30, 90, 150]])
    drawn, size = balanced_subsets(matrix)
    assert (drawn.shape, size) == ((100, 3, 3), 200)
    assert (drawn.sum(axis=2) == 200).all()
    assert (drawn <= matrix).all(), "without replacement: never more clips of a kind than there are"
    values, text = bs_f1(matrix)
    assert values.std() > 1e-3, "the published notebook once drew the same subset a hundred times"
    assert text == "min-max of 100 balanced subsets, 200 per class"
    small, size = balanced_subsets(np.array([[30, 5], [4, 8]]))
    assert size == 12
    assert (small[:, 1] == [4, 8]).all(), "the smallest class is there in full"
    assert len(np.unique(small[:, 0, 0])) > 1
    assert np.array_equal(bs_f1(matrix, seed=4)[0], bs_f1(matrix, seed=4)[0])


def test_bs_f1_agrees_with_drawing_clips():
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1, 2], [500, 120, 60])
    answer = np.where(rng.random(680) < 0.6, truth, rng.integers(0, 3, 680))
    values, _ = bs_f1(metrics.confusion_matrix(truth, answer, 3), subsets=1000)
    slow = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == k), 60, replace=False) for k in range(3)])
        slow.append(reference_macro(truth[rows], answer[rows]))
    assert values.mean() == pytest.approx(np.mean(slow), abs=0.003)
    assert values.std() == pytest.approx(np.std(slow), rel=0.1)


def reference_macro(truth, answer):
    return metrics.from_labels("macro_f1", truth, answer, 3)


def test_bs_f1_of_a_balanced_set_says_that_all_subsets_are_the_whole():
    values, text = bs_f1(np.array([[30, 10], [5, 35]]))
    _, with_absent = bs_f1(np.array([[30, 10, 0], [5, 35, 0], [0, 0, 0]]))
    assert with_absent == text, "a class without a clip is in no subset"
    assert values.std() < 1e-12
    assert "every subset is the whole set" in text
