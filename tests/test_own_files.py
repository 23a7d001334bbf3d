"""A run and a store know the code of the user's own files that they were made with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import yaml

from made import made_manifest
from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.pipeline.inputs import make_encoder
from serkit.pipeline.own_files import RECORD
from serkit.recipe import parse_recipe

LOSS = """
from torch.nn.functional import cross_entropy

def mine(outputs, batch):
    return cross_entropy(outputs.emotion, batch.labels)
"""
EAR = """
from serkit import dsp
from serkit.encoders._offline import OfflineEncoder

class Ear(OfflineEncoder):
    def __init__(self, name="own_ears.Ear", *, pool=1, pooling="mean", trim=False):
        self._specify(name, 1, pool, pooling, trim)

    @classmethod
    def names(cls):
        return {"own_ears.Ear": "spread of a frame"}

    def _frames(self, samples):
        return 1.0 * dsp.framed(samples, self.WINDOW, self.HOP).std(axis=1, keepdims=True)
"""
RECIPE = """
name: r
systems:
  mine: {features: [FEATURE], model: mean_pool, losses: [LOSS], train: {epochs: 1}}
crossfit: null
stack: null
"""


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def recipe(feature: str = "logmel/24", loss: str = "cross_entropy"):
    return parse_recipe(RECIPE.replace("FEATURE", feature).replace("LOSS", loss))


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_a_run_does_not_go_on_with_a_loss_that_has_changed(lab, monkeypatch):
    write(lab, monkeypatch, "own_kept", LOSS)
    wanted = recipe(loss="own_kept.mine")
    run = pipeline.prepare(wanted, made_manifest(), lab / "run")
    assert (run.folder / RECORD).is_file()
    write(lab, monkeypatch, "own_kept", "# said better\n\n" + LOSS)
    assert pipeline.prepare(wanted, made_manifest(), run.folder).done("prepare")
    write(lab, monkeypatch, "own_kept", LOSS.replace("return ", "return 2 * "))
    for again in (
        lambda: pipeline.prepare(wanted, made_manifest(), run.folder),
        lambda: pipeline.train_run(pipeline.Run(run.folder), pipeline.Machine(lab / "store")),
    ):
        with pytest.raises(
            SerkitError, match=r"made with another version of loss 'own_kept.mine', whose file has chan"
        ):
            again()
    pipeline.prepare(wanted, made_manifest(), lab / "another")
    (run.folder / RECORD).unlink()  # a run of before there were records
    assert pipeline.prepare(wanted, made_manifest(), run.folder).done("prepare")
    assert (run.folder / RECORD).read_text() == (lab / "another" / RECORD).read_text()


def test_a_loss_of_a_second_stage_is_on_record_too(lab, monkeypatch):
    write(lab, monkeypatch, "own_later", LOSS)
    tree = recipe().model_dump(mode="json")
    (system,) = tree["systems"].values()
    system |= {"second_stage": {"after_epochs": 1, "lr": 1e-5, "losses": ["own_later.mine", "cross_entropy"]}}
    system["train"]["epochs"] = 2
    run = pipeline.prepare(parse_recipe(yaml.safe_dump(tree)), made_manifest(), lab / "run")
    assert "own_later.mine" in (run.folder / RECORD).read_text()


def test_a_recipe_without_own_files_has_no_record(tmp_path):
    assert not (pipeline.prepare(recipe(), made_manifest(), tmp_path / "run").folder / RECORD).exists()


@pytest.mark.parametrize("feature", ["own_ears.Ear", "{name: own_ears.Ear, pool: 2}"])
def test_an_encoder_written_as_a_member_is_a_plug_in_as_it_stands(lab, monkeypatch, feature):
    write(lab, monkeypatch, "own_ears", EAR.replace("own_ears.Ear", "ear"))
    pipeline.prepare(recipe(feature), made_manifest(), lab / "run")
    (of_recipe,) = recipe(feature).systems["mine"].features
    assert make_encoder(of_recipe).spec.name == "own_ears.Ear"


def test_a_store_does_not_give_features_of_an_encoder_that_has_changed(lab, toy_root, monkeypatch):
    machine = pipeline.Machine(lab / "store", "cpu", jobs=1)
    few = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    write(lab, monkeypatch, "own_ears", EAR)
    wanted = recipe(feature="own_ears.Ear")

    def extracted(text: str, name: str) -> pipeline.Run:
        write(lab, monkeypatch, "own_ears", text)
        run = pipeline.prepare(wanted, few, lab / name)
        pipeline.extract_run(run, machine)
        return run

    first, same = extracted(EAR, "one"), extracted(EAR, "two")
    assert first.features["own_ears.Ear"].spec == same.features["own_ears.Ear"].spec
    louder = EAR.replace("1.0", "2.0")
    with pytest.raises(SerkitError, match=r"encoder 'own_ears.Ear': its file has changed, and .*store has features"):
        extracted(louder, "three")
    (lab / "three" / RECORD).unlink()
    other = extracted(louder.replace("    def _frames", "    REVISION = '2'\n\n    def _frames"), "three")
    name = few.ids[0]
    one, two = (run.features["own_ears.Ear"].get(name) for run in (first, other))
    assert two == pytest.approx(2 * one, rel=1e-2)
