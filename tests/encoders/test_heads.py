"""Checkpoints that were trained for a task: the model under the head is the encoder, the head is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from serkit import registry
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")
AUDIO = [
    ("whisper", ("WhisperForAudioClassification", "WhisperForConditionalGeneration")),
    ("wavlm", ("WavLMForXVector", "WavLMForAudioFrameClassification", "WavLMForSequenceClassification", "WavLMForCTC")),
    ("hubert", ("HubertForSequenceClassification", "HubertForCTC")),
    ("wav2vec2", ("Wav2Vec2ForXVector", "Wav2Vec2ForAudioFrameClassification", "Wav2Vec2ForPreTraining")),
]
TASKS = ("QuestionAnswering", "SequenceClassification", "TokenClassification", "MultipleChoice", "MaskedLM")
KINDS = {"roberta": "Roberta", "bert": "Bert", "deberta": "DebertaV2", "modernbert": "ModernBert"}
TEXT = [(family, tuple(f"{kind}For{task}" for task in TASKS)) for family, kind in KINDS.items()]
CASES = [(family, name) for family, names in AUDIO + TEXT for name in names if hasattr(transformers, name)]


def with_head(family: str, name: str, folder: Path) -> Path:
    """The tiny checkpoint of a family as a class with a head saves it, with its tokenizer or front end."""
    base = tiny_folder(family)
    shutil.copytree(base, folder)
    getattr(transformers, name).from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_encoder_under_a_head_gives_what_it_gives_without(family: str, name: str, tmp_path: Path) -> None:
    encoder = registry.find("encoders", family)
    audio = any(family == f for f, _ in AUDIO)
    item = np.random.default_rng(3).normal(0, 0.1, 6_000).astype(np.float32) if audio else "We agree, you see."
    changes = {"window": "clip"} if family == "whisper" else {}
    folder = with_head(family, name, tmp_path / "headed")
    (plain,) = encoder(f"path:{tiny_folder(family)}", dtype="float32", **changes)([item])
    (headed,) = encoder(f"path:{folder}", dtype="float32", **changes)([item])
    np.testing.assert_array_equal(plain, headed)


@pytest.mark.parametrize(
    ("family", "name", "stranger"),
    [
        ("whisper", "WhisperForAudioClassification", "adapter.weight"),
        ("wavlm", "WavLMForXVector", "feature_extractor.conv_layers.9.conv.weight"),
        ("roberta", "RobertaForQuestionAnswering", "qa.weight"),
    ],
)
def test_what_is_no_head_of_the_published_classes_is_still_refused(
    family: str, name: str, stranger: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = with_head(family, name, tmp_path / "headed")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, stranger: next(iter(tensors.values())).clone()}, file, {"format": "pt"})
    with pytest.raises(SerkitError, match=f"has an unexpected weight '{stranger}'"):
        registry.find("encoders", family)(f"path:{folder}").load()
