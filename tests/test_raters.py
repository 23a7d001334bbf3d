"""Closeness to rater votes: clips without agreement take part, label metrics do not see them, scipy agrees."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.evaluation import evaluate
from serkit.examples import Examples
from serkit.metrics import DISTRIBUTION_METRICS
from serkit.predictions import Predictions
from serkit.raters import closeness, rated
from serkit.recipe import parse_recipe
from serkit.scoring import measure_scores
from serkit.types import Manifest, Utterance

LABELS = ("anger", "happiness", "neutral")


def made(n=240, speakers=12):
    """Rows with four raters each; where two classes lead together nobody agrees, and there is no label."""
    rng = np.random.default_rng(1)
    rows = []
    for k in range(n):
        votes = rng.multinomial(4, rng.dirichlet([0.6, 0.6, 0.6]))
        first = votes == votes.max()
        who = k % speakers
        rows.append(
            Utterance(
                f"u{k}", "x", speaker=f"s{who}", split="train" if who < 6 else "test",
                emotion=LABELS[int(votes.argmax())] if first.sum() == 1 else None,
                votes={c: float(w) for c, w in zip(LABELS, votes, strict=True) if w},
            )
        )  # fmt: skip
    return Manifest("rated", LABELS, tuple(rows))


def scored(manifest, seed=3, split="test"):
    ids = manifest.split(split).ids
    logits = np.random.default_rng(seed).normal(size=(len(ids), 3))
    return Predictions("net", LABELS, "logit", ids, ("m",) * len(ids), np.zeros(len(ids), bool), logits)


def test_what_an_epoch_is_chosen_by_is_what_the_report_says():
    """Of a corpus without votes nothing is taken for one, and a class that a corpus cannot have is no answer."""
    names = dict(zip(("s6", "s7", "s8"), ("b", "b", "c"), strict=True))
    rows = []
    for u in made():
        corpus = names.get(u.speaker, "a")
        votes = {k: w for k, w in u.votes.items() if corpus == "a" or (corpus == "b" and k != "neutral")}
        emotion = None if corpus == "b" else u.emotion or "anger"
        rows.append(dataclasses.replace(u, corpus=corpus, votes=votes or None, emotion=emotion))
    sets = {"a": LABELS, "b": LABELS[:2], "c": LABELS}
    manifest = dataclasses.replace(made(), utterances=tuple(rows), class_sets=sets)
    said = closeness([scored(manifest)], [manifest], split="test", draws=10)["kl"]
    examples = Examples.of(manifest.split("test"), {}, targets="votes")
    chosen_by = measure_scores(scored(manifest).take(examples.ids), examples)
    assert chosen_by["kl"] == pytest.approx(said.value)
    assert said.n < len(examples)
    unrated = Examples.of(manifest.split("test").where(lambda u: u.corpus == "c"), {}, targets="votes")
    assert "kl" not in measure_scores(scored(manifest).take(unrated.ids), unrated)


def test_every_rated_clip_takes_part_and_label_metrics_see_labels_alone():
    manifest = made()
    test = manifest.split("test")
    n_disputed = sum(u.emotion is None for u in test)
    assert 5 < n_disputed < len(test) / 2
    found = evaluate(scored(manifest), manifest, split="test", draws=100).metrics
    assert found["kl"].n == found["jsd_prior"].n == len(test)
    assert found["kl_disputed"].n == n_disputed
    assert found["uar"].n == found["ece"].n == len(test) - n_disputed
    assert found["kl"].interval == "95% speaker bootstrap (100 draws), rough: 6 speakers"
    # the same label metrics as if the clips without agreement were not there
    labelled = manifest.where(lambda u: u.emotion is not None)
    alone = evaluate(scored(manifest).take(labelled.split("test").ids), labelled, split="test", draws=100).metrics
    for name in ("macro_f1", "uar", "accuracy", "weighted_f1", "ece", "bs_f1"):
        assert found[name] == alone[name]
    assert "kl_disputed" not in alone


def test_scipy_agrees():
    from scipy.spatial.distance import jensenshannon
    from scipy.special import softmax
    from scipy.stats import entropy, pearsonr

    manifest = made()
    test = manifest.split("test")
    predictions = scored(manifest)
    p, q = test.votes(), softmax(predictions.scores, axis=1)
    found = closeness([predictions], [manifest], split="test", draws=50)
    assert found["kl"].value == pytest.approx(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))
    assert found["jsd"].value == pytest.approx(np.mean([jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]))
    assert found["entropy_correlation"].value == pytest.approx(pearsonr(entropy(p, axis=1), entropy(q, axis=1))[0])
    prior = manifest.split("train").votes().mean(axis=0)
    assert found["kl_prior"].value == pytest.approx(np.mean([entropy(a, prior) for a in p]))
    none = np.array([u.emotion is None for u in test])
    assert found["kl_disputed"].value == pytest.approx(np.mean([entropy(a, b) for a, b in zip(p[none], q[none],
                                                                                            strict=True)]))  # fmt: skip


def test_intervals_have_the_spread_of_drawing_speakers():
    from scipy.special import softmax
    from scipy.stats import entropy, pearsonr

    manifest = made(600, 24)
    rows = manifest.where(lambda u: True)
    everyone = dataclasses.replace(
        rows, utterances=tuple(dataclasses.replace(u, split="test") for u in rows.utterances)
    )
    predictions = scored(everyone)
    found = closeness([predictions], [everyone], split="test", draws=3000)["entropy_correlation"]
    x, y = entropy(everyone.votes(), axis=1), entropy(softmax(predictions.scores, axis=1), axis=1)
    speaker = np.array([int(str(u.speaker)[1:]) for u in everyone])
    rng = np.random.default_rng(4)
    drawn = []
    for _ in range(1500):
        picked = np.concatenate([np.flatnonzero(speaker == s) for s in rng.integers(24, size=24)])
        drawn.append(pearsonr(x[picked], y[picked])[0])
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.02)


def test_who_doubts_where_raters_differ_is_told_from_who_is_sure():
    manifest = made()
    test = manifest.split("test")
    n = len(test)
    oracle = Predictions("o", LABELS, "prob", test.ids, ("m",) * n, np.zeros(n, bool), test.votes())
    found = closeness([oracle], [manifest], split="test", draws=50)
    assert found["entropy_correlation"].value == pytest.approx(1)
    assert found["kl"].value == pytest.approx(0, abs=1e-9)
    flat = dataclasses.replace(oracle, scores=np.full((n, 3), 1 / 3))
    assert "entropy_correlation" not in closeness([flat], [manifest], split="test", draws=50)


def test_folds_are_pooled_and_a_missing_label_is_refused():
    manifest = made()
    train = manifest.split("train")
    moved = dataclasses.replace(
        manifest,
        utterances=tuple(dataclasses.replace(u, split="train" if u.split == "test" else "test") for u in manifest),
    )
    both = closeness([scored(manifest), scored(moved)], [manifest, moved], split="test", draws=50)
    parts = [closeness([scored(m)], [m], split="test", draws=50) for m in (manifest, moved)]
    assert both["jsd"].n == len(manifest)
    for name in ("jsd", "jsd_prior"):  # the constant of a fold has not seen its test
        assert both[name].value == pytest.approx(
            np.average([p[name].value for p in parts], weights=[p[name].n for p in parts])
        )
    assert len(train) == parts[1]["jsd"].n
    some = scored(manifest)
    unlabelled = [u.id for u in manifest.split("test") if u.emotion is None]
    fewer = closeness([some.take([i for i in some.ids if i not in unlabelled[:2]])], [manifest], split="test", draws=50)
    assert (fewer["kl"].n, fewer["kl_disputed"].n) == (len(some) - 2, len(unlabelled) - 2)
    labelled = next(u.id for u in manifest.split("test") if u.emotion is not None)
    with pytest.raises(SerkitError, match=f"1 of 120 utterances have no row, first '{labelled}'"):
        closeness([some.take([i for i in some.ids if i != labelled])], [manifest], split="test")
    bare = dataclasses.replace(manifest, utterances=tuple(dataclasses.replace(u, votes=None) for u in manifest))
    assert rated(some, bare, split="test") is None
    assert closeness([some], [bare], split="test") == {}


def disputed_toy(root):
    """The toy corpus with raters; every fourth clip has two emotions by two raters each, and no label."""
    base = toy(root)
    rows = []
    for k, u in enumerate(base):
        other = next(label for label in base.labels if label != u.emotion)
        if k % 4 == 3:
            rows.append(dataclasses.replace(u, emotion=None, votes={u.emotion: 2.0, other: 2.0}))
        else:
            rows.append(dataclasses.replace(u, votes={u.emotion: 3.0, other: 1.0}))
    return dataclasses.replace(base, utterances=tuple(rows))


def test_a_stack_on_votes_is_scored_against_them_on_every_split(tmp_path, toy_root, toy_store, small_text):
    manifest = disputed_toy(toy_root)
    run = pipeline.prepare(
        parse_recipe(small_text, ["train.targets=votes", "losses=[kl_soft]"]), manifest, tmp_path / "run"
    )
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    tree = json.loads((run.folder / "report" / "report.json").read_text())
    for system in ("sound", "stack", "vote", "mean_logit", "mean_probability"):
        for split in ("dev", "test"):
            rows = manifest.split(split)
            found = tree["systems"][system][split]
            assert found["kl"]["n"] == len(rows)
            assert found["kl_disputed"]["n"] == sum(u.emotion is None for u in rows)
            assert found["uar"]["n"] == sum(u.emotion is not None for u in rows)
    train = manifest.split("train")
    assert tree["systems"]["sound"]["train"]["kl"]["n"] == len(train)
    assert tree["systems"]["stack"]["train"]["kl"]["n"] == sum(u.emotion is not None for u in train)


def test_training_on_votes_without_votes_is_refused_with_one_line(tmp_path, toy_root, small_text):
    base = disputed_toy(toy_root)
    recipe = parse_recipe(small_text, ["train.targets=votes"])
    bare = dataclasses.replace(base, utterances=tuple(dataclasses.replace(u, votes=None) for u in base))
    with pytest.raises(SerkitError, match=r"train.targets is votes, and no training clip of 'toy' comes with rater"):
        pipeline.prepare(recipe, bare, tmp_path / "run")
    strange = tuple(dataclasses.replace(u, votes={"pride": 2.0}) for u in base)
    with pytest.raises(SerkitError, match=r"no training clip of 'toy' has votes for the recipe's labels; set train"):
        pipeline.prepare(recipe, dataclasses.replace(base, utterances=strange), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_on_votes_keeps_clips_without_agreement_to_the_report(tmp_path, toy_root, toy_store):
    """From the manifest to the page: trained on distributions, scored against them, labels counted apart."""
    manifest = disputed_toy(toy_root)
    text = """
name: votes
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, heads: 2, width: 8}
    losses: [kl_soft]
    train: {epochs: 2, lr: 5e-3, batch_size: 32, targets: votes}
crossfit: null
stack: null
evaluate: {draws: 20}
"""
    run = pipeline.prepare(parse_recipe(text), manifest, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    tree = json.loads((run.folder / "report" / "report.json").read_text())
    test = manifest.split("test")
    found = tree["systems"]["net"]["test"]
    n_disputed = sum(u.emotion is None for u in test)
    assert n_disputed > 0
    assert (found["kl"]["n"], found["kl_disputed"]["n"], found["uar"]["n"]) == (
        len(test), n_disputed, len(test) - n_disputed,
    )  # fmt: skip
    assert {f"{n}_prior" for n in DISTRIBUTION_METRICS} <= set(found)
    history = run.history("net")["full"]
    best = max(row["dev_macro_f1"] for row in history)  # the curve and the report count the same rows
    assert best == pytest.approx(tree["systems"]["net"]["dev"]["macro_f1"]["value"], abs=1e-9)
    assert history[0]["dev_kl"] > 0
    page = (run.folder / "report" / "report.html").read_text()
    assert f"All clips with votes, {n_disputed} of them without agreement" in page
    assert f"The same for the {n_disputed} clips without agreement" in page
    assert "Jensen–Shannon divergence (nats)" in page


@pytest.mark.parametrize("losses", ["[kl_soft]", "[kl_soft, {name: cosine, weight: 0.3}]"])
def test_a_trained_system_comes_closer_to_the_votes_than_the_mean_of_training_does(
    losses, tmp_path, toy_root, toy_store
):
    """On speakers it never heard; networks that only learn the mean distribution were published as results."""
    manifest = disputed_toy(toy_root)
    text = """
name: learns
systems:
  net:
    features: [{name: logmel/24, pool: 8}, {name: voice, pool: 8}]
    model: {name: mean_pool, hidden: 32, dropout: 0.2, pooling: statistics, normalize: train}
    losses: LOSSES
    train: {epochs: 30, lr: 5e-3, batch_size: 16, targets: votes, select: kl}
crossfit: null
stack: null
evaluate: {draws: 20}
""".replace("LOSSES", losses)
    run = pipeline.prepare(parse_recipe(text), manifest, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    found = json.loads((run.folder / "report" / "report.json").read_text())["systems"]["net"]["test"]
    assert found["kl"]["n"] == found["kl_prior"]["n"] == len(manifest.split("test"))
    assert found["kl"]["value"] < 0.9 * found["kl_prior"]["value"]
    assert found["jsd"]["value"] < 0.9 * found["jsd_prior"]["value"]


def test_the_constant_prior_answers_no_class_that_the_corpus_of_a_clip_cannot_have():
    manifest = made()
    rows = tuple(
        dataclasses.replace(u, corpus="two", votes={"anger": 1.0, "happiness": 1.0}, emotion=None)
        if u.speaker in ("s1", "s7") else dataclasses.replace(u, corpus="all")
        for u in manifest
    )  # fmt: skip
    sets = {"two": LABELS[:2], "all": LABELS}
    joined = dataclasses.replace(manifest, utterances=rows, class_sets=sets)
    found = closeness([scored(joined)], [joined], split="test", draws=20)
    train = joined.split("train").votes()
    prior = train.mean(axis=0)
    expected = []
    for u, votes in zip(joined.split("test"), joined.split("test").votes(), strict=True):
        p = np.where([c in sets[u.corpus] for c in LABELS], prior, 0.0)
        expected.append(np.abs(votes - p / p.sum()).max())
    assert found["chebyshev_prior"].value == pytest.approx(np.mean(expected), abs=1e-12)


def test_the_constant_of_a_fold_has_not_seen_the_clips_it_is_measured_on():
    from scipy.stats import entropy

    whole = made()
    turned = {"train": "test", "test": "train"}
    other = dataclasses.replace(
        whole, utterances=tuple(dataclasses.replace(u, split=turned.get(str(u.split), u.split)) for u in whole)
    )
    folds = [whole, other]
    found = closeness([scored(m) for m in folds], folds, split="test", draws=20)
    expected = [
        entropy(votes, m.split("train").votes().mean(axis=0)) for m in folds for votes in m.split("test").votes()
    ]
    assert found["kl_prior"].value == pytest.approx(np.mean(expected))
    unrated = dataclasses.replace(
        other,
        utterances=tuple(
            dataclasses.replace(u, votes=None, emotion=None) if u.split == "train" else u for u in other
        ),
    )  # fmt: skip
    assert "kl_prior" not in closeness([scored(m) for m in folds], [whole, unrated], split="test", draws=20)
