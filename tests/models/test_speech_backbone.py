"""Fine-tuning, on tiny random networks of the real classes: mechanics only, nothing here can hear."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from serkit import registry
from serkit.errors import MissingExtra, SerkitError
from serkit.models.speech_backbone import SpeechBackbone
from serkit.networks import NetworkConfig, build_network, load_config, load_network, save_network, with_backbone

from .waves import batch_of, waves

pytest.importorskip("transformers")

from serkit.foundation import backbones  # it needs transformers
from serkit.foundation.tiny import tiny_folder

FAMILIES = backbones.FAMILIES
WINDOW = {"whisper": {"window": "clip"}}  # of an encoder, where that is not what a backbone begins with


def made(family: str = "wavlm", backbone: dict[str, Any] | None = None, **options: Any) -> SpeechBackbone:
    torch.manual_seed(0)
    built = backbones.build(backbones.describe({"name": f"{family}/random", **(backbone or {})}))
    return SpeechBackbone(dims={"waveform": 1}, n_classes=3, backbone=built, **options)


def trained(network: nn.Module) -> set[str]:
    return {name for name, p in network.named_parameters() if p.requires_grad}


def step(network: SpeechBackbone, lr: float = 1e-2) -> None:
    """One step on three clips, with the network's own parameter groups."""
    network.train()
    optimizer = torch.optim.SGD(network.param_groups(lr), lr=lr)
    network(batch_of(waves(3000, 5200, 700))).emotion.pow(2).sum().backward()
    optimizer.step()
    network.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_the_frozen_encoder(family: str) -> None:
    """Fine-tuning starts from the numbers that extraction would have given, padded or not, short or long."""
    encoder = registry.find("encoders", family)(f"{family}/random", dtype="float32", **WINDOW.get(family, {}))
    backbone = backbones.build(backbones.describe(f"{family}/random")).eval()
    clips = waves(200, 5200, 9000)
    with torch.no_grad():
        batch = batch_of(clips, extra=1234, filler=0.7)
        frames, lengths = backbone(batch.features["waveform"][:, :, 0], batch.lengths["waveform"])
    for row, wanted in enumerate(encoder([c[:, 0].numpy() for c in clips])):
        assert int(lengths[row]) == len(wanted)
        np.testing.assert_allclose(frames[row, : len(wanted)].numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_states_are_those_of_the_frozen_encoder(family: str) -> None:
    encoder = registry.find("encoders", family)(
        f"{family}/random", dtype="float32", layer="all", **WINDOW.get(family, {})
    )
    backbone = backbones.build(backbones.describe(f"{family}/random")).eval()
    clips = waves(200, 5200)
    with torch.no_grad():
        batch = batch_of(clips, extra=1234, filler=0.7)
        states, lengths = backbone.states(batch.features["waveform"][:, :, 0], batch.lengths["waveform"])
    assert len(states) == len(backbone.layers) + 1
    for row, wanted in enumerate(encoder([c[:, 0].numpy() for c in clips])):
        assert int(lengths[row]) == len(wanted)
        found = torch.cat([s[row, : len(wanted)] for s in states], dim=1)
        np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


def test_weighted_states_go_through_the_layers_on_each_frame() -> None:
    """SAILER (arXiv 2505.22133), by hand: softmax weights, linear layers with ReLU between, the mean over time."""
    network = made(states="weighted", frame_layers=3, frame_width=6, hidden=5).eval()
    clip = waves(5200)[0]
    with torch.no_grad():
        network.layer_weights.logits.copy_(torch.tensor([0.1, -1.0, 2.0, 0.5, 0.0]))
        states, _ = network.backbone.states(clip[None, :, 0], torch.tensor([5200]))
        weights = network.layer_weights.logits.exp() / network.layer_weights.logits.exp().sum()
        frames = sum(w * s[0] for w, s in zip(weights, states, strict=True))
        first, second, third = (m for m in network.frame_layers if isinstance(m, nn.Linear))
        frames = third(second(first(frames).relu()).relu())
        outputs = network(batch_of([clip, waves(900)[0]], extra=777, filler=0.3))
    torch.testing.assert_close(outputs.embedding[0], frames.mean(dim=0), atol=1e-5, rtol=1e-5)
    assert outputs.frames.shape[2] == 6
    fresh = made(states="weighted").layer_weights
    torch.testing.assert_close(fresh.weights(), torch.full((5,), 0.2))


def test_a_hidden_layer_with_tanh_has_no_normalisation() -> None:
    """By hand: dense, tanh, linear, as in published heads."""
    network = made(hidden=5, activation="tanh").eval()
    dense, out = (m for m in network.head.emotion if isinstance(m, nn.Linear))
    with torch.no_grad():
        outputs = network(batch_of(waves(5200, 900)))
        wanted = torch.tanh(outputs.embedding @ dense.weight.T + dense.bias) @ out.weight.T + out.bias
    torch.testing.assert_close(outputs.emotion, wanted)
    with pytest.raises(SerkitError, match="no activation 'than'; did you mean 'tanh'"):
        made(hidden=5, activation="than")


def test_adapters_of_the_upper_feed_forward_layers_alone() -> None:
    pytest.importorskip("peft")
    options = {"lora_targets": ["intermediate_dense", "output_dense"], "frozen_layers": 2, "frame_layers": 2}
    network = made(tuning="lora", states="weighted", **options)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    grouped = {id(p) for group in network.param_groups(1e-2) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters() if p.requires_grad}
    step(network)
    step(network)
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    adapted = {k for k in changed if k.startswith("backbone.")}
    assert {k.split("layers.")[1].split(".")[0] for k in adapted} == {"2", "3"}
    assert all("lora_" in k and "feed_forward" in k for k in adapted)
    assert {"layer_weights.logits", "frame_layers.0.weight"} <= changed
    assert any(k.startswith("head.") for k in changed)
    with torch.no_grad():
        learned = network(batch_of(waves(3000, 900))).emotion
        network.finish()
        torch.testing.assert_close(network(batch_of(waves(3000, 900))).emotion, learned, atol=1e-5, rtol=1e-5)
    assert not any("lora_" in k for k in network.state_dict())


@pytest.mark.parametrize("options", [{}, {"states": "weighted", "frame_layers": 2, "frame_width": 8}])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_order_change_no_logit_in_training_either(family: str, options: dict[str, Any]) -> None:
    off = {"frame_dropout": 0.0} if "frame_layers" in options else {}
    network = made(family, {"dropout": 0.0}, heads=2, pooling="attentive_statistics", **options, **off).train()
    clips = waves(900, 4000, 5600, 2500)
    together = network(batch_of(clips, extra=3000, filler=-0.5)).emotion
    for row, clip in enumerate(clips):
        torch.testing.assert_close(network(batch_of([clip])).emotion[0], together[row], atol=1e-5, rtol=1e-5)
    backwards = network(batch_of(clips[::-1])).emotion
    torch.testing.assert_close(backwards.flip(0), together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        (
            {"freeze_feature_encoder": False},
            ("feature_extractor", "feature_projection", "layers.0.", "layers.3.", "head."),
        ),
        ({}, ("feature_projection", "layers.0.", "layers.3.", "head.")),
        ({"frozen_layers": 3}, ("layers.3.", "head.")),
        ({"tuning": "frozen"}, ("head.",)),
        ({"tuning": "lora"}, ("lora_", "head.")),
    ],
)
def test_what_is_told_to_learn_learns_and_nothing_else(options: dict[str, Any], moves: tuple[str, ...]) -> None:
    if options.get("tuning") == "lora":
        pytest.importorskip("peft")
    network = made(**options)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    grouped = {id(p) for group in network.param_groups(1e-2) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters() if p.requires_grad}
    step(network)
    step(network)  # an adapter's first matrix has a gradient once its second one is not zero
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed <= trained(network)
    for part in moves:
        assert any(part in name for name in changed), part
    still = ("feature_extractor", "feature_projection", "layers.0.", "layers.3.")
    for part in still:
        if part not in moves and options.get("tuning") != "lora":
            assert not any(part in name for name in changed), part


def test_frozen_is_without_dropout_and_without_a_graph() -> None:
    network = made(backbone={"dropout": 0.5}, tuning="frozen").train()
    assert not network.backbone.training
    assert network.head.training
    one, two = (network(batch_of(waves(3000))).frames for _ in range(2))
    assert torch.equal(one, two)
    assert not one.requires_grad


def test_rates_fall_from_layer_to_layer() -> None:
    network = made(backbone_lr=1e-3, layer_decay=0.5, freeze_feature_encoder=False)
    rates = {id(p): g["lr"] for g in network.param_groups(0.1) for p in g["params"]}

    def rate(name: str) -> float:
        return next(rates[id(p)] for n, p in network.named_parameters() if n.startswith(name))

    assert rate("head.") == 0.1
    assert [rate(f"backbone.model.encoder.layers.{k}.") for k in (3, 2, 1, 0)] == [1e-3, 5e-4, 2.5e-4, 1.25e-4]
    assert rate("backbone.model.feature_extractor.") == 6.25e-5
    assert {g["lr"] for g in made().param_groups(3e-4)} == {3e-4}


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_recomputed_activations_give_the_same_gradients(family: str) -> None:
    found = []
    for again in (False, True):
        network = made(family, backbone={"dropout": 0.0}, gradient_checkpointing=again).train()
        network(batch_of(waves(3000, 5200))).emotion.pow(2).sum().backward()
        found.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], msg=name)


@pytest.mark.parametrize("family", ["wavlm", "hubert", "whisper"])
def test_adapters_begin_as_nothing_learn_and_are_merged(family: str) -> None:
    pytest.importorskip("peft")
    plain = made(family).eval()
    targets = ["q_proj", "v_proj", "fc1" if family == "whisper" else "intermediate_dense"]
    network = made(family, tuning="lora", lora_rank=2, lora_targets=targets).eval()
    network.head.load_state_dict(plain.head.state_dict())
    batch = batch_of(waves(3000, 5200, 700))
    with torch.no_grad():
        torch.testing.assert_close(network(batch).emotion, plain(batch).emotion)
    q_proj = [n for n in trained(network) if "q_proj.lora_B" in n]
    assert len(q_proj) == 4
    step(network, 1.0)
    assert all(network.state_dict()[name].any() for name in q_proj), "attention passes its adapters by"
    with torch.no_grad():
        learned = network(batch).emotion
        network.finish()
        torch.testing.assert_close(network(batch).emotion, learned, atol=1e-4, rtol=1e-4)
    assert network.state_dict().keys() == plain.state_dict().keys()


def config(**model: Any) -> NetworkConfig:
    model = {"name": "speech_backbone", "backbone": "wavlm/random", **model}
    return NetworkConfig("s", model, {"waveform": 1}, {}, ("a", "b", "c"), 1, {})


@pytest.mark.parametrize(("family", "tuning"), [("wavlm", "full"), ("wavlm", "lora"), ("whisper", "lora")])
def test_a_saved_network_needs_no_hub_and_no_folder_of_the_backbone(
    family: str, tuning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    folder = tiny_folder(family, tmp_path / family)
    described = config(tuning=tuning, backbone=f"path:{folder}", heads=2)
    torch.manual_seed(0)
    network = build_network(described)
    step(network, 0.1)  # type: ignore[arg-type]
    network.finish()  # type: ignore[operator]
    save_network(network, described, tmp_path / "net")
    folder.rename(tmp_path / "gone")
    monkeypatch.setattr(backbones.fetching, "fetch", lambda *_: pytest.fail("the hub was asked"))
    again, read = load_network(tmp_path / "net")
    batch = batch_of(waves(3000, 5200))
    with torch.no_grad():
        assert torch.equal(again(batch).emotion, network.eval()(batch).emotion)
    assert read.backbone is not None
    assert read.backbone["config"]["model_type"] == family
    assert str(tmp_path) not in str(read.backbone["source"])


def test_the_fingerprint_follows_the_weights_of_the_backbone(tmp_path: Path) -> None:
    one = with_backbone(config(backbone=f"path:{tiny_folder('wavlm', tmp_path / 'a')}"))
    assert one.backbone is not None
    assert one.fingerprint == with_backbone(one).fingerprint
    other = dataclasses.replace(one, backbone={**one.backbone, "revision": "weights-0"})
    assert one.fingerprint != other.fingerprint
    plain = NetworkConfig("s", {"name": "mean_pool"}, {"x": 4}, {}, ("a",), 1, {})
    save_network(nn.Linear(1, 1), plain, tmp_path / "plain")
    assert "backbone" not in (tmp_path / "plain" / "config.json").read_text()
    assert load_config(tmp_path / "plain").backbone is None


def test_fewer_layers_dropout_and_the_first_seconds() -> None:
    assert len(made(backbone={"layers": 2}).backbone.layers) == 2
    network = made(backbone={"dropout": 0.0, "layers": 1}, max_s=0.2).eval()
    long = waves(8000)[0]
    with torch.no_grad():
        cut = network(batch_of([long[:3200]])).emotion
        torch.testing.assert_close(network(batch_of([long])).emotion, cut)
        torch.testing.assert_close(network(batch_of([long, long[:900]])).emotion[:1], cut)


def test_samples_standardised_by_the_training_set() -> None:
    network = made(wave_normalize="train").eval()
    with pytest.raises(SerkitError, match="were never set"):
        network(batch_of(waves(3000)))
    network.set_statistics("waveform", torch.tensor([0.02]), torch.tensor([0.1]))
    plain = made(wave_normalize="none").eval()
    clips = waves(3000, 700)
    with torch.no_grad():
        wanted = plain(batch_of([(c - 0.02) / 0.1 for c in clips])).emotion
        torch.testing.assert_close(network(batch_of(clips)).emotion, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "ful"}, "no tuning 'ful'; did you mean 'full'"),
        ({"wave_normalize": "clip"}, "no wave_normalize 'clip'"),
        ({"frozen_layers": 5}, "frozen_layers 5, the backbone has 4 layers"),
        ({"layer_decay": 1.5}, "layer_decay 1.5"),
        ({"pooling": "men"}, "no pooling 'men'"),
        ({"tuning": "lora", "lora_targets": ["q_prj"]}, "no linear layer 'q_prj'; did you mean 'q_proj'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    if options.get("tuning") == "lora":
        pytest.importorskip("peft")
    with pytest.raises(SerkitError, match=message):
        made(**options)


def test_features_and_backbones_that_do_not_fit_are_refused() -> None:
    built = backbones.build(backbones.describe("hubert/random"))
    with pytest.raises(SerkitError, match=r"reads one waveform: features: \[waveform\]"):
        SpeechBackbone(dims={"logmel/80": 81}, n_classes=3, backbone=built)
    for name, message in (
        ("roberta/large", "is of the family 'roberta', expected one of wavlm"),
        ("wavlm/larg", "did you mean 'wavlm/large'"),
    ):
        with pytest.raises(SerkitError, match=message):
            backbones.describe(name)
    with pytest.raises(SerkitError, match="no option 'layer'; did you mean 'layers'"):
        backbones.describe({"name": "wavlm/random", "layer": 2})
    with pytest.raises(SerkitError, match="layers 9, expected 1 to 4"):
        backbones.describe({"name": "wavlm/random", "layers": 9})


def test_without_peft_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"serkit\[finetune\]"):
        made(tuning="lora")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wave_normalize": "train", "heads": 2, "pooling": "attention", "max_s": 0.6},
        {"states": "weighted", "frame_layers": 2, "frame_width": 12},
        {"hidden": 5, "activation": "tanh", "attribute_head": True},
    ],
)
def test_its_onnx_graph_answers_as_torch_does(family: str, options: dict[str, Any]) -> None:
    """Eight clips of under a window to a second, as one padded batch and one by one."""
    pytest.importorskip("onnx")
    from serkit.serving.agreement import largest_difference
    from serkit.serving.export import to_onnx

    network = made(family, **options).eval()
    if "wave_normalize" in options:
        network.set_statistics("waveform", torch.tensor([0.01]), torch.tensor([0.1]))
    if network.layer_weights is not None:
        torch.nn.init.normal_(next(network.layer_weights.parameters()))
    assert largest_difference(network, to_onnx(network, "speech_backbone", ("a", "b", "c"))) < 1e-4


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM"])
def test_a_checkpoint_with_a_head_gives_the_network_below_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As audEERING's model of ratings, whose weights have a prefix: its frames, fine-tuned and as a feature."""
    from tiny_checkpoints import edit, with_ratings, without_hub

    without_hub(tmp_path, monkeypatch)
    name = f"path:{tmp_path / 'vad'}"
    body, _ = with_ratings(tmp_path / "vad", kind=kind)
    assert f"{kind.lower()}.masked_spec_embed" in load_file(tmp_path / "vad" / "model.safetensors")
    clip = waves(5200)[0][:, 0]
    normed = (clip - clip.mean()) / (clip.var(unbiased=False) + 1e-7).sqrt()
    with torch.no_grad():
        wanted = body(normed[None])[0][0].numpy()
        backbone = backbones.build(backbones.describe(name)).eval()
        frames, _ = backbone(clip[None], torch.tensor([len(clip)]))
    np.testing.assert_allclose(frames[0].numpy(), wanted, atol=2e-4)
    edit(tmp_path / "vad" / "config.json", mask_time_prob=0.0)
    encoder = registry.find("encoders", kind.lower())(name, dtype="float32")
    np.testing.assert_allclose(encoder([clip.numpy()])[0], wanted, atol=2e-4)
