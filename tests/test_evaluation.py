"""Reports: alignment, intervals, slices, masks, refusals."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from serkit.bootstrap import clusters
from serkit.calibration import wilson
from serkit.comparison import compare
from serkit.errors import SerkitError
from serkit.evaluation import Decisions, decide, ece, evaluate, most_confident_mistakes
from serkit.metrics import DISTRIBUTION_METRICS, METRICS
from serkit.predictions import Predictions
from serkit.types import Manifest, Utterance

LABELS = ("anger", "happiness", "neutral")


def make_manifest(n=240, speakers=8, split="test", **changes):
    rows = [
        Utterance(
            f"u{k}", f"clip/{k}.wav", speaker=f"s{k % speakers}", split=split, emotion=LABELS[(k * 7) % 3],
            gender="female" if k % 2 else "male", end_s=1.0 + 0.05 * (k % 50), text=f"line {k}",
        )
        for k in range(n)
    ]  # fmt: skip
    return Manifest("made", LABELS, tuple(dataclasses.replace(u, **changes) for u in rows))


def score(manifest, *, right=0.7, seed=0, system="one", kind="logit", model="m"):
    rng = np.random.default_rng(seed)
    truth = np.maximum(manifest.label_index(), 0)
    scores = rng.normal(size=(len(manifest), len(manifest.labels)))
    hit = rng.random(len(truth)) < right
    scores[np.flatnonzero(hit), truth[hit]] += 4
    if kind == "prob":
        scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    n = len(manifest)
    return Predictions(system, manifest.labels, kind, manifest.ids, (model,) * n, np.zeros(n, bool), scores)


def test_report_agrees_with_scikit_learn_whatever_the_row_order():
    manifest = make_manifest()
    predictions = score(manifest)
    turned = predictions.take([manifest.ids[k] for k in np.random.default_rng(3).permutation(240)])
    report = evaluate(turned, manifest, split="test", draws=200)
    truth, answer = manifest.label_index(), predictions.scores.argmax(axis=1)
    assert report.metrics["macro_f1"].value == pytest.approx(f1_score(truth, answer, average="macro"), abs=1e-9)
    assert report.metrics["uar"].value == pytest.approx(recall_score(truth, answer, average="macro"), abs=1e-9)
    assert report.metrics["weighted_f1"].value == pytest.approx(f1_score(truth, answer, average="weighted"), abs=1e-9)
    assert report.metrics["accuracy"].value == pytest.approx((truth == answer).mean(), abs=1e-9)
    assert sum(map(sum, report.confusion)) == 240
    assert report.per_class["anger"]["support"] == 80
    assert {*METRICS, "bs_f1", "ece"} == set(report.metrics)
    for name in METRICS:
        m = report.metrics[name]
        assert m.low < m.value < m.high
        assert (m.n, m.speakers, m.interval) == (240, 8, "95% speaker bootstrap (200 draws), rough: 8 speakers")


def test_same_seed_same_bytes():
    manifest = make_manifest()
    first, again, other = (
        json.dumps(evaluate(score(manifest), manifest, split="test", draws=100, seed=s).to_row()) for s in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_bs_f1_is_mean_min_max_of_subsets_that_differ():
    manifest = make_manifest(300)
    rare = manifest.where(lambda u: u.emotion != "anger" or int(u.id[1:]) < 90)
    report = evaluate(score(rare), rare, split="test", draws=50)
    draws, m = report.draws["bs_f1"], report.metrics["bs_f1"]
    assert len(draws) == 100
    assert len(set(draws)) > 10
    assert (m.value, m.low, m.high) == (pytest.approx(np.mean(draws)), min(draws), max(draws))
    assert m.interval == "min-max of 100 balanced subsets, 30 per class"


@pytest.mark.parametrize("right", [0.3, 0.4, 0.55, 0.8])
def test_bs_f1_of_a_balanced_set_lies_in_its_own_range(right):
    manifest = make_manifest()
    m = evaluate(score(manifest, right=right), manifest, split="test", draws=20).metrics["bs_f1"]
    assert m.low <= m.value <= m.high
    assert m.low == m.high


def test_fold_models_are_averaged_first():
    manifest = make_manifest()
    a, b = score(manifest, seed=1), score(manifest, seed=2, right=0.4)
    both = Predictions(
        "one", LABELS, "logit", a.ids * 2, ("f0",) * 240 + ("f1",) * 240, np.zeros(480, bool),
        np.concatenate([a.scores, b.scores]),
    )  # fmt: skip
    rows = decide(both, manifest, split="test")
    assert np.array_equal(rows.answer, ((a.scores + b.scores) / 2).argmax(axis=1))


def test_unlabelled_rows_are_left_out_and_counted_and_need_no_prediction():
    manifest = make_manifest()
    rows = [dataclasses.replace(u, emotion=None) if k < 15 else u for k, u in enumerate(manifest)]
    holes = dataclasses.replace(manifest, utterances=tuple(rows))
    report = evaluate(score(manifest), holes, split="test", draws=50)
    assert report.metrics["accuracy"].n == 225
    assert report.provenance["unlabelled"] == 15
    fewer = score(manifest).take(manifest.ids[15:])
    assert evaluate(fewer, holes, split="test", draws=50).metrics["accuracy"] == report.metrics["accuracy"]


def test_what_folds_leave_out_is_counted_of_all_and_their_classes_are_those_of_any():
    """The first fold's corpus has no neutral, the second's has: neutral is in the macro average of both together."""
    manifest = make_manifest(60)
    rows = [
        dataclasses.replace(u, corpus="ab"[k % 2], emotion=None if k < 9 else u.emotion) for k, u in enumerate(manifest)
    ]
    rows = [u for u in rows if (u.corpus, u.emotion) != ("a", "neutral")]
    whole = dataclasses.replace(manifest, utterances=tuple(rows), class_sets={"a": LABELS[:2], "b": LABELS})
    folds = [whole.where(lambda u, c=c: u.corpus == c) for c in "ab"]
    report = evaluate([score(f) for f in folds], folds, split="test", draws=20)
    assert report.provenance["unlabelled"] == 9
    n = [report.per_class[label]["recall"] for label in LABELS]
    assert report.metrics["uar"].value == pytest.approx(np.mean(n))


def test_refusals():
    manifest = make_manifest()
    predictions = score(manifest)
    with pytest.raises(SerkitError, match="none of the 240 utterances in split 'test' has a label"):
        evaluate(predictions, make_manifest(emotion=None), split="test")
    with pytest.raises(SerkitError, match="no utterance in split 'dev'"):
        evaluate(predictions, manifest, split="dev")
    with pytest.raises(SerkitError, match="no split 'tset'; did you mean 'test'"):
        evaluate(predictions, manifest, split="tset")
    with pytest.raises(SerkitError, match="1 of 240 utterances have no row, first 'u239'"):
        evaluate(predictions.take(manifest.ids[:-1]), manifest, split="test")
    with pytest.raises(SerkitError, match="40 rows match no utterance of 'made', first 'u200'"):
        evaluate(predictions, make_manifest(200), split="test")
    with pytest.raises(SerkitError, match="columns are neutral"):
        evaluate(dataclasses.replace(predictions, labels=LABELS[::-1]), manifest, split="test")
    seen = dataclasses.replace(predictions, seen=np.arange(240) < 3)
    with pytest.raises(SerkitError, match=r"3 of 240 rows in 'test' are of utterances the model was trained on.*'u0'"):
        evaluate(seen, manifest, split="test")
    assert evaluate(seen, manifest, split="test", draws=20, in_sample=True).provenance["in_sample"] is True


def test_a_class_that_the_split_lacks_counts_alike_in_value_and_interval():
    manifest = make_manifest()
    lacking = manifest.where(lambda u: u.emotion != "anger")
    predictions = score(manifest).take(lacking.ids)
    report = evaluate(predictions, lacking, split="test", draws=200)
    for name in ("macro_f1", "uar"):
        m = report.metrics[name]
        assert m.value < 0.7
        assert m.low < m.value < m.high
    other = score(manifest, right=0.5, seed=1, system="two").take(lacking.ids)
    for d in compare(predictions, other, lacking, split="test", draws=200):
        assert d.low < d.difference < d.high


def test_intervals_of_few_and_unknown_speakers_say_so():
    for changes, text, speakers in (
        ({"speaker": "only"}, "95% utterance bootstrap (50 draws), rough: one speaker", 1),
        ({"speaker": None}, "95% utterance bootstrap (50 draws), rough: speakers unknown", 0),
    ):
        manifest = make_manifest(**changes)
        m = evaluate(score(manifest), manifest, split="test", draws=50).metrics["uar"]
        assert (m.interval, m.speakers) == (text, speakers)
    many = make_manifest(speakers=24)
    m = evaluate(score(many), many, split="test", draws=50).metrics["uar"]
    assert (m.interval, m.speakers) == ("95% speaker bootstrap (50 draws)", 24)


def test_a_draw_without_a_class_leaves_it_out():
    """Only one of four speakers ever says anger; a perfect system is perfect in every draw."""
    rows = [
        Utterance(f"{s}{k}", "x.wav", speaker=s, split="test", emotion="anger" if s == "a" else LABELS[1 + k % 2])
        for s in "abcd" for k in range(10)
    ]  # fmt: skip
    manifest = Manifest("lonely", LABELS, tuple(rows))
    m = evaluate(score(manifest, right=1.1), manifest, split="test", draws=300).metrics
    assert m["macro_f1"].value > 0.95
    assert m["uar"].low > 0.8, "a third of the draws have no anger at all; they must not count it as failed"


def test_slices_by_gender_and_duration_are_the_metric_of_those_rows():
    manifest = make_manifest()
    predictions = score(manifest)
    report = evaluate(predictions, manifest, split="test", draws=50)
    assert set(report.slices) == {"gender", "duration"}, "one corpus and no language: nothing to slice"
    women = manifest.where(lambda u: u.gender == "female")
    alone = evaluate(predictions.take(women.ids), women, split="test", draws=50)
    assert report.slices["gender"]["female"]["macro_f1"].value == alone.metrics["macro_f1"].value
    assert report.slices["gender"]["female"]["macro_f1"].n == 120
    thirds = report.slices["duration"]
    assert len(thirds) == 3
    assert sum(s["accuracy"].n for s in thirds.values()) == 240
    assert all(60 <= s["accuracy"].n <= 100 for s in thirds.values())
    same = make_manifest(end_s=2.0)
    assert "duration" not in evaluate(score(same), same, split="test", draws=20).slices


def test_duration_from_meta_and_unknown_gender():
    manifest = make_manifest(end_s=None)
    rows = tuple(
        dataclasses.replace(u, gender=None if k < 30 else u.gender, meta={"duration_s": 1 + k / 100})
        for k, u in enumerate(manifest)
    )
    report = evaluate(score(manifest), dataclasses.replace(manifest, utterances=rows), split="test", draws=20)
    assert report.slices["gender"]["unknown"]["accuracy"].n == 30
    assert len(report.slices["duration"]) == 3


def test_a_class_its_corpus_cannot_have_is_never_answered():
    rows = [
        Utterance(f"p{k}", "x", speaker=f"p{k % 5}", split="test", emotion=LABELS[k % 3], corpus="p") for k in range(60)
    ]
    rows += [
        Utterance(f"q{k}", "x", speaker=f"q{k % 5}", split="test", emotion=LABELS[k % 2], corpus="q") for k in range(60)
    ]
    manifest = Manifest("p+q", LABELS, tuple(rows), class_sets={"p": LABELS, "q": LABELS[:2]})
    lean = np.tile([0.0, 1.0, 5.0], (120, 1))
    predictions = Predictions("always_neutral", LABELS, "logit", manifest.ids, ("m",) * 120, np.zeros(120, bool), lean)
    rows_ = decide(predictions, manifest, split="test")
    assert set(rows_.answer[:60]) == {2}
    assert set(rows_.answer[60:]) == {1}
    assert (rows_.probabilities[60:, 2] == 0).all()
    np.testing.assert_allclose(rows_.probabilities.sum(axis=1), 1)
    report = evaluate(predictions, manifest, split="test", draws=20)
    assert set(report.slices) == {"corpus"}
    assert report.slices["corpus"]["q"]["uar"].value == pytest.approx(0.5), "two classes count there, not three"
    only_q = manifest.where(lambda u: u.corpus == "q")
    whole = evaluate(predictions.take(only_q.ids), only_q, split="test", draws=20)
    assert whole.metrics["uar"].value == pytest.approx(0.5)
    with pytest.raises(SerkitError, match="outside the class set of corpus 'p'"):
        decide(predictions, dataclasses.replace(manifest, class_sets={"p": LABELS[:2]}), split="test")


def test_folds_are_pooled_not_averaged():
    manifest = make_manifest()
    folds = []
    for k in (0, 1):
        sides = ["test" if int((u.speaker or "")[1:]) % 2 == k else "train" for u in manifest]
        rows = [dataclasses.replace(u, split=side) for u, side in zip(manifest, sides, strict=True)]
        folds.append(dataclasses.replace(manifest, utterances=tuple(rows)))
    parts = [score(f.split("test"), right=0.4 + 0.4 * k, seed=k) for k, f in enumerate(folds)]
    report = evaluate(parts, folds, split="test", draws=100)
    assert (report.metrics["macro_f1"].n, report.metrics["macro_f1"].speakers) == (240, 8)
    truth = np.concatenate([f.split("test").label_index() for f in folds])
    answer = np.concatenate([p.scores.argmax(axis=1) for p in parts])
    assert report.metrics["macro_f1"].value == pytest.approx(f1_score(truth, answer, average="macro"), abs=1e-9)
    with pytest.raises(SerkitError, match="is in 'test' of two folds"):
        evaluate([parts[0], parts[0]], [folds[0], folds[0]], split="test")
    with pytest.raises(SerkitError, match="2 tables of predictions and 1 manifests"):
        evaluate(parts, folds[:1], split="test")


def test_distributions_against_votes_with_the_train_prior():
    rng = np.random.default_rng(0)
    rows, votes = [], rng.multinomial(5, [0.2, 0.3, 0.5], size=200)
    for k, v in enumerate(votes):
        rows.append(
            Utterance(
                f"u{k}", "x", speaker=f"s{k % 10}" if k < 100 else f"t{k % 10}", split="train" if k < 100 else "test",
                emotion=LABELS[int(v.argmax())], votes={c: float(w) for c, w in zip(LABELS, v, strict=True) if w},
            )
        )  # fmt: skip
    manifest = Manifest("rated", LABELS, tuple(rows))
    test = manifest.split("test")
    exact = Predictions("oracle", LABELS, "prob", test.ids, ("m",) * 100, np.zeros(100, bool), test.votes())
    found = evaluate(exact, manifest, split="test", draws=100).metrics
    assert {n + e for n in DISTRIBUTION_METRICS for e in ("", "_prior")} <= set(found)
    assert found["kl"].value == pytest.approx(0, abs=1e-9)
    assert found["cosine"].value == pytest.approx(1)
    assert 0 < found["kl_prior"].low < found["kl_prior"].value < found["kl_prior"].high
    prior = manifest.split("train").votes().mean(axis=0)
    lazy = Predictions("lazy", LABELS, "prob", test.ids, ("m",) * 100, np.zeros(100, bool), np.tile(prior, (100, 1)))
    same = evaluate(lazy, manifest, split="test", draws=100).metrics
    for name in DISTRIBUTION_METRICS:
        assert same[name].value == pytest.approx(same[name + "_prior"].value)
    assert "kl" not in evaluate(score(make_manifest()), make_manifest(), split="test", draws=10).metrics


def test_the_interval_of_the_calibration_error_holds_it_and_covers_the_true_one():
    rng = np.random.default_rng(0)
    for shift, truth in ((0.05, 0.05), (0.2, 0.2)):  # answers are right less often than they say, by so much
        covered = 0
        for _ in range(60):
            confidence = rng.uniform(0.4, 1.0, 400)
            right = rng.random(400) < confidence - shift
            rest = (1 - confidence) / 2
            utterances = tuple(Utterance(f"u{k}", "x", speaker=f"s{k % 40}", split="test") for k in range(400))
            answer = np.zeros(400, dtype=np.int64)
            rows = Decisions(
                "made", "test", LABELS, utterances, np.where(right, 0, 1), answer,
                np.column_stack([confidence, rest, rest]), np.ones(3, bool), 0,
            )  # fmt: skip
            found = ece(rows, clusters(rows.speakers), draws=200, seed=0)
            assert 0 <= found.low <= found.value <= found.high
            covered += found.low <= truth <= found.high
        assert covered >= 52  # of 60; percentiles alone covered 33 and 57


def test_reliability_holds_every_answer_and_what_the_calibration_error_sums():
    manifest = make_manifest()
    report = evaluate(score(manifest, kind="prob"), manifest, split="test", draws=100)
    rows = report.reliability
    assert sum(r["n"] for r in rows) == 240
    gap = sum(r["n"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / 240
    assert gap == pytest.approx(report.metrics["ece"].value)
    for r in rows:
        low, high = wilson(r["accuracy"], r["n"])
        assert 0 <= r["low"] <= low < high <= r["high"] <= 1


def test_provenance_is_recorded_and_added_to():
    manifest = make_manifest()
    report = evaluate(score(manifest), manifest, split="test", draws=20, seed=3, provenance={"recipe": "toy"})
    assert report.provenance["recipe"] == "toy"
    assert report.provenance["split_hashes"] == [manifest.split_hash]
    assert (report.provenance["seed"], report.provenance["draws"]) == (3, 20)


def test_most_confident_mistakes_come_first_with_file_names():
    manifest = make_manifest()
    rows = decide(score(manifest), manifest, split="test")
    found = most_confident_mistakes(rows, 5)
    assert len(found) == 5
    assert [m.confidence for m in found] == sorted((m.confidence for m in found), reverse=True)
    by_id = {u.id: u for u in manifest}
    for m in found:
        assert m.truth == by_id[m.id].emotion != m.answer
        assert m.audio == by_id[m.id].audio
        assert m.truth_probability < m.confidence
        assert m.duration_s == by_id[m.id].end_s
        assert json.dumps(m.to_row())
    everything = most_confident_mistakes(rows, 1000)
    assert len(everything) == int((rows.truth != rows.answer).sum())
    assert found == everything[:5]
