"""Cross-validation: every fold a run, their test rows pooled once each."""

import dataclasses
import json
import re

import numpy as np
import pytest
import yaml

from serkit import evaluation, pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.metrics import measure
from serkit.pipeline.measure import provenance
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


def test_the_page_has_wa_and_ua_of_every_fold_their_mean_and_the_pool(folder):
    tree = json.loads((folder / "report" / "report.json").read_text())
    each = [f["systems"]["stack"]["uar"] for f in tree["folds"]]
    text = (folder / "report" / "report.md").read_text()
    lines = text[text.index("### By fold, as reported in the literature") :].splitlines()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")][:6]
    assert "fold 1" not in text
    assert ", folds 1, 2 of " in text
    assert f"of {len(tree['design'])} systems" in text
    assert f"of {len(tree['design']) + 1} systems" not in text
    assert rows[0][2].startswith("WA, stack")
    assert rows[0][3].startswith("UA, stack")
    assert [r[0] for r in rows[2:]] == ["1", "2", "mean of folds ± sd", "pooled"]
    assert [r[3] for r in rows[2:4]] == [f"{v:.3f}" for v in each]
    assert rows[4][3] == f"{np.mean(each):.3f} ± {np.std(each, ddof=1):.3f}"
    assert rows[5][3].startswith(f"{tree['systems']['stack']['test']['uar']['value']:.3f}")


def test_the_command_prints_wa_and_ua(folder, toy_root, toy_store, small_text, tmp_path):
    from typer.testing import CliRunner

    from serkit import cli

    path = tmp_path / "small.yaml"
    path.write_text(small_text)
    words = ["cv", path, "--corpus", "toy", "--root", toy_root, "--folds", "1,2", "--out", folder, "--store", toy_store]
    words += ["--jobs", 1, "--device", "cpu", "--set", "train.epochs=1"]
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    tree = json.loads((folder / "report" / "report.json").read_text())
    first, second = (f["systems"]["stack"] for f in tree["folds"])
    assert (
        f"stack by fold: 1: WA {first['accuracy']:.3f} UA {first['uar']:.3f}  "
        f"2: WA {second['accuracy']:.3f} UA {second['uar']:.3f}" in done.stdout
    )
    pooled = tree["systems"]["stack"]["test"]["uar"]
    assert f"UA {(first['uar'] + second['uar']) / 2:.3f} ± " in done.stdout
    assert f"pooled {pooled['value']:.3f} [{pooled['low']:.3f}, {pooled['high']:.3f}], n = {pooled['n']}" in done.stdout


def test_two_cross_validations_are_compared_on_their_pooled_rows(folder):
    from typer.testing import CliRunner

    from serkit import cli
    from serkit.comparison import compare

    words = ["compare", folder, folder, "--system-a", "both", "--system-b", "sound", "--json", "--draws", 50]
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    found = {d["metric"]: d for d in json.loads(done.stdout)}
    runs = pipeline.runs_of(folder)
    assert [r.folder.name for r in runs] == ["fold1", "fold2"]
    tables = [[r.predictions(n, "test") for r in runs] for n in ("both", "sound")]
    expected = compare(*tables, [r.manifest for r in runs], split="test", draws=50)
    for d in expected:
        assert found[d.metric]["difference"] == pytest.approx(d.difference)
        assert found[d.metric]["n"] == sum(len(r.manifest.split("test")) for r in runs)
    part = CliRunner().invoke(cli.app, ["compare", str(folder), str(folder / "fold1"), "--draws", "20"])
    n = len(runs[0].manifest.split("test"))
    assert part.exit_code == 0, part.output
    assert f"note: only the {n} labelled test clips that both have are compared" in part.stdout
    assert re.search(r"macro_f1 .* difference \+0\.0000 ", part.stdout)


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


def test_the_pages_of_a_cross_validation_are_written_again_and_other_stages_name_a_fold(folder):
    from typer.testing import CliRunner

    from serkit import cli

    page = folder / "report" / "report.html"
    before = page.read_bytes()
    page.unlink()
    done = CliRunner().invoke(cli.app, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    assert page.read_bytes() == before
    with pytest.raises(SerkitError, match=r"holds a cross-validation; name a fold of it, such as \S*fold1$"):
        pipeline.Run(folder)
    tree = folder / "report" / "report.json"
    aside = tree.rename(tree.with_name("aside"))
    with pytest.raises(SerkitError, match=r"fold1; it is not finished: run the same cv command again"):
        pipeline.Run(folder)
    aside.rename(tree)


def test_of_one_system_none_is_chosen_fold_by_fold(tmp_path, toy_root, toy_store, small_text, capsys):
    from serkit.commands.stages import _by_fold

    tree = yaml.safe_load(small_text)
    tree["systems"] = {"sound": tree["systems"]["sound"]}
    recipe = parse_recipe(yaml.safe_dump({**tree, "crossfit": None, "stack": None}), ["train.epochs=1"])
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    pipeline.cross_validate(recipe, lambda k: toy(toy_root, fold=k), (1, 2), tmp_path, machine)
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (found["lead"], found["best_on_dev"], list(found["systems"])) == ("sound", "sound", ["sound"])
    assert "another one in each fold" not in (tmp_path / "report" / "report.md").read_text()
    _by_fold(tmp_path)
    assert capsys.readouterr().out.startswith("sound by fold: 1: WA ")


def test_folds_are_named_or_refused():
    assert fold_numbers(["ravdess"], None, "all") == [1, 2, 3, 4, 5, 6]
    assert fold_numbers(["ravdess"], None, "2, 5") == [2, 5]
    with pytest.raises(SerkitError, match="numbers from 1 to 6"):
        fold_numbers(["ravdess"], None, "0")
    with pytest.raises(SerkitError, match="no protocol 'ravdess-6fold'; did you mean 'ravdess-6fold-actor'"):
        fold_numbers(["ravdess"], "ravdess-6fold", "all")
    with pytest.raises(SerkitError, match="one corpus"):
        fold_numbers(["ravdess", "ased"], None, "all")


def test_a_protocol_of_one_fold_names_those_with_more():
    with pytest.raises(SerkitError, match=r"'table-as-given' of 'table' has one fold.*--protocol table-5fold-speaker"):
        fold_numbers(["table"], None, "all", at_least=2)
    with pytest.raises(SerkitError, match=r"has one fold, .*: use serkit run"):
        fold_numbers(["msp_podcast"], None, "all", at_least=2)
    assert fold_numbers(["table"], None, "all") == [1]


def test_a_fold_that_cannot_be_used_is_refused_before_any_is_trained(tmp_path, toy_root, small_text):
    def read(fold):
        manifest = toy(toy_root, fold=fold)
        rows = [u for u in manifest if fold == 1 or u.emotion != "anger" or u.split != "train"]
        return dataclasses.replace(manifest, utterances=tuple(rows))

    told = []
    with pytest.raises(SerkitError, match="fold 2: label 'anger' has no training clip"):
        pipeline.cross_validate(
            parse_recipe(small_text), read, (1, 2), tmp_path / "cv", pipeline.Machine(tmp_path / "store"), told.append
        )
    assert [e.stage for e in told] == ["prepare"]
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "cv").exists(), "the folder is free for the recipe that is mended"


def test_one_fold_is_no_cross_validation(tmp_path, small_text, toy_root):
    with pytest.raises(SerkitError, match="at least two folds"):
        pipeline.cross_validate(parse_recipe(small_text), toy, (1,), tmp_path, pipeline.Machine(tmp_path))


def test_classes_that_one_fold_lacks_are_told_with_that_fold(folder):
    runs = [pipeline.Run(folder / f"fold{k}") for k in (1, 2)]
    for run, lines in zip(runs, (["in both", "in the first"], ["in both"]), strict=True):
        info = {**run.manifest.info, "class_findings": lines}
        run.__dict__["manifest"] = dataclasses.replace(run.manifest, info=info)
    found = provenance(runs, None)["corpus_info"]["class_findings"]
    assert found == ["in both", "fold 1: in the first"]
