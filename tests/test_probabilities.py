import numpy as np
import pytest

from serkit.probabilities import log_losses, log_softmax, masked, restricted, softmax

LOGITS = np.random.default_rng(0).normal(0, 3, (50, 4))


def test_logits_become_probabilities_and_their_logarithms():
    p = softmax(LOGITS)
    np.testing.assert_allclose(p, np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_softmax(LOGITS), np.log(p))
    truth = np.arange(50) % 4
    np.testing.assert_allclose(log_losses(LOGITS, truth), -np.log(p[np.arange(50), truth]))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_overflow_nowhere(size):
    far = np.array([[size, 0.0]])
    assert softmax(far).tolist() in ([[1.0, 0.0]], [[0.0, 1.0]])
    assert np.isfinite(log_softmax(far)).all()
    assert np.isfinite(log_losses(far, np.array([0]))).all()


def test_some_classes_alone_sum_to_one_and_keep_their_ratios():
    p = softmax(LOGITS)
    kept = restricted(p, [3, 1])
    np.testing.assert_allclose(kept.sum(axis=1), 1)
    np.testing.assert_allclose(kept[:, 0] / kept[:, 1], p[:, 3] / p[:, 1])
    same = masked(p, np.array([[False, True, False, True]] * 50))
    np.testing.assert_array_equal(same[:, [3, 1]], kept)
    assert not same[:, [0, 2]].any()


def test_where_nothing_is_left_all_are_alike():
    certain = np.array([[0, 0, 0, 1.0]])
    assert restricted(certain, [0, 1]).tolist() == [[0.5, 0.5]]
    assert masked(certain, np.array([[True, True, False, False]])).tolist() == [[0.5, 0.5, 0, 0]]
