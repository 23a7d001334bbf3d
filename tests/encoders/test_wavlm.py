"""WavLM: layers against transformers, batches, long clips, fused attention."""

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
    worst,
)

from serkit.encoders.wavlm import Wavlm
from serkit.encoding import n_frames
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

pytest.importorskip("transformers")
pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((35_000,))[0]
    check_layers(Wavlm, folder, samples, speech_states(folder, samples))


def test_padding_changes_nothing(folder: Path) -> None:
    check_padding_changes_nothing(Wavlm(f"path:{folder}"), clips())


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Wavlm, folder, clips())


def test_long_clips_are_computed_in_stretches_with_the_one_frame_rule(folder: Path) -> None:
    long = clips((160_000 + 123,))[0]
    whole = Wavlm(f"path:{folder}", chunk_s=60.0)
    cut = Wavlm(f"path:{folder}", chunk_s=4.0, context_s=1.0)
    a, b = whole([long])[0], cut([long])[0]
    assert len(a) == len(b) == n_frames(len(long), cut.spec)
    assert np.sqrt(np.mean((a - b) ** 2)) < 0.5 * a.std()
    assert whole.spec.fingerprint != cut.spec.fingerprint
    check_padding_changes_nothing(cut, [long, long[:70_000], long[:900]])
    with pytest.raises(SerkitError, match="chunk_s"):
        Wavlm(f"path:{folder}", chunk_s=4.0, context_s=2.0)


def test_context_is_seen_on_both_sides(folder: Path) -> None:
    """Before the first layer nothing is attended to: with enough context, stretches equal the whole."""
    long = clips((160_000,))[0]
    a = Wavlm(f"path:{folder}", layer=0)([long])[0]
    b = Wavlm(f"path:{folder}", layer=0, chunk_s=4.0, context_s=1.0)([long])[0]
    assert worst([a], [b]) < 1e-4


def test_ten_minutes(folder: Path) -> None:
    encoder = Wavlm(f"path:{folder}", layer=1, chunk_s=10.0, context_s=1.0)
    assert encoder([np.tile(clips((16_000,))[0], 600)])[0].shape == (29_999, 16)


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Wavlm, tiny_folder("wavlm", tmp_path / "w"))
