"""Arousal, valence and dominance from the network to the report: learned on their own scale, measured, averaged."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from made import MadeSource, made_config, made_manifest, made_system
from serkit import pipeline
from serkit.bootstrap import clusters
from serkit.combining import MeanLogit
from serkit.comparison import compare_attributes
from serkit.concordance import concordance, rating_scale, ratings
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.evaluation import evaluate
from serkit.examples import Examples
from serkit.metrics import ccc
from serkit.networks import load_network
from serkit.predictions import Predictions
from serkit.recipe import parse_recipe
from serkit.scoring import measure_scores, score
from serkit.training import train_network

MIDDLE = {"anger": (6.0, 2.0), "neutral": (4.0, 4.0), "sadness": (2.5, 2.5)}  # arousal, valence, of 1 to 7


def rated(n=180, speakers=6):
    """Made-up clips whose arousal and valence follow their class; of every fifth they are unknown, as is dominance."""
    rng = np.random.default_rng(4)
    rows = []
    for k, u in enumerate(made_manifest(n, speakers)):
        middle = MIDDLE[u.emotion] + 0.4 * rng.normal(size=2)
        rows.append(u if k % 5 == 0 else dataclasses.replace(u, arousal=middle[0], valence=middle[1]))
    return dataclasses.replace(made_manifest(n, speakers), utterances=tuple(rows))


def answered(manifest, split="test", noise=1.0, seed=0, system="net"):
    rows = [u for u in manifest if u.split == split]
    rng = np.random.default_rng(seed)
    attributes = np.nan_to_num(ratings(rows), nan=4.0) + noise * rng.normal(size=(len(rows), 3))
    attributes[:, 2] = np.nan
    logits = rng.normal(size=(len(rows), 3))
    ids = tuple(u.id for u in rows)
    return Predictions(system, manifest.labels, "logit", ids, ("m",) * len(ids), np.zeros(len(ids)), logits, attributes)


def test_it_is_the_ccc_of_the_rated_rows_with_an_interval_by_speaker():
    manifest, draws = rated(speakers=9), 400
    table = answered(manifest, "train")
    found = concordance([table], [manifest], split="train", draws=draws, seed=1)
    assert list(found) == ["ccc_arousal", "ccc_valence", "ccc"]  # dominance nobody rated
    rows = [u for u in manifest if u.split == "train"]
    truth = ratings(rows)
    known = np.isfinite(truth[:, 0])
    each = [ccc(truth[known, k], table.attributes[known, k]) for k in range(2)]
    assert found["ccc_arousal"].value == pytest.approx(each[0], abs=1e-12)
    assert found["ccc"].value == pytest.approx(np.mean(each), abs=1e-12)
    assert found["ccc"].n == known.sum() < len(rows)
    assert found["ccc"].speakers == 7
    # the plain bootstrap, speaker by speaker
    speakers = np.array([u.speaker for u in rows])[known]
    names, rng, values = np.unique(speakers), np.random.default_rng(0), []
    for _ in range(draws):
        drawn = np.concatenate([np.flatnonzero(speakers == s) for s in rng.choice(names, len(names))])
        values.append(ccc(truth[known, 0][drawn], table.attributes[known, 0][drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    assert found["ccc_arousal"].low == pytest.approx(low, abs=0.03)
    assert found["ccc_arousal"].high == pytest.approx(high, abs=0.03)
    assert found["ccc_arousal"].interval == clusters(list(speakers)).interval(draws)


def test_two_systems_are_compared_on_the_same_rated_rows():
    manifest = rated(speakers=9)
    near, far = (answered(manifest, "train", noise=x, seed=k, system=f"n{k}") for k, x in enumerate((0.3, 2.0)))
    found = {d.metric: d for d in compare_attributes([near], [far], [manifest], split="train", draws=200)}
    assert list(found) == ["ccc_arousal", "ccc_valence", "ccc"]
    alone = [concordance([t], [manifest], split="train", draws=20) for t in (near, far)]
    for name, d in found.items():
        assert (d.value_a, d.value_b) == pytest.approx([m[name].value for m in alone], abs=1e-12)
        assert d.difference == pytest.approx(d.value_a - d.value_b)
        assert 0 < d.low < d.difference < d.high
        assert (d.a, d.b, d.n, d.speakers) == ("n0", "n1", alone[0]["ccc"].n, 7)
        assert d.p < 0.02
        assert d.p_permutation == pytest.approx(
            2 / 128
        )  # seven speakers can be swapped in 128 ways: this and its mirror
    # a paired draw knows that equal answers differ by nothing
    same = compare_attributes([near], [near], [manifest], split="train", draws=50)
    assert [(d.difference, d.low, d.high, d.p) for d in same] == [(0.0, 0.0, 0.0, 1.0)] * 3
    plain = dataclasses.replace(far, attributes=None)
    assert compare_attributes([near], [plain], [manifest], split="train") == ()


def test_attributes_that_no_clip_has_together_are_compared_one_by_one():
    manifest = rated(speakers=9)
    rows = tuple(
        dataclasses.replace(u, **{"valence" if k % 2 else "arousal": None}) for k, u in enumerate(manifest.utterances)
    )
    apart = dataclasses.replace(manifest, utterances=rows)
    near, far = (answered(manifest, "train", noise=x, seed=k, system=f"n{k}") for k, x in enumerate((0.3, 2.0)))
    found = {d.metric: d for d in compare_attributes([near], [far], [apart], split="train", draws=200)}
    assert list(found) == ["ccc_arousal", "ccc_valence"]
    for name, d in found.items():
        assert d.value_a == pytest.approx(concordance([near], [apart], split="train", draws=20)[name].value, abs=1e-12)


def test_the_mean_is_compared_over_the_clips_that_have_every_rating():
    manifest = rated(speakers=9)
    lacking = [dataclasses.replace(u, valence=None) if k % 3 == 1 else u for k, u in enumerate(manifest)]
    manifest = dataclasses.replace(manifest, utterances=tuple(lacking))
    near, far = (answered(manifest, "train", noise=x, seed=k, system=f"n{k}") for k, x in enumerate((0.3, 2.0)))
    found = {d.metric: d for d in compare_attributes([near], [far], [manifest], split="train", draws=50)}
    truth = ratings(manifest.split("train").utterances)
    both = np.isfinite(truth[:, :2]).all(axis=1)
    assert found["ccc"].n == both.sum() < found["ccc_arousal"].n == np.isfinite(truth[:, 0]).sum()
    for table, value in ((near, found["ccc"].value_a), (far, found["ccc"].value_b)):
        each = [ccc(truth[both, k], table.attributes[both, k]) for k in range(2)]
        assert value == pytest.approx(np.mean(each), abs=1e-12)


def test_an_interval_is_drawn_from_the_speakers_who_have_that_rating():
    """Regression: a resample without any of them counted as a CCC of 0."""
    manifest = rated(speakers=9)
    few = {"s0", "s1"}
    rows = [dataclasses.replace(u, dominance=float(k % 7)) if u.speaker in few else u for k, u in enumerate(manifest)]
    manifest = dataclasses.replace(manifest, utterances=tuple(rows))
    table = answered(manifest, "train", noise=0.01)
    truth = ratings([u for u in manifest if u.split == "train"])
    table.attributes[:, 2] = np.nan_to_num(truth[:, 2], nan=4.0)
    found = concordance([table], [manifest], split="train", draws=200)
    assert (found["ccc_dominance"].low, found["ccc_dominance"].speakers) == (1.0, 2)
    assert found["ccc"].low > 0.99


def test_corpora_on_different_scales_have_no_scale_together():
    rows = [dataclasses.replace(u, corpus="ab"[k % 2]) for k, u in enumerate(rated())]
    for other, expected in (([1, 7], (1.0, 7.0)), ([1, 5], None), (None, None)):
        info = {"corpora": {"a": {"rating_scale": [1, 7]}, "b": {"rating_scale": other}}}
        assert rating_scale(dataclasses.replace(rated(), utterances=tuple(rows), info=info)) == expected


def test_folds_are_pooled_and_a_system_without_attributes_has_none():
    manifest = rated()
    halves = [manifest.where(lambda u, k=k: u.split != "test" or int(u.id[1:]) // 6 % 2 == k) for k in (0, 1)]
    whole = answered(manifest)
    parts = [whole.take([u.id for u in half if u.split == "test"]) for half in halves]
    together = concordance(parts, halves, split="test", draws=20)["ccc"].value
    assert together == pytest.approx(concordance([whole], [manifest], split="test")["ccc"].value, abs=1e-12)
    assert evaluate(whole, manifest, split="test", draws=20).metrics["ccc"].value == pytest.approx(together)
    plain = dataclasses.replace(whole, attributes=None)
    assert concordance([plain], [manifest], split="test") == {}
    assert "ccc" not in evaluate(plain, manifest, split="test", draws=20).metrics
    unrated = made_manifest(180)
    assert concordance([whole], [unrated], split="test") == {}


def test_attributes_travel_with_their_rows(tmp_path):
    table = answered(rated())
    table.save(tmp_path / "net.test.parquet")
    again = Predictions.load(tmp_path / "net.test.parquet")
    np.testing.assert_array_equal(again.attributes, table.attributes)
    back = table.take(table.ids[::-1])
    np.testing.assert_array_equal(back.attributes, table.attributes[::-1])
    other = dataclasses.replace(table, models=("n",) * len(table), attributes=table.attributes + 1.0)
    both = Predictions.joined([table, other])
    np.testing.assert_allclose(both.pooled().attributes, table.attributes + 0.5)
    assert Predictions.joined([table, dataclasses.replace(other, attributes=None)]).attributes is None
    with pytest.raises(SerkitError, match=r"attributes \(30, 2\); expected \(30, 3\)"):
        dataclasses.replace(table, attributes=table.attributes[:, :2])


def test_an_ensemble_says_the_mean_of_the_systems_that_learned_them():
    manifest = rated()
    one, two = answered(manifest, seed=1, system="one"), answered(manifest, seed=2, system="two")
    two.attributes[:, 1] = np.nan
    plain = dataclasses.replace(answered(manifest, system="plain"), attributes=None)
    shuffled = two.take(two.ids[::-1])
    ensemble = MeanLogit().fit([one, shuffled, plain], manifest)
    found = ensemble.predict([plain, one, shuffled]).take(one.ids)
    np.testing.assert_allclose(found.attributes[:, 0], (one.attributes[:, 0] + two.attributes[:, 0]) / 2)
    np.testing.assert_allclose(found.attributes[:, 1], one.attributes[:, 1])
    assert np.isnan(found.attributes[:, 2]).all()
    assert MeanLogit().fit([plain], manifest).predict([plain]).attributes is None


HEAD = {"name": "flam", "heads": 2, "bottleneck": 16, "attribute_head": True, "normalize": "train"}


def learned(folder, **train):
    manifest = rated()
    system = made_system(
        model=HEAD,
        losses=["cross_entropy", {"name": "ccc", "weights": [1, 1, 1]}],
        train={"epochs": 12, "lr": 1e-2, "select": "ccc", **train},
    )
    parts = [Examples.of(m, {"x": MadeSource(m)}) for m in (manifest.split("train"), manifest.split("dev"))]
    return train_network(system, made_config(system), *parts, folder, device="cpu"), parts


def test_a_network_learns_them_on_their_own_scale_and_is_chosen_by_them(tmp_path):
    network, (train, dev) = learned(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    found = measure_scores(score(network, dev, system="x", model="m"), dev)
    assert found["ccc"] == pytest.approx(max(r["dev_ccc"] for r in rows), abs=1e-6)
    assert found["ccc"] > 0.5
    assert rows[0]["loss_ccc"] > rows[-1]["loss_ccc"]
    head = network.head.attributes
    known = np.isfinite(train.attributes[:, 0])
    np.testing.assert_allclose(head.mean[0], train.attributes[known, 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(head.std[:2], np.nanstd(train.attributes[:, :2], axis=0), rtol=1e-5)
    again, _ = load_network(tmp_path)
    predicted = score(again, dev, system="x", model="m").attributes
    assert np.isnan(predicted[:, 2]).all()  # nobody rated it, so nothing is said of it
    assert 1 < predicted[:, :2].min() < predicted[:, :2].max() < 7.5
    assert all(torch.isfinite(p).all() for p in again.parameters())


def test_what_no_loss_teaches_is_not_answered(tmp_path, toy_root):
    manifest = toy(toy_root)
    system = made_system(
        model=HEAD, losses=["cross_entropy", {"name": "ccc", "weights": [0, 1, 0]}], train={"epochs": 1}
    )
    part = Examples.of(manifest.split("train"), {"x": MadeSource(manifest)})
    config = dataclasses.replace(made_config(system), labels=manifest.labels)
    network = train_network(system, config, part, part, tmp_path, device="cpu")
    said = score(network, part, system="x", model="m").attributes
    assert np.isfinite(said).all(axis=0).tolist() == [False, True, False]
    same = part.attributes.copy()
    same[:, 1] = 3.0  # all valence alike: learned as that, beside the others
    both = system.model_copy(update={"losses": made_system(losses=["cross_entropy", "ccc"]).losses})
    alike = dataclasses.replace(part, attributes=same)
    network = train_network(both, config, alike, alike, tmp_path / "alike", device="cpu")
    assert np.isfinite(score(network, alike, system="x", model="m").attributes).all()
    flat = dataclasses.replace(part, attributes=np.full_like(part.attributes, 3.0))
    with pytest.raises(SerkitError, match="no two ratings of the training clips differ"):
        train_network(system, config, flat, flat, tmp_path / "flat", device="cpu")


def test_a_network_is_not_chosen_by_what_dev_does_not_have(tmp_path):
    manifest = rated()
    only = {"train": {"valence": None}, "dev": {"arousal": None}, "test": {}}
    rows = tuple(dataclasses.replace(u, **only[u.split]) for u in manifest)
    manifest = dataclasses.replace(manifest, utterances=rows)
    system = made_system(model=HEAD, losses=["cross_entropy", "ccc"], train={"epochs": 2, "select": "ccc"})
    parts = [Examples.of(m, {"x": MadeSource(m)}) for m in (manifest.split("train"), manifest.split("dev"))]
    with pytest.raises(SerkitError, match="no two ratings of an attribute that the network learns"):
        train_network(system, made_config(system), *parts, tmp_path, device="cpu")


RECIPE = """
name: rated
labels: corpus
systems:
  one:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, width: 16, heads: 2, attribute_head: true}
    losses: [cross_entropy, {name: ccc, weights: [1, 1, 0]}]
    train: {epochs: 1, batch_size: 32, lr: 1.0e-3}
  two:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, width: 16, heads: 2}
    train: {epochs: 1, batch_size: 32}
crossfit: null
stack: {name: logistic, trees: 10, folds: 2, in_sample: true}
evaluate: {draws: 20}
"""


def test_a_run_reports_them_of_the_systems_that_learned_them_and_of_the_stack(tmp_path, toy_root, toy_store):
    run = pipeline.prepare(parse_recipe(RECIPE), toy(toy_root), tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    systems = report["systems"]
    assert {"ccc_arousal", "ccc_valence", "ccc"} <= set(systems["one"]["test"])
    assert "ccc_dominance" not in systems["one"]["test"]
    assert "ccc" not in systems["two"]["test"]
    assert systems["stack"]["test"]["ccc"] == systems["one"]["test"]["ccc"]
    for name in ("report.html", "report.md"):
        page = (tmp_path / "run" / "report" / name).read_text()
        assert "CCC of arousal, valence and dominance on test" in page
        table = page.split("CCC of arousal, valence and dominance on test")[-1].split("Mean CCC")[0]
        assert "Valence" in table
        assert "Dominance" not in table
