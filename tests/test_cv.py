"""Cross-validation: every fold a run, their test rows pooled once each."""

import json

import numpy as np
import pytest

from serkit import evaluation, pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.metrics import measure
from serkit.readers import fold_numbers
from serkit.recipe import parse_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_root, toy_store, small_text):
    out = tmp_path_factory.mktemp("cv")
    recipe = parse_recipe(small_text, ["train.epochs=1"])
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    page = pipeline.cross_validate(recipe, lambda k: toy(toy_root, fold=k), (1, 2), out, machine)
    assert page.is_file()
    return out


def test_pooled_numbers_are_of_the_pooled_rows(folder):
    tree = json.loads((folder / "report" / "report.json").read_text())
    runs = [pipeline.Run(folder / f"fold{k}") for k in (1, 2)]
    for name in ("sound", "both", "stack", "vote"):
        parts = [evaluation.decide(r.predictions(name, "test"), r.manifest, split="test") for r in runs]
        confusion = parts[0].confusion() + parts[1].confusion()
        found = tree["systems"][name]["test"]["uar"]
        assert found["n"] == confusion.sum() == sum(len(r.manifest.split("test")) for r in runs)
        assert found["value"] == pytest.approx(float(measure("uar", confusion)), abs=1e-12)
        for k, part in enumerate(parts):
            assert tree["folds"][k]["systems"][name]["uar"] == pytest.approx(float(measure("uar", part.confusion())))
    assert "train" not in tree["systems"]["sound"]


def test_best_on_dev_is_chosen_fold_by_fold_without_looking_at_test(folder):
    tree = json.loads((folder / "report" / "report.json").read_text())
    rows = []
    for k in (1, 2):
        run = pipeline.Run(folder / f"fold{k}")
        report = json.loads((folder / f"fold{k}" / "report" / "report.json").read_text())
        dev = {n: report["systems"][n]["dev"]["macro_f1"]["value"] for n in run.recipe.systems}
        chosen = run.predictions(max(dev, key=dev.get), "test")
        rows.append(evaluation.decide(chosen, run.manifest, split="test").confusion())
    value = tree["systems"]["best_on_dev"]["test"]["accuracy"]["value"]
    assert value == pytest.approx(float(np.trace(sum(rows)) / sum(rows).sum()))
    assert tree["best_on_dev"] == "best_on_dev"
    assert {(c["a"], c["b"]) for c in tree["comparisons"]} >= {("stack", "best_on_dev"), ("stack", "vote")}


def test_folds_are_named_or_refused():
    assert fold_numbers(["ravdess"], None, "all") == [1, 2, 3, 4, 5, 6]
    assert fold_numbers(["ravdess"], None, "2, 5") == [2, 5]
    with pytest.raises(SerkitError, match="numbers from 1 to 6"):
        fold_numbers(["ravdess"], None, "0")
    with pytest.raises(SerkitError, match="no protocol 'ravdess-6fold'; did you mean 'ravdess-6fold-actor'"):
        fold_numbers(["ravdess"], "ravdess-6fold", "all")
    with pytest.raises(SerkitError, match="one corpus"):
        fold_numbers(["ravdess", "ased"], None, "all")


def test_one_fold_is_no_cross_validation(tmp_path, small_text, toy_root):
    with pytest.raises(SerkitError, match="at least two folds"):
        pipeline.cross_validate(parse_recipe(small_text), toy, (1,), tmp_path, pipeline.Machine(tmp_path))
