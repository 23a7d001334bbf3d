"""Copies of clips: the same in every run, of their own in the store, read in training only."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit import registry
from serkit.copies import CopyEncoder, copy_key
from serkit.encoders.functionals import Functionals
from serkit.encoders.hashed_text import HashedText
from serkit.encoders.logmel import Logmel
from serkit.errors import RunFailed, SerkitError
from serkit.examples import Examples
from serkit.extraction import lacking
from serkit.pipeline import Machine, extract_run, networks_of_run, prepare, run_all
from serkit.pipeline.inputs import make_encoders, needed_features
from serkit.readers import read_corpora
from serkit.recipe import parse_recipe
from serkit.sampling import Loader
from serkit.types import Manifest, Utterance

CLIPS = [np.random.default_rng(k).uniform(-0.3, 0.3, 8_000 + 900 * k).astype(np.float32) for k in range(3)]
RECIPE = """
name: small
copies: [[{name: speed, low: 0.9, high: 0.9, probability: 1.0}], [{name: noise, probability: 1.0}]]
systems:
  statistics:
    features: [{name: functionals, trim: true}]
    model: {name: mean_pool, hidden: 16, normalize: train, limit: 4.0, input_dropout: 0.5}
    losses: [{name: cross_entropy, soft: true}]
    balance: class
    augment: [feature_mixup]
    train: {epochs: 2, batch_size: 16, lr: 1.0e-3}
crossfit: null
stack: null
"""


def step(name: str, **parameters: Any) -> Any:
    return registry.find("augment", name)(**parameters)


class Table:
    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self.rows = rows

    def get(self, utterance_id: str) -> np.ndarray:
        return self.rows[utterance_id]

    def frames(self, utterance_id: str) -> int:
        return len(self.rows[utterance_id])


def test_a_copy_is_the_same_every_time_and_differs_from_clip_to_clip() -> None:
    encoder = CopyEncoder(Logmel("logmel/24"), [step("noise", probability=1.0)], 1)
    together, alone = encoder(CLIPS), [encoder([clip])[0] for clip in CLIPS]
    for a, b, clip in zip(together, alone, CLIPS, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.allclose(a, encoder.encoder([clip])[0], atol=1e-2)
    same = np.zeros((3, 8_000), dtype=np.float32) + 0.1
    same[1, 0] = 0.2
    first, second = (encoder.heard(clip) - clip for clip in same[:2])
    assert not np.allclose(first[1:], second[1:])


def test_slower_is_longer_and_copies_have_stores_of_their_own() -> None:
    slow = [step("speed", low=0.8, high=0.8, probability=1.0)]
    one, two = CopyEncoder(Functionals(), slow, 1), CopyEncoder(Functionals(), slow, 2)
    assert len(one.heard(CLIPS[0])) == pytest.approx(len(CLIPS[0]) / 0.8, abs=2)
    prints = {one.spec.fingerprint, two.spec.fingerprint, Functionals().spec.fingerprint}
    assert len(prints) == 3


def test_what_cannot_make_a_copy_is_refused() -> None:
    for steps, words in (([], "leave it out"), ([step("feature_mixup")], "FeatureMixup"), ([step("eam")], "Eam")):
        with pytest.raises(SerkitError, match=words):
            CopyEncoder(Functionals(), steps, 1)
    with pytest.raises(SerkitError, match="text"):
        CopyEncoder(HashedText("hashed_text"), [step("gain")], 1)


def test_training_draws_clip_and_copies_alike_and_scoring_the_clip_alone() -> None:
    utterances = tuple(
        Utterance(id=f"u{k}", audio=f"u{k}.wav", speaker=f"s{k}", split="train", emotion="anger") for k in range(40)
    )
    manifest = Manifest("test", ("anger", "neutral"), utterances, "/nowhere")
    tables = [Table({u.id: np.full((1, 1), float(n)) for u in utterances}) for n in range(3)]
    texts = Table({u.id: np.full((1, 1), 9.0) for u in utterances})
    examples = Examples.of(manifest, {"a": tables[0], "text": texts}, copies=[{"a": tables[1]}, {"a": tables[2]}])
    loader = Loader(examples, 8, seed=3)
    drawn = np.concatenate([b.features["a"][:, 0, 0].numpy() for epoch in range(15) for b in loader.epoch(epoch)])
    assert np.abs(np.bincount(drawn.astype(int)) / len(drawn) - 1 / 3).max() < 0.06
    assert all((b.features["text"] == 9.0).all() for b in loader.epoch(0))
    again = np.concatenate([b.features["a"][:, 0, 0].numpy() for b in loader.epoch(4)])
    np.testing.assert_array_equal(again, drawn[160:200])
    assert all((b.features["a"] == 0.0).all() for b in loader.in_order())


def test_every_class_of_every_corpus_is_drawn_alike() -> None:
    rows = [("a", "anger")] * 30 + [("a", "neutral")] * 10 + [("b", "anger")] * 5
    utterances = tuple(
        Utterance(id=f"u{k}", audio=f"u{k}.wav", speaker=f"s{k}", split="train", emotion=e, corpus=c)
        for k, (c, e) in enumerate(rows)
    )
    manifest = Manifest("a+b", ("anger", "neutral"), utterances, "/nowhere")
    table = Table({u.id: np.zeros((1, 1)) for u in utterances})
    groups = Examples.of(manifest, {"x": table}).groups("corpus_class")
    assert sorted(np.bincount(groups).tolist()) == [5, 10, 30]


def test_a_run_makes_copies_of_training_clips_alone(tmp_path: Path, toy_root: Path) -> None:
    manifest = read_corpora(["toy"], [toy_root])
    run = prepare(parse_recipe(RECIPE), manifest, tmp_path / "run")
    run_all(run, Machine(store=tmp_path / "store", device="cpu", jobs=1))
    train = {u.id for u in run.manifest.split("train")}
    key = next(iter(run.recipe.features))
    for number in (1, 2):
        copies = run.features[copy_key(key, number)]
        assert set(copies.ids) == train
        assert len({copies.get(name).tobytes() for name in train}) > 0.9 * len(train)
    assert (tmp_path / "run" / "report" / "report.html").is_file()


def test_a_disk_with_room_for_the_clips_but_not_for_their_copies_is_refused_first(
    tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare(parse_recipe(RECIPE), read_corpora(["toy"], [toy_root]), tmp_path / "run")
    encoders = make_encoders(needed_features(run.recipe))
    clips = lacking(run.manifest, encoders, tmp_path / "store").total_bytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, clips + 100))
    with pytest.raises(RunFailed, match=r"the features need .*, and later ones "):
        extract_run(run, Machine(store=tmp_path / "store", device="cpu", jobs=1))
    assert not list((tmp_path / "store").glob("*/shard*"))


def test_no_copy_and_no_partner_of_a_held_out_speaker_trains(
    tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmented after the split: a copy, or a clip mixed in, of whom a fold holds out would give the answer away."""
    manifest = read_corpora(["toy"], [toy_root])
    text = RECIPE.replace("crossfit: null", "crossfit: {folds: 2}")
    run = prepare(parse_recipe(text), manifest, tmp_path / "run")
    extract_run(run, Machine(store=tmp_path / "store", device="cpu", jobs=1))
    read: list[str] = []

    class Heard(Table):
        def get(self, utterance_id: str) -> np.ndarray:
            read.append(utterance_id)
            return super().get(utterance_id)

    def watched(run: Any, system: Any) -> list[dict[str, Heard]]:
        found = {f.key: [run.features[copy_key(f.key, n)] for n in (1, 2)] for f in system.features}
        return [{k: Heard({i: parts[n].get(i) for i in parts[n].ids}) for k, parts in found.items()} for n in (0, 1)]

    monkeypatch.setattr(networks_of_run, "copies_of", watched)
    for fold in ("fold0", "fold1"):
        read.clear()
        networks_of_run.train_one(run, "statistics", fold, "cpu")
        fit, held = networks_of_run.training_rows(run, fold)
        assert not {u.speaker for u in fit} & {u.speaker for u in held}
        assert set(read) <= set(fit.ids)
        assert len(set(read)) > 0.5 * len(fit), "copies are drawn, and as partners"


def test_a_run_without_a_test_split_is_measured_on_dev(tmp_path: Path, toy_root: Path) -> None:
    manifest = read_corpora(["toy"], [toy_root], test=False)
    run = prepare(parse_recipe(RECIPE.replace("copies: [[", "x-copies: [[")), manifest, tmp_path / "run")
    run_all(run, Machine(store=tmp_path / "store", device="cpu", jobs=1))
    assert run.splits == ("train", "dev")
    tree = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert set(tree["systems"]["statistics"]) == {"train", "dev"}
    assert (tmp_path / "run" / "report" / "report.html").is_file()


def test_copies_beside_augmented_waveforms_are_refused(tmp_path: Path, toy_root: Path) -> None:
    text = RECIPE.replace("augment: [feature_mixup]", "augment: [eam]")
    with pytest.raises(SerkitError, match="would not use the recipe's copies; leave out one of the two"):
        prepare(parse_recipe(text), read_corpora(["toy"], [toy_root]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
