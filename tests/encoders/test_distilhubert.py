"""Distilhubert: layers against transformers, batches, and the heads that published files carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretrained_checks import (
    check_bfloat16_stays_near,
    check_layers,
    check_padding_changes_nothing,
    check_strict_names,
    clips,
    speech_states,
)

from serkit.encoders.distilhubert import Distilhubert
from serkit.foundation.tiny import tiny_folder

pytest.importorskip("transformers")
pytest.importorskip("torch")


def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((35_000,))[0]
    check_layers(Distilhubert, folder, samples, speech_states(folder, samples))


def test_padding_changes_nothing(folder: Path) -> None:
    check_padding_changes_nothing(Distilhubert(f"path:{folder}"), clips())


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Distilhubert, folder, clips())


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Distilhubert, tiny_folder("distilhubert", tmp_path / "w"))


def test_two_layers_have_no_mean_of_four(folder: Path) -> None:
    from serkit.errors import SerkitError

    with pytest.raises(SerkitError, match="needs 4 layers, the model has 2"):
        Distilhubert(f"path:{folder}", layer="mean_last_4")
