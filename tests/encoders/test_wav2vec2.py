"""Wav2vec2: layers against transformers, batches, and the heads that published files carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pretrained_checks import (
    check_bfloat16_stays_near,
    check_layers,
    check_padding_changes_nothing,
    check_strict_names,
    clips,
    speech_states,
)

from serkit.encoders.wav2vec2 import Wav2vec2
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((35_000,))[0]
    check_layers(Wav2vec2, folder, samples, speech_states(folder, samples))


def test_padding_changes_nothing(folder: Path) -> None:
    check_padding_changes_nothing(Wav2vec2(f"path:{folder}"), clips())


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Wav2vec2, folder, clips())


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Wav2vec2, tiny_folder("wav2vec2", tmp_path / "w"))


def test_the_published_batch_is_not_exact_here(folder: Path) -> None:
    """What the masked group normalisation is for: the plain model's features change with the padding."""
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    short, long = clips((16_000, 48_000))
    batch = front([short, long], sampling_rate=16_000, return_tensors="pt", padding=True)
    with torch.inference_mode():
        padded = model(batch["input_values"]).last_hidden_state[0, :49].numpy()
    assert np.abs(padded - speech_states(folder, short)[-1]).max() > 1e-2


def test_a_large_style_model_without_group_normalisation(tmp_path: Path) -> None:
    folder = tiny_folder(
        "wav2vec2", tmp_path / "w", feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True
    )
    check_padding_changes_nothing(Wav2vec2(f"path:{folder}"), clips())


def test_pretraining_heads_are_ignored(folder: Path, tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config.from_pretrained(folder)
    whole = transformers.Wav2Vec2ForPreTraining(config)
    whole.wav2vec2.load_state_dict(transformers.Wav2Vec2Model.from_pretrained(folder).state_dict())
    whole.save_pretrained(tmp_path / "pre")
    (tmp_path / "pre" / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    items = clips()
    for a, b in zip(Wav2vec2(f"path:{folder}")(items), Wav2vec2(f"path:{tmp_path / 'pre'}")(items), strict=True):
        np.testing.assert_array_equal(a, b)
