"""Published classifiers as bundles: transformers' own answers, on every path of serving."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import serkit
from command_line import ask
from serkit.errors import SerkitError

from .signals import RATE, talk, voice, wav, wide

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnx")

from serkit.foundation import classifiers  # noqa: E402  # what it needs is an extra
from serkit.serving import importing  # noqa: E402  # the same
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same
from tiny_checkpoints import classifier, edit  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

CANONICAL = ("neutral", "happiness", "anger", "sadness")
VARIANTS = [
    ("Wav2Vec2", False, False, True),
    ("Wav2Vec2", False, True, False),
    ("Wav2Vec2", True, True, True),
    ("Hubert", False, False, False),
    ("Hubert", True, True, True),
    ("Hubert", True, False, True),
    ("WavLM", False, True, True),
    ("WavLM", True, True, False),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 labelled clips of two speakers, of two classes that differ in pitch."""
    folder = tmp_path_factory.mktemp("clips")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "emotion", "speaker"])
        for k in range(40):
            angry = k % 2 == 1
            soundfile.write(folder / f"{k}.wav", wide(0.8, k, 220.0 if angry else 110.0), RATE)
            rows.writerow([f"{k}.wav", "anger" if angry else "neutral", f"s{k // 20}"])
    return folder / "labels.csv"


def by_transformers(model: Any, folder: Path, samples: np.ndarray) -> np.ndarray:
    """(classes,) probabilities of a clip alone."""
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**front(samples, sampling_rate=RATE, return_tensors="pt")).logits
    return np.asarray(logits.softmax(-1)[0])


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize(("kind", "stable", "weighted", "normalise"), VARIANTS)
def test_answers_are_those_of_transformers(
    kind: str, stable: bool, weighted: bool, normalise: bool, tmp_path: Path
) -> None:
    model = classifier(tmp_path / "er", kind, stable=stable, weighted=weighted, normalise=normalise)
    made = importing.import_checkpoint(f"path:{tmp_path / 'er'}", tmp_path / "er.zip")
    assert max(made.difference, open_bundle(made.path).head["largest_difference"]) < 1e-4
    answering = serkit.load(tmp_path / "er.zip")
    assert answering.labels == CANONICAL
    found = []
    for clip in (wide(1.3), wide(0.7, 5, 240.0), talk(2)):
        wanted = by_transformers(model, tmp_path / "er", clip)
        answer = answering.predict(clip, rate_hz=RATE)
        found.append(list(answer.probabilities.values()))
        np.testing.assert_allclose(found[-1], wanted, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.02, "the answers should differ from clip to clip"


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM"])
def test_the_last_state_is_summed_as_the_version_that_wrote_the_checkpoint_did(kind: str, tmp_path: Path) -> None:
    """transformers 4 summed the normalised last state of stable networks, whatever version is here now."""
    model = classifier(tmp_path / "er", kind, stable=True, weighted=True, written_by="4.10.0.dev0")
    importing.import_checkpoint(f"path:{tmp_path / 'er'}", tmp_path / "er.zip")
    clip = wide(1.3)
    front = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "er")
    with torch.inference_mode():
        values = front(clip, sampling_rate=RATE, return_tensors="pt")["input_values"]
        states = model.base_model(values, output_hidden_states=True)
        summed = torch.stack([*states.hidden_states[:-1], states.last_hidden_state])
        mixed = (model.layer_weights.softmax(0)[:, None, None, None] * summed).sum(0)
        wanted = model.classifier(model.projector(mixed).mean(1)).softmax(-1)[0].numpy()
    answer = list(serkit.load(tmp_path / "er.zip").predict(clip, rate_hz=RATE).probabilities.values())
    np.testing.assert_allclose(answer, wanted, atol=1e-4)


def test_old_names_of_weights_in_a_bin_file(copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    clip = wide(1.0)
    weights = load_file(copy / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        weights = {key.replace(new, name): value for key, value in weights.items()}
    assert any(key.endswith("weight_g") for key in weights)
    importing.import_checkpoint(f"path:{copy}", tmp_path / "safe.zip")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    importing.import_checkpoint(f"path:{copy}", tmp_path / "bin.zip")
    both = [serkit.load(tmp_path / f"{name}.zip").predict(clip, rate_hz=RATE) for name in ("safe", "bin")]
    assert both[0].probabilities == both[1].probabilities


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_smaller_weights(weights: Any, published: Path, bundle: Path, tmp_path: Path) -> None:
    made = importing.import_checkpoint(f"path:{published}", tmp_path / "small", weights=weights)
    whole, clip = serkit.load(bundle), wide(1.0)
    assert made.n_bytes < len(open_bundle(bundle).read("networks/imported.onnx"))
    answers = [
        list(m.predict(clip, rate_hz=RATE).probabilities.values()) for m in (serkit.load(tmp_path / "small"), whole)
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=0.05)


def test_the_same_checkpoint_gives_the_same_bytes(published: Path, bundle: Path, tmp_path: Path) -> None:
    importing.import_checkpoint(f"path:{published}", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


# ---------------------------------------------------------------- every path of serving


def test_prediction_needs_no_torch(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(talk(2)))
    code = (
        "import sys, serkit\n"
        f"model = serkit.load({str(bundle)!r})\n"
        f"print(model.predict({str(tmp_path / 'a.wav')!r}, by='segment').label)\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() in CANONICAL


def test_a_stream_gives_the_parts_of_the_file(bundle: Path) -> None:
    model, sound = serkit.load(bundle), talk(4)
    whole = model.predict(sound, rate_hz=RATE, by="segment")
    assert len(whole.segments) == 4
    stream = model.stream(rate_hz=RATE)
    for k in range(0, len(sound), 4000):
        stream.push(sound[k : k + 4000])
    stream.finish()
    assert stream.prediction.segments == whole.segments
    assert stream.prediction.probabilities == whole.probabilities


def test_a_long_recording_is_answered_by_its_speech(published: Path, tmp_path: Path) -> None:
    importing.import_checkpoint(f"path:{published}", tmp_path / "short.zip", max_clip_s=2.0)
    model = serkit.load(tmp_path / "short.zip")
    sound = talk(3)
    answer, parts = model.predict(sound, rate_hz=RATE), model.predict(sound, rate_hz=RATE, by="segment").segments
    mean = np.average([list(p.probabilities.values()) for p in parts], axis=0, weights=[p.speech_s for p in parts])
    np.testing.assert_allclose(list(answer.probabilities.values()), mean, atol=1e-6)


def test_predict_says_that_confidence_is_not_calibrated(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(wide(1.0)))
    code, shown, said = ask("predict", tmp_path / "a.wav", "--model", bundle)
    assert (code, "[unsure]" in shown) == (0, False)
    assert "not calibrated" in said
    code, shown, _ = ask("predict", tmp_path / "a.wav", "--model", bundle, "--format", "json")
    assert ["not calibrated" in note for note in json.loads(shown)["notes"]] == [True]
    code, _, said = ask("predict", tmp_path / "a.wav", "--model", bundle, "--threshold", "0.8")
    assert (code, "keeps no measured clips" in said) == (2, True)


def test_measured_with_a_word_on_what_it_may_know(bundle: Path, table: Path) -> None:
    code, shown, _ = ask("measure", bundle, "--corpus", "table", "--root", table, "--draws", 20)
    assert code == 0
    assert "n = 40, 2 classes (neutral, anger)" in shown
    assert "its training data are unknown: it may know these speakers" in shown


def test_adapted_with_labels_it_is_no_longer_uncalibrated(bundle: Path, table: Path, tmp_path: Path) -> None:
    words = ("adapt", "--model", bundle, "--corpus", "table", "--root", table, "-o", tmp_path / "mine.zip")
    code, _, said = ask(*words, "--draws", 20)
    assert code == 0, said
    taught = serkit.load(tmp_path / "mine.zip")
    answers = [taught.predict(wide(0.8, 77, pitch), rate_hz=RATE) for pitch in (110.0, 220.0)]
    assert [answer.label for answer in answers] == ["neutral", "anger"]
    assert answers[0].notes == ()
    assert "## Adapted with labels" in taught.bundle.text("card.md")


def test_adapted_without_labels_is_refused_with_the_way_out(bundle: Path, table: Path, tmp_path: Path) -> None:
    code, _, said = ask("adapt", table.parent, "--model", bundle, "-o", tmp_path / "mine.zip")
    assert (code, "labelled clips can adapt any bundle: --corpus" in said) == (2, True)


def test_explained(bundle: Path) -> None:
    found = serkit.load(bundle).explain(wide(1.0), rate_hz=RATE)
    assert found.label in CANONICAL


# ---------------------------------------------------------------- what a bundle says of itself


def test_the_card_is_frank(bundle: Path, published: Path) -> None:
    found = open_bundle(bundle)
    card = found.text("card.md")
    facts = found.head["imported"]
    for said in (
        "Imported from the local folder ready-er", "neither trained nor measured", "Weights: other (ours) (as its",
        "data sets: iemocap; languages: en", "None. Measure it", facts["weights"], f"weights-{facts['weights']}",
        "HubertForSequenceClassification", "| hap | happiness |", "sum of all layers, the last one before its norm",
    ):  # fmt: skip
        assert said in card
    assert str(published.parent) not in card + json.dumps(found.head), "no place on this machine goes into a bundle"
    assert (found.name, found.head["licence"]["weights"]) == ("ready-er", "other (ours)")
    assert facts["labels"] == {"neu": "neutral", "hap": "happiness", "ang": "anger", "sad": "sadness"}
    code, shown, _ = ask("predict", "x", "--model", bundle, "--version")
    assert (code, "weights: other (ours)" in shown) == (0, True)


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        (None, "unknown"), ("# Ready\n\nlicense: mit\n", "unknown"), ("---\nlicense: [unclosed\n---\n", "unknown"),
        ("---\n- license\n---\n", "unknown"), ("---\ntags: [a]\n---\n", "unknown"), ("---\nlicense: mit", "unknown"),
        ("---\r\nlicense: apache-2.0\r\n---\r\n", "apache-2.0"), ("---\nlicense:\n- mit\n- cc\n---\n", "mit, cc"),
        ('---\nlicense: "cc\\n\\e[1m by"\n---\n', "cc [1m by"),
    ],
)  # fmt: skip
def test_the_licence_is_what_the_readme_says_or_unknown(readme: str | None, licence: str, copy: Path) -> None:
    (copy / "README.md").unlink()
    if readme is not None:
        (copy / "README.md").write_text(readme, newline="")
    assert classifiers.read(f"path:{copy}").licence == licence


def test_a_licence_that_is_given(copy: Path, tmp_path: Path) -> None:
    importing.import_checkpoint(f"path:{copy}", tmp_path / "x", licence="CC BY 4.0", name="mine")
    found = open_bundle(tmp_path / "x")
    assert (found.name, found.head["licence"]["weights"]) == ("mine", "CC BY 4.0")
    assert "CC BY 4.0 (as given by the person who imported it)" in found.text("card.md")


def test_from_the_cache_of_the_hub(published: Path, tmp_path: Path) -> None:
    """What an earlier download left, without a connection: the commit becomes the revision."""
    commit, place = "0123456789" * 4, tmp_path / "hub" / "models--me--ready"
    shutil.copytree(published, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    found = classifiers.read("hub:me/ready")
    assert (found.title, found.revision, found.licence) == ("hub:me/ready", commit, "other (ours)")
    importing.import_checkpoint("hub:me/ready", tmp_path / "hub.zip")
    assert open_bundle(tmp_path / "hub.zip").name == "ready"


def test_a_folder_in_the_place_of_the_hub(published: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "roots.yaml").write_text(f"checkpoints:\n  'hub:me/ready': {published}\n")
    found = classifiers.read("hub:me/ready")
    assert found.title == "hub:me/ready (the files of a local folder in its place)"
    assert (found.short, found.revision) == ("ready", f"weights-{found.weights}")


# ---------------------------------------------------------------- labels


def labelled(folder: Path, words: tuple[str, ...], **renamed: str) -> tuple[str, ...]:
    edit(folder / "config.json", id2label={str(k): word for k, word in enumerate(words)})
    return classifiers.read(f"path:{folder}", renamed).labels


def test_clear_words_become_canonical_and_others_stay(copy: Path) -> None:
    found = labelled(copy, ("Angry", "calm", "DIS", "fearful", "male_sad", "surprised", "none"))
    assert found == ("anger", "calm", "disgust", "fear", "male_sad", "surprise", "none")
    assert labelled(copy, ("female", "male"), female="happy", **{"1": "sadness"}) == ("happiness", "sadness")


def test_labels_without_names_are_refused_until_they_have_some(copy: Path) -> None:
    words = ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(SerkitError, match=r"LABEL_0, LABEL_1, LABEL_2\. .*--labels LABEL_0=NAME,LABEL_1=NAME,…"):
        labelled(copy, words)
    with pytest.raises(SerkitError, match=r"what its classes are: LABEL_2\."):
        labelled(copy, words, LABEL_0="sad", LABEL_1="ang")
    assert labelled(copy, words, LABEL_0="sad", LABEL_1="Ang", **{"2": "pride"}) == ("sadness", "anger", "pride")
    assert labelled(copy, ("neu", "joy, awe"), **{"1": "awe"}) == ("neutral", "awe")
    edit(copy / "config.json", id2label=None)
    with pytest.raises(SerkitError, match="LABEL_0, LABEL_1"):
        classifiers.read(f"path:{copy}")


@pytest.mark.parametrize(
    ("words", "renamed", "said"),
    [
        (("happy", "joy", "sad"), {}, "happy, joy would all be 'happiness'"),
        (("neu", "sad"), {"nue": "neutral"}, "no label 'nue'; did you mean 'neu'"),
        (("neu", "sad"), {"neu": "nuetral"}, "did you mean 'neutral'"),
        (("neu",), {}, "expected two or more"),
        (("neu", "neu"), {}, "expected two or more, each once"),
        (("neu", ""), {}, "id2label of its config.json is damaged"),
        (("neu", "joy, awe"), {}, "'joy, awe' has a comma or a bar.*: --labels 1=NAME"),
        (("neu", "joy"), {"joy": "joy|awe"}, "'joy|awe' has a comma or a bar".replace("|", "[|]")),
        (("arousal", "dominance"), {}, "gives arousal, dominance as numbers, expected arousal and valence"),
    ],
)
def test_labels_that_are_refused(words: tuple[str, ...], renamed: dict[str, str], said: str, copy: Path) -> None:
    with pytest.raises(SerkitError, match=said):
        labelled(copy, words, **renamed)


def test_the_command_names_them(copy: Path, tmp_path: Path) -> None:
    edit(copy / "config.json", id2label={"0": "LABEL_0", "1": "hapiness", "2": "sad", "3": "zoo"})
    words = ("import", f"path:{copy}", "-o", tmp_path / "x.zip", "--labels")
    code, shown, said = ask(*words, "LABEL_0=ang")
    assert code == 0, said
    for line in ("LABEL_0 -> anger", "hapiness -> hapiness (did you mean happiness?)", "sad -> sadness"):
        assert line in shown
    assert "kept: hapiness, zoo" in shown
    assert "licence of the weights: other (ours)" in shown
    assert "loading HubertForSequenceClassification" in said
    for wrong, told in (("LABEL_0", "expected WORD=NAME"), ("zoo=sad,zoo=ang", "names 'zoo' twice")):
        code, _, said = ask(*words, wrong)
        assert (code, told in said) == (2, True)


def test_silence_is_told_apart_as_in_any_bundle(bundle: Path) -> None:
    answer = serkit.load(bundle).predict(np.zeros(RATE, np.float32), rate_hz=RATE)
    assert answer.no_speech
    assert serkit.load(bundle).predict(voice(0.01), rate_hz=RATE).label in CANONICAL
