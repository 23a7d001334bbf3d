"""A table with ratings alone becomes a run on octants, a page that begins with the CCC, a bundle, and answers."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit
from serkit import comparison, pipeline, regions
from serkit.corpora.toy import toy
from serkit.pipeline import Run
from serkit.predictions import Predictions
from serkit.readers import read_corpora, read_labelled
from serkit.recipe import Recipe, parse_recipe
from serkit.serving import measured_lines, measuring
from serkit.serving.building import build
from serkit.serving.bundle import open_bundle
from serkit.serving.predictor import Model
from serkit.types import ATTRIBUTES

RECIPE = """
name: rated
labels: octants
systems:
  one:
    features: [{name: functionals}]
    model: {name: mean_pool, hidden: 16, neutral_head: false, normalize: train}
    losses: [cross_entropy]
    train: {epochs: 1, batch_size: 16, lr: 1.0e-2}
crossfit: null
stack: null
evaluate: {draws: 20}
"""
LED = """
  two:
    features: [{name: logmel/24, pool: 8}]
    model: {name: compact, channels: 16, heads: 4, n_blocks: 1, attribute_head: true}
    losses: [ccc, {name: cross_entropy, weight: {first: 1.0, last: 0.01, epochs: 2}}]
    train: {epochs: 5, batch_size: 16, lr: 5.0e-3, select: ccc, schedule: constant}
"""


def led(name: str, *overrides: str) -> Recipe:
    """One network that is led by ratings."""
    text = RECIPE[: RECIPE.index("systems:")] + "systems:" + LED + RECIPE[RECIPE.index("crossfit") :]
    return parse_recipe(text, (f"name={name}", *overrides))


@pytest.fixture(scope="module")
def table(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of the toy corpus without their emotions, one of them without a rating, on a scale of 0 to 1."""
    path = tmp_path_factory.mktemp("rated") / "rated.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "speaker", "gender", "split", *ATTRIBUTES))
        for k, u in enumerate(toy(toy_root)):
            ratings: list[Any] = [(value - 1) / 6 for value in u.attributes if value is not None]
            rows.writerow(
                (toy_root / u.audio, u.speaker, u.gender, u.split, "" if k == 5 else ratings[0], *ratings[1:])
            )
    return path


@pytest.fixture(scope="module")
def run(table: Path, toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    manifest = read_corpora(["table"], [table], options=["rating_scale=[0,1]"])
    thin = [c for c, n in regions.divided(manifest, "octants").split("train").counts().items() if n < 2]
    recipe = led("led", f"drop_labels=[{','.join(thin)}]")
    made = pipeline.prepare(recipe, manifest, tmp_path_factory.mktemp("led") / "run")
    pipeline.run_all(made, pipeline.Machine(toy_store, "cpu", jobs=1))
    return Run(made.folder)


def report(run: Run) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    return tree


def history(run: Run) -> list[dict[str, Any]]:
    lines = (run.network("two", "full") / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_epoch_of_the_highest_ccc_is_kept(run: Run) -> None:
    rows = history(run)
    dev = report(run)["systems"]["two"]["dev"]
    assert dev["ccc"]["value"] == pytest.approx(max(row["dev_ccc"] for row in rows), abs=1e-6)
    weights = [row["scaled_cross_entropy"] / row["loss_cross_entropy"] for row in rows]
    assert weights == pytest.approx([1.0, 0.505, 0.01, 0.01, 0.01], rel=1e-4)


def test_clips_without_ratings_are_counted_and_nothing_is_an_emotion(run: Run) -> None:
    tree = report(run)
    assert set(tree["labels"]) <= set(regions.classes("octants"))
    assert tree["provenance"]["corpus_info"]["regions"]["unrated"] == 1
    assert sum(tree["unlabelled"].values()) == 1
    assert tree["provenance"]["corpus_info"]["rating_scale"] == [0.0, 1.0]


def test_its_page_begins_with_the_ccc(run: Run) -> None:
    found = report(run)["systems"]["two"]["test"]
    value = f"{found['ccc']['value']:.3f}".replace("-", "−")
    text = (run.folder / "report" / "report.md").read_text(encoding="utf-8")
    _, headline, lead, *_ = [line for line in text.splitlines() if line]
    assert headline == f"**On test, two reaches a mean CCC of {value}.**"
    assert lead.startswith("two has a CCC of ")
    assert " for arousal, " in lead
    assert f" on test, mean {value} " in lead
    assert f"{found['ccc']['n']} rated utterances of 2 speakers" in lead
    assert "- two reaches a Macro-F1 of " in text
    page = (run.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert page.index("Mean CCC, two") < page.index("Macro-F1, two")
    assert "Classes are octants of the ratings" in page


def test_a_page_of_emotions_begins_as_before(toy_root: Path, toy_store: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE, ["labels=quadrants"])
    made = pipeline.prepare(recipe, toy(toy_root), tmp_path / "run")
    pipeline.run_all(made, pipeline.Machine(toy_store, "cpu", jobs=1))
    text = (made.folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "**On test, one reaches a Macro-F1 of " in text
    assert "Mean CCC" not in text


def test_two_such_runs_are_compared_by_their_ccc(run: Run) -> None:
    own = Predictions.load(run.predictions_path("two", "test"))
    worse = dataclasses.replace(own, attributes=-np.asarray(own.attributes))
    found = comparison.compare_attributes([own], [worse], [run.manifest], split="test", draws=50)
    assert [f.metric for f in found] == ["ccc_arousal", "ccc_valence", "ccc_dominance", "ccc"]
    assert all(f.difference > 0 for f in found), "against its answers turned round"


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build(run, tmp_path_factory.mktemp("bundle") / "led.zip", method="none").path)


def test_its_bundle_answers_octants_and_ratings(run: Run, bundle: Path) -> None:
    model: Model = serkit.load(bundle)
    clip = run.manifest.split("test").utterances[0]
    answer = model.predict(run.manifest.audio_path(clip))
    assert set(answer.probabilities) == set(run.manifest.labels)
    assert set(answer.attributes) == set(ATTRIBUTES)
    assert "These are classes of ratings, no emotions: a+ is high arousal" in open_bundle(bundle).text("card.md")


def test_it_is_measured_on_a_table_of_ratings(bundle: Path, table: Path) -> None:
    asked = read_labelled(["table"], [table], options=["rating_scale=[0,1]"])
    found = measuring.measure(bundle, asked, split="test", draws=20)
    assert set(found.predictions.labels) <= set(regions.classes("octants"))
    assert 0.0 <= found.report.metrics["uar"].value <= 1.0
    assert "ccc" in found.report.metrics


def test_a_ccc_across_scales_is_left_out_and_said(bundle: Path, table: Path) -> None:
    """Answers on a scale of 0 to 1 say nothing of ratings on another: that would measure the scales."""
    asked = read_labelled(["table"], [table], options=["rating_scale=[0,1]"])
    wider = dataclasses.replace(asked, info={**asked.info, "rating_scale": (-1.0, 2.0)})
    assert open_bundle(bundle).head["rating_scale"] == [0.0, 1.0]
    one, other = (measuring.measure(bundle, rows, split="test", draws=20) for rows in (asked, wider))
    assert one.scales is None
    assert other.scales == ((0.0, 1.0), (-1.0, 2.0))
    assert "ccc" not in other.report.metrics
    assert other.report.metrics["uar"].value == one.report.metrics["uar"].value, "the middle is the same"
    told = measured_lines.lines(other)
    assert "  no CCC: the model learned ratings from 0 to 1, these recordings are rated from -1 to 2" in told
    assert any(line.startswith("  classes are octants of the ratings of arousal, valence") for line in told)
    assert "scales" not in one.to_row()
    assert other.to_row()["scales"] == [[0.0, 1.0], [-1.0, 2.0]]


def test_models_with_the_same_labels_in_another_order_are_compared(bundle: Path, table: Path) -> None:
    asked = read_labelled(["table"], [table], options=["rating_scale=[0,1]"])
    one = measuring.measure(bundle, asked, split="test", draws=20)
    turned = one.labels[::-1]
    other = dataclasses.replace(one, labels=turned, predictions=one.predictions.among(turned))
    assert {round(d.difference, 9) for d in measuring.differences(one, other, draws=20)} == {0.0}


def test_a_model_of_mapped_classes_is_measured_on_these(table: Path, toy_store: Path, tmp_path: Path) -> None:
    manifest = read_corpora(["table"], [table], options=["rating_scale=[0,1]"])
    mapped = "map_labels={a+v+: active, a+v-: active, a-v+: passive, a-v-: passive}"
    made = pipeline.prepare(led("m", "labels=quadrants", "train.epochs=1", mapped), manifest, tmp_path / "run")
    pipeline.run_all(made, pipeline.Machine(toy_store, "cpu", jobs=1))
    made_of = Path(build(made, tmp_path / "m.zip", method="none").path)
    asked = read_labelled(["table"], [table], options=["rating_scale=[0,1]"])
    found = measuring.measure(made_of, asked, split="test", draws=20)
    own = json.loads((made.folder / "report" / "report.json").read_text(encoding="utf-8"))["systems"]["two"]["test"]
    assert set(found.labels) == {"active", "passive"}
    assert found.report.metrics["uar"].value == pytest.approx(own["uar"]["value"], abs=1e-6)
