"""Published classifiers of a class that is no part of transformers: a head with a hidden layer, told by its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit
from command_line import ask
from serkit.errors import SerkitError

from .signals import RATE, talk, wide

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnx")

from safetensors.torch import load_file, save_file  # noqa: E402  # what it needs is an extra

from author_checkpoints import DenseHead  # noqa: E402  # the same
from serkit.serving import importing  # noqa: E402  # the same
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same
from tiny_checkpoints import classifier, edit, with_dense_head  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

LABELS = ("anger", "calm", "happiness", "sadness")


class ForSpeechClassification(torch.nn.Module):
    """The class of that repository, with its mean: over all frames that come out of the network."""

    def __init__(self, body: Any, tensors: dict[str, Any]) -> None:
        super().__init__()
        self.body = body
        n_classes, width = next(v.shape for k, v in tensors.items() if "dense" not in k and k.endswith("weight"))
        self.classifier = DenseHead(width, n_classes)
        self.load_state_dict({k.replace("output", "out_proj"): v for k, v in tensors.items()}, strict=False)
        assert torch.equal(self.classifier.dense.bias, tensors["classifier.dense.bias"])
        self.eval()

    def forward(self, input_values: Any, attention_mask: Any = None) -> Any:
        hidden_states = self.body(input_values, attention_mask=attention_mask)[0]
        return self.classifier(torch.mean(hidden_states, dim=1))


def by_its_class(model: ForSpeechClassification, folder: Path, samples: np.ndarray) -> np.ndarray:
    """(classes,) probabilities of a clip alone, as the README of the class does it."""
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**front(samples, sampling_rate=RATE, return_tensors="pt", padding=True))
    return np.asarray(logits.softmax(-1)[0])


@pytest.mark.parametrize(
    ("kind", "last", "says", "how"),
    [
        ("Wav2Vec2", "out_proj", None, {"stable": True}),
        ("Wav2Vec2", "output", "Wav2Vec2ForSequenceClassification", {"stable": True}),
        ("Wav2Vec2", "out_proj", None, {"normalise": False}),
        ("Hubert", "out_proj", None, {}),
        ("Hubert", "out_proj", "HubertForSequenceClassification", {"stable": True, "weighted": True}),
        ("WavLM", "out_proj", "WavLMForSequenceClassification", {}),
    ],
)
def test_answers_are_those_of_the_class(kind: str, last: str, says: str | None, how: Any, tmp_path: Path) -> None:
    """In the last but one, ``use_weighted_layer_sum`` is of transformers' own head: this one reads the last layer."""
    folder = tmp_path / "er"
    model = ForSpeechClassification(*with_dense_head(folder, kind, last=last, says=says, **how))
    made = importing.import_checkpoint(f"path:{folder}", tmp_path / "er.zip")
    assert max(made.difference, open_bundle(made.path).head["largest_difference"]) < 1e-4
    assert made.origin == "m3hrdadfi/soxan"
    answering = serkit.load(tmp_path / "er.zip")
    assert answering.labels == LABELS
    found = []
    for clip in (wide(1.3), wide(0.7, 5, 240.0), talk(2)):
        found.append(list(answering.predict(clip, rate_hz=RATE).probabilities.values()))
        np.testing.assert_allclose(found[-1], by_its_class(model, folder, clip), atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.02, "the answers should differ from clip to clip"


def test_a_config_that_names_the_other_class_is_told(tmp_path: Path) -> None:
    """What plain transformers answers from random numbers: config.json and weights do not agree."""
    folder = tmp_path / "er"
    with_dense_head(folder, last="output", says="Wav2Vec2ForSequenceClassification", pooling=None, stable=True)
    code, shown, said = ask("import", f"path:{folder}", "-o", tmp_path / "er.zip")
    assert code == 0, said
    notes = [line for line in shown.splitlines() if line.startswith("note: ")]
    assert ["config.json says Wav2Vec2ForSequenceClassification, but its weights are those of" in n for n in notes] == [
        True, False, False,
    ]  # fmt: skip
    assert "transformers would fill the head with random numbers" in notes[0]
    assert "named classifier.output, and no code with that name is known" in notes[1]
    assert "no pooling_mode" in notes[2]
    bundle = open_bundle(tmp_path / "er.zip")
    card, facts = bundle.text("card.md"), bundle.head["imported"]
    assert [f"Note: {note}." in card for note in facts["notes"]] == [True, True, True]
    assert "`Wav2Vec2ForSpeechClassification` of m3hrdadfi/soxan, revision" in card
    assert (facts["class"], facts["class_of"]) == ("Wav2Vec2ForSpeechClassification", "m3hrdadfi/soxan")


def test_the_other_way_round(tmp_path: Path) -> None:
    """The weights are of transformers' head, and config.json names the class of the other."""
    folder = tmp_path / "er"
    model = classifier(folder, "Hubert")
    edit(folder / "config.json", architectures=["HubertForSpeechClassification"])
    made = importing.import_checkpoint(f"path:{folder}", tmp_path / "er.zip")
    assert made.origin == "transformers"
    (note,) = made.notes
    assert "says HubertForSpeechClassification, but its weights are those of HubertForSequenceClassification" in note
    clip = wide(1.0)
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        wanted = model(**front(clip, sampling_rate=RATE, return_tensors="pt")).logits.softmax(-1)[0]
    answer = serkit.load(tmp_path / "er.zip").predict(clip, rate_hz=RATE)
    np.testing.assert_allclose(list(answer.probabilities.values()), wanted, atol=1e-4)


def test_where_all_agrees_there_is_no_note(tmp_path: Path) -> None:
    with_dense_head(tmp_path / "er")
    code, shown, said = ask("import", f"path:{tmp_path / 'er'}", "-o", tmp_path / "er.zip")
    assert (code, "note:" in shown) == (0, False), said
    assert "of those of m3hrdadfi/soxan" in shown
    assert "Note:" not in open_bundle(tmp_path / "er.zip").text("card.md")


def test_a_bin_file_with_old_names(tmp_path: Path) -> None:
    folder = tmp_path / "er"
    model = ForSpeechClassification(*with_dense_head(folder, stable=True))
    weights = load_file(folder / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        weights = {key.replace(new, name): value for key, value in weights.items()}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    importing.import_checkpoint(f"path:{folder}", tmp_path / "er.zip")
    clip = wide(1.0)
    answer = serkit.load(tmp_path / "er.zip").predict(clip, rate_hz=RATE)
    np.testing.assert_allclose(list(answer.probabilities.values()), by_its_class(model, folder, clip), atol=1e-4)


@pytest.mark.parametrize(
    ("more", "less", "said"),
    [
        ({}, "classifier.dense.bias", r"lacks weight 'classifier\.dense\.bias'"),
        ({}, "classifier.out_proj.weight", r"lacks weight 'classifier\.out_proj\.weight'"),
        ({"classifier.norm.weight": (16,)}, None, r"unexpected weight 'classifier\.norm\.weight'"),
        ({"classifier.output.weight": (4, 16)}, None, r"unexpected weight 'classifier\.output\.weight'"),
        ({"classifier.weight": (4, 12)}, None, r"unexpected weight 'classifier\.weight'"),
        ({"projector.weight": (12, 16)}, None, r"unexpected weight 'projector\.weight'"),
        ({"wav2vec2.more": (2,)}, None, r"unexpected weight '(wav2vec2\.)?more'"),
        ({}, "wav2vec2.encoder.layers.1.final_layer_norm.bias", r"lacks weight 'encoder\.layers\.1"),
        ({"classifier.dense.weight": (8, 16)}, None, r"another shape.*\(8, 16\), expected \(16, 16\)"),
        ({"classifier.out_proj.weight": (5, 16)}, None, r"another shape.*config\.json names 4 labels"),
    ],
)
def test_every_weight_is_used(more: dict[str, Any], less: str | None, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "er"
    with_dense_head(folder)
    weights = load_file(folder / "model.safetensors") | {key: torch.zeros(shape) for key, shape in more.items()}
    save_file({k: v for k, v in weights.items() if k != less}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SerkitError, match=said):
        importing.import_checkpoint(f"path:{folder}", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("pooling", ["sum", "max", "attention"])
def test_another_pooling_is_refused(pooling: str, tmp_path: Path) -> None:
    with_dense_head(tmp_path / "er", pooling=pooling)
    with pytest.raises(SerkitError, match=rf"pools its frames by '{pooling}' \(pooling_mode in its config\.json\)"):
        importing.import_checkpoint(f"path:{tmp_path / 'er'}", tmp_path / "x.zip")
