"""Ablation: which variants a recipe has, that their runs are the runs of those recipes, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from serkit import cli, evaluation, metrics, pipeline
from serkit.comparison import compare_seeds, holm
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.pipeline.ablate import ablate
from serkit.pipeline.variants import design, plan
from serkit.recipe import load_recipe, parse_recipe

RECIPE = """
name: apart
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, heads: 2, width: 8, bottleneck: 4, dropout: 0.1}
    losses: [kl_soft, {name: focal, weight: 0.5}, center_loss]
    augment: [{name: feature_mixup, probability: 0.2}]
    train: {epochs: 1, lr: 5e-3, batch_size: 32, loss_scale: running_max}
evaluate: {draws: 50}
seed: 5
"""


def recipe(*overrides, **system):
    tree = yaml.safe_load(RECIPE)
    tree["systems"]["net"].update(system)
    return parse_recipe(yaml.safe_dump(tree), list(overrides))


def by_key(found):
    return {v.key: v for v in found.variants}


# ---------------------------------------------------------------- variants


def test_losses_each_off_and_the_first_alone():
    found = plan(recipe(), ["losses"])
    losses = {k: [x.name for x in v.system.losses] for k, v in by_key(found).items()}
    assert losses == {
        "full": ["kl_soft", "focal", "center_loss"],
        "without-kl_soft": ["focal", "center_loss"],
        "without-focal": ["kl_soft", "center_loss"],
        "without-center_loss": ["kl_soft", "focal"],
        "only-kl_soft": ["kl_soft"],
    }
    assert by_key(found)["without-kl_soft"].system.losses[0].weight == 0.5
    for v in found.variants:  # nothing else changes, and each network is trained once
        assert v.recipe.crossfit is None
        assert v.recipe.stack is None
        assert v.system.model == found.variants[0].system.model
        assert v.system.augment == found.variants[0].system.augment


def test_a_loss_is_left_out_of_both_stages():
    stage = {"after_epochs": 1, "lr": 1e-5, "losses": ["focal", {"name": "cross_entropy", "soft": True}]}
    found = by_key(plan(recipe("train.epochs=2", second_stage=stage), ["losses"]))
    losses = {k: [x.name for x in v.system.second_stage.losses] for k, v in found.items()}
    assert losses["full"] == losses["without-kl_soft"] == losses["without-center_loss"] == ["focal", "cross_entropy"]
    assert losses["without-focal"] == losses["only-kl_soft"] == ["cross_entropy"]
    alone = by_key(plan(recipe("train.epochs=2", second_stage={**stage, "losses": ["focal"]}), ["losses"]))
    assert alone["without-focal"].system.second_stage.losses is None


def test_of_two_losses_the_first_alone_is_already_there_and_a_classifier_is_always_trained():
    found = plan(recipe(losses=["cross_entropy", "center_loss"]), ["losses"])
    assert [v.key for v in found.variants] == ["full", "without-center_loss"]
    assert found.left_out == (
        "without cross_entropy: center_loss would be left, which cannot train the classifier: "
        "serkit tune --try 'losses=[…],[…]' compares it with another",
    )
    found = plan(recipe(losses=["cross_entropy", "supcon"]), ["losses"])  # which asks for their shape alone
    assert [v.key for v in found.variants] == ["full", "without-supcon"]


def test_beside_ratings_that_decide_the_loss_of_the_classes_hardly_counts(toy_root):
    """What classes as an auxiliary task are worth to the ratings: the question of EmoSphere-SER."""
    found = plan(load_recipe("emosphere2025"), ["losses"])
    assert [v.key for v in found.variants] == ["full", "light-cross_entropy"]
    assert found.left_out == (
        "without ccc: train.select is ccc, but no loss would be left that learns arousal, valence and dominance",
    )
    light = found.variants[1]
    assert light.title == "cross_entropy with weight 0.0001"
    before, after = (v.system.losses for v in found.variants)
    assert after == (before[0], before[1].model_copy(update={"weight": 1e-4})), "its weight falls no more"
    head = {"name": "flam", "heads": 2, "width": 8, "attribute_head": True}
    stage = {"after_epochs": 1, "lr": 1e-5, "losses": ["ccc", {"name": "kl_soft", "weight": 0.1}]}
    changes = {"model": head, "losses": ["kl_soft", "ccc"], "second_stage": stage}
    found = by_key(plan(recipe("train.select=ccc", "train.epochs=2", **changes), ["losses"]))
    assert list(found) == ["full", "light-kl_soft"]
    assert [x.weight for x in found["light-kl_soft"].system.second_stage.losses] == [1.0, 1e-4]
    pipeline.stages.fit(found["light-kl_soft"].recipe, toy(toy_root))


def test_without_the_loss_of_attributes_there_is_no_head_for_them(toy_root):
    head = {"name": "flam", "heads": 2, "width": 8, "attribute_head": True}
    system = {"model": head, "losses": ["kl_soft", {"name": "ccc", "weight": 0.5}, "center_loss"]}
    found = plan(recipe(**system))
    heads = {k: v.system.model.parameters.get("attribute_head", False) for k, v in by_key(found).items()}
    assert [k for k, has in heads.items() if not has] == ["without-ccc", "only-kl_soft", "plain"]
    for v in found.variants:
        pipeline.stages.fit(v.recipe, toy(toy_root))
    found = plan(recipe("train.select=ccc", **system))
    assert {"without-ccc", "only-kl_soft", "plain"}.isdisjoint(by_key(found))
    said = "train.select is ccc, but no loss would be left that learns arousal, valence and dominance"
    assert {f"without ccc: {said}", f"plain: {said}"} <= set(found.left_out)
    scaled = {"name": "deepser", "hidden": 8, "attribute_head": True, "attribute_high": 5.0}
    found = by_key(plan(recipe(model=scaled, losses=["kl_soft", "attribute_mse"]), ["losses"]))
    assert found["without-attribute_mse"].system.model.parameters == {"hidden": 8}


def test_eam_against_lam_and_none_with_the_same_probability():
    steps = [{"name": "gain"}, {"name": "eam", "snr_low_db": 0.0, "probability": 0.3}]
    found = by_key(plan(recipe(augment=steps), ["augment"]))
    assert list(found) == ["full", "without-gain", "lam-for-eam", "without-eam", "no-augmentation"]
    swapped = found["lam-for-eam"].system.augment
    assert [s.name for s in swapped] == ["gain", "lam"]
    assert swapped[1].parameters == {"probability": 0.3}
    assert (found["lam-for-eam"].part, found["lam-for-eam"].instead) == ("EAM", "LAM")
    assert [s.name for s in found["without-eam"].system.augment] == ["gain"]
    assert found["no-augmentation"].system.augment == ()
    back = by_key(plan(recipe(augment=["lam"]), ["augment"]))
    assert list(back) == ["full", "eam-for-lam", "without-lam"]


@pytest.mark.parametrize(
    ("model", "keys", "heads"),
    [
        ({"name": "flam"}, ["full", "mean-pooling", "max-pooling"], 16),
        ({"name": "compact", "heads": 4}, ["full", "mean-pooling", "max-pooling"], 4),
        ({"name": "compact", "heads": 0, "pooling": "mean"}, ["full", "flam", "max-pooling"], 16),
        ({"name": "flam", "heads": 8, "pooling": "max"}, ["full", "flam", "mean-pooling", "max-pooling"], 8),
    ],
)
def test_pooling_is_flam_mean_and_max_without_the_one_that_is_there(model, keys, heads):
    found = by_key(plan(recipe(model=model), ["pooling"]))
    assert list(found) == keys
    if "flam" in found:
        assert found["flam"].system.model.parameters["heads"] == heads
        assert found["flam"].system.model.parameters["pooling"] == "attention"
    assert {**found["max-pooling"].system.model.parameters, "pooling": "max", "heads": 0} == found[
        "max-pooling"
    ].system.model.parameters


def test_all_at_once_and_what_does_not_apply_is_left_out_with_its_reason():
    found = plan(recipe())
    assert found.over == ("losses", "augment", "pooling")
    last = found.variants[-1]
    assert last.key == "plain"
    assert ([x.name for x in last.system.losses], last.system.augment) == (["kl_soft"], ())
    assert last.system.model.parameters["pooling"] == "mean"
    assert last.system.model.parameters["dropout"] == 0.1
    assert len({v.recipe.fingerprint for v in found.variants}) == len(found.variants) == 9
    fewer = plan(recipe(augment=[], model="mean_pool"))
    assert fewer.over == ("losses",)
    assert fewer.left_out[0] == "augment: it has no augmentation"
    assert fewer.left_out[1].startswith("pooling: its model 'mean_pool' has no frame-level attention")
    assert "plain" not in by_key(fewer)


@pytest.mark.parametrize(
    ("over", "system", "message"),
    [
        (["loses"], {}, "expected losses, augment, pooling; did you mean 'losses'"),
        (["losses"], {"losses": ["focal"]}, "its only loss is focal"),
        (["losses", "augment"], {"augment": []}, "--over augment: 'apart' has no such variants: it has no augm"),
        (["pooling"], {"model": "mean_pool"}, "has no frame-level attention to replace .these have: compact, flam"),
        (["pooling"], {"model": "cross_attention"}, "model 'cross_attention' has no frame-level attention"),
        ([], {"losses": ["focal"], "augment": [], "model": "mean_pool"}, "'apart' has nothing to vary: losses:"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(over, system, message):
    with pytest.raises(SerkitError, match=message):
        plan(recipe(**system), over)


def test_one_system_of_several_is_named(small_text):
    with pytest.raises(SerkitError, match="2 systems; choose one with --system: sound, both"):
        plan(parse_recipe(small_text), ["losses"])
    with pytest.raises(SerkitError, match="no such system; did you mean 'both'"):
        plan(parse_recipe(small_text), ["losses"], system="boht")
    found = plan(parse_recipe(small_text), ["losses"], system="both")
    assert list(by_key(found)) == ["full", "without-neutral_margin"]
    assert list(found.variants[0].recipe.systems) == ["both"]


def test_seeds_folds_and_a_quick_look():
    whole = design(recipe("train.epochs=40"), over=["pooling"], seeds=2, folds=(1, 3))
    assert whole.seeds == (5, 6)
    assert len(whole.runs) == 3 * 2 * 2
    assert [(v.key, f, s) for v, f, s in whole.runs[:3]] == [("full", 1, 5), ("mean-pooling", 1, 5),
                                                             ("max-pooling", 1, 5)]  # fmt: skip
    quick = design(recipe("train.epochs=40"), quick=True)
    assert (quick.seeds, quick.epochs) == ((5,), (40, 12))
    assert {v.system.train.epochs for v in quick.plan.variants} == {12}
    short = design(recipe("train.epochs=3"), quick=True, seeds=2)
    assert (short.seeds, short.epochs) == ((5, 6), None)
    with pytest.raises(SerkitError, match="at least 1"):
        design(recipe(), seeds=0)


# ---------------------------------------------------------------- runs


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def chosen():
    return design(recipe(), over=["pooling"], seeds=2, folds=(1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_root, toy_store, chosen):
    """An ablation that was stopped after five networks and then started again."""
    out = tmp_path_factory.mktemp("ablation")
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    trained = []

    def stop(event):
        if hasattr(event, "row"):
            trained.append((event.system, event.model))
            if len(trained) == 5:
                raise Stopped

    with pytest.raises(Stopped):
        ablate(chosen, lambda k: toy(toy_root, fold=k), out, machine, stop)
    assert not (out / "report").exists()
    again = []
    page = ablate(chosen, lambda k: toy(toy_root, fold=k), out, machine, again.append)
    assert page == out / "report" / "ablation.html"
    assert page.is_file()
    epochs = [(e.system, e.model) for e in again if hasattr(e, "row")]
    assert len(epochs) == len(chosen.runs) - 5  # four were finished, of the fifth every epoch
    assert not set(epochs) & set(trained)
    assert ("full", "fold1-seed5") in trained
    details = [e.detail for e in again if type(e).__name__ == "StageBegins" and e.stage == "train"]
    assert details == ["8 of 12 networks: 3 variants × 2 seeds × 2 folds"]
    return out


def test_what_takes_a_run_is_told_that_this_is_an_ablation(folder):
    with pytest.raises(SerkitError, match=r"holds an ablation; name a run of it, such as \S*runs/full/fold1-seed5$"):
        pipeline.Run(folder)


def tree_of(folder):
    return json.loads((folder / "report" / "ablation.json").read_text())


def test_numbers_are_those_of_the_runs(folder, chosen, toy_root):
    tree = tree_of(folder)
    manifests = [toy(toy_root, fold=k) for k in (1, 2)]
    assert [v["key"] for v in tree["variants"]] == [v.key for v in chosen.plan.variants]

    def tables(key):
        return [
            [pipeline.Run(folder / "runs" / key / f"fold{f}-seed{s}").predictions("net", "test") for f in (1, 2)]
            for s in (5, 6)
        ]

    for v in tree["variants"]:
        each = []
        for row in tables(v["key"]):
            parts = [evaluation.decide(p, m, split="test") for p, m in zip(row, manifests, strict=True)]
            each.append(float(metrics.measure("uar", parts[0].confusion() + parts[1].confusion())))
        found = v["values"]["test"]["uar"]
        assert found["by_seed"] == pytest.approx(each)
        assert found["mean"] == pytest.approx(np.mean(each))
        assert found["sd"] == pytest.approx(np.std(each, ddof=1))
        assert found["n"] == sum(len(m.split("test")) for m in manifests)
    first = tree["variants"][1]
    d = compare_seeds(tables("full"), tables(first["key"]), manifests, split="test", metrics=["uar"], draws=50)[0]
    stored = first["differences"]["test"]["uar"]
    assert (stored["a"], stored["b"]) == ("full", first["key"])
    assert [stored[k] for k in ("difference", "low", "high", "p")] == pytest.approx([d.difference, d.low, d.high, d.p])
    for split, name in itertools.product(("dev", "test"), ("uar", "macro_f1", "accuracy")):  # Holm over the variants
        rows = [v["differences"][split][name] for v in tree["variants"][1:]]
        for key in ("p", "p_permutation"):
            assert [row[f"{key}_holm"] for row in rows] == pytest.approx(holm([row[key] for row in rows]))


def test_a_run_is_the_run_of_that_recipe_alone(folder, toy_root, toy_store, tmp_path):
    inside = pipeline.Run(folder / "runs" / "mean-pooling" / "fold1-seed6")
    assert inside.recipe.seed == 6
    assert inside.recipe.systems["net"].model.parameters["pooling"] == "mean"
    alone = pipeline.prepare(inside.recipe, toy(toy_root, fold=1), tmp_path / "alone")
    pipeline.run_all(alone, pipeline.Machine(toy_store, "cpu", jobs=1))
    a, b = (r.predictions("net", "test") for r in (inside, alone))
    assert a.ids == b.ids
    assert np.array_equal(a.scores, b.scores)
    assert (inside.folder / "report" / "report.html").is_file()


def test_started_again_it_is_the_same_table_and_trains_nothing(folder, chosen, toy_root, toy_store):
    before = tree_of(folder)
    events = []
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    ablate(chosen, lambda k: toy(toy_root, fold=k), folder, machine, events.append)
    after = tree_of(folder)
    assert not [e for e in events if hasattr(e, "row")]
    for tree in (before, after):
        tree["provenance"].pop("run")
    assert before == after


def test_a_folder_of_other_settings_is_refused(folder, toy_root, toy_store):
    other = design(recipe("train.lr=1e-3"), over=["pooling"], seeds=1, folds=(1,))
    with pytest.raises(SerkitError, match="holds a run of another recipe or other settings"):
        ablate(other, lambda k: toy(toy_root, fold=k), folder, pipeline.Machine(toy_store, "cpu", jobs=1))


def test_more_of_it_later_uses_what_is_there(folder, toy_root, toy_store, tmp_path):
    import shutil

    out = shutil.copytree(folder, tmp_path / "more")
    more = design(recipe(), over=["pooling"], seeds=3, folds=(1,))
    events = []
    ablate(more, lambda k: toy(toy_root, fold=k), out, pipeline.Machine(toy_store, "cpu", jobs=1), events.append)
    assert sorted((e.system, e.model) for e in events if hasattr(e, "row")) == [
        (key, "fold1-seed7") for key in ("full", "max-pooling", "mean-pooling")
    ]
    assert [len(v["values"]["test"]["uar"]["by_seed"]) for v in tree_of(out)["variants"]] == [3, 3, 3]


def test_clips_made_once_for_several_networks_change_nothing(toy_root, toy_store, tmp_path, monkeypatch):
    from serkit.examples import Hearing
    from serkit.pipeline import inputs

    made = []
    features = Hearing.features
    monkeypatch.setattr(Hearing, "features", lambda self, x: made.append(1) or features(self, x))
    chosen = design(recipe(augment=["eam"]), over=["losses", "augment"], seeds=1)
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    ablate(chosen, lambda k: toy(toy_root, fold=k), tmp_path / "out", machine)
    assert not inputs._REMEMBERED, "their memory is given back"
    n_train = len(toy(toy_root, fold=1).split("train"))
    assert 0 < len(made) < 2 * n_train, "six networks with EAM, one with LAM: each kind of clip is made once"
    for key in ("without-focal", "lam-for-eam"):
        inside = pipeline.Run(tmp_path / "out" / "runs" / key / "fold1-seed5")
        alone = pipeline.prepare(inside.recipe, toy(toy_root, fold=1), tmp_path / key)
        pipeline.run_all(alone, machine)
        a, b = (r.predictions("net", "test") for r in (inside, alone))
        assert np.array_equal(a.scores, b.scores), "alone, its clips are made anew"


@pytest.mark.slow
def test_side_by_side_in_processes(toy_root, toy_store, tmp_path):
    chosen = design(recipe(), over=["pooling"], seeds=1)
    events = []
    machine = pipeline.Machine(toy_store, "cpu", jobs=2)
    ablate(chosen, lambda k: toy(toy_root, fold=k), tmp_path / "out", machine, events.append)
    assert {(e.system, e.model) for e in events if hasattr(e, "row")} == {
        (k, "fold1-seed5") for k in ("full", "mean-pooling", "max-pooling")
    }


# ---------------------------------------------------------------- command line


def test_the_command(toy_root, toy_store, tmp_path):
    from typer.testing import CliRunner

    from serkit import cli

    path = tmp_path / "apart.yaml"
    path.write_text(RECIPE)
    words = ["ablate", path, "--corpus", "toy", "--root", toy_root, "--store", toy_store, "--out", tmp_path / "out"]
    words += ["--over", "pooling", "--seeds", 1, "--jobs", 1, "--device", "cpu", "--set", "train.epochs=2"]
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert "3 variants, 3 networks: full recipe; mean pooling instead of FLAM; max pooling" in done.stdout
    assert "full − variant" in done.stdout
    assert re.search(r"^intervals: 95% paired speaker bootstrap .*, rough: \d+ speakers$", done.stdout, re.MULTILINE)
    row = next(x for x in done.stdout.splitlines() if x.startswith("mean pooling instead of FLAM "))
    assert re.search(r"\[[+−0].*\]  FLAM (and|is|seems)", row), row
    assert f"report: {tmp_path / 'out' / 'report' / 'ablation.html'}" in done.stdout
    text = (tmp_path / "out" / "report" / "ablation.md").read_text()
    assert "**On test, by Macro-F1, " in text
    assert "would leave out zero four times in five" in text
    refused = CliRunner().invoke(cli.app, [str(w) for w in [*words[:8], "--over", "augment", "--set", "augment=[]"]])
    assert isinstance(refused.exception, SerkitError)
    assert "it has no augmentation" in str(refused.exception)
    beyond = CliRunner().invoke(cli.app, [str(w) for w in [*words[:8], "--fold", "9"]])
    assert "has folds 1 to 4, got fold 9" in str(beyond.exception)


def test_one_fold_of_a_corpus_without_a_card_can_be_ablated(tmp_path, monkeypatch):
    """Regression: the card was asked for its folds, which one fold does not need."""
    text = "from serkit.errors import SerkitError\n\n\ndef mine(root, *, protocol=None, fold=1, seed=0):\n"
    (tmp_path / "cardless.py").write_text(text + '    raise SerkitError(f"fold {fold} is read")\n')
    monkeypatch.syspath_prepend(tmp_path)
    command = ["ablate", "mll_offline", "--corpus", "cardless.mine", "--root", str(tmp_path), "--out", "x", "--fold"]
    with pytest.raises(SerkitError, match="fold 2 is read"):
        CliRunner().invoke(cli.app, [*command, "2"], catch_exceptions=False)
    with pytest.raises(SerkitError, match="has no card"):
        CliRunner().invoke(cli.app, [*command, "1,2"], catch_exceptions=False)


def test_the_folder_of_a_search_is_refused_before_anything_is_read(tmp_path, toy_store):
    place = tmp_path / "trials/as-it-is/fold1-seed7"
    place.mkdir(parents=True)
    (place / "recipe.yaml").write_text("")
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    with pytest.raises(SerkitError, match="holds a search; choose another --out"):
        ablate(design(recipe(), over=["pooling"], seeds=1, folds=(1,)), pytest.fail, tmp_path, machine)
    with pytest.raises(SerkitError, match="holds a search; choose another --out"):
        pipeline.cross_validate(recipe(), pytest.fail, (1, 2), tmp_path, machine)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [place / "recipe.yaml"]
