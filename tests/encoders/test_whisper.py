"""Whisper's encoder: windows, layers, batches, and what transformers itself computes."""

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
    worst,
)

from serkit.encoders.whisper import Whisper
from serkit.encoding import n_frames
from serkit.errors import SerkitError
from serkit.foundation.tiny import tiny_folder

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
SHORT = {"max_source_positions": 150}  # windows of 3 s: the same code, ten times faster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("whisper", tmp_path_factory.mktemp("whisper") / "tiny", **SHORT)


def published(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """Hidden states of one clip the way transformers computes them, silence and all."""
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.WhisperModel.from_pretrained(folder).encoder.eval()
    mel = torch.from_numpy(front(samples, sampling_rate=16_000, return_tensors="np")["input_features"])
    with torch.inference_mode():
        states = model(mel, output_hidden_states=True).hidden_states
    return [s[0, : -(-len(samples) // 320)].numpy() for s in states]


def test_every_layer_is_the_one_asked_for(folder: Path) -> None:
    samples = clips((35_000,))[0]
    check_layers(Whisper, folder, samples, published(folder, samples))


@pytest.mark.parametrize("window", ["30s", "clip"])
def test_padding_changes_nothing(folder: Path, window: str) -> None:
    items = clips((960, 16_000, 35_000, 1, 321, 48_000))
    check_padding_changes_nothing(Whisper(f"path:{folder}", window=window), items)


@pytest.mark.parametrize("window", ["30s", "clip"])
def test_long_clips_are_windows_one_after_the_other(folder: Path, window: str) -> None:
    encoder = Whisper(f"path:{folder}", window=window)
    full = 150 * 320
    long = clips((3 * full + 5_000,))[0]
    exact, one_more, whole = encoder([long[:full], long[: full + 1], long])
    assert [len(exact), len(one_more), len(whole)] == [150, 151, 450 + 16]
    np.testing.assert_array_equal(one_more[:150], exact)
    alone = [encoder([long[k * full : (k + 1) * full]])[0] for k in range(4)]
    assert worst([whole], [np.concatenate(alone)]) < 1e-4


def test_the_published_30_s() -> None:
    """At 30 s of real positions: one window at 480 000 samples, two at one more; ten minutes work."""
    encoder = Whisper("whisper/random", window="30s")
    samples = clips((480_001,))[0]
    at, beyond = encoder([samples[:480_000], samples])
    assert (len(at), len(beyond)) == (1500, 1501)
    np.testing.assert_array_equal(beyond[:1500], at)
    assert n_frames(480_000, encoder.spec) == 1500
    assert n_frames(480_001, encoder.spec) == 1501
    ten_minutes = Whisper("whisper/random", window="clip", layer=1)([np.tile(samples[:160_000], 60)])[0]
    assert ten_minutes.shape == (30_000, 16)


def test_the_windows_are_other_numbers_and_other_fingerprints(folder: Path) -> None:
    samples = clips((16_000,))
    whole, clip = Whisper(f"path:{folder}"), Whisper(f"path:{folder}", window="clip")
    assert whole.spec.fingerprint != clip.spec.fingerprint
    assert worst(whole(samples), clip(samples)) > 1e-2
    with pytest.raises(SerkitError, match="window '30'"):
        Whisper(f"path:{folder}", window="30")  # type: ignore[arg-type]


def test_a_full_window_is_the_same_with_both(folder: Path) -> None:
    """With nothing to pad, ``clip`` differs only in the last frames, which see silence and not a mirror image."""
    samples = clips((150 * 320,))
    whole, clip = (Whisper(f"path:{folder}", window=w, layer=0)(samples)[0] for w in ("30s", "clip"))
    np.testing.assert_allclose(whole[:-2], clip[:-2], atol=1e-5)


def test_missing_and_unexpected_weights_are_errors(tmp_path: Path) -> None:
    check_strict_names(Whisper, tiny_folder("whisper", tmp_path / "w", **SHORT))


def test_bfloat16_stays_near(folder: Path) -> None:
    check_bfloat16_stays_near(Whisper, folder, clips(), by=worst, window="clip")
