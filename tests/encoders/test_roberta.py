"""Roberta: token states against transformers, batches, windows of long texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pretrained_checks import TEXTS, check_bfloat16_stays_near, check_strict_names, check_text_encoder

from serkit.encoders.roberta import Roberta
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")


def test_it_is_what_transformers_computes_batched_or_not_and_windowed(folder: Path) -> None:
    check_text_encoder(Roberta, folder)


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Roberta, folder, TEXTS)


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Roberta, tiny_folder("roberta", tmp_path / "w"))


def test_a_marker_in_a_transcript_is_text(folder: Path) -> None:
    """``<pad>`` spoken aloud must not become the padding token, which shifts every position after it."""
    encoder = Roberta(f"path:{folder}")
    assert not set(encoder.tokens("hello <s> <pad> you </s>")) & {0, 1, 2}


def test_a_sentence_transformer_shaped_folder(folder: Path, tmp_path: Path) -> None:
    import shutil

    outer = tmp_path / "sentences"
    shutil.copytree(folder, outer / "0_Transformer")
    (outer / "modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    np.testing.assert_array_equal(Roberta(f"path:{outer}")(["no"])[0], Roberta(f"path:{folder}")(["no"])[0])


def test_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="model_type 'bert', expected a roberta model"):
        Roberta(f"path:{tiny_folder('bert', tmp_path / 'b')}")


def test_padded_as_the_released_code_does(folder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["so many words", "one"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state.numpy()
    padded = Roberta(f"path:{folder}", pad_to=12)
    found = padded(texts)
    assert [f.shape for f in found] == [expected[0].shape] * 2
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
    assert padded.spec.fingerprint != Roberta(f"path:{folder}").spec.fingerprint
    long = padded(["a word after another " * 30])[0]
    assert len(long) == 12


def test_a_tokenizer_of_another_model_is_one_line(tmp_path: Path) -> None:
    """Regression: ids beyond the weights were a traceback at the first clip."""
    folder = tiny_folder("roberta", tmp_path / "w")
    table = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = table["model"]["vocab"]
    table["model"]["vocab"] = {word: k + 5000 * (k > 10) for word, k in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    with pytest.raises(SerkitError, match=r"its tokenizer gives token \d+ and its weights have \d+ tokens"):
        Roberta(f"path:{folder}")(["hello"])
