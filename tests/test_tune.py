"""Tuning: which trials there are, that none reads a test clip, that dev alone chooses, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from serkit import cli, evaluation, metrics, pipeline
from serkit.comparison import compare_seeds
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.labels import join
from serkit.pipeline import tune as tuning
from serkit.pipeline.trials import AS_IT_IS, folder_of, search, values_tried
from serkit.pipeline.tune import tune, without_test
from serkit.recipe import load_recipe

RECIPE = """
name: small
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: mean_pool, hidden: 8, neutral_head: false}
    losses: [cross_entropy]
    train: {epochs: 2, batch_size: 16, lr: 1.0e-2}
crossfit: null
stack: null
evaluate: {draws: 50}
seed: 5
"""
TRIED = ("train.lr=1e-2,5e-2", "model.hidden=8,12")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


# ---------------------------------------------------------------- trials


def test_every_combination_once_and_the_recipe_as_it_is_first(source):
    found = search(source, [], TRIED)
    assert [t.key for t in found.trials] == [
        AS_IT_IS, "model.hidden=12,train.lr=0.01", "model.hidden=8,train.lr=0.05", "model.hidden=12,train.lr=0.05",
    ]  # fmt: skip
    assert found.trials[0].recipe == load_recipe(source)
    assert found.trials[0].values == {"train.lr": 0.01, "model.hidden": 8}, "the combination that is the recipe's own"
    for t in found.trials[1:]:
        system = t.recipe.systems["net"]
        assert (system.train.lr, system.model.parameters["hidden"]) == (
            t.settings["train.lr"],
            t.settings["model.hidden"],
        )
        own = load_recipe(source, [f"{k}={v}" for k, v in t.settings.items()])
        assert own == t.recipe, "a trial is the recipe with --set"
    assert (found.combinations, found.drawn) == (4, 4)


def test_numbers_that_are_equal_are_one_trial(source):
    found = search(source, ["model.dropout=0.5", "train.lr=1"], ["model.dropout=5e-1,0.2", "train.lr=1.0,1"])
    assert [t.key for t in found.trials] == [AS_IT_IS, "model.dropout=0.2,train.lr=1.0"]
    assert found.trials[0].values["model.dropout"] == 0.5


def test_a_few_at_random_are_the_first_of_more(source):
    tried = ["train.lr=1e-3,2e-3,3e-3,4e-3", "model.hidden=9,10,11"]
    few, more, every = (search(source, ["seed=2"], tried, trials=n) for n in (3, 7, 99))
    keys = [[t.key for t in s.trials] for s in (few, more, every)]
    assert keys[1][: len(keys[0])] == keys[0]
    assert set(keys[1]) < set(keys[2])
    assert [(s.combinations, s.drawn) for s in (few, more, every)] == [(12, 3), (12, 7), (12, 12)]
    other = search(source, ["seed=6"], tried, trials=3)
    assert [t.key for t in other.trials] != keys[0]


def test_values_of_any_kind():
    found = values_tried(
        ["losses=[cross_entropy],[{name: focal, gamma: 1}]", "train.lr=1e-3,1e-3", "balance=class, null"]
    )
    assert found == {
        "losses": (["cross_entropy"], [{"name": "focal", "gamma": 1}]),
        "train.lr": (0.001,),
        "balance": ("class", None),
    }
    assert folder_of({"a": 1, "b": 2}) == folder_of({"b": 2, "a": 1})
    long = folder_of({"losses": [{"name": "focal", "gamma": g / 7} for g in range(9)]})
    assert len(long) < 100
    assert "/" not in long
    assert long != folder_of({"losses": [{"name": "focal", "gamma": g / 8} for g in range(9)]})


def test_a_combination_that_makes_no_recipe_is_told_and_the_others_are_tried(source):
    found = search(source, [], ["model.hidden=0,12"])
    assert [t.key for t in found.trials] == [AS_IT_IS, "model.hidden=12"]
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("model.hidden 0: ")


@pytest.mark.parametrize(
    ("tried", "options", "message"),
    [
        ([], {}, "nothing to try: give --try KEY=VALUE,VALUE"),
        (["train.lr"], {}, r"--try 'train.lr': expected KEY=VALUE,VALUE"),
        (["train.lr=1,2", "train.lr=3"], {}, "--try train.lr: given twice"),
        (["train.lrr=1,2"], {}, "--try train.lrr: no system has this key.*did you mean 'train.lr'"),
        (["train.lr=fast,slow"], {}, "train.lr: expected a number, got 'fast'"),
        (["train.lr=1e-2"], {}, "every value is the recipe's own"),
        (["labels=[anger],[fear]"], {}, "--try labels: it changes the classes"),
        (["evaluate.draws=10,20"], {}, "--try evaluate.draws: it changes the measurement"),
        (["seed=1,2"], {}, "--try seed: it changes the seed, for which there is --seeds"),
        (["crossfit.with_dev=true,false"], {}, "--try crossfit.with_dev: crossfit.with_dev changes what dev measures"),
        (["train.lr=[1"], {}, "--try train.lr is not valid YAML"),
        (["train.lr=1,2"], {"metric": "f1"}, "--metric f1: expected macro_f1, uar, accuracy, weighted_f1"),
        (["train.lr=1,2"], {"seeds": 0}, "--seeds 0: expected at least 1"),
    ],
)
def test_what_cannot_be_tried_is_refused(source, tried, options, message):
    with pytest.raises(SerkitError, match=message):
        search(source, [], tried, **options)


# ---------------------------------------------------------------- runs


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def chosen(source):
    return search(source, [], TRIED, seeds=2, folds=(1, 2), metric="uar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_root, toy_store, chosen):
    """A search that was stopped after five networks and then started again."""
    out = tmp_path_factory.mktemp("search")
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    trained = []

    def stop(event):
        if hasattr(event, "row") and event.row["epoch"] == 2:
            trained.append((event.system, event.model))
            if len(trained) == 5:
                raise Stopped

    with pytest.raises(Stopped):
        tune(chosen, lambda k: toy(toy_root, fold=k), out, machine, stop)
    assert not (out / "report").exists()
    again = []
    page = tune(chosen, lambda k: toy(toy_root, fold=k), out, machine, again.append)
    assert page == out / "report" / "tuning.html"
    assert page.is_file()
    details = [e.detail for e in again if type(e).__name__ == "StageBegins" and e.stage == "train"]
    assert details[0] == "12 of 16 networks: 4 trials", "four were finished"
    return out


def tree_of(folder):
    return json.loads((folder / "report" / "tuning.json").read_text())


def tables(folder, where, by_fold, split, seed):
    """What the networks of each fold answer, and the manifests of the folds."""
    runs = [pipeline.Run(folder / where / key / f"fold{fold}-seed{seed}") for fold, key in by_fold.items()]
    found = [dataclasses.replace(run.predictions("net", split), system="any") for run in runs]
    return found, [run.manifest for run in runs]


def uar(parts, manifests, split):
    decided = evaluation.gather(parts, manifests, split=split)
    return float(metrics.measure("uar", decided.confusion(), decided.possible))


def test_no_trial_has_a_test_clip(folder, toy_root):
    tests = set(toy(toy_root, fold=1).split("test").ids)
    assert tests
    runs = [pipeline.Run(path) for path in folder.glob("trials/*/fold1-seed*")]
    assert runs
    for run in runs:
        assert {u.split for u in run.manifest if u.id in tests} == {None}
        assert not list(run.folder.rglob("*test*"))
        assert not set(run.features["logmel/24[pool=8]"].keys) & tests, "nor are its features asked for"


def test_dev_alone_chooses_and_the_numbers_are_those_of_the_runs(folder, chosen):
    tree = tree_of(folder)
    found = {}
    for t in tree["trials"]:
        each = []
        for seed in (5, 6):
            parts, manifests = tables(folder, "trials", {1: t["key"], 2: t["key"]}, "dev", seed)
            each.append(uar(parts, manifests, "dev"))
        assert t["values"]["uar"]["by_seed"] == pytest.approx(each)
        found[t["key"]] = np.mean(each)
    assert tree["best"] == max(found, key=lambda key: found[key])
    assert load_recipe(folder / "best.yaml") == next(t.recipe for t in chosen.trials if t.key == tree["best"])
    for fold in (1, 2):  # each fold by its own dev
        mean = {
            t.key: np.mean([uar(*tables(folder, "trials", {fold: t.key}, "dev", s), "dev") for s in (5, 6)])
            for t in chosen.trials
        }
        assert tree["chosen"][str(fold)] == max(mean, key=lambda key: mean[key])


def test_what_is_behind_is_adjusted_for_all_trials(folder):
    tree = tree_of(folder)
    p = {t["key"]: t["behind"]["p"] for t in tree["trials"] if t["key"] != tree["best"]}
    assert next(t for t in tree["trials"] if t["key"] == tree["best"])["behind"] is None
    highest = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):  # Holm (1979)
        highest = max(highest, min(1.0, p[key] * (len(p) - rank)))
        assert next(t for t in tree["trials"] if t["key"] == key)["behind"]["p_holm"] == pytest.approx(highest)


def test_each_fold_chooses_on_its_own_dev(folder, chosen, toy_root, toy_store, tmp_path):
    """One trial is made to be right about all dev clips of fold 2, and wrong about all of fold 1."""
    out, key = shutil.copytree(folder, tmp_path / "copy"), chosen.trials[-1].key
    for fold in (1, 2):
        for seed in (5, 6):
            run = pipeline.Run(out / "trials" / key / f"fold{fold}-seed{seed}")
            table = run.predictions("net", "dev")
            truth = {u.id: run.manifest.labels.index(u.emotion) for u in run.manifest.split("dev")}
            at = [(truth[k] + (fold == 1)) % len(run.manifest.labels) for k in table.ids]
            scores = np.eye(len(run.manifest.labels))[at]
            dataclasses.replace(table, scores=scores).save(run.predictions_path("net", "dev"))
    tune(chosen, lambda k: toy(toy_root, fold=k), out, pipeline.Machine(toy_store, "cpu", jobs=1))
    tree = tree_of(out)
    assert tree["chosen"]["2"] == key != tree["chosen"]["1"]
    parts, manifests = tables(out, "test", {int(k): v for k, v in tree["chosen"].items()}, "test", 5)
    assert tree["test"]["values"]["chosen"]["uar"]["by_seed"][0] == pytest.approx(uar(parts, manifests, "test"))


def test_test_is_measured_of_the_choice_and_of_the_recipe_as_it_is(folder):
    tree = tree_of(folder)
    sides = {"chosen": tree["chosen"], AS_IT_IS: dict.fromkeys(tree["chosen"], AS_IT_IS)}
    assert list(tree["test"]["values"]) == list(sides)
    scores = {}
    for name, by_fold in sides.items():
        found = [tables(folder, "test", by_fold, "test", seed) for seed in (5, 6)]
        each = [uar(parts, manifests, "test") for parts, manifests in found]
        assert tree["test"]["values"][name]["uar"]["by_seed"] == pytest.approx(each)
        scores[name] = [parts for parts, _ in found]
    manifests = tables(folder, "test", tree["chosen"], "test", 5)[1]
    d = compare_seeds(scores["chosen"], scores[AS_IT_IS], manifests, split="test", metrics=["uar"], draws=50)[0]
    stored = tree["test"]["difference"]
    assert [stored[k] for k in ("difference", "low", "high", "p")] == pytest.approx([d.difference, d.low, d.high, d.p])
    assert sorted(p.name for p in (folder / "test").iterdir()) == sorted({AS_IT_IS, *tree["chosen"].values()})


def test_keeping_test_away_changes_no_network(folder):
    """The networks measured on test are those that were chosen, to the bit."""
    tree = tree_of(folder)
    for fold, key in tree["chosen"].items():
        place = f"{key}/fold{fold}-seed6/systems/net/full/model.safetensors"
        assert (folder / "trials" / place).read_bytes() == (folder / "test" / place).read_bytes()


def test_what_is_measured_on_test_has_the_threads_of_the_trials(source, toy_root, toy_store, tmp_path, monkeypatch):
    """They decide how sums are rounded; here two trials, and after them one network for test."""
    totals, train = [], tuning.train_many
    monkeypatch.setattr(
        tuning, "train_many", lambda *a, total, listener: (totals.append(total), train(*a, total=total))[1]
    )
    found = search(source, [], ["train.patience=50"])  # of no effect: a tie
    tune(found, lambda k: toy(toy_root, fold=k), tmp_path, pipeline.Machine(toy_store, "cpu", jobs=1))
    assert tree_of(tmp_path)["best"] == AS_IT_IS
    assert totals == [2, 2]


@pytest.mark.parametrize(
    ("place", "kind"),
    [("", "a run"), ("fold1", "a cross-validation"), ("runs/full/fold1-seed7", "an ablation")],
)
def test_the_folder_of_something_else_is_refused(chosen, toy_root, toy_store, tmp_path, place, kind):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "recipe.yaml").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SerkitError, match=f"holds {kind}; choose another --out"):
        tune(chosen, lambda k: toy(toy_root, fold=k), tmp_path, pipeline.Machine(toy_store, "cpu", jobs=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_test_would_refuse_is_refused_before_any_trial(source, toy_root, toy_store, tmp_path):
    """All labelled test clips have a class that the recipe leaves out."""
    whole = toy(toy_root, fold=1)
    first = whole.labels[0]
    bare = whole.where(lambda u: u.split != "test" or u.emotion == first)
    found = search(source, [f"drop_labels=[{first}]"], ["train.lr=2e-2"])
    events = []
    with pytest.raises(SerkitError, match="has no utterance in split 'test'"):
        tune(found, lambda _: bare, tmp_path / "out", pipeline.Machine(toy_store, "cpu", jobs=1), events.append)
    assert not (tmp_path / "out").exists()
    assert events == []


def test_started_again_it_is_the_same_and_trains_nothing(folder, chosen, toy_root, toy_store):
    before, events = tree_of(folder), []
    tune(chosen, lambda k: toy(toy_root, fold=k), folder, pipeline.Machine(toy_store, "cpu", jobs=1), events.append)
    after = tree_of(folder)
    assert not [e for e in events if hasattr(e, "row")]
    for tree in (before, after):
        tree["provenance"].pop("run")
    assert before == after


def test_what_takes_a_run_is_told_that_this_is_a_search(folder):
    with pytest.raises(SerkitError, match=r"holds a search; name a run of it, such as \S*trials/as-it-is/fold1-seed5$"):
        pipeline.Run(folder)


def test_without_test_keeps_every_other_row(toy_root):
    whole = toy(toy_root, fold=1)
    for manifest in (whole, join([whole, dataclasses.replace(whole, corpus="other")])):
        kept = without_test(manifest)
        assert [u.id for u in kept] == [u.id for u in manifest]
        for before, after in zip(manifest, kept, strict=True):
            assert after.split == (None if before.split == "test" else before.split)
        assert all(part["no_test"] for part in kept.info.get("corpora", {"": kept.info}).values())


def test_a_choice_that_further_values_change_is_measured_beside_the_one_before(source, toy_root, toy_store, tmp_path):
    machine, read = pipeline.Machine(toy_store, "cpu", jobs=1), lambda k: toy(toy_root, fold=k)
    tune(search(source, [], ["train.lr=1e-9"]), read, tmp_path, machine)
    assert tree_of(tmp_path)["test"]["before"] == []
    first = set(tree_of(tmp_path)["chosen"].values())
    best = search(source, [], ["train.lr=1e-9,5e-2", "train.epochs=9"])
    tune(best, read, tmp_path, machine)
    tree = tree_of(tmp_path)
    assert not first & set(tree["chosen"].values())
    assert tree["test"]["before"] == sorted(first - {AS_IT_IS})


def test_several_systems_are_judged_by_what_the_run_answers_with(toy_root, toy_store, tmp_path, source):
    text = RECIPE.replace(
        "crossfit: null\nstack: null",
        "crossfit: {folds: 2, refit: false}\nstack: {name: logistic, trees: 10, folds: 2}",
    )
    other = """systems:
  other:
    features: [mfcc/13]
    model: {name: mean_pool, hidden: 8, neutral_head: false}
    losses: [cross_entropy]
    train: {epochs: 1, lr: 1.0e-2}
"""
    path = tmp_path / "two.yaml"
    path.write_text(text.replace("systems:\n", other), encoding="utf-8")
    found = search(path, [], ["train.lr=2e-2"])
    out = tmp_path / "out"
    tune(found, lambda k: toy(toy_root, fold=k), out, pipeline.Machine(toy_store, "cpu", jobs=1))
    run = pipeline.Run(out / "trials" / "train.lr=0.02" / "fold1-seed5")
    assert run.lead == "stack"
    expected = evaluation.decide(run.predictions("stack", "dev"), run.manifest, split="dev")
    tree = tree_of(out)
    assert tree["trials"][1]["values"]["macro_f1"]["mean"] == pytest.approx(
        float(metrics.measure("macro_f1", expected.confusion(), expected.possible))
    )


# ---------------------------------------------------------------- the command


def test_the_command_says_what_was_chosen_and_where_it_is(source, toy_root, toy_store, tmp_path):
    out = tmp_path / "out"
    said = CliRunner().invoke(
        cli.app,
        ["tune", str(source), "--corpus", "toy", "--root", str(toy_root), "--store", str(toy_store), "--jobs", "1",
         "--try", "train.lr=5e-2,0", "--out", str(out)],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "2 trials, the recipe as it is among them; 2 runs" in said.output
    assert "not tried: train.lr 0: " in said.output
    assert f"recipe: {out}/best.yaml" in said.output
    assert "intervals: 95% paired speaker bootstrap (" in said.output
    tree = tree_of(out)
    assert f"{tree['trials'][1]['values']['macro_f1']['mean']:.3f}" in said.output
    again = CliRunner().invoke(cli.app, ["report", str(out)])
    assert again.exit_code == 0
    assert again.output.strip() == f"report: {out}/report/tuning.html"


def test_the_command_refuses_in_one_line(source, toy_root):
    said = CliRunner().invoke(cli.app, ["tune", str(source), "--corpus", "toy", "--root", str(toy_root)])
    assert isinstance(said.exception, SerkitError)
    assert "give --try KEY=VALUE,VALUE" in str(said.exception)
