"""Tuning by what a recipe chooses its networks by: the CCC of ratings, and the KL divergence from the raters' votes."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from made_leads import answers, heard
from serkit import cli, leads, pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.metrics import METRICS
from serkit.pipeline.trials import AS_IT_IS, search
from serkit.pipeline.tune import _against, _best, tune

RECIPE = """
name: small
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, heads: 2, width: 8, bottleneck: 4, neutral_head: false, attribute_head: true}
    losses: [cross_entropy, ccc]
    train: {epochs: 2, batch_size: 16, lr: 1.0e-2, select: ccc}
crossfit: null
stack: null
evaluate: {draws: 50}
seed: 5
"""
VOTED = RECIPE.replace("select: ccc", "select: kl, targets: votes").replace("[cross_entropy, ccc]", "[kl_soft, ccc]")
TRIED = ["train.lr=1e-2,5e-2,1e-4"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    found = {}
    for name, text in (("ccc", RECIPE), ("kl", VOTED), ("macro_f1", RECIPE.replace("select: ccc", "select: last"))):
        found[name] = tmp_path_factory.mktemp("recipe") / f"{name}.yaml"
        found[name].write_text(text, encoding="utf-8")
    return found


def test_what_decides_is_by_what_the_recipe_chooses_its_networks(sources):
    for metric, source in sources.items():
        assert search(source, [], TRIED).metric == metric
        assert search(source, [], TRIED, metric="uar").metric == "uar"


def test_where_systems_are_chosen_by_several_it_is_macro_f1(tmp_path):
    other = """systems:
  other:
    features: [mfcc/13]
    model: {name: mean_pool, hidden: 8, neutral_head: false}
    losses: [cross_entropy]
    train: {epochs: 1, lr: 1.0e-2}
"""
    (tmp_path / "two.yaml").write_text(RECIPE.replace("systems:\n", other), encoding="utf-8")
    assert search(tmp_path / "two.yaml", [], ["systems.net.train.lr=2e-2"]).metric == "macro_f1"


def test_what_has_no_ratings_is_refused_or_left_out(sources):
    plain = ["systems.net.model.attribute_head=false", "losses=[cross_entropy]", "train.select=macro_f1"]
    with pytest.raises(SerkitError, match=r"^--metric ccc: no system of it has a network that learns arousal"):
        search(sources["ccc"], plain, TRIED, metric="ccc")
    with pytest.raises(SerkitError, match=r"--metric cc: expected .*did you mean 'ccc'"):
        search(sources["ccc"], [], TRIED, metric="cc")
    found = search(sources["ccc"], [], ["model.attribute_head=true,false", *TRIED])
    assert [t.settings.get("model.attribute_head", True) for t in found.trials] == [True] * 3
    assert len(found.left_out) == 3
    assert "no system of it has a network that learns arousal" in found.left_out[0]


@pytest.mark.parametrize(("metric", "best", "other"), [("macro_f1", "sharp", "soft"), ("ccc", "soft", "sharp"),
                                                       ("kl", "soft", "sharp")])  # fmt: skip
def test_the_best_is_the_best_by_what_decides(metric, best, other):
    manifest = heard()
    scores = {name: [[answers(manifest, "dev", name, seed)] for seed in (1, 2)] for name in ("sharp", "soft")}
    recipe = SimpleNamespace(evaluate=SimpleNamespace(draws=100, seed=1))
    chosen = SimpleNamespace(metric=metric, trials=[SimpleNamespace(recipe=recipe)])
    assert _best(chosen, scores, [manifest]) == best
    behind = _against(chosen, best, scores, [manifest], "dev")
    assert list(behind) == [other]
    row = behind[other]
    assert row["metric"] == metric
    assert (row["a"], row["b"]) == (best, other)
    assert 0 < row["low"] < row["difference"] < row["high"]
    values = {n: leads.measured(metric, scores[n][0], [manifest], "dev").value for n in scores}
    assert row["by_seed"][0] == pytest.approx(abs(values[best] - values[other]))


@pytest.mark.parametrize("metric", ["ccc", "kl"])
def test_a_search_by_it_from_the_command(metric, sources, toy_root, toy_store, tmp_path):
    out = tmp_path / "out"
    words = ["tune", sources[metric], "--corpus", "toy", "--root", toy_root, "--store", toy_store, "--jobs", 1]
    words += ["--device", "cpu", "--try", TRIED[0], "--out", out]
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    tree = json.loads((out / "report" / "tuning.json").read_text())
    assert tree["metric"] == metric
    found = {}
    for t in tree["trials"]:
        run = pipeline.Run(out / "trials" / t["key"] / "fold1-seed5")
        found[t["key"]] = leads.measured(metric, [run.predictions("net", "dev")], [run.manifest], "dev").value
        assert t["values"][metric]["mean"] == pytest.approx(found[t["key"]])
        history = [row[f"dev_{metric}"] for row in run.history("net")["full"]]
        best_epoch = min(history) if metric == "kl" else max(history)
        assert found[t["key"]] == pytest.approx(best_epoch, abs=1e-4), "by which the epoch was chosen"
    assert tree["best"] == (min if metric == "kl" else max)(found, key=lambda key: found[key])
    for t in tree["trials"]:
        if t["key"] != tree["best"]:
            assert t["behind"]["difference"] == pytest.approx(abs(found[t["key"]] - found[tree["best"]]))
    assert set(tree["test"]["values"]["chosen"]) == {*METRICS, metric}
    assert ("dev KL divergence" if metric == "kl" else "dev Mean CCC") in done.output
    assert f"on dev, the {'lowest' if metric == 'kl' else 'highest'} of 3 trials" in done.output
    shown = [line for line in done.output.splitlines() if line.startswith(("the recipe as it is ", "train.lr "))]
    assert shown[0].startswith(next(t["title"] for t in tree["trials"] if t["key"] == tree["best"]))
    assert AS_IT_IS in found


def test_a_corpus_without_votes_is_refused_before_anything_is_trained(sources, toy_root, toy_store, tmp_path):
    whole = toy(toy_root, fold=1)
    for split in ("dev", "test"):
        rows = tuple(dataclasses.replace(u, votes=None) if u.split == split else u for u in whole)
        bare = dataclasses.replace(whole, utterances=rows)
        chosen = search(sources["macro_f1"], [], TRIED, metric="kl")
        machine = pipeline.Machine(toy_store, "cpu", jobs=1)
        with pytest.raises(
            SerkitError, match=rf"^--metric kl: split '{split}' of 'toy' \(fold 1\) has no votes; choose"
        ):
            tune(chosen, lambda k, m=bare: m, tmp_path / "out", machine)
        assert not (tmp_path / "out").exists()
