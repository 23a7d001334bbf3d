"""The log pool: its weights against a search by hand, its place between mean logit and stacks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from serkit import stacking
from serkit.combining import speaker_folds
from serkit.errors import SerkitError
from serkit.pooling import LogPool
from serkit.predictions import Predictions
from serkit.types import Manifest, Utterance

LABELS = ("anger", "fear", "neutral")


def world(
    n: int = 240, noises: tuple[float, ...] = (0.7, 2.5), seed: int = 0
) -> tuple[dict[str, Predictions], Manifest]:
    """Systems that know the truth under noise of different strength; classes of unequal size."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    rows = tuple(
        Utterance(f"u{k}", "x.wav", speaker=f"s{k % 8}", split="train", emotion=LABELS[c]) for k, c in enumerate(truth)
    )
    manifest = Manifest("made", LABELS, rows)
    tables = {}
    for j, noise in enumerate(noises):
        scores = 2.0 * np.eye(3)[truth] + noise * rng.standard_normal((n, 3))
        name = f"m{j}"
        tables[name] = Predictions(name, LABELS, "logit", manifest.ids, ("fold0",) * n, np.zeros(n, bool), scores)
    return tables, manifest


def objective(weights: np.ndarray, tables: dict[str, Predictions], manifest: Manifest, strength: float) -> float:
    """The stated loss, row by row."""
    truth = [LABELS.index(str(u.emotion)) for u in manifest]
    by_class: dict[int, list[float]] = {}
    for k, c in enumerate(truth):
        z = np.zeros(3)
        for w, p in zip(weights, tables.values(), strict=True):
            e = np.exp(p.scores[k])
            z += w * np.log(e / e.sum())
        by_class.setdefault(c, []).append(float(-np.log(np.exp(z)[c] / np.exp(z).sum())))
    away = weights - weights.mean()
    return float(np.mean([np.mean(v) for v in by_class.values()]) + strength * len(weights) * (away**2).sum())


@pytest.mark.parametrize("strength", [0.001, 0.1])
def test_no_weights_of_a_fine_grid_do_better(strength: float) -> None:
    tables, manifest = world(60)
    pool = LogPool(strengths=(strength,)).fit(tables, manifest)
    best = objective(pool.weights_, tables, manifest, strength)
    grid = np.linspace(0, 1.5, 11)
    assert best <= min(objective(np.array([a, b]), tables, manifest, strength) for a in grid for b in grid) + 1e-9
    assert pool.weights_[0] > pool.weights_[1] >= 0


def test_no_weights_that_another_optimiser_finds_do_better() -> None:
    from scipy.optimize import minimize

    tables, manifest = world(60)
    pool = LogPool(strengths=(0.01,)).fit(tables, manifest)
    found = minimize(lambda w: objective(np.abs(w), tables, manifest, 0.01), [0.5, 0.5], method="Powell")
    assert objective(pool.weights_, tables, manifest, 0.01) <= found.fun + 1e-5


def test_of_strengths_that_are_as_good_the_strongest_is_taken() -> None:
    """One system has no weights to draw together, so that all strengths are alike."""
    tables, manifest = world()
    pool = LogPool().fit({"m0": tables["m0"]}, manifest)
    assert len(set(pool.losses_.values())) == 1
    assert pool.strength_ == max(pool.strengths)


def test_a_strength_is_judged_by_balanced_log_loss_on_other_speakers() -> None:
    tables, manifest = world()
    pool = LogPool(strengths=(0.01, 10.0)).fit(tables, manifest)
    assert pool.losses_[pool.strength_] == min(pool.losses_.values())
    truth = manifest.label_index()
    fold = speaker_folds(truth, [u.speaker for u in manifest], pool.folds, pool.seed)
    held = np.zeros((len(truth), 3))
    for k in np.unique(fold):
        inside, outside = ([i for i, f in zip(manifest.ids, fold, strict=True) if (f == k) == out] for out in (0, 1))
        copy = LogPool(strengths=(0.01,)).fit({n: p.take(inside) for n, p in tables.items()}, manifest)
        held[fold == k] = copy.predict({n: p.take(outside) for n, p in tables.items()}).probabilities()
    balanced = log_loss(truth, held, sample_weight=compute_sample_weight("balanced", truth))
    assert pool.losses_[0.01] == pytest.approx(balanced, rel=1e-4)


def test_weights_that_are_equal_are_the_mean_logit() -> None:
    tables, manifest = world()
    pool = LogPool(strengths=(1e6,)).fit(tables, manifest)
    assert np.ptp(pool.weights_) < 1e-5
    mean = stacking.make("mean_logit").fit(tables, manifest).predict(tables)
    assert np.array_equal(pool.predict(tables).scores.argmax(axis=1), mean.scores.argmax(axis=1))


def test_a_system_that_knows_nothing_is_left_out_and_one_that_is_too_sure_is_corrected() -> None:
    tables, manifest = world(600, (0.7, 0.7, 50.0))
    sure = tables["m1"]
    tables["m1"] = Predictions("m1", LABELS, "logit", sure.ids, sure.models, sure.seen, 10 * sure.scores)
    pool = LogPool().fit(tables, manifest)
    assert pool.weights_[2] < 0.02
    assert pool.weights_[1] < 0.3 * pool.weights_[0]
    asked, truth = world(600, (0.7, 0.7, 50.0), seed=5)
    right = np.array([LABELS.index(str(u.emotion)) for u in truth])
    asked["m1"] = Predictions(
        "m1", LABELS, "logit", asked["m1"].ids, asked["m1"].models, asked["m1"].seen, 10 * asked["m1"].scores
    )
    found = {
        name: (e.predict(asked).scores.argmax(axis=1) == right).mean()
        for name, e in {"pool": pool, "mean": stacking.make("mean_logit").fit(tables, manifest)}.items()
    }
    assert found["pool"] > found["mean"] + 0.1


def test_order_of_rows_and_systems_changes_nothing() -> None:
    tables, manifest = world()
    pool = LogPool().fit(tables, manifest)
    turned = {n: tables[n].take(manifest.ids[::-1]) for n in reversed(tables)}
    again = LogPool().fit(turned, manifest)
    assert again.strength_ == pool.strength_
    np.testing.assert_allclose(again.weights_[::-1], pool.weights_, atol=1e-5)


def test_classes_that_a_corpus_cannot_have_take_no_part() -> None:
    tables, manifest = world(300)
    rows = [
        Utterance(u.id, u.audio, speaker=u.speaker, split=u.split, emotion=u.emotion, corpus="two")
        for u in manifest
        if u.emotion != "fear"
    ]
    limited = Manifest("two", LABELS, tuple(rows), class_sets={"two": ("anger", "neutral")})
    kept = {n: p.take(limited.ids) for n, p in tables.items()}
    pool = LogPool().fit(kept, limited)
    assert np.isfinite(pool.weights_).all()
    found = pool.predict(kept, limited).probabilities()
    assert (found[:, 1] < 1e-9).all()
    wild = {
        n: Predictions(n, LABELS, "logit", p.ids, p.models, p.seen, p.scores + np.array([0.0, 30.0, 0.0]))
        for n, p in kept.items()
    }
    np.testing.assert_allclose(LogPool().fit(wild, limited).weights_, pool.weights_, atol=1e-3)


def test_where_systems_know_nothing_impossible_classes_pull_no_weight_up() -> None:
    """The same weights as of networks that have no such class: small ones."""
    tables, manifest = world(300, (60.0, 60.0))
    two = ("anger", "neutral")
    rows = [dataclasses.replace(u, corpus="two") for u in manifest if u.emotion != "fear"]
    limited = Manifest("two", LABELS, tuple(rows), class_sets={"two": two})
    kept = {n: dataclasses.replace(p, scores=p.scores / 30).take(limited.ids) for n, p in tables.items()}
    alone = {n: dataclasses.replace(p, labels=two, scores=p.scores[:, [0, 2]]) for n, p in kept.items()}
    pool = LogPool(strengths=(0.01,)).fit(kept, limited)
    only = LogPool(strengths=(0.01,)).fit(alone, Manifest("two", two, tuple(rows)))
    assert pool.weights_.max() < 0.2
    np.testing.assert_allclose(pool.weights_, only.weights_, atol=1e-3)
    assert pool.losses_[0.01] == pytest.approx(only.losses_[0.01], abs=1e-4)


def test_one_class_alone_and_seen_rows_are_refused() -> None:
    tables, manifest = world()
    one = manifest.where(lambda u: u.emotion == "anger")
    with pytest.raises(SerkitError, match="at least two classes"):
        LogPool().fit({n: p.take(one.ids) for n, p in tables.items()}, one)
    p = tables["m0"]
    seen = {"m0": Predictions("m0", LABELS, "logit", p.ids, p.models, np.ones(len(p), bool), p.scores)}
    with pytest.raises(SerkitError, match="trained on them"):
        LogPool().fit(seen, manifest)


def test_weights_that_are_damaged_are_refused() -> None:
    pool = LogPool()
    pool.systems_ = ("a", "b")
    for broken in ([1.0], [1.0, -0.1], [1.0, float("nan")]):
        with pytest.raises(SerkitError, match="expected 2 finite ones"):
            pool.restore({"weights": broken})


def test_the_mean_probability_is_the_mean_of_softmaxes_among_possible_classes() -> None:
    labels = ("x", "y", "z")
    rows = (Utterance("a", "a", emotion="x", corpus="p"), Utterance("b", "b", emotion="y", corpus="q"))
    manifest = Manifest("m", labels, rows, class_sets={"q": ("x", "y")})
    ids, models = ("a", "b", "a", "b"), ("fold0", "fold0", "fold1", "fold1")
    logits = np.random.default_rng(0).normal(size=(4, 3)) * 3
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8], [0.0, 0.0, 1.0]])
    tables = [
        Predictions("one", labels, "logit", ids, models, np.zeros(4, bool), logits),
        Predictions("two", labels, "prob", ids, models, np.zeros(4, bool), shares),
    ]
    found = stacking.make("mean_probability").fit(tables, manifest).predict(tables, manifest)
    assert (found.kind, found.ids) == ("prob", ("a", "b"))
    wanted = []
    for k in (0, 1):  # in plain words: every system and fold has its share, of the classes that can be
        possible, sums = (range(3), range(2))[k], [0.0] * 3
        for row in (k, k + 2):
            powers = {c: math.exp(logits[row, c]) for c in possible}
            for c in possible:
                sums[c] += powers[c] / sum(powers.values()) / 4
            total = sum(shares[row, c] for c in possible)
            for c in possible:
                sums[c] += (shares[row, c] / total if total else 1 / len(possible)) / 4
        wanted.append(sums)
    assert np.allclose(found.scores, wanted)
