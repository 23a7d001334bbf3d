"""Whisper's encoder as a backbone: windows, positions, long clips, its spectrogram. Nothing here can hear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from serkit.encoders.whisper import Whisper
from serkit.errors import SerkitError
from serkit.models.speech_backbone import SpeechBackbone

from .waves import batch_of, waves

pytest.importorskip("transformers")

from serkit.foundation import backbones  # it needs transformers
from serkit.foundation.tiny import tiny_folder

POSITIONS = 150  # 3 s: the same code, ten times faster
FULL = POSITIONS * 320


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("whisper", tmp_path_factory.mktemp("whisper") / "tiny", max_source_positions=POSITIONS)


def built(folder: Path, **options: Any) -> Any:
    return backbones.build(backbones.describe({"name": f"path:{folder}", **options})).eval()


def made(folder: Path, backbone: dict[str, Any] | None = None, **options: Any) -> SpeechBackbone:
    torch.manual_seed(0)
    return SpeechBackbone(dims={"waveform": 1}, n_classes=3, backbone=built(folder, **(backbone or {})), **options)


def states_of(backbone: Any, clips: list[torch.Tensor], extra: int = 777) -> list[list[np.ndarray]]:
    """Every state of each clip, from one padded batch."""
    batch = batch_of(clips, extra=extra, filler=0.7)
    with torch.no_grad():
        states, n_frames = backbone.states(batch.features["waveform"][:, :, 0], batch.lengths["waveform"])
    return [[s[row, : int(n)].numpy() for s in states] for row, n in enumerate(n_frames)]


def worst(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    assert [f.shape for f in found] == [w.shape for w in wanted]
    return max(float(np.abs(f - w).max()) for f, w in zip(found, wanted, strict=True))


def published(folder: Path, samples: np.ndarray, positions: int) -> list[np.ndarray]:
    """Hidden states as transformers computes them, the clip padded to so many of the model's positions."""
    import transformers

    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.WhisperModel.from_pretrained(folder).encoder.eval()
    weight = model.embed_positions.weight[:positions].detach()
    model.embed_positions = nn.Embedding.from_pretrained(weight)
    model.config.max_source_positions = positions
    options = {"max_length": positions * 320, "padding": "max_length", "return_tensors": "pt"}
    mel = front(samples, sampling_rate=16_000, **options)["input_features"]
    with torch.inference_mode():
        states = model(mel, output_hidden_states=True).hidden_states
        last = model(mel).last_hidden_state
    n = -(-len(samples) // 320)
    return [s[0, :n].numpy() for s in (*states[:-1], last)]


@pytest.mark.parametrize(("window", "positions"), [("3s", 150), ("1.5s", 75)])
def test_a_window_in_seconds_is_the_published_one(folder: Path, window: str, positions: int) -> None:
    """Padded with silence, which is attended to; positions cut, as SAILER's released code does at 15 s."""
    clips = waves(1, 20_000, 24_000)
    found = states_of(built(folder, window=window), clips)
    for clip, states in zip(clips, found, strict=True):
        assert worst(states, published(folder, clip[:, 0].numpy(), positions)) < 2e-5


@pytest.mark.parametrize(("window", "same"), [("clip", "clip"), ("3s", "30s")])
def test_long_clips_are_windows_one_after_the_other(folder: Path, window: str, same: Any) -> None:
    """As in the encoder, and beside short clips, whose missing windows are computed for nobody."""
    clips = waves(2 * FULL + 5_000, 900, FULL, FULL + 1)
    backbone = built(folder, window=window)
    found = [states[-1] for states in states_of(backbone, clips)]
    assert [len(f) for f in found] == [316, 3, 150, 151]
    encoder = Whisper(f"path:{folder}", window=same, dtype="float32")
    assert worst(found, encoder([c[:, 0].numpy() for c in clips])) < 2e-5
    alone = [states_of(backbone, [c], extra=0)[0][-1] for c in clips]
    assert worst(found, alone) < 1e-5


def test_a_clip_that_ends_loudly_is_scaled_by_its_own_frames(folder: Path) -> None:
    """The window of the frame after its end still hears that end, and is louder than all of its own."""
    clips = [torch.zeros(n, 1) for n in (3_200, 9_000)]
    for clip in clips:
        clip[-90:] = 0.5
        clip[:1_000] = 1e-3 * torch.randn(1_000, 1, generator=torch.Generator().manual_seed(2))
    backbone = built(folder)
    together = [states[-1] for states in states_of(backbone, clips)]
    assert worst(together, [states_of(backbone, [c], extra=0)[0][-1] for c in clips]) < 1e-5


@pytest.mark.parametrize("window", ["clip", "1.5s"])
def test_a_long_clip_changes_no_logit_beside_it_and_learns(folder: Path, window: str) -> None:
    network = made(folder, {"window": window}, heads=2, states="weighted", freeze_feature_encoder=False).train()
    clips = waves(FULL + 9_000, 700, 30_000)
    together = network(batch_of(clips, extra=3_000, filler=-0.5)).emotion
    for row, clip in enumerate(clips):
        torch.testing.assert_close(network(batch_of([clip])).emotion[0], together[row], atol=1e-5, rtol=1e-5)
    together.pow(2).sum().backward()
    missing = {n for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert not missing
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("window", ["clip", "3s", "0.7s"])
def test_its_graph_cuts_windows_too(tmp_path: Path, window: str) -> None:
    """Clips of up to 1.1 s; the model has positions for half a second, or is padded to more than any clip."""
    pytest.importorskip("onnx")
    from serkit.serving.agreement import largest_difference
    from serkit.serving.export import to_onnx

    short = tiny_folder("whisper", tmp_path / "short", max_source_positions=25 if window == "clip" else POSITIONS)
    network = made(short, {"window": window, "layers": 3}, states="weighted", heads=2, pooling="attention").eval()
    assert largest_difference(network, to_onnx(network, "speech_backbone", ("a", "b", "c"))) < 1e-4


def test_a_graph_that_no_file_can_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from serkit.serving import graphs
    from serkit.serving.export import to_onnx

    network = made(folder).eval()
    monkeypatch.setattr(graphs, "_LARGEST", 100_000)
    with pytest.raises(SerkitError, match=r"0\.0 GB of float32 weights, .*--weights float16 or int8"):
        to_onnx(network, "speech_backbone", ("a", "b", "c"))


def test_quiet_clips_silence_and_one_sample_are_finite(folder: Path) -> None:
    network = made(folder).eval()
    clips = [torch.zeros(5_000, 1), 1e-7 * waves(4_000)[0], torch.ones(1, 1)]
    with torch.no_grad():
        together = network(batch_of(clips, extra=100, filler=1.0)).emotion
    assert bool(together.isfinite().all())


def test_the_spectrogram_stays_float32_in_half_precision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serkit.foundation import trainable

    seen = []
    plain = trainable.log_mel
    monkeypatch.setattr(trainable, "log_mel", lambda *a: seen.append(plain(*a)) or seen[-1])
    backbone = built(folder)
    clip = waves(20_000)[0][None, :, 0]
    with torch.no_grad():
        exact = backbone(clip, torch.tensor([20_000]))[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = backbone(clip, torch.tensor([20_000]))[0]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough.float(), exact, atol=0.2, rtol=0.1)


def test_positions_are_never_trained_and_the_last_normalisation_follows_the_last_layer(folder: Path) -> None:
    network = made(folder, frozen_layers=4, backbone_lr=1e-3, layer_decay=0.5, freeze_feature_encoder=False)
    inside = {n for n, p in network.named_parameters() if p.requires_grad and n.startswith("backbone.")}
    assert inside == {"backbone.model.layer_norm.weight", "backbone.model.layer_norm.bias"}
    whole = made(folder, backbone_lr=1e-3, layer_decay=0.5, freeze_feature_encoder=False)
    rates = {id(p): g["lr"] for g in whole.param_groups(0.1) for p in g["params"]}
    named = {n.removeprefix("backbone.model."): rates.get(id(p)) for n, p in whole.named_parameters()}
    assert named["embed_positions.weight"] is None
    assert [named[f"layers.{k}.fc1.weight"] for k in (3, 0)] == [1e-3, 1.25e-4]
    assert (named["layer_norm.weight"], named["conv2.weight"]) == (1e-3, 6.25e-5)
    assert not made(folder).backbone.model.conv1.weight.requires_grad, "the convolutions stay by default"


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        ({"freeze_feature_encoder": False}, ("conv1", "conv2", "layers.0", "layers.3", "layer_norm")),
        ({}, ("layers.0", "layers.3", "layer_norm")),
        ({"frozen_layers": 3}, ("layers.3", "layer_norm")),
        ({"tuning": "frozen"}, ()),
        ({"tuning": "lora", "frozen_layers": 2, "lora_targets": ["fc1", "fc2"]}, ("layers.3",)),
    ],
)
def test_what_is_told_to_learn_learns_and_nothing_else(folder: Path, options: dict[str, Any], moves: Any) -> None:
    if options.get("tuning") == "lora":
        pytest.importorskip("peft")
    network = made(folder, **options)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for _ in range(2):  # an adapter's first matrix has a gradient once its second one is not zero
        network.train()
        optimizer = torch.optim.SGD(network.param_groups(1e-2), lr=1e-2)
        network(batch_of(waves(3_000, FULL + 500, 700))).emotion.pow(2).sum().backward()
        optimizer.step()
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("head.") for k in changed)
    inside = {k.removeprefix("backbone.model.") for k in changed if k.startswith("backbone.")}
    for part in ("conv1", "conv2", "embed_positions", "layers.0", "layers.3", "layer_norm"):
        assert any(name.startswith(f"{part}.") for name in inside) == (part in moves), part
    if options.get("tuning") == "lora":
        assert all("lora_" in name and ".fc" in name for name in inside)


def test_dropouts_and_left_out_layers_are_for_training(folder: Path) -> None:
    backbone = built(folder, dropout=0.5, layer_drop=0.999)
    config = backbone.model.config
    assert (config.dropout, config.attention_dropout, config.activation_dropout) == (0.5, 0.5, 0.5)
    samples, lengths = waves(9_000)[0][None, :, 0], torch.tensor([9_000])
    with torch.no_grad():
        one, two = (backbone(samples, lengths)[0] for _ in range(2))
        assert torch.equal(one, two)
        states, _ = backbone.train().states(samples, lengths)
    assert all(torch.equal(s, states[0]) for s in states[:-1]), "each layer was left out"


def test_the_bands_of_the_larger_models_and_what_an_older_front_end_does_not_say(tmp_path: Path) -> None:
    wide = tiny_folder("whisper", tmp_path / "wide", num_mel_bins=128, max_source_positions=POSITIONS)
    (clip,) = waves(20_000)
    wanted = Whisper(f"path:{wide}", window="clip", dtype="float32")([clip[:, 0].numpy()])
    assert worst([states_of(built(wide), [clip])[0][-1]], wanted) < 2e-5
    (wide / "preprocessor_config.json").write_text('{"feature_extractor_type": "WhisperFeatureExtractor"}')
    assert backbones.describe(f"path:{wide}")["normalise"] is False, "no Whisper standardises samples"
    assert worst([states_of(built(wide), [clip])[0][-1]], wanted) < 2e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "3"}, "window '3', expected 'clip' or seconds with an s, at most '3s'"),
        ({"window": "30s"}, "window '30s', expected .* at most '3s'"),
        ({"window": 1.5}, r"window '1\.5'"),
        ({"windows": "clip"}, "no option 'windows'; did you mean 'window'"),
        ({"layers": "two"}, "layers two, expected 1 to 4"),
        ({"layer_drop": 1}, "layer_drop 1, expected a number from 0 up to 1"),
        ({"name": "wavlm/random", "window": "3s"}, "window '3s' has no effect on a wavlm, only on a Whisper"),
    ],
)
def test_options_that_cannot_be_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SerkitError, match=message):
        backbones.describe({"name": f"path:{folder}", **options})


def test_another_front_end_is_refused(tmp_path: Path) -> None:
    other = tiny_folder("whisper", tmp_path / "other")
    file = other / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"hop_length": 160', '"hop_length": 200'))
    with pytest.raises(SerkitError, match=r"rate, hop, window and bands \(16000, 200, 400, 80\) is not Whisper's"):
        backbones.describe(f"path:{other}")
