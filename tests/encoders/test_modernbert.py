"""Modernbert: token states against transformers, batches, windows of long texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretrained_checks import TEXTS, check_bfloat16_stays_near, check_strict_names, check_text_encoder

from serkit.encoders.modernbert import Modernbert
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")


def test_it_is_what_transformers_computes_batched_or_not_and_windowed(folder: Path) -> None:
    check_text_encoder(Modernbert, folder)


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Modernbert, folder, TEXTS)


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Modernbert, tiny_folder("modernbert", tmp_path / "w"))
