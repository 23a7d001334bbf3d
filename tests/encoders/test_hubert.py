"""Hubert: layers against transformers, batches, and the heads that published files carry."""

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

from serkit.encoders.hubert import Hubert
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")


def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((35_000,))[0]
    check_layers(Hubert, folder, samples, speech_states(folder, samples))


def test_padding_changes_nothing(folder: Path) -> None:
    check_padding_changes_nothing(Hubert(f"path:{folder}"), clips())


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Hubert, folder, clips())


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Hubert, tiny_folder("hubert", tmp_path / "w"))


def test_a_file_with_a_ctc_head_gives_the_same(folder: Path, tmp_path: Path) -> None:
    """hubert-xlarge-ls960-ft is a speech recogniser: names carry a prefix and there is a head to ignore."""
    config = transformers.HubertConfig.from_pretrained(folder)
    recogniser = transformers.HubertForCTC(config)
    recogniser.hubert.load_state_dict(transformers.HubertModel.from_pretrained(folder).state_dict())
    recogniser.save_pretrained(tmp_path / "ctc")
    (tmp_path / "ctc" / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    items = clips()
    for a, b in zip(Hubert(f"path:{folder}")(items), Hubert(f"path:{tmp_path / 'ctc'}")(items), strict=True):
        np.testing.assert_array_equal(a, b)
