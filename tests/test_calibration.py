"""Scaling learns a known distortion; thresholds mean the precision that was measured."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from serkit import calibration
from serkit.calibration import Calibration
from serkit.errors import SerkitError
from serkit.metrics import ece
from serkit.probabilities import masked, softmax

LABELS = ("anger", "fear", "joy", "neutral")


def honest(n: int = 4000, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are true by construction: each row's class is drawn from them."""
    rng = np.random.default_rng(seed)
    z = spread * rng.standard_normal((n, len(LABELS)))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    truth = (p.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)
    return p, truth


def distorted(p: np.ndarray, temperature: float, bias: np.ndarray | float = 0.0) -> np.ndarray:
    z = np.log(p) * temperature + bias
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    p, truth = honest()
    fitted = calibration.fit(distorted(p, temperature), truth, LABELS)
    assert fitted.temperature == pytest.approx(temperature, rel=0.08)
    again = fitted.apply(distorted(p, temperature))
    assert np.allclose(again.sum(axis=1), 1)
    assert ece(again, truth) < 0.03


def test_vector_scaling_undoes_a_bias_by_class() -> None:
    p, truth = honest()
    bent = distorted(p, 1.6, np.array([1.0, -0.5, 0.0, 0.4]))
    plain, vector = (calibration.fit(bent, truth, LABELS, m) for m in ("temperature", "vector"))
    losses = [calibration.log_loss(c.apply(bent), truth) for c in (plain, vector)]
    best = calibration.log_loss(p, truth)
    assert losses[1] < losses[0] - 0.03
    assert losses[1] == pytest.approx(best, abs=0.01)


def test_clips_that_were_all_answered_right_do_not_make_the_rest_certain() -> None:
    p, truth = honest(20_000, spread=6.0)
    some = np.flatnonzero(p.argmax(axis=1) == truth)[:20]
    fitted = calibration.fit(p[some], truth[some], LABELS)
    assert 0.4 < (fitted.temperature or 0.0) < 1.0  # it was 0.05, the end of the search
    rest = np.setdiff1d(np.arange(len(p)), some)
    before, after = (calibration.log_loss(q[rest], truth[rest]) for q in (p, fitted.apply(p)))
    assert after < before + 0.1


def penalised(weights: np.ndarray, bias: np.ndarray, p: np.ndarray, truth: np.ndarray, away: float) -> float:
    """The stated loss, row by row: mean log loss, and the distance from no scaling with the weight of one row."""
    total = 0.0
    for row, c in zip(p, truth, strict=True):
        powers = [x**w * math.exp(b) for x, w, b in zip(row, weights, bias, strict=True)]
        total -= math.log(powers[c] / sum(powers))
    return (total + away / 2) / len(p)


def test_a_fit_is_the_least_of_the_stated_loss() -> None:
    p, truth = honest(30)
    bent = distorted(p, 1.6, np.array([1.0, -0.5, 0.0, 0.4]))

    def of_one(scale: float) -> float:
        return penalised(np.full(4, scale), np.zeros(4), bent, truth, (scale - 1) ** 2)

    def of_each(theta: np.ndarray) -> float:
        away = ((theta - np.repeat([1.0, 0.0], 4)) ** 2).sum()
        return penalised(theta[:4], theta[4:], bent, truth, float(away))

    plain, vector = (calibration.fit(bent, truth, LABELS, m) for m in ("temperature", "vector"))
    scale, theta, step = plain.weights[0], np.array(vector.weights + vector.bias), 1e-4
    slopes = [of_one(scale + step) - of_one(scale - step)]
    slopes += [of_each(theta + d) - of_each(theta - d) for d in step * np.eye(8)]
    assert np.array(slopes) / (2 * step) == pytest.approx(np.zeros(9), abs=1e-4)


def test_temperature_never_changes_the_answer() -> None:
    p, truth = honest(200)
    fitted = calibration.fit(distorted(p, 3.0), truth, LABELS)
    assert (fitted.apply(p).argmax(axis=1) == p.argmax(axis=1)).all()


def test_zeros_of_a_forest_are_no_trouble() -> None:
    p = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]] * 10)
    truth = np.array([0, 2, 1] * 10)
    fitted = calibration.fit(p, truth, LABELS)
    assert np.isfinite(fitted.apply(p)).all()


def test_what_was_fitted_is_measured_on_other_speakers() -> None:
    p, truth = honest(600)
    over = distorted(p, 3.0)
    speakers = [f"s{k % 12}" for k in range(600)]
    fitted, held = calibration.fit_and_measure(over, truth, speakers, LABELS)
    assert fitted.record["speakers"] == 12
    assert fitted.record["ece_after"] < fitted.record["ece_before"] / 2
    assert fitted.record["rows"] == 600
    for when, shares in (("before", over), ("after", held)):
        assert fitted.record[f"ece_{when}"] == pytest.approx(ece(shares, truth))
        logs = [math.log(max(row[c], 1e-6)) for row, c in zip(shares, truth, strict=True)]
        assert fitted.record[f"log_loss_{when}"] == pytest.approx(-sum(logs) / 600)
    assert not np.allclose(held, fitted.apply(over), atol=1e-9)
    assert np.allclose(held, fitted.apply(over), atol=0.1)


def test_it_says_by_what_it_was_divided() -> None:
    p, truth = honest(300)
    said = {
        ("a", "b", "c"): "cross-fitted by speaker, 3 folds",
        ("a",): "cross-fitted by clip, 5 folds",
        (None,): "cross-fitted by clip, 5 folds",
        ("a", None): "cross-fitted by speaker, 5 folds (150 clips of unknown speakers singly)",
    }
    for names, words in said.items():
        speakers = [names[k % len(names)] for k in range(300)]
        assert calibration.fit_and_measure(p, truth, speakers, LABELS)[0].record["measured"] == words


def test_it_survives_a_file() -> None:
    p, truth = honest(100)
    fitted = calibration.fit(p, truth, LABELS, "vector")
    again = Calibration.from_row(fitted.to_row())
    assert again == fitted
    assert np.array_equal(again.apply(p), fitted.apply(p))
    with pytest.raises(SerkitError, match="not a calibration"):
        Calibration.from_row({"method": "temperature", "labels": ["a"]})
    with pytest.raises(SerkitError, match="not a calibration: method 'magic'"):
        Calibration.from_row({**fitted.to_row(), "method": "magic"})
    for name in ("weights", "bias"):
        with pytest.raises(SerkitError, match="not a calibration: method 'vector'"):
            Calibration.from_row({**fitted.to_row(), name: [1.0]})


def test_a_threshold_is_the_precision_it_names() -> None:
    p, truth = honest()
    for wanted in (0.7, 0.8, 0.9):
        level = calibration.confidence_for(wanted, p, truth)
        inside = p.max(axis=1) >= level.confidence
        assert inside.sum() == level.n
        assert (p.argmax(axis=1) == truth)[inside].mean() == pytest.approx(level.precision)
        assert wanted <= level.precision < wanted + 0.02
        assert level.low < level.precision < level.high


def test_a_precision_that_was_never_reached_is_refused() -> None:
    p, truth = honest(400, spread=0.3)
    with pytest.raises(SerkitError, match=r"no confidence reached that precision.*the best was 0\.\d\d"):
        calibration.confidence_for(0.99, p, truth)
    with pytest.raises(SerkitError, match="measured on 5 clips only"):
        calibration.confidence_for(0.5, p[:5], truth[:5])
    with pytest.raises(SerkitError, match="between 0 and 1"):
        calibration.confidence_for(80, p, truth)


def test_levels_say_how_many_answers_they_rest_on() -> None:
    p, truth = honest(500)
    found = calibration.levels(p, truth)
    assert found[0].confidence == 0
    assert found[0].n == 500
    assert found[0].share == 1
    assert all(level.n >= 20 for level in found)
    assert [level.n for level in found] == sorted((level.n for level in found), reverse=True)


def test_levels_and_thresholds_are_counted_clip_by_clip() -> None:
    from scipy.stats import binomtest

    p, truth = honest(300)
    for level in (*calibration.levels(p, truth), calibration.confidence_for(0.8, p, truth)):
        inside = [row.argmax() == c for row, c in zip(p, truth, strict=True) if row.max() >= level.confidence]
        n, right = len(inside), sum(inside)
        wilson = binomtest(right, n).proportion_ci(method="wilson")
        assert (level.n, level.share, level.precision) == pytest.approx((n, n / 300, right / n))
        assert (level.low, level.high) == pytest.approx((wilson.low, wilson.high))


def test_answers_of_one_confidence_are_all_above_a_threshold_or_none_of_them() -> None:
    """Confidences 0.5, 0.6 … 0.9 of 30 clips each, of which the first are right: in any order the same."""
    confidence = np.repeat([0.5, 0.6, 0.7, 0.8, 0.9], 30)
    truth = np.tile([0] * 18 + [1] * 12, 5)
    p = np.column_stack([confidence, 1 - confidence])
    truth[120:] = 0  # all right from 0.9 on
    assert {level.confidence: level.n for level in calibration.levels(p, truth)} == {
        0.0: 150, 0.55: 120, 0.65: 90, 0.75: 60, 0.85: 30,
    }  # fmt: skip
    assert [level.n for level in calibration.levels(p, truth, [0.5, 0.6, 0.9])] == [150, 120, 30]
    for order in (np.arange(150), np.random.default_rng(0).permutation(150)):
        found = calibration.confidence_for(0.75, p[order], truth[order])
        assert (found.confidence, found.n, found.precision) == (0.8, 60, 0.8)


def test_the_interval_of_a_share_is_within_shares() -> None:
    """Rounding would put the ends of 0 and 1 of some n outside."""
    for n in range(1, 120):
        low, high = calibration.wilson(0.0, n)
        assert 0.0 <= low < 1e-15 < high
        assert 1 - 1e-15 < calibration.wilson(1.0, n)[1] <= 1.0


def test_twenty_answers_of_which_just_as_many_as_asked_are_right_are_enough() -> None:
    p, truth = np.tile([[0.7, 0.3]], (20, 1)), np.array([0] * 16 + [1] * 4)
    assert [level.n for level in calibration.levels(p, truth)] == [20]
    assert calibration.confidence_for(0.8, p, truth).precision == 0.8


def test_unsure_is_where_answers_are_more_often_wrong() -> None:
    p, truth = honest(8000)
    cut = calibration.unsure_below(p, truth)
    assert cut == pytest.approx(0.5, abs=0.08)
    right = np.eye(4)[truth] * 0.97 + 0.0075
    assert calibration.unsure_below(right, truth) == 0
    assert calibration.unsure_below(right, (truth + 1) % 4) > 1


def test_unsure_is_what_isotonic_regression_says_also_of_equal_confidences() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(0)
    for decimals in (1, 6):
        for _ in range(50):
            confidence = np.round(rng.uniform(0.35, 1, 60), decimals)
            right = rng.random(60) < confidence - 0.1
            p = np.column_stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2])
            known = np.unique(confidence)
            share = IsotonicRegression().fit(confidence, right.astype(float)).predict(known)
            sure = known[share >= 0.5 - 1e-12]
            expected = 1.01 if not len(sure) else 0.0 if len(sure) == len(known) else sure.min()
            order = rng.permutation(60)
            assert calibration.unsure_below(p, np.where(right, 0, 1)) == pytest.approx(expected)
            assert calibration.unsure_below(p[order], np.where(right, 0, 1)[order]) == pytest.approx(expected)


def test_reliability_rows_hold_every_answer() -> None:
    p, truth = honest(700)
    rows = calibration.reliability(p, truth)
    assert sum(r["n"] for r in rows) == 700
    gap = sum(r["n"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / 700
    assert gap == pytest.approx(ece(p, truth))
    assert all(r["from"] < r["confidence"] <= r["to"] for r in rows)
    assert all(0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 and r["low"] < r["high"] for r in rows)


def test_bad_input_is_refused() -> None:
    p, truth = honest(10)
    with pytest.raises(SerkitError, match="did you mean 'temperature'"):
        calibration.fit(p, truth, LABELS, "temperatur")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="outside 0"):
        calibration.fit(p, truth - 1, LABELS) if truth.min() == 0 else calibration.fit(p, truth + 9, LABELS)
    with pytest.raises(SerkitError, match="expected"):
        calibration.fit(p[:, :3], truth, LABELS)


def test_applying_loads_nothing_heavy() -> None:
    code = (
        "import sys, numpy as np\nfrom serkit import calibration as c\n"
        "c.fit(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), ('a', 'b')).apply(np.full((1, 2), 0.5))\n"
        "print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_row_of_each_class_is_left_unscaled() -> None:
    p, _ = honest(4)
    fitted, held = calibration.fit_and_measure(p, np.arange(4), ["a", "a", "b", "b"], LABELS)
    assert fitted.method == "none"
    assert fitted.record["measured"] == "not scaled"
    assert np.array_equal(held, p)


def joined(n: int = 1200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers three times too sure of clips of which half can be of two classes only, their truth, and what can be."""
    rng = np.random.default_rng(0)
    allowed = np.ones((n, 8), dtype=bool)
    allowed[::2, 2:] = False
    logits = 1.2 * rng.normal(size=(n, 8))
    truth = (masked(softmax(logits), allowed).cumsum(axis=1) < rng.uniform(size=(n, 1)) * (1 - 1e-12)).sum(axis=1)
    return masked(softmax(3 * logits), allowed), truth, allowed


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_classes_that_a_clip_cannot_have_get_no_share_in_a_fit(method: calibration.Method) -> None:
    """The least penalised log loss among the possible classes, by another optimiser and row by row."""
    p, truth, allowed = joined()
    labels = tuple("abcdefgh")
    fitted = calibration.fit(p, truth, labels, method, allowed)
    plain = calibration.fit(p, truth, labels, method)

    def loss(weights: np.ndarray, bias: np.ndarray) -> float:
        total = 0.0
        for row, c, able in zip(p, truth, allowed, strict=True):
            powers = np.maximum(row[able], 1e-6) ** weights[able] * np.exp(bias[able])
            total -= np.log(powers[np.flatnonzero(able) == c][0] / powers.sum())
        return float(total)

    best = loss(np.array(fitted.weights), np.array(fitted.bias))
    assert best < loss(np.array(plain.weights), np.array(plain.bias)) - 1
    if method == "temperature":
        assert fitted.temperature is not None
        assert plain.temperature is not None
        assert fitted.temperature == pytest.approx(3.0, rel=0.1)
        assert plain.temperature < fitted.temperature - 0.15
        assert best <= min(loss(np.full(8, 1 / t), np.zeros(8)) for t in np.linspace(2.5, 3.5, 11)) + 0.01
    everything = calibration.fit(p, truth, labels, method, np.ones_like(allowed))
    assert everything == plain


def test_a_report_scales_among_the_classes_of_each_corpus() -> None:
    from serkit.pipeline.confidence import scaled
    from serkit.predictions import Predictions
    from serkit.types import Manifest, Utterance

    p, truth, allowed = joined()
    labels = tuple("abcdefgh")
    rows = [
        Utterance(f"u{k}", "x", speaker=f"s{k // 20}", split=("dev", "test")[k // 600], emotion=labels[c],
                  corpus=("two", "all")[k % 2])
        for k, c in enumerate(truth)
    ]  # fmt: skip
    manifest = Manifest("two+all", labels, tuple(rows), class_sets={"two": labels[:2], "all": labels})
    table = Predictions("one", labels, "prob", manifest.ids, ("m",) * 1200, np.zeros(1200, dtype=bool), p)
    parts = {s: [table.take([u.id for u in rows if u.split == s])] for s in ("dev", "test")}
    found = scaled(parts, [manifest], draws=20, seed=0)
    fitted = calibration.fit(p[:600], truth[:600], labels, "temperature", allowed[:600])
    assert found["test"]["temperature"] == [fitted.temperature]
    after = masked(fitted.apply(p[600:]), allowed[600:])
    assert found["test"]["ece"]["value"] == pytest.approx(ece(after, truth[600:]))
    held = calibration.fit_and_measure(
        p[:600], truth[:600], [u.speaker for u in rows[:600]], labels, allowed=allowed[:600]
    )[1]
    assert (held[~allowed[:600]] == 0).all()
    assert found["dev"]["ece"]["value"] == pytest.approx(ece(held, truth[:600]))
