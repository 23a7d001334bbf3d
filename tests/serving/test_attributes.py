"""Arousal, valence and dominance from a run's networks to every answer: the same numbers on each way."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import serkit
from serkit import cli, pipeline
from serkit.combining import align
from serkit.commands import stages
from serkit.concordance import rating_scale
from serkit.corpora.toy import toy
from serkit.pipeline import Run
from serkit.recipe import parse_recipe
from serkit.serving import formats, model_card
from serkit.serving.building import build
from serkit.serving.bundle_graph import to_onnx
from serkit.serving.predictor import Model
from serkit.types import ATTRIBUTES

from .signals import RATE, talk, voice, wav

RECIPE = """
name: rated
systems:
  one:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, width: 16, heads: 2, attribute_head: true}
    losses: [cross_entropy, {name: ccc, weights: [1, 1, 0]}]
    train: {epochs: 2, batch_size: 32, lr: 5.0e-3}
  two:
    features: [{name: logmel/24, pool: 8}]
    model: {name: compact, channels: 16, heads: 4, n_blocks: 1, attribute_head: true}
    losses: [cross_entropy, {name: ccc, weights: [1, 0, 0]}]
    train: {epochs: 2, batch_size: 32, lr: 5.0e-3}
  three:
    features: [{name: mfcc/13, pool: 8}]
    model: {name: flam, width: 16, heads: 2}
    train: {epochs: 1, batch_size: 32}
crossfit: {folds: 2}
stack: {name: logistic, trees: 10, folds: 2}
evaluate: {draws: 20}
"""
KNOWN = ["arousal", "valence"]


@pytest.fixture(scope="module")
def rated(toy_root: Path, toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("rated")
    run = pipeline.prepare(parse_recipe(RECIPE), toy(toy_root), folder / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    return run, build(run, folder / "rated.zip", method="none").path


@pytest.fixture(scope="module")
def model(rated: tuple[Run, Path]) -> Model:
    return serkit.load(rated[1])


def test_its_onnx_file_answers_them_too(model: Model) -> None:
    content = to_onnx(model.bundle)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["attributes"]) == KNOWN
    for seed in range(3):
        clip = voice(1.3, seed)
        scores, ratings = session.run(["probabilities", "attributes"], {"samples": clip})
        assert np.r_[scores, ratings] == pytest.approx(model.score_clips([clip])[0], abs=1e-4)


def test_a_bundle_answers_what_the_run_predicted(rated: tuple[Run, Path], model: Model) -> None:
    run, _ = rated
    assert list(model.attributes) == KNOWN
    rows = [u for u in run.manifest if u.split == "test"][:8]
    wanted = run.predictions("stack", "test").take([u.id for u in rows]).attributes
    assert wanted is not None
    for u, numbers in zip(rows, wanted, strict=True):
        found = model.predict(run.manifest.audio_path(u), by="clip")
        assert list(found.attributes) == KNOWN
        np.testing.assert_allclose(list(found.attributes.values()), numbers[:2], atol=1e-3)
    assert np.isnan(wanted[:, 2]).all()  # dominance was not taught
    each = [run.predictions(name, "test").pooled() for name in ("one", "two")]
    assert align(each).ids == run.predictions("stack", "test").ids
    mean = (each[0].attributes[:, 0] + each[1].attributes[:, 0]) / 2  # type: ignore[index]
    np.testing.assert_allclose(run.predictions("stack", "test").attributes[:, 0], mean)  # type: ignore[index]
    np.testing.assert_allclose(run.predictions("stack", "test").attributes[:, 1], each[0].attributes[:, 1])  # type: ignore[index]


def test_file_stream_and_batch_say_the_same(model: Model) -> None:
    sound = np.round(talk(4) * 32767).astype(np.int16)
    whole = model.predict(sound, rate_hz=RATE)
    stream = model.stream(rate_hz=RATE)
    for start in range(0, len(sound), 4001):
        stream.push(sound[start : start + 4001])
    stream.finish()
    assert stream.prediction == whole
    assert whole.segments
    assert all(list(s.attributes) == KNOWN for s in whole.segments)
    clips = [voice(1.0, k, 100.0 + 40 * k).astype(np.float32) for k in range(3)]
    alone = np.stack([model.score_one(clip, None, model.columns(None)) for clip in clips])
    np.testing.assert_allclose(model.score_clips(clips), alone, atol=1e-4)
    assert model.predict_proba([wav(c) for c in clips]).shape == (3, len(model.labels))
    few = model.predict(sound, rate_hz=RATE, labels=("anger", "neutral"))
    assert few.attributes == whole.attributes  # fewer classes, the same voice


def test_a_long_recording_and_a_channel_are_the_mean_over_speech(model: Model) -> None:
    sound = talk(24)
    assert len(sound) > model.max_clip_s * RATE
    found = model.predict(sound, rate_hz=RATE)
    weights = [s.speech_s for s in found.segments]
    for name in KNOWN:
        mean = np.average([s.attributes[name] for s in found.segments], weights=weights)
        assert found.attributes[name] == pytest.approx(mean, abs=1e-3)
    two = model.predict(wav(np.stack([sound, 0.5 * sound[::-1]], axis=1)), by="channel")
    shares = [s.speech_s for s in two.speakers]
    for name in KNOWN:
        mean = np.average([s.attributes[name] for s in two.speakers], weights=shares)
        assert two.attributes[name] == pytest.approx(mean, abs=1e-9)


def test_every_format_has_them(model: Model) -> None:
    found = model.predict(talk(3), rate_hz=RATE)
    row = json.loads(formats.document("json", [found], timeline=True))
    assert row["attributes"] == dict(found.attributes)
    assert [s["attributes"] for s in row["segments"]] == [dict(s.attributes) for s in found.segments]
    for timeline, parts in ((False, [found]), (True, found.segments)):
        rows = list(csv.DictReader(io.StringIO(formats.document("csv", [found], timeline=timeline))))
        assert list(rows[0])[-2:] == KNOWN
        assert [float(r["arousal"]) for r in rows] == pytest.approx([p.attributes["arousal"] for p in parts], abs=1e-6)
    table = formats.document("table", [found], timeline=True)
    said = f"; arousal {found.attributes['arousal']:.2f}, valence {found.attributes['valence']:.2f}"
    assert said in table.splitlines()[0]
    head, first = table.splitlines()[2:4]
    assert head.split()[-2:] == KNOWN
    assert first.split()[-2:] == [f"{v:.2f}" for v in found.segments[0].attributes.values()]


def test_the_service_has_them_and_says_so(rated: tuple[Run, Path], model: Model, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from .service import Service

    sound = wav(np.round(talk(3) * 32768) / 32768, subtype="PCM_16")
    with Service(tmp_path, workers=1, model=str(rated[1])) as service:
        assert service.client.get("/v1/model").json()["attributes"] == KNOWN
        result = service.predict(sound, timeline="true").json()["results"][0]
    truth = model.predict(sound)
    assert result["attributes"] == dict(truth.attributes)
    assert [s["attributes"] for s in result["segments"]] == [dict(s.attributes) for s in truth.segments]


def test_the_card_says_how_right_they_are(model: Model) -> None:
    card = model.bundle.text("card.md")
    assert "Also predicts arousal and valence, as numbers on 1 to 7." in card
    assert "| test | all | CCC, arousal |" in card
    assert "CCC, dominance" not in card


def test_the_card_names_the_scale_of_the_corpora_that_are_rated(rated: tuple[Run, Path]) -> None:
    rows = rated[0].manifest.utterances
    scales = {"table": None, "unrated": (1, 5)}
    other = [dataclasses.replace(u, id=f"other_{u.id}", corpus="unrated", **dict.fromkeys(ATTRIBUTES)) for u in rows]
    mine = [dataclasses.replace(u, corpus="table") for u in rows]
    for scale, told in ((None, "the scale of its training data"), ((1, 9), "1 to 9")):
        info = {"corpora": {name: {"rating_scale": scale if name == "table" else own} for name, own in scales.items()}}
        joined = dataclasses.replace(rated[0].manifest, utterances=(*other, *mine), info=info)
        known = rating_scale(joined)
        assert known == scale
        said = model_card._attributes({"attributes": KNOWN, **({"rating_scale": known} if known else {})})
        assert said == f" Also predicts arousal and valence, as numbers on {told}."


def test_a_model_without_them_has_none(toy_root: Path) -> None:
    torch.manual_seed(0)
    found = serkit.load("default").predict(talk(2), rate_hz=RATE)
    assert found.attributes == {}
    assert found.to_row()["attributes"] == {}
    assert formats.header("csv", ("a", "b"), timeline=False) == "path,label,confidence,abstain,a,b\n"


def test_the_command_line_tells_and_compares_the_ccc(
    rated: tuple[Run, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = rated
    stages._summary(run.folder)
    told = capsys.readouterr().out
    tree = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    header, *lines = told.splitlines()
    assert header.endswith("test CCC")
    last = {row.split()[0]: row.split()[-1] for row in lines if row.split()[0] in tree["systems"]}
    assert last["one"] == f"{tree['systems']['one']['test']['ccc']['value']:.3f}"
    assert last["three"] == "-"
    command = ["compare", str(run.folder), str(run.folder), "--system-a", "one", "--system-b", "two", "--draws", "20"]
    rows = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).stdout)
    found = {row["metric"]: row for row in rows}
    assert found["ccc"]["value_a"] == pytest.approx(found["ccc_arousal"]["value_a"])  # the only one that both learned
    assert found["ccc_arousal"]["value_b"] == pytest.approx(tree["systems"]["two"]["test"]["ccc_arousal"]["value"])
    assert "  ccc_arousal " in CliRunner().invoke(cli.app, command).stdout
