"""Arithmetic of an hour of audio: what torch counts while an encoder computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit import checkpoints, costs, registry
from serkit.checkpoint_table import TABLE
from serkit.foundation.tiny import tiny_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))


def counted(call: Any, *given: Any) -> float:
    """Floating-point operations of a call, by torch; attention as the matrix products that it is."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), torch.inference_mode(), FlopCounterMode(display=False) as count:
        call(*given)
    return float(count.get_total_flops())


@pytest.mark.parametrize(
    ("family", "choices"),
    [
        ("whisper", {"window": "clip"}), ("whisper", {"window": "30s"}), ("wavlm", {}), ("hubert", {}),
        ("wav2vec2", {}), ("distilhubert", {}), ("facodec", {}), ("emotion2vec", {}),
    ],
)  # fmt: skip
def test_an_audio_encoder_costs_what_torch_counts(family: str, choices: dict[str, Any]) -> None:
    encoder = registry.find("encoders", family)(f"{family}/random", **choices)
    encoder.load()
    clip = np.random.default_rng(0).normal(0, 0.1, 80_000).astype(np.float32)
    found = checkpoints.resolve(f"{family}/random", tiny_folder(family), family=family)
    whole = choices.get("window") != "clip"
    assert 5 * 1e12 / 3600 * costs.tflop_per_audio_hour(found, 5.0, whole=whole) == pytest.approx(
        counted(encoder, [clip]), rel=0.01
    )


@pytest.mark.parametrize("family", ["roberta", "bert", "deberta", "modernbert"])
def test_a_text_encoder_costs_what_torch_counts(family: str) -> None:
    encoder = registry.find("encoders", family)(f"{family}/random")
    encoder.load()
    text = "we agree, you see. " * 20
    (frames,) = encoder([text])
    found = checkpoints.resolve(f"{family}/random", tiny_folder(family), family=family)
    seconds = 3600 * len(frames) / costs.TOKENS_PER_AUDIO_HOUR
    cost = costs.tflop_per_audio_hour(found, seconds) * 1e12 / costs.TOKENS_PER_AUDIO_HOUR * len(frames)
    assert cost == pytest.approx(counted(encoder, [text]), rel=0.03)


@pytest.mark.parametrize(("name", "measured"), [("facodec/prosody", 4.26), ("facodec/prosody_speaker", 32.4)])
def test_facodec_as_published_without_attention(name: str, measured: float) -> None:
    """Frames of 5 ms attend to next to nothing: what is left is what was measured with attention not counted."""
    found = checkpoints.resolve(name)
    assert costs.tflop_per_audio_hour(found, 1 / 80) == pytest.approx(measured, rel=0.005)


def test_facodec_as_published_is_what_torch_counts() -> None:
    from serkit.foundation.facodec_model import FacodecDecoder, FacodecEncoder

    with torch.device("meta"):
        encoder, decoder = FacodecEncoder(), FacodecDecoder()
        samples, mel = torch.zeros(1, 80_000), torch.zeros(1, 80, 400)
    heard = 2.0 * 80 * 513 * 400
    prosody = heard + counted(decoder.prosody, mel, None)
    timbre = counted(lambda: decoder.timbre(encoder(samples, None), None))
    for name, flop in (("facodec/prosody", prosody), ("facodec/prosody_speaker", prosody + timbre)):
        cost = costs.tflop_per_audio_hour(checkpoints.resolve(name), 5.0)
        assert cost == pytest.approx(flop * 720 / 1e12, rel=1e-3)


def test_every_clip_costs_whisper_30_s() -> None:
    found = checkpoints.resolve("whisper/large-v3")
    of_30_s = costs.tflop_per_audio_hour(found, 30.0)
    assert costs.tflop_per_audio_hour(found, 5.0) == pytest.approx(6 * of_30_s)
    assert costs.tflop_per_audio_hour(found, 31.0) == pytest.approx(of_30_s * 60 / 31)
    assert costs.tflop_per_audio_hour(found, 5.0, whole=False) < of_30_s
    assert of_30_s == costs.tflop_per_audio_hour(found, 30.0, whole=False)


def test_every_name_has_a_cost_before_its_download() -> None:
    costly = {row.name: costs.tflop_per_audio_hour(checkpoints.resolve(row.name)) for row in TABLE}
    assert min(costly.values()) > 1
    assert max(costly, key=lambda name: costly[name]).startswith("whisper/large")
