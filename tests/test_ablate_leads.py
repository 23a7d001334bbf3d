"""Ablation led by what the recipe chooses its networks by: the CCC of ratings, the KL divergence from votes."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from made import made_system
from made_leads import heard
from serkit import cli, leads, pipeline
from serkit.pipeline import ablation_numbers

RECIPE = """
name: apart
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, heads: 2, width: 8, bottleneck: 4, neutral_head: false, attribute_head: true}
    losses: [LOSS, ccc]
    train: {epochs: 2, batch_size: 16, lr: 1.0e-2, select: METRIC}
crossfit: null
stack: null
evaluate: {draws: 50}
seed: 5
"""


@pytest.mark.parametrize(
    ("select", "loss", "metric"),
    [("ccc", "cross_entropy", "ccc"), ("kl, targets: votes", "kl_soft", "kl"), ("last", "cross_entropy", "uar")],
)
def test_the_metric_of_the_recipe_leads(select, loss, metric, toy_root, toy_store, tmp_path):
    path, out = tmp_path / "apart.yaml", tmp_path / "out"
    path.write_text(RECIPE.replace("LOSS", loss).replace("METRIC", select), encoding="utf-8")
    words = ["ablate", path, "--corpus", "toy", "--root", toy_root, "--store", toy_store, "--out", out]
    words += ["--over", "pooling", "--seeds", 1, "--jobs", 1, "--device", "cpu"]
    done = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    tree = json.loads((out / "report" / "ablation.json").read_text())
    assert tree["metric"] == metric
    found = {}
    for v in tree["variants"]:
        run = pipeline.Run(out / "runs" / v["key"] / "fold1-seed5")
        for split in ("dev", "test"):
            value = leads.measured(metric, [run.predictions("net", split)], [run.manifest], split).value
            assert v["values"][split][metric]["mean"] == pytest.approx(value)
            found[v["key"], split] = value
    for v in tree["variants"][1:]:
        for split in ("dev", "test"):
            better = leads.sign(metric) * (found["full", split] - found[v["key"], split])
            assert v["differences"][split][metric]["difference"] == pytest.approx(better)
        assert set(v["differences"]["test"]) == {"uar", "macro_f1", "accuracy", metric}
    title = {"ccc": "Mean CCC", "kl": "KL divergence", "uar": "UAR"}[metric]
    assert f"On test, by {title}, " in done.output
    assert f"dev {title}" in done.output
    assert ("variant − full" if metric == "kl" else "full − variant") in done.output


def test_where_a_split_lacks_what_the_recipe_chooses_by_uar_leads():
    manifest = heard()
    unrated = [
        dataclasses.replace(u, arousal=None, valence=None) if u.split == "test" else u for u in manifest.utterances
    ]
    lacking = dataclasses.replace(manifest, utterances=tuple(unrated))
    chosen = SimpleNamespace(
        plan=SimpleNamespace(variants=[SimpleNamespace(system=made_system(train={"select": "ccc"}))])
    )
    assert ablation_numbers._lead(chosen, [manifest], ["dev", "test"]) == "ccc"
    assert ablation_numbers._lead(chosen, [manifest, lacking], ["dev", "test"]) == "uar"
    assert ablation_numbers._lead(chosen, [lacking], ["dev"]) == "ccc"
