"""Models and encoders of one's own in a bundle: exported like serkit's, or refused early; imported only if allowed."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import serkit
from command_line import ask
from serkit import pipeline, registry
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.layer_weights import WeightedLayers
from serkit.predictions import Predictions
from serkit.recipe import parse_recipe
from serkit.serving.building import build
from serkit.serving.bundle import open_bundle
from serkit.serving.checked import checked_graph, not_bundled

MODELS = """
import torch
from torch import nn

from serkit.models._attributes import AttributeHead
from serkit.tensors import Outputs


class Base(nn.Module):
    def __init__(self, *, dims, n_classes):
        super().__init__()
        (self.name, dim), = dims.items()
        self.put_in, self.out = nn.Linear(dim, 8), nn.Linear(8, n_classes)

    def forward(self, batch):
        frames, n = batch.features[self.name], batch.lengths[self.name]
        mask = batch.mask(self.name)
        states = self.states(self.put_in(frames), mask, n) * mask[:, :, None]
        return self.answer(states.sum(1) / n[:, None])

    def states(self, frames, mask, n):
        return frames

    def answer(self, mean):
        return Outputs(self.out(mean))


class Embedded(Base):
    embedding_dim = 8

    def answer(self, mean):
        return Outputs(self.out(mean), embedding=mean)


class Transformer(Base):
    def __init__(self, *, dims, n_classes):
        super().__init__(dims=dims, n_classes=n_classes)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def states(self, frames, mask, n):
        return self.layers(frames, src_key_padding_mask=~mask)


class Recurrent(Base):
    def __init__(self, *, dims, n_classes):
        super().__init__(dims=dims, n_classes=n_classes)
        self.gru = nn.GRU(8, 4, bidirectional=True, batch_first=True)

    def states(self, frames, mask, n):
        packed = nn.utils.rnn.pack_padded_sequence(frames, n, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]


class LastState(Base):
    def __init__(self, *, dims, n_classes):
        super().__init__(dims=dims, n_classes=n_classes)
        self.gru = nn.GRU(8, 8, batch_first=True)

    def states(self, frames, mask, n):
        packed = nn.utils.rnn.pack_padded_sequence(frames, n, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1][:, None] + 0 * frames


class Rated(Base):
    def __init__(self, *, dims, n_classes):
        super().__init__(dims=dims, n_classes=n_classes)
        self.rate = AttributeHead(nn.Linear(8, 3))

    def answer(self, mean):
        return Outputs(self.out(mean), attributes=self.rate(mean))


class Padded(Base):
    def forward(self, batch):
        return Outputs(self.out(self.put_in(batch.features[self.name].mean(1))))


class Alone(Padded):
    masked = False


class Loop(Base):
    def states(self, frames, mask, n):
        rows = [torch.cumsum(row[: int(k)], 0) for row, k in zip(frames, n)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


class Unknown(Base):
    def states(self, frames, mask, n):
        return frames + torch.special.bessel_j0(frames)


class Hand(Loop):
    def write_onnx(self, graph, inputs):
        (x, n), = inputs.values()
        mask = graph.mask(n, graph.time(x))
        x = graph("CumSum", graph.linear(x, self.put_in), graph.constant(1, "int64"))
        mean, _ = graph.moments(x, mask)
        return {"emotion": graph.linear(mean, self.out)}


class Wrong(Base):
    def write_onnx(self, graph, inputs):
        (x, n), = inputs.values()
        mean, _ = graph.moments(graph.linear(x, self.put_in), graph.mask(n, graph.time(x)))
        return {"emotion": graph.linear(graph("Relu", mean), self.out)}


class Nothing(Base):
    def write_onnx(self, graph, inputs):
        return None


class Broken(Base):
    def write_onnx(self, graph, inputs):
        return graph.liner(inputs)
"""
EAR = """
from pathlib import Path
from serkit import dsp
from serkit.encoders._offline import OfflineEncoder

Path(__file__).with_suffix(".imported").touch()

class Ear(OfflineEncoder):
    def __init__(self, name="own_ears.spread.Ear", *, pool=1, pooling="mean", trim=False):
        self._specify(name, 1, pool, pooling, trim)

    @classmethod
    def names(cls):
        return {"own_ears.spread.Ear": "spread of a frame"}

    def _frames(self, samples):
        return dsp.framed(samples, self.WINDOW, self.HOP).std(axis=1, keepdims=True)
"""
LABELS = ("anger", "neutral", "sadness")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which a user imports."""
    (tmp_path / "own_nets.py").write_text(MODELS)
    (tmp_path / "own_ears").mkdir()
    (tmp_path / "own_ears" / "spread.py").write_text(EAR)
    (tmp_path / "own_ears" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("SERKIT_PLUGINS", raising=False)
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path))
    forget(monkeypatch)
    importlib.invalidate_caches()
    return tmp_path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("own_nets", "own_ears"))]:
        monkeypatch.delitem(sys.modules, name)
    registry.member.cache_clear()


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(2)
    built: torch.nn.Module = registry.find("models", f"own_nets.{name}")(dims={"a": 6}, n_classes=3)
    return built.eval()


@pytest.mark.parametrize("name", ["Base", "Embedded", "Transformer", "Recurrent", "Rated", "Alone", "Hand"])
def test_a_model_of_ones_own_has_a_graph_with_torchs_numbers(lab: Path, name: str) -> None:
    content, difference = checked_graph(network(name), f"own_nets.{name}", LABELS, "float32", {"a": 6})
    assert difference < 1e-5
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["x0", "n0"]
    given = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim][1] for o in model.graph.output}
    assert given == {
        "emotion": 3, "embedding": 8 if name == "Embedded" else 3, **({"attributes": 3} if name == "Rated" else {}),
    }  # fmt: skip
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.nn.MultiheadAttention.forward.__module__ == "torch.nn.modules.activation"


def test_one_behind_weighted_layers_has_a_graph_too(lab: Path) -> None:
    for name in ("Base", "Hand"):
        stacked = WeightedLayers(network(name), {"a": 18}, {"a": 3}, "layer_norm").eval()
        assert checked_graph(stacked, f"own_nets.{name}", LABELS, "float32", {"a": 18})[1] < 1e-4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Padded",
            "'own_nets.Padded': the padding of a batch changes its logits by up to .*; or set masked = False in",
        ),
        ("Loop", "'own_nets.Loop' (has an ONNX graph that fails on|cannot be written).*in a method write_onnx"),
        ("Unknown", r"cannot be written as ONNX: .*bessel_j0.* \(.*own_nets.py.*\); torch writes it from one run"),
        ("LastState", r"cannot be written as ONNX: .*unpack the output of a recurrent layer with pad_packed_sequence"),
        ("Wrong", "its float32 graph differs from torch by .*allowed are 0.0001; correct its write_onnx"),
        ("Nothing", "write_onnx of model 'own_nets.Nothing' returns NoneType, expected the names of its tensors by"),
        (
            "Broken",
            r"cannot be written as ONNX: AttributeError: .*'liner' \(.*own_nets.py, line \d+\); correct its wri",
        ),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(lab: Path, name: str, said: str, capfd: object) -> None:
    with pytest.raises(SerkitError, match=said) as refused:
        checked_graph(network(name), f"own_nets.{name}", LABELS, "float32", {"a": 6})
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")  # type: ignore[attr-defined]  # torch prints a graph that it cannot write


def test_torch_writes_no_small_weights(lab: Path) -> None:
    with pytest.raises(SerkitError, match="torch writes its graph, with float32 weights only; use --weights float32"):
        checked_graph(network("Base"), "own_nets.Base", LABELS, "int8", {"a": 6})
    assert 1e-5 < checked_graph(network("Hand"), "own_nets.Hand", LABELS, "int8", {"a": 6})[1] < 1


def recipe(model: str, feature: str = "{name: mfcc/13, pool: 8}") -> str:
    system = f"features: [{feature}], model: {model}, train: {{epochs: 1}}"
    return f"name: r\nsystems:\n  mine: {{{system}}}\ncrossfit: null\nstack: null\nevaluate: {{draws: 10}}\n"


def test_it_is_said_before_any_work(lab: Path, toy_root: Path) -> None:
    assert not_bundled(parse_recipe(recipe("own_nets.Transformer")), LABELS) == []
    assert not_bundled(parse_recipe(recipe("mean_pool")), LABELS) == []
    (lab / "r.yaml").write_text(recipe("own_nets.Padded"))
    code, _, error = ask("prepare", lab / "r.yaml", "--corpus", "toy", "--root", toy_root, "--out", lab / "run")
    assert code == 0, error
    said = " ".join(error.split())
    assert "systems.mine can be trained and evaluated, but not bundled: model 'own_nets.Padded': the padding" in said


def trained(text: str, lab: Path, toy_root: Path, toy_store: Path) -> pipeline.Run:
    run = pipeline.prepare(parse_recipe(text), toy(toy_root), lab / "run")
    pipeline.run_all(run, pipeline.Machine(lab / "store" if "own_ears" in text else toy_store, "cpu", jobs=1))
    return run


@pytest.mark.parametrize("model", ["Transformer", "Alone"])
def test_a_bundle_answers_what_the_run_measured(lab: Path, toy_root: Path, toy_store: Path, model: str) -> None:
    run = trained(recipe(f"own_nets.{model}"), lab, toy_root, toy_store)
    made = build(run, lab / "bundle", method="none")
    head = json.loads((made.path / "bundle.json").read_text(encoding="utf-8"))
    assert head["networks"][0]["batches"] is (model != "Alone")
    rows = [u for u in run.manifest if u.split == "test"][:9]
    files = [run.manifest.audio_path(u) for u in rows]
    forget(pytest.MonkeyPatch())  # the bundle holds all of the model that it needs
    (lab / "own_nets.py").unlink()
    answers = serkit.load(made.path)
    together = answers.predict_proba(files)
    alone = np.concatenate([answers.predict_proba([file]) for file in files])
    assert np.abs(together - alone).max() < 1e-6
    if model == "Transformer":  # the other one was measured with its padding
        table: Predictions = run.predictions("mine", "test").take([u.id for u in rows])
        assert np.abs(alone - table.probabilities()).max() < 1e-5
    assert answers.embed(files[0]).shape == (5,)


def test_an_encoder_of_ones_own_is_imported_only_where_it_is_allowed(
    lab: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(recipe("mean_pool", "own_ears.spread.Ear"), lab, toy_root, lab)
    told: list[str] = []
    bundle = build(run, lab / "b", progress=told.append).path
    assert told[-1].startswith("to use it, the module 'own_ears.spread' is needed too, and SERKIT_PLUGINS=own_ears.spr")
    card = (bundle / "card.md").read_text(encoding="utf-8")
    assert "Also needed: code that is not in the bundle, the modules `own_ears.spread`. " in card
    sign = lab / "own_ears" / "spread.imported"
    file = run.manifest.audio_path(run.manifest.utterances[0])

    def loaded(allowed: str | None) -> Callable[[], serkit.serving.predictor.Model]:
        forget(monkeypatch)
        sign.unlink(missing_ok=True)
        if allowed is not None:
            monkeypatch.setenv("SERKIT_PLUGINS", allowed)
        return lambda: serkit.load(bundle)

    for refused in (None, "", "own", "own_ears.spread.Ear", "spread", "own_ears.sprea"):
        load = loaded(refused)
        with pytest.raises(SerkitError, match=r"b: its encoder 'own_ears.spread.Ear' is code that is not in the bundl"):
            load()
        assert not sign.exists()
    for allowed in ("own_ears", "other, own_ears.spread"):
        assert loaded(allowed)().predict(file).label in run.manifest.labels
        assert sign.exists()
    monkeypatch.delenv("SERKIT_PLUGINS")
    (lab / "roots.yaml").write_text("plugins: [own_ears]\n")
    assert loaded(None)().predict(file).label in run.manifest.labels


@pytest.mark.parametrize(
    "name", ["os.system", "os.system/;touch here", ".system", "subprocess.call/x", "os.system:", "os.system:x/hub:y"]
)
def test_a_bundle_cannot_name_what_is_called(lab: Path, name: str) -> None:
    from .signals import GOLDEN

    bundle = open_bundle(GOLDEN)
    first = next(iter(bundle.features))
    bundle.features = {**bundle.features, first: {**bundle.features[first], "name": name, "parameters": {}}}
    with pytest.raises(SerkitError, match=r"is code that is not in the bundle, and importing it would run it\. If you"):
        bundle.encoders()
