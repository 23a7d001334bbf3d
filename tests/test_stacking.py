"""Stacks: the published forest against scikit-learn, out-of-fold hygiene, what they win, and saving."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from made_scores import LABELS, make_manifest, planted, scores_of
from serkit import stacking
from serkit.combining import MajorityVote, MeanLogit, align, speaker_folds
from serkit.errors import SerkitError
from serkit.metrics import from_labels
from serkit.predictions import Predictions
from serkit.stacking import LogisticStack, RandomForestStack, choose, cross_fitted, load, make
from serkit.types import Manifest, Utterance


def f1_of(predictions, manifest):
    return from_labels("macro_f1", manifest.label_index(), predictions.take(manifest.ids).scores.argmax(axis=1), 4)


def test_stack_wins_where_vote_and_mean_cannot():
    train, test = make_manifest(), make_manifest(seed=1, split="test", prefix="t")
    fitted, asked = planted(train), planted(test, seed=50)
    found = {
        stack.system + type(stack).__name__: f1_of(stack.fit(fitted, train).predict(asked), test)
        for stack in (RandomForestStack(trees=40, min_leaf=5), LogisticStack(), MajorityVote(), MeanLogit())
    }
    worst_fitted = min(found["stackRandomForestStack"], found["stackLogisticStack"])
    best_plain = max(found["voteMajorityVote"], found["mean_logitMeanLogit"])
    assert worst_fitted > 0.8
    assert worst_fitted > best_plain + 0.2


def test_forest_equals_a_direct_scikit_learn_fit_on_the_same_rows():
    train, test = make_manifest(500, unlabelled=20), make_manifest(120, seed=1, split="test", prefix="t")
    fitted, asked = planted(train), planted(test, seed=50)
    stack = RandomForestStack(trees=25, decimals=4).fit(fitted, train)
    smallest = min(train.counts().values())
    assert len(stack.ids_) == 4 * smallest
    place = {i: k for k, i in enumerate(train.ids)}
    rows = [place[i] for i in stack.ids_]
    y = train.label_index()[rows]
    assert np.bincount(y).tolist() == [smallest] * 4
    X = np.round(np.hstack([p.scores for p in fitted.values()]), 4)[rows]
    Z = np.round(np.hstack([p.scores for p in asked.values()]), 4)
    expected = np.zeros((len(test), 4))
    for inside, _ in StratifiedKFold(5, shuffle=True, random_state=42).split(X, y):
        forest = RandomForestClassifier(
            25, criterion="gini", max_depth=8, min_samples_leaf=10, min_samples_split=10, random_state=42
        ).fit(X[inside], y[inside])
        expected += forest.predict_proba(Z) / 5
    np.testing.assert_allclose(stack.predict(asked).scores, expected, atol=1e-12, rtol=0)
    assert len(stack.models_) == 5


def test_a_forest_of_too_few_rows_for_its_leaves_never_splits():
    train = make_manifest(40)
    few, asked = RandomForestStack(trees=5, min_leaf=30), planted(train)
    assert few.fit(asked, train).never_splits()
    assert len(np.unique(few.predict(asked).scores.argmax(axis=1))) == 1, "and so every clip has the same answer"
    assert not RandomForestStack(trees=5, min_leaf=2, min_split=2).fit(asked, train).never_splits()


def test_logistic_equals_a_direct_scikit_learn_fit():
    train, test = make_manifest(400), make_manifest(80, seed=1, split="test", prefix="t")
    fitted, asked = planted(train), planted(test, seed=50)
    stack = LogisticStack(strengths=(0.01, 0.1, 1.0)).fit(fitted, train)
    assert stack.c_ in (0.01, 0.1, 1.0)
    assert stack.losses_[stack.c_] == min(stack.losses_.values())
    X, Z = (np.hstack([p.scores for p in table.values()]) for table in (fitted, asked))
    scaler = StandardScaler().fit(X)
    model = LogisticRegression(C=stack.c_, class_weight="balanced", max_iter=2000)
    y = train.label_index()
    expected = model.fit(scaler.transform(X), y).predict_proba(scaler.transform(Z))
    np.testing.assert_allclose(stack.predict(asked).scores, expected, atol=1e-12, rtol=0)
    split = PredefinedSplit(speaker_folds(y, [u.speaker for u in train], stack.folds, stack.seed))
    held = cross_val_predict(make_pipeline(StandardScaler(), model), X, y, cv=split, method="predict_proba")
    balanced = log_loss(y, held, sample_weight=compute_sample_weight("balanced", y))
    assert stack.losses_[stack.c_] == pytest.approx(balanced)


def test_of_strengths_that_are_as_good_the_strongest_regularisation_is_taken():
    """Scores that are all alike give a logistic stack nothing to weigh, however strongly."""
    manifest = make_manifest(80)
    table = Predictions("a", LABELS, "logit", manifest.ids, ("m",) * 80, np.zeros(80, bool), np.ones((80, len(LABELS))))
    stack = LogisticStack(strengths=(1.0, 0.01, 0.1), folds=2).fit({"a": table}, manifest)
    assert len(set(stack.losses_.values())) == 1
    assert stack.c_ == 0.01


def test_a_class_of_which_one_row_is_left_stops_no_cross_fitted_forest():
    """Two clips of a class by two speakers: each copy has one, which its folds cannot share."""
    train = make_manifest(200)
    kept = [u for u in train if u.emotion != LABELS[0]]
    few = {u.speaker: u for u in train if u.emotion == LABELS[0]}
    train = Manifest(train.corpus, train.labels, (*kept, *list(few.values())[:2]))
    found = cross_fitted(RandomForestStack(trees=5, folds=2), planted(train), train)
    assert sorted(found.ids) == sorted(train.ids)
    assert np.isfinite(found.scores).all()
    answered = found.scores.argmax(axis=1)
    assert len(set(answered.tolist())) > 1


def test_published_sizes():
    stack = RandomForestStack()
    assert (stack.trees, stack.max_depth, stack.min_leaf, stack.min_split, stack.folds) == (200, 8, 10, 10, 5)
    assert (stack.per_class, stack.seed, stack.in_sample) == ("auto", 42, False)
    train = make_manifest(200)
    twelve = {f"m{k}": scores_of(train, f"m{k}", [0, 1, 2, 3], k) for k in range(12)}
    assert align(twelve).features(4).shape == (200, 48)


def test_refuses_scores_on_seen_utterances_unless_said_aloud():
    train = make_manifest(200)
    fitted = planted(train)
    p = fitted["weak"]
    seen = np.zeros(200, bool)
    seen[7] = True
    fitted["weak"] = Predictions(p.system, p.labels, p.kind, p.ids, p.models, seen, p.scores)
    for stack in (RandomForestStack(trees=3), LogisticStack()):
        with pytest.raises(
            SerkitError, match=r"1 of 200 rows are scored by a model trained on them, first 'u7'.*in_sample"
        ):
            stack.fit(fitted, train)
    RandomForestStack(trees=3, min_leaf=2, in_sample=True).fit(fitted, train)


def test_refuses_test_rows_and_several_models_and_strange_rows():
    test = make_manifest(100, split="test")
    with pytest.raises(SerkitError, match="a stack is never fitted on test"):
        LogisticStack().fit(planted(test), test)
    train = make_manifest(100)
    two = {
        name: Predictions(
            name,
            LABELS,
            "logit",
            p.ids * 2,
            ("a",) * 100 + ("b",) * 100,
            np.zeros(200, bool),
            np.tile(p.scores, (2, 1)),
        )
        for name, p in planted(train).items()
    }
    with pytest.raises(SerkitError, match="one row per utterance"):
        LogisticStack().fit(two, train)
    with pytest.raises(SerkitError, match="20 predicted rows are not in 'planted', first 'u80'"):
        LogisticStack().fit(planted(train), train.where(lambda u: int(u.id[1:]) < 80))


def test_systems_align_by_id_or_raise():
    train = make_manifest(60)
    table = planted(train)
    rows = np.random.default_rng(0).permutation(60)
    p = table["weak"]
    shuffled = Predictions(
        "weak", LABELS, "logit", tuple(p.ids[k] for k in rows), p.models, p.seen[rows], p.scores[rows]
    )
    np.testing.assert_array_equal(align({**table, "weak": shuffled}).scores, align(table).scores)
    with pytest.raises(SerkitError, match="system 'weak' has no row of 'u59' by model 'fold0'"):
        align({**table, "weak": p.take(p.ids[:-1])})
    with pytest.raises(SerkitError, match="system 'swaps_ends' has no row of 'u0'"):
        align({**table, "swaps_ends": table["swaps_ends"].take(p.ids[1:])})
    with pytest.raises(SerkitError, match="has columns"):
        align([table["weak"], Predictions("odd", LABELS[::-1], "logit", p.ids, p.models, p.seen, p.scores)])
    with pytest.raises(SerkitError, match="names must be distinct"):
        align([p, p])
    with pytest.raises(SerkitError, match="no predictions of system 'weakk'; did you mean 'weak'"):
        align(table, ["weakk"])


def test_a_stack_is_applied_to_each_fold_model_and_averaged():
    train, test = make_manifest(400), make_manifest(50, seed=1, split="test", prefix="t")
    stack = RandomForestStack(trees=20).fit(planted(train), train)
    folds = [planted(test, seed=90 + 10 * k, model=f"fold{k}") for k in range(3)]
    both = {
        name: Predictions(
            name, LABELS, "logit", test.ids * 3, sum((f[name].models for f in folds), ()), np.zeros(150, bool),
            np.concatenate([f[name].scores for f in folds]),
        )
        for name in folds[0]
    }  # fmt: skip
    found = stack.predict(both)
    expected = np.mean([stack.predict(f).scores for f in folds], axis=0)
    assert found.ids == test.ids
    np.testing.assert_allclose(found.scores, expected, atol=1e-12)
    blurred = stack.predict({name: p.pooled() for name, p in both.items()}).scores
    assert np.abs(blurred - expected).max() > 0.01, "averaging logits first is something else"


def test_rows_the_stack_was_fitted_on_are_marked_seen():
    train = make_manifest(300)
    stack = RandomForestStack(trees=5).fit(planted(train), train)
    found = stack.predict(planted(train))
    assert {i for i, s in zip(found.ids, found.seen, strict=True) if s} == set(stack.ids_)
    assert not MajorityVote().fit(planted(train), train).predict(planted(train)).seen.any()


def test_same_seed_same_scores_whatever_the_order_and_the_jobs():
    train, test = make_manifest(300), make_manifest(40, seed=1, split="test", prefix="t")
    asked = planted(test, seed=9)
    one = RandomForestStack(trees=15, n_jobs=1).fit(planted(train), train).predict(asked)
    turned = {name: p.take(p.ids[::-1]) for name, p in planted(train).items()}
    two = RandomForestStack(trees=15, n_jobs=2).fit(turned, train).predict(asked)
    other = RandomForestStack(trees=15, seed=1).fit(planted(train), train).predict(asked)
    assert np.array_equal(one.scores, two.scores)
    assert not np.array_equal(one.scores, other.scores)


def test_threads_change_no_byte_of_what_is_saved(monkeypatch, tmp_path):
    train = make_manifest(300)
    asked, seen = planted(train), []
    for name, many in (("alone", 10**9), ("threads", 1)):
        monkeypatch.setattr(stacking, "MANY_ROWS", many)
        with monkeypatch.context() as patch:
            fit = RandomForestClassifier.fit
            patch.setattr(RandomForestClassifier, "fit", lambda s, X, y, fit=fit: seen.append(s.n_jobs) or fit(s, X, y))
            RandomForestStack(trees=12).fit(asked, train).save(tmp_path / name)
    assert seen == [1] * 5 + [-1] * 5
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("alone", "threads")]
    assert files[0] == files[1]
    assert (tmp_path / "alone" / "stack.json").read_bytes() == (tmp_path / "threads" / "stack.json").read_bytes()
    one, two = (load(tmp_path / name).predict(asked).scores for name in ("alone", "threads"))
    assert np.array_equal(one, two)


def test_vote_counts_and_breaks_ties_by_mean_probability():
    ids, seen = ("a", "b"), np.zeros(2, bool)

    def system(name, rows):
        return Predictions(name, ("x", "y", "z"), "prob", ids, ("m", "m"), seen, np.array(rows))

    table = [
        system("one", [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]]),
        system("two", [[0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]),
        system("three", [[0.2, 0.2, 0.6], [0.0, 1.0, 0.0]]),
    ]
    manifest = Manifest("m", ("x", "y", "z"), (Utterance("a", "a", emotion="x"), Utterance("b", "b", emotion="y")))
    found = MajorityVote().fit(table, manifest).predict(table)
    assert found.scores[0].argmax() == 1, "three-way tie: y has the highest mean probability"
    assert found.scores[1].argmax() == 0, "two votes for x win although y has the higher mean probability"
    np.testing.assert_allclose(found.scores[1], (np.array([2, 1, 0]) + np.array([1.0, 1.8, 0.2]) / 3) / 4)


def test_mean_logit_answers_like_the_mean_of_logits():
    test = make_manifest(80, split="test")
    table = planted(test)
    found = MeanLogit().fit(table, test).predict(table)
    raw = np.mean([p.scores for p in table.values()], axis=0)
    assert np.array_equal(found.scores.argmax(axis=1), raw.argmax(axis=1))
    gap = found.scores - raw
    np.testing.assert_allclose(gap, np.repeat(gap[:, :1], 4, axis=1), atol=1e-12)


def test_classes_that_a_corpus_cannot_have_get_nothing():
    rows = tuple(
        Utterance(f"{c}{k}", "x", speaker=f"{c}{k % 5}", split="train", emotion=LABELS[k % classes], corpus=c)
        for c, classes in (("p", 4), ("q", 2))
        for k in range(80)
    )
    manifest = Manifest("p+q", LABELS, rows, class_sets={"q": LABELS[:2]})
    table = {n: scores_of(manifest, n, [3, 1, 2, 0], k, 0.5) for k, n in enumerate(("one", "two", "three"))}
    for stack in (RandomForestStack(trees=5, min_leaf=2, in_sample=True), MajorityVote(), MeanLogit()):
        scores = stack.fit(table, manifest).predict(table, manifest).scores
        assert set(scores[80:].argmax(axis=1)) <= {0, 1}
        assert len(set(scores[:80].argmax(axis=1))) == 4


def test_thin_classes_get_a_line_that_says_what_to_do():
    rows = [Utterance(f"u{k}", "x.wav", speaker=f"s{k % 6}", split="train", emotion=LABELS[k % 3]) for k in range(90)]
    rows += [Utterance(f"v{k}", "x.wav", speaker=f"s{k}", split="train", emotion="sadness") for k in range(2)]
    manifest = Manifest("thin", LABELS, tuple(rows))
    with pytest.raises(SerkitError, match=r"2 rows of each class \(smallest: 'sadness'\).*lower stack.folds or drop"):
        RandomForestStack().fit(planted(manifest), manifest)
    with pytest.raises(SerkitError, match="per_class is 5, but class 'sadness' has 2 rows"):
        RandomForestStack(per_class=5).fit(planted(manifest), manifest)
    one = manifest.where(lambda u: u.emotion == "anger")
    with pytest.raises(SerkitError, match="at least two classes"):
        LogisticStack().fit(planted(one), one)
    absent = manifest.where(lambda u: u.emotion != "sadness")
    found = RandomForestStack(trees=5, min_leaf=2).fit(planted(absent), absent).predict(planted(absent))
    assert (found.scores[:, 3] == 0).all()


def test_choice_looks_at_out_of_fold_scores_only_and_finds_the_better_stack():
    train = make_manifest(400)
    fitted = planted(train)
    stacks = {"vote": MajorityVote(), "forest": RandomForestStack(trees=15, min_leaf=4), "mean_logit": MeanLogit()}
    choice = choose(stacks, fitted, train, folds=3)
    assert choice.best == "forest"
    assert choice.scores["forest"] > choice.scores["vote"] + 0.2
    assert not hasattr(stacks["forest"], "models_"), "candidates stay unfitted"
    assert choice.scores["vote"] == pytest.approx(f1_of(MajorityVote().fit(fitted, train).predict(fitted), train))
    assert not choice.predictions["forest"].seen.any()
    assert choice.scores == choose(stacks, fitted, train, folds=3).scores
    p = cross_fitted(stacks["forest"], fitted, train, folds=3)
    assert p.ids == train.ids


def test_copies_of_a_forest_that_takes_whole_classes_take_what_they_have():
    train = make_manifest(200)
    smallest = min(n for n in train.counts().values())
    stack = RandomForestStack(trees=3, per_class=smallest, folds=smallest)
    stack.unfitted().fit(planted(train), train)
    assert len(cross_fitted(stack, planted(train), train)) == len(train)
    assert (stack.per_class, stack.folds) == (smallest, smallest)


def test_folds_keep_speakers_together():
    rng = np.random.default_rng(0)
    speakers = [f"s{k}" for k in rng.integers(0, 9, 200)] + [None] * 20
    fold = speaker_folds(rng.integers(0, 4, 220), speakers, 4, 0)
    assert set(fold) == {0, 1, 2, 3}
    for who in {s for s in speakers if s}:
        assert len({int(f) for f, s in zip(fold, speakers, strict=True) if s == who}) == 1
    assert len(set(fold[200:])) > 1
    assert set(speaker_folds(rng.integers(0, 4, 40), ["only"] * 40, 4, 0)) == {0, 1, 2, 3}


def test_names_and_parameters_of_a_recipe():
    assert isinstance(make("random_forest", trees=7), RandomForestStack)
    with pytest.raises(SerkitError, match="did you mean 'random_forest'"):
        make("random_forrest")
    with pytest.raises(SerkitError, match="no parameter 'tree'; did you mean 'trees'"):
        make("random_forest", tree=7)
    with pytest.raises(SerkitError, match="not fitted"):
        make("logistic").predict({})


def test_stacking_and_evaluation_load_neither_torch_nor_scikit_learn():
    code = (
        "import sys, serkit.stacking, serkit.evaluation, serkit.comparison;"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'skops', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_class_with_fewer_rows_than_folds_is_dealt_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold = speaker_folds(np.array([0] * 8 + [1, 2]), [f"speaker {k}" for k in range(10)], 5, 0)
    assert sorted(np.bincount(fold)) == [2] * 5
