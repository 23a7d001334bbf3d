"""Speech and text trained together, on tiny random networks of the real classes: mechanics only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from serkit import registry
from serkit.checkpoints import rows
from serkit.errors import SerkitError
from serkit.networks import NetworkConfig, build_network, load_config, load_network, save_network, with_backbone
from serkit.tensors import Batch, Outputs, pad_sequences

from .waves import waves

pytest.importorskip("transformers")

from serkit.encoders.tokens import Tokens  # it needs transformers
from serkit.foundation import backbones, text_backbones
from serkit.foundation.tiny import tiny_folder
from serkit.foundation.tokenizing import FAMILIES
from serkit.foundation.trainable_text import TextBackbone
from serkit.models.cross_attention import CrossAttention
from serkit.models.joint_backbones import JointBackbones

TOKENS = "tokens/roberta/random"
TEXTS = ("I am so happy, isn't it great?", "", "no", "Leave me alone! Leave me alone!")
LONG = "the door was quiet and she left. " * 40


def text_model(family: str = "roberta", **options: Any) -> TextBackbone:
    return text_backbones.build(text_backbones.describe({"name": f"{family}/random", **options}))


def made(
    family: str = "roberta",
    dropout: float | None = None,
    parts: tuple[str, ...] = ("waveform", "tokens"),
    **options: Any,
) -> JointBackbones:
    torch.manual_seed(0)
    if "waveform" in parts:
        options["backbone"] = backbones.build(backbones.describe({"name": "wavlm/random", "dropout": dropout}))
    if "tokens" in parts:
        options["text_backbone"] = text_model(family, dropout=dropout)
    dims = {"waveform": 1, TOKENS.replace("roberta", family): 1}
    dims = {name: 1 for name in dims if name.partition("/")[0] in parts}
    off = {"dropout": 0.0} if dropout == 0.0 else {}
    return JointBackbones(dims=dims, n_classes=3, **{"hidden": 8, **off, **options})


def batch_of(
    texts: tuple[str, ...] = TEXTS,
    lengths: tuple[int, ...] = (3000, 5200, 700, 4000),
    family: str = "roberta",
    extra: int = 0,
) -> Batch:
    """Clips with their texts, ``extra`` frames of padding filled with something."""
    name = f"tokens/{family}/random"
    samples, n_samples = pad_sequences(waves(*lengths))
    tokens, n_tokens = pad_sequences(Tokens(name)(list(texts)))
    features = {"waveform": samples, name: tokens}
    features = {k: nn.functional.pad(x, (0, 0, 0, extra), value=5.0) for k, x in features.items()}
    ids = tuple(str(k) for k in range(len(texts)))
    return Batch(ids, features, {"waveform": n_samples, name: n_tokens}, torch.arange(len(texts)) % 3)


def step(network: JointBackbones, lr: float = 1e-2) -> None:
    network.train()
    optimizer = torch.optim.SGD(network.param_groups(lr), lr=lr)
    network(batch_of()).emotion.pow(2).sum().backward()
    optimizer.step()
    network.eval()


def changed(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


# ---------------------------------------------------------------- the text model


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_frozen_encoder(family: str) -> None:
    """All layers, of short, empty and windowed texts, beside each other with something in the padding, and alone."""
    encoder = registry.find("encoders", family)(f"{family}/random", dtype="float32", layer="all")
    backbone = text_model(family).eval()
    texts = [*TEXTS, LONG, "a b " * 700]
    tokens, lengths = pad_sequences(Tokens(f"tokens/{family}/random")(texts))
    tokens = nn.functional.pad(tokens, (0, 0, 0, 7), value=9.0)
    assert int(lengths.max()) > 2 * backbone.room, "three windows or more"
    with torch.no_grad():
        states, n_frames = backbone.states(tokens[:, :, 0], lengths)
        alone, _ = backbone.states(tokens[:1, : int(lengths[0]), 0], lengths[:1], every=False)
    assert len(states) == len(backbone.layers) + 1
    for row, wanted in enumerate(encoder(texts)):
        assert int(n_frames[row]) == len(wanted)
        found = torch.cat([s[row, : len(wanted)] for s in states], dim=1)
        np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)
    torch.testing.assert_close(alone[0][0], states[-1][0, : int(lengths[0])], atol=1e-5, rtol=1e-5)


def test_a_cut_text_is_what_transformers_cuts() -> None:
    """``max_tokens`` is its truncation: so many tokens, the marker after them stays."""
    import transformers

    folder = tiny_folder("roberta")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokens, lengths = pad_sequences(Tokens.tiny()([LONG, "no"]))
    with torch.no_grad():
        states, n_frames = text_model().eval().states(tokens[:, :, 0], lengths, every=False, most=16)
        for row, text in enumerate((LONG, "no")):
            wanted = model(**tokenizer(text, truncation=True, max_length=16, return_tensors="pt")).last_hidden_state[0]
            assert int(n_frames[row]) == len(wanted)
            torch.testing.assert_close(states[0][row, : len(wanted)], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_takes_the_weights_of_another(family: str) -> None:
    described = text_backbones.describe({"name": f"{family}/random", "layers": 3, "dropout": 0.25})
    network, shape = text_backbones.build(described), text_backbones.build(described, weights=False)
    assert len(network.layers) == 3
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} <= {0.25, 0.0}
    shape.load_state_dict(network.state_dict())
    assert json.loads(json.dumps(described)) == described, "plain values"
    assert (network.tokenizer[:1], shape.tokenizer) == (b"{", b"")


def test_names_and_options_that_cannot_be_are_refused() -> None:
    for wanted, message in (
        ("wavlm/large", "text_backbone 'wavlm/large' is of the family 'wavlm', expected one of roberta"),
        ("roberta/larg", "did you mean 'roberta/large'"),
        ({"name": "roberta/random", "window": "30s"}, "text_backbone: no option 'window'"),
        ({"name": "roberta/random", "layers": 9}, "text_backbone 'roberta/random': layers 9, expected 1 to 4"),
        ({"name": "roberta/random", "dropout": 1.5}, "dropout 1.5, expected a number from 0 up to 1"),
    ):
        with pytest.raises(SerkitError, match=message):
            text_backbones.describe(wanted)


@pytest.mark.parametrize(
    "name", ["roberta/large", "roberta/xlm-large", "bert/base-uncased", "deberta/v3-large", "modernbert/large"]
)
def test_the_shape_of_a_published_one_is_known_without_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_checkpoints import without_hub

    without_hub(tmp_path, monkeypatch)
    described = text_backbones.sketch(name)
    assert described is not None
    with torch.device("meta"):
        shape = text_backbones.build(described, weights=False)
    assert len(shape.layers) == next(row.layers for row in rows() if row.name == name)


# ---------------------------------------------------------------- both together


def test_it_is_the_cross_modal_network_on_the_states_of_both() -> None:
    """By hand: each backbone alone, then ``cross_attention``."""
    network = made(pooling="published_code", neutral_head=False).eval()
    batch = batch_of(extra=40)
    with torch.no_grad():
        found: Outputs = network(batch)
        frames, n_frames = network.backbone(batch.features["waveform"][:, :, 0], batch.lengths["waveform"])
        (states,), n_tokens = network.text_backbone.states(
            batch.features[TOKENS][:, :, 0], batch.lengths[TOKENS], every=False
        )
        head = CrossAttention(
            dims={"waveform": 16, TOKENS: 16}, n_classes=3, hidden=8, pooling="published_code", neutral_head=False
        )
        head.load_state_dict(network.head.state_dict())
        features, lengths = {"waveform": frames, TOKENS: states}, {"waveform": n_frames, TOKENS: n_tokens}
        wanted = head.eval()(dataclasses.replace(batch, features=features, lengths=lengths))
    torch.testing.assert_close(found.emotion, wanted.emotion)
    assert list(found.layers or {}) == [
        "frames/waveform", f"frames/{TOKENS}", "pooled/waveform", f"pooled/{TOKENS}", "hidden"
    ]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_order_change_no_logit_in_training_either(family: str) -> None:
    network = made(family, dropout=0.0).train()
    texts = (*TEXTS[:3], LONG)
    together = network(batch_of(texts, family=family, extra=33)).emotion
    for row in range(4):
        alone = batch_of(texts[row : row + 1], ((3000, 5200, 700, 4000)[row],), family)
        alone = dataclasses.replace(alone, features={**alone.features, "waveform": waves_of(row)})
        torch.testing.assert_close(network(alone).emotion[0], together[row], atol=1e-5, rtol=1e-5)


def waves_of(row: int) -> torch.Tensor:
    return waves(3000, 5200, 700, 4000)[row][None]


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        ({}, {"head.", "backbone.", "text_backbone."}),
        ({"tuning": "frozen"}, {"head."}),
        ({"tuning": "frozen", "text_tuning": "full"}, {"head.", "text_backbone."}),
        ({"text_tuning": "frozen"}, {"head.", "backbone."}),
    ],
)
def test_what_is_told_to_learn_learns_and_nothing_else(options: dict[str, Any], moves: set[str]) -> None:
    network = made(**options)
    before = copied(network)
    grouped = {id(p) for group in network.param_groups(1e-2) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters() if p.requires_grad}
    step(network)
    moved = changed(network, before)
    assert {f"{k.split('.')[0]}." for k in moved} == moves
    assert not any("feature_extractor" in k for k in moved), "the convolutions stay"
    if "text_backbone." in moves:
        for part in ("word_embeddings", "position_embeddings", "layer.0.", "layer.3."):
            assert any(part in k for k in moved if k.startswith("text_backbone.")), part
    if "backbone." in moves:
        assert {f"layers.{k}." for k in range(4)} <= {k[k.index("layers.") :][:9] for k in moved if "layers." in k}
        assert any("feature_projection" in k for k in moved)


def test_convolutions_learn_where_that_is_asked_for() -> None:
    network = made(freeze_feature_encoder=False)
    before = copied(network)
    step(network)
    assert any("feature_extractor" in k for k in changed(network, before))


def test_a_frozen_backbone_has_no_dropout_in_training() -> None:
    network = made(tuning="frozen").train()
    assert not network.backbone.training
    assert not network.text_backbone.training
    assert network.head.training
    network = made(text_tuning="frozen").train()
    assert (network.backbone.training, network.text_backbone.training) == (True, False)


@pytest.mark.parametrize(("told", "texts"), [("text", TEXTS), ("speech", ("no",) * 4)])
def test_either_teaches_it_where_the_other_tells_nothing(told: str, texts: tuple[str, ...]) -> None:
    """Four clips by heart: the same sound with four texts, or four sounds with the same text."""
    network = made(dropout=0.0).train()
    batch = batch_of(texts, (4000,) * 4)
    if told == "text":
        same = batch.features["waveform"][:1].expand(4, -1, -1)
        batch = dataclasses.replace(batch, features={**batch.features, "waveform": same})
    optimizer = torch.optim.AdamW(network.param_groups(3e-3), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(batch).emotion, batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.9
    assert losses[-1] < 0.2


def test_the_backbones_have_a_rate_of_their_own() -> None:
    network = made(backbone_lr=1e-6)
    rates = {id(p): group["lr"] for group in network.param_groups(1e-5) for p in group["params"]}
    found = {n.partition(".")[0]: rates[id(p)] for n, p in network.named_parameters() if p.requires_grad}
    assert found == {"head": 1e-5, "backbone": 1e-6, "text_backbone": 1e-6}
    assert {group["lr"] for group in made().param_groups(3e-4)} == {3e-4}


@pytest.mark.parametrize("family", ["roberta", "bert", "modernbert"])
def test_adapters_on_both_learn_and_are_merged(family: str) -> None:
    pytest.importorskip("peft")
    targets = ["Wqkv"] if family == "modernbert" else ["query", "value"]
    network = made(family, tuning="lora", lora_rank=2, text_lora_targets=targets)
    before = copied(network)
    network.train()
    optimizer = torch.optim.SGD(network.param_groups(1.0), lr=1.0)
    network(batch_of(family=family)).emotion.pow(2).sum().backward()
    optimizer.step()
    network.eval()
    adapted = {k for k in changed(network, before) if not k.startswith("head.")}
    assert adapted
    assert all("lora_B" in k for k in adapted), "the first step moves only these: the others get no gradient of zeros"
    assert {k.split(".")[0] for k in adapted} == {"backbone", "text_backbone"}
    with torch.no_grad():
        learned = network(batch_of(family=family)).emotion
        network.finish()
        torch.testing.assert_close(network(batch_of(family=family)).emotion, learned, atol=1e-4, rtol=1e-4)
    assert network.state_dict().keys() == made(family).state_dict().keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_activations_give_the_same_gradients(family: str) -> None:
    found = []
    for again in (False, True):
        network = made(family, dropout=0.0, gradient_checkpointing=again).train()
        network(batch_of(family=family)).emotion.pow(2).sum().backward()
        found.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], msg=name)


@pytest.mark.parametrize("part", ["waveform", "tokens"])
def test_one_of_the_two_alone(part: str) -> None:
    network = made(parts=(part,)).eval()
    outputs = network(batch_of())
    assert outputs.emotion.shape == (4, 3)
    assert network.embedding_dim == outputs.embedding.shape[1] == 16
    assert len(network.layer_dims) == 3
    assert {k.split(".")[0] for k in network.state_dict()} == {
        "head", "backbone" if part == "waveform" else "text_backbone"
    }  # fmt: skip


def test_only_the_first_seconds_and_tokens_are_read() -> None:
    network = made(max_s=0.2, max_tokens=12).eval()
    with torch.no_grad():
        long = network(batch_of((LONG,), (8000,))).emotion
        other = network(batch_of((LONG[: len(LONG) // 2],), (3200,))).emotion
        whole = made().eval()(batch_of((LONG,), (8000,))).emotion
    torch.testing.assert_close(long, other)
    assert not torch.allclose(long, whole)


def test_samples_standardised_by_the_training_set() -> None:
    network = made(wave_normalize="train").eval()
    with pytest.raises(SerkitError, match="were never set"):
        network(batch_of())
    network.set_statistics(TOKENS, torch.tensor([80.0]), torch.tensor([50.0]))
    network.set_statistics("waveform", torch.tensor([0.02]), torch.tensor([0.1]))
    assert list(network.normalisation.statistics()) == ["waveform"], "ids are no numbers"
    plain, batch = made(wave_normalize="none").eval(), batch_of()
    scaled = (batch.features["waveform"] - 0.02) / 0.1 * batch.mask("waveform")[:, :, None]
    with torch.no_grad():
        wanted = plain(dataclasses.replace(batch, features={**batch.features, "waveform": scaled})).emotion
        torch.testing.assert_close(network(batch).emotion, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("dims", "given", "message"),
    [
        ({"waveform": 1}, ("backbone", "text_backbone"), "got waveform with backbone and text_backbone"),
        ({"waveform": 1, TOKENS: 1}, ("backbone",), f"got waveform, {TOKENS} with backbone"),
        ({"logmel/80": 81, TOKENS: 1}, ("backbone", "text_backbone"), "reads one waveform by a backbone"),
        ({"waveform": 1, TOKENS: 1, "tokens/bert/random": 1}, ("backbone", "text_backbone"), "reads one waveform"),
        ({}, (), "with neither"),
    ],
)
def test_features_and_backbones_that_do_not_fit_are_refused(
    dims: dict[str, int], given: tuple[str, ...], message: str
) -> None:
    speech = backbones.build(backbones.describe("wavlm/random"))
    parts = {"backbone": speech, "text_backbone": text_model()}
    with pytest.raises(SerkitError, match=message):
        JointBackbones(dims=dims, n_classes=3, hidden=8, **{key: parts[key] for key in given})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "ful"}, "joint_backbones: no tuning 'ful'; did you mean 'full'"),
        ({"text_tuning": "froze"}, "no text_tuning 'froze'; did you mean 'frozen'"),
        ({"wave_normalize": "clip"}, "no wave_normalize 'clip'"),
        ({"text_tuning": "lora", "text_lora_targets": ["q_proj"]}, "no linear layer 'q_proj'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    if "lora" in options.values():
        pytest.importorskip("peft")
    with pytest.raises(SerkitError, match=message):
        made(**options)


# ---------------------------------------------------------------- on disk


def config(speech: str = "wavlm/random", text: str = "roberta/random", **model: Any) -> NetworkConfig:
    model = {"name": "joint_backbones", "backbone": speech, "text_backbone": text, "hidden": 8, **model}
    dims = {"waveform": 1, f"tokens/{text}": 1}
    return NetworkConfig("s", model, dims, {}, ("a", "b", "c"), 1, {})


def renamed(batch: Batch, name: str) -> Batch:
    features, lengths = ({name if k == TOKENS else k: v for k, v in m.items()} for m in (batch.features, batch.lengths))
    return dataclasses.replace(batch, features=features, lengths=lengths)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_saved_network_needs_no_hub_and_no_folder_of_the_backbones(
    tuning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    speech, text = (tiny_folder(family, tmp_path / family) for family in ("wavlm", "roberta"))
    described = config(f"path:{speech}", f"path:{text}", tuning=tuning)
    torch.manual_seed(0)
    network = build_network(described)
    batch, ids = renamed(batch_of(), f"tokens/path:{text}"), Tokens.tiny()(["so be it"])[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    network.finish()  # type: ignore[operator]
    save_network(network, described, tmp_path / "net")
    for folder in (speech, text):
        folder.rename(tmp_path / f"{folder.name}-gone")
    monkeypatch.setattr(backbones.fetching, "fetch", lambda *_: pytest.fail("the hub was asked"))
    again, read = load_network(tmp_path / "net")
    with torch.no_grad():
        assert torch.equal(again(batch).emotion, network.eval()(batch).emotion)
    assert read.backbone is not None
    assert read.text_backbone is not None
    assert read.text_backbone["config"]["model_type"] == "roberta"
    assert str(tmp_path) not in str(read.text_backbone["source"])
    kept = Tokens.of_file(Tokens.tiny().spec, (tmp_path / "net" / "tokenizer.json").read_bytes())
    np.testing.assert_array_equal(kept(["so be it"])[0], ids)
    save_network(again, read, tmp_path / "again")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "net" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    save_network(build_network(config()), config(), tmp_path / "net")
    assert json.loads((tmp_path / "net" / "config.json").read_text())["format"] == 2, "earlier versions say so"
    file = tmp_path / "net" / "tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b'"the"', b'"zzz"', 1) + b"\n")
    with pytest.raises(SerkitError, match=r"tokenizer\.json is not the one that the network was trained with"):
        load_network(tmp_path / "net")
    file.unlink()
    with pytest.raises(SerkitError, match=r"tokenizer\.json is missing"):
        load_network(tmp_path / "net")


def test_tokens_of_another_revision_are_refused() -> None:
    name = "tokens/roberta/random"
    spec = dataclasses.asdict(Tokens(name).spec)
    right = dataclasses.replace(
        config(), features={"waveform": {"name": "waveform"}, name: {"name": name, "spec": spec}}
    )
    assert with_backbone(right).text_backbone is not None
    stale = {**right.features, name: {"name": name, "spec": {**spec, "revision": "weights-0"}}}
    with pytest.raises(SerkitError, match=r"are of revision weights-0, and the text model is weights-\w+ by now"):
        with_backbone(dataclasses.replace(right, features=stale))


def test_the_fingerprint_follows_both_backbones(tmp_path: Path) -> None:
    one = with_backbone(config())
    assert one.fingerprint == with_backbone(one).fingerprint
    for key in ("backbone", "text_backbone"):
        other = dataclasses.replace(one, **{key: {**getattr(one, key), "revision": "weights-0"}})
        assert one.fingerprint != other.fingerprint
    plain = NetworkConfig("s", {"name": "mean_pool"}, {"x": 4}, {}, ("a",), 1, {})
    save_network(nn.Linear(1, 1), plain, tmp_path / "plain")
    written = (tmp_path / "plain" / "config.json").read_text()
    assert "text_backbone" not in written
    assert json.loads(written)["format"] == 1
    assert load_config(tmp_path / "plain").text_backbone is None
    assert not (tmp_path / "plain" / "tokenizer.json").exists()


# ---------------------------------------------------------------- as ONNX


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("roberta", {}),
        ("bert", {"wave_normalize": "train", "max_s": 0.6, "max_tokens": 24}),
        ("deberta", {"max_tokens": 530, "pooling": "published_code"}),
        ("modernbert", {"heads": 2}),
    ],
)
def test_its_onnx_graph_answers_as_torch_does(family: str, options: dict[str, Any]) -> None:
    """Eight clips, one with an empty text and one with a text of two windows, as one padded batch and one by one."""
    pytest.importorskip("onnx")
    from serkit.serving.agreement import Clips, largest_difference
    from serkit.serving.export import to_onnx

    network = made(family, **options).eval()
    if "wave_normalize" in options:
        network.set_statistics("waveform", torch.tensor([0.01]), torch.tensor([0.1]))
    clips = Clips.random(network, network.dims, 0)
    lengths = clips.lengths[f"tokens/{family}/random"]
    assert (lengths.min(), lengths.max()) == (1, 562)
    assert largest_difference(network, to_onnx(network, "joint_backbones", ("a", "b", "c"))) < 1e-4


def lively(network: nn.Module) -> None:
    """Larger weights than an initialisation has, so that a mistake shows."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("roberta", {}),
        ("bert", {"type_vocab_size": 3}),
        ("modernbert", {}),
        ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
        ("deberta", {}),
        ("deberta", {"conv_kernel_size": 0, "share_att_key": False, "pos_att_type": ["c2p"], "type_vocab_size": 2}),
        ("deberta", {"position_buckets": -1, "pos_att_type": ["p2c"], "norm_rel_ebd": "none", "conv_act": "tanh"}),
        ("deberta", {"share_att_key": False, "position_biased_input": True}),
    ],
)
def test_every_kind_of_text_model_has_a_graph(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Its states, empty and windowed texts among them, within 1e-4 of torch's, at several layers' depth."""
    pytest.importorskip("onnx")
    from serkit.serving.agreement import largest_difference
    from serkit.serving.export import to_onnx

    name = f"path:{tiny_folder(family, tmp_path / family, **changes)}"
    torch.manual_seed(0)
    text = text_backbones.build(text_backbones.describe(name))
    network = JointBackbones(dims={f"tokens/{name}": 1}, n_classes=3, hidden=8, text_backbone=text).eval()
    lively(network)
    assert largest_difference(network, to_onnx(network, "joint_backbones", ("a", "b", "c"))) < 1e-4


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("roberta", {"hidden_act": "relu"}, "no ONNX form of a text backbone with 'relu'"),
        ("modernbert", {"hidden_activation": "silu"}, "with 'silu'"),
        ("deberta", {"relative_attention": False}, "with 'absolute positions alone'"),
        ("deberta", {"conv_act": "relu"}, "with a convolution in groups, or with relu"),
    ],
)
def test_variants_without_a_graph_are_refused(
    family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from serkit.serving.export import to_onnx

    name = f"path:{tiny_folder(family, tmp_path / family, **changes)}"
    text = text_backbones.build(text_backbones.describe(name))
    network = JointBackbones(dims={f"tokens/{name}": 1}, n_classes=3, hidden=8, text_backbone=text).eval()
    with pytest.raises(SerkitError, match=message):
        to_onnx(network, "joint_backbones", ("a", "b", "c"))
