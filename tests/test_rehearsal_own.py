"""The rehearsal of pretrained networks, and of parts of one's own."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from made import made_manifest
from rehearsed import prepare
from serkit import pipeline
from serkit.errors import SerkitError
from serkit.pipeline.run import Machine
from serkit.recipe import parse_recipe

# ---------------------------------------------------------------- pretrained networks, and those of one's own


@pytest.fixture
def no_network(monkeypatch):
    """Nothing may be asked of the hub; whoever tries is found out."""
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a) or [])
    yield
    assert not asked


def on_backbone(tmp_path, backbone, more=""):
    loss = "neutral_margin" if "neutral_head: false" in more else "cross_entropy"
    system = f"features: [waveform], model: {{name: speech_backbone, backbone: {backbone}{more}}}, losses: [{loss}]"
    text = f"name: r\nsystems:\n  mine: {{{system}}}\ncrossfit: null\nstack: null\n"
    return pipeline.prepare(parse_recipe(text), made_manifest(), tmp_path / "run")


@pytest.mark.parametrize(
    ("backbone", "more", "said"),
    [
        ("wavlm/base", ", frozen_layers: 13", "frozen_layers 13, the backbone has 12 layers"),
        ("{name: wavlm/base, layers: 13}", "", "layers 13, expected 1 to 12"),
        ("whisper/large-v3", ", frozen_layers: 33", "frozen_layers 33, the backbone has 32 layers"),
        ("{name: whisper/base, window: 40s}", "", "window '40s', expected 'clip' or seconds with an s, at most '30s'"),
        ("{name: wavlm/base, layer: 3}", "", "backbone: no option 'layer'; did you mean 'layers'?"),
        ("wavlm/bas", "", "did you mean 'wavlm/base'?"),
        ("roberta/base", "", "is of the family 'roberta', expected one of wavlm, hubert, wav2vec2, distilhubert"),
        ("wavlm/base", ", tuning: lora, lora_targets: [q_prj]", "no linear layer 'q_prj'; did you mean 'q_proj'?"),
        ("wavlm/base", ", heads: 7", "7"),
        ("wavlm/base", ", neutral_head: false", "neutral_margin: this network has no neutral logit"),
        ("'path:/nowhere/at/all'", "", "no folder /nowhere/at/all"),
    ],
)
def test_a_backbone_is_checked_without_a_download(tmp_path, no_network, backbone, more, said):
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    with pytest.raises(SerkitError) as refused:
        on_backbone(tmp_path, backbone, more)
    line = str(refused.value)
    assert line.startswith("systems.mine: "), line
    assert said in line
    assert "\n" not in line


def test_a_folder_of_a_backbone_is_looked_at_and_not_loaded(tmp_path, no_network, monkeypatch):
    pytest.importorskip("transformers")
    from serkit.foundation import backbones
    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setattr(backbones, "load_model", lambda *a, **k: pytest.fail("weights were loaded"))
    speech, text = tiny_folder("hubert", tmp_path / "speech"), tiny_folder("bert", tmp_path / "text")
    on_backbone(tmp_path, f"'path:{speech}'")
    with pytest.raises(SerkitError, match="is of the family 'bert', expected one of wavlm, hubert"):
        on_backbone(tmp_path / "other", f"'path:{text}'")
    with (speech / "model.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    with pytest.raises(SerkitError, match=r"systems\.mine: encoder 'path:.*is truncated"):
        on_backbone(tmp_path / "other", f"'path:{speech}'")


def test_what_is_not_here_is_not_refused(tmp_path, no_network):
    for folder, backbone, more in (("a", "wavlm/large", ", tuning: lora"), ("b", "'hub:nobody/nothing'", "")):
        made = on_backbone(tmp_path / folder, backbone, more)
        assert made.recipe.systems["mine"].model.parameters["backbone"] == backbone.strip("'")


@pytest.mark.parametrize("whole", [True, False])
def test_what_the_hubs_cache_has_of_a_backbone_is_checked(tmp_path, no_network, monkeypatch, whole):
    """Of a model that was fetched before, be it its config.json alone, as much is told as of a named one."""
    pytest.importorskip("transformers")
    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--lab--ears"
    kept = tiny_folder("wavlm", model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    if not whole:
        (kept / "model.safetensors").unlink()
    on_backbone(tmp_path, "'hub:lab/ears'")
    layers = json.loads((kept / "config.json").read_text())["num_hidden_layers"]
    with pytest.raises(
        SerkitError, match=rf"systems.mine: .*frozen_layers {layers + 1}, the backbone has {layers} layers"
    ):
        on_backbone(tmp_path / "other", "'hub:lab/ears'", f", frozen_layers: {layers + 1}")
    (kept / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(SerkitError, match="is of the family 'roberta', expected one of wavlm, hubert"):
        on_backbone(tmp_path / "other", "'hub:lab/ears'")


def test_what_is_known_of_a_backbone_once_it_is_here_is_told_before_extraction(tmp_path, monkeypatch):
    """As after a download: between prepare and extract the folder comes to stand in for the hub."""
    pytest.importorskip("transformers")
    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    run = on_backbone(tmp_path, "'hub:lab/ears'", ", frozen_layers: 99")
    folder = tiny_folder("wavlm", tmp_path / "models" / "ears")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "roots.yaml").write_text(f"checkpoints: {{'hub:lab/ears': '{folder}'}}\n")
    with pytest.raises(SerkitError, match=r"systems.mine: .*frozen_layers 99, the backbone has"):
        pipeline.extract_run(run, Machine(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


OWN = """
import torch
from torch import nn
from serkit.tensors import Outputs

class Deep(nn.Module):
    def __init__(self, *, dims, n_classes, rank=4, heads=1):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank {rank} is\\n no rank")
        (self.name,), (dim,) = dims, dims.values()
        assert dim == 25, dim
        self.out = nn.Linear(dim, n_classes)

    def forward(self, batch):
        return Outputs(self.out(batch.features[self.name].mean(1)))
"""


def test_a_model_of_ones_own_is_built_on_the_width_it_will_have(tmp_path, monkeypatch):
    (tmp_path / "lab_of_tests.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    prepare(tmp_path / "a", "model: lab_of_tests.Deep")
    with pytest.raises(SerkitError) as refused:
        prepare(tmp_path / "b", "model: {name: lab_of_tests.Deep, rank: 0}")
    assert str(refused.value) == (
        "systems.mine: model 'lab_of_tests.Deep' cannot be built: ValueError: rank 0 is no rank "
        f"({tmp_path / 'lab_of_tests.py'}, line 10)"
    )
    with pytest.raises(SerkitError, match=r"^systems\.mine: neutral_margin: this network has no neutral logit"):
        prepare(tmp_path / "b", "model: lab_of_tests.Deep, losses: [neutral_margin]")


def test_an_encoder_of_ones_own_is_built_and_not_loaded(tmp_path, monkeypatch):
    (tmp_path / "ears_of_tests.py").write_text(
        "class Ear:\n    def __init__(self, name, bands=4):\n        self.bands = 8 // bands\n"
        "    def load(self):\n        raise AssertionError('loaded')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "name: r\nsystems:\n  mine: {features: [FEATURE], model: mean_pool}\ncrossfit: null\nstack: null\n"
    whole = parse_recipe(text.replace("FEATURE", "ears_of_tests.Ear"))
    pipeline.prepare(whole, made_manifest(), tmp_path / "run")
    wrong = parse_recipe(text.replace("FEATURE", "{name: ears_of_tests.Ear, bands: 0}"))
    with pytest.raises(SerkitError, match=r"^encoder 'ears_of_tests.Ear' cannot be built: ZeroDivisionError: "):
        pipeline.prepare(wrong, made_manifest(), tmp_path / "other")


LOSSES = """
import torch
from torch.nn.functional import cross_entropy

def typo(outputs, batch):
    \"\"\"A wrong word.\"\"\"
    return cross_entropy(outputs.emotion, batch.labels, reductoin="mean")

def shape(outputs, batch):
    return (outputs.emotion @ torch.ones(5)).mean()

def rows(outputs, batch):
    return cross_entropy(outputs.emotion, batch.labels, reduction="none")

def number(outputs, batch):
    return 3.0

def values(outputs, batch):
    if float(outputs.emotion.std()) < 1e9:
        raise ValueError("the made-up clips are too much alike")
    return cross_entropy(outputs.emotion, batch.labels)

class Centres(torch.nn.Module):
    def __init__(self, dim, n_classes, margin=1.0):
        super().__init__()
        if margin < 0:
            raise ValueError("a negative margin")

    def forward(self, outputs, batch):
        return cross_entropy(outputs.emotion, batch.labels)

    def param_groups(self):
        return []
"""


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("typo", "loss 'own_losses.typo' fails on made-up clips: TypeError: cross_entropy() got an unexpected keyword "
         "argument 'reductoin'"),  # from Python 3.13 on it names the nearest, too
        ("shape", "loss 'own_losses.shape' fails on made-up clips: RuntimeError: size mismatch"),
        ("rows", "loss 'own_losses.rows' gives shape (6,), expected one number: a tensor of shape ()"),
        ("number", "loss 'own_losses.number' gives float, expected one number: a tensor of shape ()"),
        ("{name: own_losses.Centres, margin: -1}", "loss 'own_losses.Centres' cannot be built: ValueError: a negative "
         "margin (FILE, line 27)"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_a_loss_of_ones_own_is_told_before_any_work(tmp_path, monkeypatch, loss, said):
    (tmp_path / "own_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)
    name = loss if "{" in loss else f"own_losses.{loss}"
    with pytest.raises(SerkitError) as refused:
        prepare(tmp_path, f"model: mean_pool, losses: [{name}]")
    line = str(refused.value)
    assert line.startswith("systems.mine: " + said.replace("FILE", str(tmp_path / "own_losses.py"))), line
    assert "\n" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["values", "Centres"])
def test_what_made_up_values_alone_may_cause_is_passed_over(tmp_path, monkeypatch, loss):
    (tmp_path / "own_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)
    assert prepare(tmp_path, f"model: mean_pool, losses: [own_losses.{loss}]").done("prepare")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Outputs(self.out(x.mean(2)))", "fails on made-up clips: RuntimeError: mat1 and mat2 shapes cannot be mul"),
        ("Outputs(self.out(x.mean(1))[:, 1:])", "with emotion of shape (6, 2), expected serkit.tensors.Outputs with"),
        ("self.out(x.mean(1))", "answers 6 clips of 3 classes with a Tensor without 'emotion', expected serkit.tens"),
        ("self.oot(x.mean(1))", "fails on made-up clips: AttributeError: 'Deep' object has no attribute 'oot'"),
    ],
)
def test_what_goes_wrong_in_a_model_of_ones_own_is_told_before_any_work(tmp_path, monkeypatch, answer, said):
    text = OWN.replace("Outputs(self.out(batch.features[self.name].mean(1)))", answer)
    text = text.replace("        return", "        x = batch.features[self.name]\n        return")
    (tmp_path / "own_models.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    with pytest.raises(SerkitError) as refused:
        prepare(tmp_path, "model: own_models.Deep")
    line = str(refused.value)
    assert line.startswith("systems.mine: model 'own_models.Deep' "), line
    assert said in line
    assert "\n" not in line


def test_an_augmentation_of_ones_own_that_cannot_be_built_is_told(tmp_path, monkeypatch):
    (tmp_path / "own_steps.py").write_text(
        "class Step:\n    kind = 'batch'\n    def __init__(self, share=0.5):\n        self.share = 1 / share\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        SerkitError, match=r"augmentation 'own_steps.Step' cannot be built: ZeroDivisionError: .*line 4"
    ):
        prepare(tmp_path, "model: mean_pool, augment: [{name: own_steps.Step, share: 0}]")
