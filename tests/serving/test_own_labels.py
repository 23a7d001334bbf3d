"""A bundle that answers with the labels of labelled clips in the place of its own."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

import serkit
from command_line import ask
from serkit import audio
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.probabilities import softmax
from serkit.reporting.explanation import explanation_page, explanation_text
from serkit.serving import adapting, labelled, measuring
from serkit.serving.bundle import Bundle, open_bundle
from serkit.serving.bundle_graph import to_onnx
from serkit.serving.labelled import Taught
from serkit.types import Manifest

from .asking import alike
from .signals import GOLDEN, RATE, talk, wide

OWN = {"anger": "upset", "fear": "upset", "sadness": "down", "neutral": "fine", "happiness": "fine"}
CLIPS = 40


@pytest.fixture(scope="module")
def rows(toy_root: Path) -> Manifest:
    """Clips with labels that no model has, each of one or two of the toy corpus's own."""
    found = toy(toy_root)
    kept = tuple(replace(u, emotion=OWN[str(u.emotion)], split=None, corpus="mine") for u in found if u.emotion in OWN)
    return replace(found, labels=("upset", "down", "fine"), utterances=kept, corpus="mine", class_sets={})


@pytest.fixture(scope="module")
def taught(rows: Manifest) -> Taught:
    return labelled.adapt(GOLDEN, rows, own_labels=True, at_most=CLIPS, draws=20)


@pytest.fixture(scope="module")
def bundle(taught: Taught, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return adapting.write((taught.head, dict(taught.files)), tmp_path_factory.mktemp("bundle") / "mine.zip")


def test_its_labels_are_those_of_the_clips(bundle: Bundle, taught: Taught) -> None:
    golden = open_bundle(GOLDEN)
    assert (bundle.head["format"], bundle.labels, bundle.scored) == (4, ("upset", "down", "fine"), golden.labels)
    facts = bundle.head["labelled"]
    assert facts["instead_of"] == list(golden.labels)
    assert (sum(facts["classes"].values()), set(facts["classes"])) == (CLIPS, set(bundle.labels))
    assert taught.before is None
    assert taught.differences == ()
    assert taught.after.report.metrics["uar"].value > 0.45, "by chance 0.33"
    assert bundle.held_out[0].shape == (CLIPS, 3)
    card = bundle.text("card.md")
    assert "Labels: upset, down, fine, learned from labelled clips: see the last section." in card
    assert f"these classes take the place of {golden.labels[0]}" in card
    assert f": {', '.join(golden.labels)}." not in card


def test_its_lines_have_one_recall_and_call_it_neither_before_nor_after(taught: Taught) -> None:
    said = [line for line in labelled.lines(taught) if "recall" in line]
    assert len(said) == 1
    assert said[0].split()[:2] == ["recall", "upset"]


def test_answers_are_a_regression_on_the_embeddings_alone(bundle: Bundle, rows: Manifest) -> None:
    model, golden = serkit.load(bundle.source), serkit.load(GOLDEN)
    path = rows.audio_path(rows.utterances[2])
    correction = bundle.correction
    assert correction is not None
    logits = golden.embed(path).astype(np.float64) @ correction.weights.astype(np.float64) + correction.bias
    answer = model.predict(path, by="clip")
    assert tuple(answer.probabilities) == ("upset", "down", "fine")
    assert list(answer.probabilities.values()) == pytest.approx(softmax(logits[None, :])[0], abs=1e-5)
    assert model.embed(path).tolist() == golden.embed(path).tolist()


def test_single_batch_stream_and_onnx_agree(bundle: Bundle, rows: Manifest) -> None:
    model = serkit.load(bundle.source)
    paths = [rows.audio_path(u) for u in rows.utterances[::23]]
    alone = alike(model, paths)
    parts = model.predict(talk(3), rate_hz=RATE)
    assert all(set(s.probabilities) == set(bundle.labels) for s in parts.segments)
    found = model.explain(paths[0])
    assert (found.probability, found.systems) == (pytest.approx(alone[0].max(), abs=1e-5), [])
    for shown in (explanation_text(found.to_row()), explanation_page(found.to_row())):
        assert "Each system alone" not in shown  # a heading with nothing under it
    session = onnxruntime.InferenceSession(to_onnx(bundle), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == list(bundle.labels)
    samples = audio.load(paths[1])
    (shares,) = session.run(["probabilities"], {"samples": samples})
    assert shares == pytest.approx(model.score_clips([samples])[0], abs=1e-4)


def test_measured_and_not_taught_again(bundle: Bundle, rows: Manifest) -> None:
    few = rows.where(lambda u: u.id in set(rows.ids[:12]))
    found = measuring.measure(bundle.source, few, draws=20)
    assert found.labels == tuple(x for x in bundle.labels if x in {u.emotion for u in few})
    with pytest.raises(SerkitError, match="adapted to labelled clips already"):
        labelled.adapt(bundle, rows, own_labels=True)


def test_what_is_refused(rows: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match=r"share fewer than two labels; .*upset; to answer with .* --own-labels"):
        labelled.adapt(GOLDEN, rows)
    once = (*rows.utterances, replace(rows.utterances[0], id="once", emotion="odd"))
    odd = replace(rows, labels=(*rows.labels, "odd"), utterances=once)
    with pytest.raises(SerkitError, match=r"1 clip of 'odd': a label of your own takes 2 .* --labels upset,down,fine"):
        labelled.adapt(GOLDEN, odd, own_labels=True, at_most=len(odd))
    drawn = np.random.default_rng(0).permutation([str(u.emotion) for u in rows])
    by_chance = tuple(replace(u, emotion=str(x)) for u, x in zip(rows.utterances, drawn, strict=True))
    with pytest.raises(
        SerkitError, match=r"do not tell them apart on clips held out by speaker: log loss 1\.099 by ch"
    ):
        labelled.adapt(GOLDEN, replace(rows, utterances=by_chance), own_labels=True, at_most=CLIPS)
    code, _, said = ask("adapt", "a.wav", "--own-labels", "-o", tmp_path / "x.zip")
    assert (code, "--own-labels is for labelled recordings" in said) == (2, True)


def heard(seed: int) -> np.ndarray:
    """A low voice, or of odd numbers a higher one with a hiss."""
    odd = seed % 2
    hiss = 0.05 * odd * np.random.default_rng(seed).standard_normal(int(0.8 * RATE)).astype(np.float32)
    return wide(0.8, seed, 220.0 if odd else 110.0) + hiss


def test_a_model_of_ratings_gets_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has regions of ratings for labels; with clips of two voices it tells them apart, and still gives ratings."""
    for package in ("torch", "transformers", "onnx"):
        pytest.importorskip(package)
    from serkit.serving import importing
    from tiny_checkpoints import with_ratings, without_hub

    without_hub(tmp_path, monkeypatch)
    with_ratings(tmp_path / "vad", kind="WavLM", stable=False)
    importing.import_checkpoint(f"path:{tmp_path / 'vad'}", tmp_path / "vad.zip")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "emotion", "speaker"])
        for k in range(40):
            soundfile.write(tmp_path / f"{k}.wav", heard(k), RATE)
            table.writerow([f"{k}.wav", "anger" if k % 2 else "neutral", f"s{k // 20}"])
    words = ("adapt", "--model", tmp_path / "vad.zip", "--corpus", "table", "--root", tmp_path / "labels.csv")
    code, _, said = ask(*words, "-o", tmp_path / "mine.zip")
    assert code == 2
    assert "no clip of 'table' is rated by arousal and valence; to answer with the labels of these clips" in said
    code, shown, said = ask(*words, "-o", tmp_path / "mine.zip", "--own-labels", "--draws", 20)
    assert code == 0, said
    assert "vad-adapted, which answers these labels and no longer a+v+, a+v-, a-v+, a-v-," in shown
    assert "by chance UAR would be 0.500" in shown
    model = serkit.load(tmp_path / "mine.zip")
    answers = [model.predict(heard(k), rate_hz=RATE) for k in (76, 77)]
    assert [answer.label for answer in answers] == ["neutral", "anger"]
    before = serkit.load(tmp_path / "vad.zip").predict(heard(76), rate_hz=RATE)
    assert dict(answers[0].attributes) == pytest.approx(dict(before.attributes), abs=1e-5)
    assert answers[0].notes == ()
    card = model.bundle.text("card.md")
    assert "Also predicts arousal, valence and dominance." in card
    assert "These are classes of ratings" not in card
