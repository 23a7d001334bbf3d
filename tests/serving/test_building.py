"""A run becomes a bundle whose answers are the run's own, from the sound up."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import serkit
from made import made_manifest
from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.networks import load_network
from serkit.pipeline import Run
from serkit.predictions import Predictions
from serkit.probabilities import softmax
from serkit.recipe import load_recipe, parse_recipe
from serkit.serving.building import build
from serkit.serving.model_card import _content, _data, _unheard
from serkit.serving.predictor import Model


def served(model: Model, run: Run, split: str) -> tuple[tuple[str, ...], np.ndarray]:
    """What the bundle answers on the recordings of a split, with the corpus's own text."""
    rows = [u for u in run.manifest if u.split == split]
    found = [model.predict(run.manifest.audio_path(u), text=u.text, by="clip") for u in rows]
    return tuple(u.id for u in rows), np.array([list(p.probabilities.values()) for p in found])


@pytest.mark.parametrize("system", [None, "sound", "logistic", "log_pool", "vote", "mean_logit", "mean_probability"])
def test_a_bundle_answers_what_the_run_measured(finished: Path, tmp_path: Path, system: str | None) -> None:
    run = Run(finished)
    made = build(run, tmp_path / "bundle", system=system, method="none")
    assert made.difference < 1e-4
    ids, found = served(serkit.load(made.path), run, "test")
    wanted = run.predictions(system or "stack", "test").pooled().take(ids).probabilities()
    assert np.abs(found - wanted).max() < 1e-5
    assert np.ptp(wanted, axis=0).max() > 0.001


def test_calibration_is_applied_and_recorded(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    bundle = serkit.load(build(run, tmp_path / "b.zip", name="mine").path)
    assert bundle.id.startswith("mine@")
    ids, found = served(bundle, run, "test")
    raw = run.predictions("stack", "test").take(ids).probabilities()
    assert np.abs(found - bundle.bundle.calibration.apply(raw)).max() < 1e-4
    record = bundle.bundle.calibration.record
    assert record["splits"] == ["dev", "train (out-of-fold)"]
    assert record["rows"] == 60
    assert set(record["test"]) >= {"ece_before", "ece_after", "rows", "speakers"}
    probabilities, truth = bundle.bundle.held_out
    assert len(truth) == 60
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_where_the_speakers_of_dev_train_too_all_rows_are_out_of_fold_and_said_to_be(
    small_text: str, toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    changes = ["crossfit.with_dev=true", "train.select=last", "train.epochs=1", "stack=null"]
    run = pipeline.prepare(parse_recipe(small_text, changes), toy(toy_root), tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    bundle = serkit.load(build(run, tmp_path / "b").path).bundle
    assert bundle.calibration.record["splits"] == ["dev (out-of-fold)", "train (out-of-fold)"]
    assert bundle.calibration.record["rows"] == len(run.manifest.split("train")) + len(run.manifest.split("dev"))
    card = bundle.text("card.md")
    assert "| dev, out-of-fold | all | UAR |" in card
    assert "was chosen on" not in card  # the last epoch is kept, so nothing was
    heard = {u.speaker for u in run.manifest if u.split in ("train", "dev")}
    assert f"| {len(run.manifest.split('train')) + len(run.manifest.split('dev'))} | {len(heard)} |" in card


def test_held_out_answers_are_among_all_classes_like_those_of_the_bundle(
    small_text: str, toy_root: Path, toy_store: Path, tmp_path: Path
) -> None:
    """Tables of an ensemble are among the classes of each corpus; who asks a bundle does not say of which one it is."""
    whole = toy(toy_root)
    rows = [
        dataclasses.replace(u, corpus="two" if u.speaker in ("s2", "s5") else "one")
        for u in whole
        if not (u.speaker in ("s2", "s5") and u.emotion == "fear")
    ]
    few = tuple(label for label in whole.labels if label != "fear")
    sets = {"one": whole.labels, "two": few}
    both = dataclasses.replace(whole, corpus="one+two", utterances=tuple(rows), class_sets=sets)
    run = pipeline.prepare(parse_recipe(small_text, ["train.epochs=1"]), both, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(toy_store, "cpu", jobs=1))
    fear, place = both.labels.index("fear"), {u.id: u for u in both}
    logs = {split: [run.predictions(n, split).pooled() for n in ("sound", "both")] for split in ("dev", "train")}
    wanted = [np.log([t.probabilities() for t in tables]).mean(axis=0) for tables in logs.values()]
    ids = [name for tables in logs.values() for name in tables[0].ids]
    for system in ("mean_logit", "stack", "vote"):
        table = run.predictions(system, "train").pooled()
        of_two = [place[name].corpus == "two" for name in table.ids]
        assert table.probabilities()[of_two, fear].max() < 1e-9
        held = build(run, tmp_path / system, system=system, method="none").path
        found = serkit.load(held).bundle.held_out[0]
        assert found[[place[name].corpus == "two" for name in ids], fear].max() > 0.01
        if system == "mean_logit":
            assert np.allclose(found, softmax(np.concatenate(wanted)), atol=1e-6)


def test_no_training_row_is_calibrated_on_by_its_own_network(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    table = run.predictions("sound", "train")
    Predictions(
        table.system, table.labels, table.kind, table.ids, table.models, np.ones(len(table), bool), table.scores
    ).save(run.predictions_path("sound", "train"))
    with pytest.raises(SerkitError, match="trained on"):
        build(run, tmp_path / "b", system="sound")


@pytest.mark.parametrize(("weights", "close"), [("float16", 0.01), ("int8", 0.1)])
def test_smaller_weights_answer_nearly_the_same(finished: Path, tmp_path: Path, weights: str, close: float) -> None:
    run = Run(finished)
    full = build(run, tmp_path / "full", system="sound")
    small = build(run, tmp_path / "small", system="sound", weights=weights)  # type: ignore[arg-type]
    assert small.n_bytes < full.n_bytes
    gap = np.abs(served(serkit.load(full.path), run, "test")[1] - served(serkit.load(small.path), run, "test")[1])
    assert 0 < gap.max() < close
    head = json.loads((tmp_path / "small" / "bundle.json").read_text(encoding="utf-8"))
    assert head["largest_difference"] == small.difference > full.difference


def made_sets(bundle: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["sets"]
    return found


def test_the_card_tells_what_a_person_should_know(finished: Path, tmp_path: Path) -> None:
    made = build(Run(finished), tmp_path / "b", licence="CC BY-NC-SA 4.0", notes="Measured elsewhere, too.")
    text = (made.path / "card.md").read_text(encoding="utf-8")
    for title in ("Intended use", "Data", "Measured results", "By class", "Calibration", "Known failures", "Licence"):
        assert f"\n## {title}\n" in text
    report = json.loads((finished / "report" / "report.json").read_text(encoding="utf-8"))
    uar = report["systems"]["stack"]["test"]["uar"]
    assert f"| test | all | UAR | {uar['value']:.3f} | {uar['low']:.3f} to {uar['high']:.3f}" in text
    assert "Toy speech of serkit" in text
    women = report["details"]["stack"]["test"]["slices"]["gender"]["female"]["uar"]
    [line] = re.findall(r"^- UAR by gender: .*$", text, re.MULTILINE)
    assert f"female {women['value']:.3f} ({women['low']:.3f} to {women['high']:.3f}; {women['n']} clips, " in line
    assert re.search(r"Not compared: female \(\d+ clips?, fewer than 30\) and male \(", line)
    assert "acted or generated" in text
    diagram = re.findall(r"^(0\.\d\d) to \d\.\d\d +(\d\.\d\d) +(\d+)  [·|o-]{41}$", text, re.MULTILINE)
    assert sum(int(n) for _, _, n in diagram) == 60
    drawn = ElementTree.fromstring((made.path / "reliability.svg").read_text(encoding="utf-8"))
    circles = [e for e in drawn.iter() if e.tag.endswith("circle")]
    assert len(circles) >= len(diagram) > 0
    assert "](reliability.svg)" in text
    [row] = [row for row in made_sets(made.path) if row["coverage"] == 0.9]
    assert row["held"]["n"] == 60
    assert f"| 0.9 | {row['held']['value']:.3f} | {row['held']['low']:.3f} to" in text
    assert "\n## Sets of classes\n" in text
    assert "\n## Notes\n\nMeasured elsewhere, too.\n" in text
    assert "CC BY-NC-SA 4.0" in (made.path / "LICENCE.md").read_text(encoding="utf-8")
    about = json.loads((made.path / "bundle.json").read_text(encoding="utf-8"))
    loaded = [load_network(Run(finished).network(n["system"], n["model"]))[0] for n in about["networks"]]
    assert f"{sum(p.numel() for n in loaded for p in n.parameters())} parameters in all" in text
    assert "Also needed: none" in text
    assert re.search(r"Encoders: `[^`]+` \(licence Apache-2.0", text)
    assert ("It also uses text, and the numbers are with texts as the corpora have them." in text) == any(
        "text" in key for key in about["features"]
    )
    pretrained = {**about, "features": {"w": {"spec": {"name": "wavlm/large"}}}}
    assert "Also needed: the weights of `wavlm/large` (1.26 GB)" in _content(pretrained, Run(finished))
    spec = {"name": "wavlm/large", "source": "local", "revision": "weights-1f"}
    substituted = {**about, "features": {"w": {"spec": spec}}}
    said = "Also needed: the weights of `wavlm/large` (`weights-1f` of a folder in place of the published ones)."
    assert said in _content(substituted, Run(finished)), "the published size is not theirs"
    borrowed = {**about, "features": {"s": {"spec": {"name": "silero", "source": "silero-vad"}}}}
    said = "Also needed: the weights of `silero` (in the package silero-vad, installed with serkit)."
    assert said in _content(borrowed, Run(finished))
    spec = {"name": "smart_turn", "source": "smart-turn-v3.2-cpu.onnx"}
    said = "the weights of `smart_turn` (in the package pipecat-ai, which is not installed with serkit)."
    assert said in _content({**about, "features": {"s": {"spec": spec}}}, Run(finished))
    assert serkit.load(made.path).bundle.text("card.md") == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy", "voices, singing, whispering, telephone lines and strong noise were not among them."),
        ("default", "voices, singing, whispering and telephone lines were not among them. Training included clips "
                    "modified to sound as in noise, the voice at least 10 dB louder; the numbers are not for those."),
        ("telephone", "voices, singing and whispering were not among them. Training included clips modified to sound "
                      "as over a telephone line and in noise, the voice at least 10 dB louder; the numbers are not for "
                      "those."),
    ],
)  # fmt: skip
def test_the_card_says_what_only_training_heard(name: str, said: str) -> None:
    assert said in _unheard(load_recipe(name))


def test_text_that_is_absent_is_said(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    model = serkit.load(build(run, tmp_path / "b").path)
    path = run.manifest.audio_path(next(iter(run.manifest)))
    assert "empty text" in model.predict(path).notes[0]
    assert model.predict(path, text="did you hear that").notes == ()


def test_what_cannot_be_bundled_is_refused(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    with pytest.raises(SerkitError, match="did you mean 'sound'"):
        build(run, tmp_path / "b", system="sounds")
    build(run, tmp_path / "b.zip", system="sound")
    with pytest.raises(SerkitError, match="exists already"):
        build(run, tmp_path / "b.zip", system="sound")
    assert zipfile.ZipFile(tmp_path / "b.zip").testzip() is None
    (finished / "report" / "report.json").unlink()
    with pytest.raises(SerkitError, match="evaluate the run"):
        build(run, tmp_path / "c", system="sound")
    assert not (tmp_path / "c").exists()


def test_a_run_on_a_model_in_a_folder_is_bundled_and_a_changed_folder_is_refused_before_anything_is_written(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from safetensors.numpy import load_file, save_file

    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "cache"))
    folder = tiny_folder("wavlm", tmp_path / "model")
    text = f"""
        name: own
        labels: corpus
        systems:
          one:
            features: [{{name: "path:{folder}", layer: 1, pool: 4}}]
            model: {{name: cross_attention, hidden: 8}}
            losses: [cross_entropy]
            train: {{epochs: 1, batch_size: 16}}
        evaluate: {{draws: 10}}
        """
    clips = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    run = pipeline.prepare(parse_recipe(text), clips, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    made = build(Run(run.folder), tmp_path / "bundle")
    first = run.manifest.split("test").utterances[0]
    assert first.audio is not None
    assert serkit.load(made.path).predict(toy_root / first.audio).label in run.manifest.labels
    card = (made.path / "card.md").read_text(encoding="utf-8")
    assert re.search(r"Also needed: the weights of `path:[^`]+` \(`weights-[0-9a-f]+` of a folder\)\.", card)
    with pytest.raises(SerkitError, match="exists already"):
        build(Run(run.folder), made.path, progress=lambda line: pytest.fail("said only when all the work is done"))

    weights = folder / "model.safetensors"
    save_file({k: v + 1 for k, v in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(SerkitError, match=r"put the folder with those weights into roots\.yaml"):
        serkit.load(made.path)
    with pytest.raises(SerkitError, match="whose numbers differ"):
        build(Run(run.folder), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_clips_that_teach_nothing_are_not_among_those_of_training():
    rows = made_manifest()
    taught = [u for u in rows if u.split == "train"]
    open_ones = {u.id for u in taught[:5]}
    rows = dataclasses.replace(
        rows, utterances=tuple(dataclasses.replace(u, emotion=None) if u.id in open_ones else u for u in rows)
    )
    text = "name: r\nsystems: {a: {features: [logmel/24], model: mean_pool}}\ncrossfit: null\nstack: null"
    speakers = len({u.speaker for u in taught[5:]})
    assert f"| {len(taught) - 5} | {speakers} |" in _data(SimpleNamespace(manifest=rows, recipe=parse_recipe(text)))
