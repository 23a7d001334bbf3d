"""The arithmetic of a correction, and of its fit, against an independent one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.probabilities import softmax
from serkit.serving import correcting
from serkit.serving.correcting import Clips, cross_validated, fit
from serkit.serving.correction import Correction

LABELS = ("anger", "calm", "fear", "sadness")


def clips(n: int = 60, seed: int = 0, helpful: float = 2.0, speakers: int = 6) -> Clips:
    """Clips of three of four classes; the embeddings tell the class, the probabilities do not."""
    rng = np.random.default_rng(seed)
    truth = np.array([0, 2, 3])[rng.integers(0, 3, n)]
    embedded = rng.normal(size=(n, 12))
    embedded[:, :4] += helpful * np.eye(4)[truth]
    shares = softmax(rng.normal(size=(n, 4)))
    names = tuple(f"s{k % speakers}" for k in range(n)) if speakers else (None,) * n
    return Clips(shares, embedded.astype(np.float32), np.arange(n), np.ones(n), truth, names)


def test_without_weights_and_bias_nothing_changes() -> None:
    some = clips()
    none = Correction(np.zeros((12, 2), np.float32), np.zeros(2), np.array([0, 2]))
    assert none.apply(some.shares, some.embedded) == pytest.approx(some.shares, abs=1e-12)
    certain = np.array([[1.0, 0.0, 0.0, 0.0]])
    assert none.apply(certain, some.embedded[:1]) == pytest.approx(certain, abs=1e-9)


def test_classes_that_are_not_moved_keep_their_proportion() -> None:
    some = clips()
    moved = Correction(np.ones((12, 1), np.float32), np.array([0.3]), np.array([2])).apply(some.shares, some.embedded)
    assert moved.sum(axis=1) == pytest.approx(1.0)
    assert moved[:, 0] / moved[:, 1] == pytest.approx(some.shares[:, 0] / some.shares[:, 1])
    odds = np.log(moved[:, 2] / moved[:, 0]) - np.log(some.shares[:, 2] / some.shares[:, 0])
    assert odds == pytest.approx(some.embedded.sum(axis=1) + 0.3, abs=1e-5)


def test_a_file_of_it_is_the_same_and_a_damaged_one_is_refused() -> None:
    [found] = fit(clips(), [0.1])
    arrays = found.to_arrays()
    again = Correction.from_arrays(arrays, LABELS)
    assert again.apply(clips().shares, clips().embedded).tolist() == clips().answered(found).tolist()
    with pytest.raises(SerkitError, match="'bias' is missing"):
        Correction.from_arrays({k: v for k, v in arrays.items() if k != "bias"}, LABELS)
    for wrong in ({"bias": np.zeros(7)}, {"columns": np.array([0, 0, 2])}, {"columns": np.array([0, 2, 9])}):
        with pytest.raises(SerkitError, match="do not fit 4 labels"):
            Correction.from_arrays({**arrays, **wrong}, LABELS)


def test_a_strong_prior_leaves_the_original_and_a_weak_one_learns() -> None:
    some, others = clips(), clips(400, seed=1)
    strong, weak = fit(some, [1e9, 0.1])
    assert others.answered(strong) == pytest.approx(others.shares, abs=1e-6)
    right = [(others.answered(c).argmax(axis=1) == others.truth).mean() for c in (strong, weak)]
    assert right[0] < 0.4
    assert right[1] > 0.55


def test_from_even_probabilities_it_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    some = replace(clips(80), shares=np.full((80, 4), 0.25))
    mean = some.embedded.astype(np.float64).mean(axis=0)
    wide = some.embedded - mean
    inputs = np.hstack([wide / np.sqrt(np.square(wide).sum(axis=1).mean()), np.ones((80, 1))])
    wanted = LogisticRegression(C=1 / 0.3, fit_intercept=False, class_weight="balanced", tol=1e-8, max_iter=5000)
    shares = wanted.fit(inputs, some.truth).predict_proba(inputs)
    [found] = fit(some, [0.3])
    ours = some.answered(found)[:, [0, 2, 3]]
    assert ours / ours.sum(axis=1, keepdims=True) == pytest.approx(shares, abs=2e-3)
    assert found.columns.tolist() == [0, 2, 3]
    assert found.weights.sum(axis=1) == pytest.approx(0.0, abs=1e-3), "what is added is told apart between the classes"


def test_neither_order_nor_pieces_matter() -> None:
    some = clips(30)
    order = np.random.default_rng(3).permutation(30)
    other = replace(
        some, shares=some.shares[order], embedded=some.embedded[order], truth=some.truth[order],
        speakers=tuple(some.speakers[k] for k in order),
    )  # fmt: skip
    halves = replace(
        some, shares=some.shares.repeat(2, axis=0), embedded=some.embedded.repeat(2, axis=0),
        clip=some.clip.repeat(2), weight=np.full(60, 0.5),
    )  # fmt: skip
    [wanted] = fit(some, [0.1])
    for same in (other, halves):
        [found] = fit(same, [0.1])
        assert some.answered(found) == pytest.approx(some.answered(wanted), abs=1e-3)
    assert halves.answered() == pytest.approx(some.shares)
    taken = halves.take(np.array([3, 7]))
    assert (taken.clip.tolist(), taken.truth.tolist()) == ([0, 0, 1, 1], some.truth[[3, 7]].tolist())


def test_cross_validation_holds_speakers_out_and_repeats_itself() -> None:
    some = clips()
    one, two = cross_validated(some), cross_validated(some)
    assert one.held.tolist() == two.held.tolist()
    assert (one.unit, one.folds, one.strength) == ("speaker", 5, two.strength)
    assert one.loss_after < one.loss_before
    assert (one.held.argmax(axis=1) == some.truth).mean() > (some.shares.argmax(axis=1) == some.truth).mean() + 0.2
    assert cross_validated(clips(speakers=0)).unit == "clip"
    rounds: list[int] = []
    cross_validated(some, lambda: rounds.append(1))
    assert len(rounds) == correcting.FOLDS + 1


def test_clips_that_tell_nothing_do_not_look_helpful() -> None:
    some = clips(helpful=0.0)
    found = cross_validated(some)
    sure = replace(some, shares=softmax(4.0 * np.eye(4)[some.truth]))
    good = cross_validated(sure)
    assert good.loss_after >= good.loss_before, "a model that is right already"
    assert (found.held.argmax(axis=1) == some.truth).mean() < 0.5


def test_another_strength_must_be_clearly_better() -> None:
    rng = np.random.default_rng(0)
    usual = 1.0 + rng.normal(size=200)
    losses = dict.fromkeys(correcting.STRENGTHS, usual + 1.0) | {correcting.USUAL: usual}
    assert correcting._chosen(losses) == correcting.USUAL
    noise = rng.normal(size=200)
    noise = 0.3 * (noise - noise.mean())  # a standard error of 0.02
    assert correcting._chosen(losses | {1.0: usual - 0.03 + noise}) == correcting.USUAL
    assert correcting._chosen(losses | {1.0: usual - 0.06 + noise}) == 1.0


def test_arrays_that_are_no_numbers_or_of_other_networks_are_refused() -> None:
    good = Correction(np.ones((4, 2), np.float32), np.zeros(2), np.array([0, 1]))
    for name, array in (("columns", np.array([0.0, 1.0])), ("bias", np.array([0.0, np.nan]))):
        with pytest.raises(SerkitError, match="columns must be whole numbers, weights and bias finite"):
            Correction.from_arrays({**good.to_arrays(), name: array}, ["a", "b", "c"])
    with pytest.raises(SerkitError, match="embeddings of 4 numbers, and the networks give 5"):
        good.apply(np.full((1, 3), 1 / 3), np.ones((1, 5), np.float32))
