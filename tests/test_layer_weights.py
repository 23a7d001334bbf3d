"""Stacks of layers: the weighted sum against its definition, gradients, padding, a whole run and its bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from serkit import pipeline, registry
from serkit.errors import SerkitError
from serkit.layer_weights import LayerWeights, WeightedLayers
from serkit.networks import load_network
from serkit.recipe import parse_recipe
from serkit.serving.agreement import largest_difference
from serkit.serving.export import to_onnx
from serkit.tensors import Batch, pad_sequences

N, DIM = 3, 5
DIMS, STACKS = {"speech": N * DIM, "text": 4}, {"speech": N}
LABELS = ("anger", "neutral")
MODELS = {
    "cross_attention": {"hidden": 6}, "mean_pool": {"hidden": 6}, "flam": {"heads": 1}, "compact": {"channels": 16},
}  # fmt: skip


def built(model: str = "cross_attention", kind: str = "softmax", **parameters: object) -> WeightedLayers:
    torch.manual_seed(0)
    inner = registry.find("models", model)(
        dims={"speech": DIM, "text": 4}, n_classes=2, **{**MODELS[model], **parameters}
    )
    network = WeightedLayers(inner, DIMS, STACKS, kind)
    nn.init.normal_(network.stack("speech").logits)
    if parameters.get("normalize") in ("train", "level"):
        network.set_statistics("speech", torch.linspace(-5, 5, N * DIM), torch.linspace(0.1, 9, N * DIM))
        network.set_statistics("text", torch.ones(4), torch.ones(4))
    return network.eval()


def batch(lengths: tuple[tuple[int, int], ...], extra: int = 0) -> Batch:
    g = torch.Generator().manual_seed(1)
    rows = [{n: torch.randn(k, DIMS[n], generator=g) for n, k in zip(DIMS, pair, strict=True)} for pair in lengths]
    features, counts = {}, {}
    for name in DIMS:
        padded, counts[name] = pad_sequences([row[name] for row in rows])
        features[name] = nn.functional.pad(padded, (0, 0, 0, extra))
    return Batch(tuple(map(str, range(len(rows)))), features, counts, torch.zeros(len(rows), dtype=torch.int64))


def test_the_layers_of_the_network_behind_it_are_handed_out() -> None:
    network = built()
    found = network(batch(((4, 2), (1, 3)))).layers
    assert {name: row.shape[1] for name, row in found.items()} == network.layer_dims


@pytest.mark.parametrize("kind", ["softmax", "layer_norm"])
def test_the_sum_is_the_one_of_superb(kind: str) -> None:
    """Against a loop over layers, as s3prl's Featurizer has it."""
    mix = LayerWeights(N, kind)
    logits = [0.3, -1.0, 2.0]
    mix.logits.data = torch.tensor(logits)
    frames = torch.randn(2, 7, N * DIM)
    weights = np.exp(logits) / np.exp(logits).sum()
    wanted = np.zeros((2, 7, DIM))
    for k in range(N):
        layer = frames[:, :, k * DIM : (k + 1) * DIM].numpy().astype(np.float64)
        if kind == "layer_norm":
            layer = (layer - layer.mean(-1, keepdims=True)) / np.sqrt(layer.var(-1, keepdims=True) + 1e-5)
        wanted += weights[k] * layer
    np.testing.assert_allclose(mix(frames).detach().numpy(), wanted, atol=1e-5)
    assert not mix(torch.zeros(1, 2, N * DIM)).any()


def test_weights_begin_equal_and_the_sum_of_equal_weights_is_the_mean() -> None:
    mix, frames = LayerWeights(N), torch.randn(2, 4, N * DIM)
    torch.testing.assert_close(mix.weights(), torch.full((N,), 1 / N))
    torch.testing.assert_close(mix(frames), frames.reshape(2, 4, N, DIM).mean(2))


@pytest.mark.parametrize("kind", ["softmax", "layer_norm"])
@pytest.mark.parametrize("model", MODELS)
def test_every_network_learns_the_weights(model: str, kind: str) -> None:
    network = built(model, kind)
    network(batch(((9, 3), (5, 2)))).emotion[:, 0].sum().backward()
    grad = network.stack("speech").logits.grad
    assert grad is not None
    assert grad.abs().min() > 1e-7
    assert abs(float(grad.sum())) < 1e-3 * float(grad.abs().max()), "weights sum to 1"


@pytest.mark.parametrize("normalize", ["none", "train", "level", "utterance"])
@pytest.mark.parametrize("model", MODELS)
def test_padding_and_neighbours_change_nothing(model: str, normalize: str) -> None:
    network = built(model, normalize=normalize)
    lengths = ((9, 3), (5, 2), (1, 1))
    with torch.inference_mode():
        together, wider = network(batch(lengths)).emotion, network(batch(lengths, extra=6)).emotion
        whole = batch(lengths)
        for k in range(3):
            row = slice(k, k + 1)
            alone = Batch(
                ("x",), {n: f[row, : whole.lengths[n][k]] for n, f in whole.features.items()},
                {n: c[row] for n, c in whole.lengths.items()}, whole.labels[row],
            )  # fmt: skip
            torch.testing.assert_close(network(alone).emotion[0], together[k], atol=1e-5, rtol=0)
    torch.testing.assert_close(together, wider, atol=1e-5, rtol=0)


def test_each_layer_is_standardised_by_its_own_statistics() -> None:
    """A layer whose scale is a thousand times another's does not drown it."""
    network = built("mean_pool", normalize="train")
    scale = torch.tensor([1.0, 1000.0, 0.01]).repeat_interleave(DIM)
    given = batch(((9, 3),))
    with torch.inference_mode():
        network.set_statistics("speech", torch.zeros(N * DIM), torch.ones(N * DIM))
        plain = network(given).emotion
        network.set_statistics("speech", torch.zeros(N * DIM), scale)
        given.features["speech"].mul_(scale)  # type: ignore[index]
        torch.testing.assert_close(network(given).emotion, plain, atol=1e-5, rtol=0)
    assert not any("std" in name and not bool((b > 0).all()) for name, b in network.named_buffers())


@pytest.mark.parametrize("normalize", ["none", "train", "level", "utterance"])
@pytest.mark.parametrize(("model", "kind"), [("cross_attention", "softmax"), ("flam", "layer_norm")])
def test_onnx_weighs_layers_as_torch_does(model: str, kind: str, normalize: str) -> None:
    network = built(model, kind, normalize=normalize)
    content = to_onnx(network, model, LABELS)
    assert largest_difference(network, content) < 1e-4
    with torch.no_grad():
        network.stack("speech").logits[0] += 1.0
    assert largest_difference(network, content) > 1e-3, "the comparison notices other weights"


def test_what_does_not_fit_is_one_line() -> None:
    network, given = built(), batch(((3, 2),))
    with pytest.raises(SerkitError, match="built for width 15, got 14"):
        network(Batch(given.ids, {**given.features, "speech": torch.zeros(1, 3, 14)}, given.lengths, given.labels))
    with pytest.raises(SerkitError, match="batch without features of 'speech'"):
        network(Batch(given.ids, {"text": given.features["text"]}, given.lengths, given.labels))
    with pytest.raises(SerkitError, match="layer_weights 'softmx'; did you mean 'softmax'"):
        LayerWeights(3, "softmx")


RECIPE = """
name: layers
transcripts: corpus
systems:
  both:
    features: [{name: wavlm/random, layer: all, pool: 8}, hashed_text/32]
    model: {name: cross_attention, hidden: 8, normalize: train}
    train: {epochs: 2, lr: 5e-3, batch_size: 32}
  alone:
    features: [{name: wavlm/random, layer: all, pool: 8}]
    model: {name: mean_pool, hidden: 8, layer_weights: layer_norm}
    train: {epochs: 2, lr: 5e-3, batch_size: 32}
  beside:
    features: [{name: wavlm/random, layer: all, pool: 8}]
    model: {name: mean_pool, hidden: 8, layer_weights: none}
    train: {epochs: 1, lr: 5e-3, batch_size: 32}
crossfit: {folds: 2}
stack: {trees: 5, min_leaf: 2, min_split: 2, folds: 2}
evaluate: {draws: 10}
"""


def test_a_recipe_says_how_layers_are_weighed() -> None:
    recipe = parse_recipe(RECIPE, ["systems.both.model.layer_weights=layer_norm"])
    assert recipe.systems["both"].model.parameters["layer_weights"] == "layer_norm"
    assert parse_recipe(recipe.to_yaml()) == recipe
    with pytest.raises(SerkitError, match=r"systems.alone.model: layer_weights 'layernorm'; did you mean 'layer_norm'"):
        parse_recipe(RECIPE.replace("layer_norm", "layernorm"))
    last = RECIPE.replace("layer: all", "layer: last")
    with pytest.raises(SerkitError, match="model 'mean_pool' has no parameter 'layer_weights'"):
        parse_recipe(last)


def test_a_run_learns_weights_and_its_bundle_answers_alike(tmp_path: Path, toy_root: Path) -> None:
    pytest.importorskip("transformers")
    import serkit
    from serkit.corpora.toy import toy
    from serkit.serving.building import build

    run = pipeline.prepare(parse_recipe(RECIPE), toy(toy_root), tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    for system, kind in (("both", "softmax"), ("alone", "layer_norm")):
        network, config = load_network(run.network(system, "fold0"))
        assert isinstance(network, WeightedLayers)
        (weights,) = network.weights().values()
        key = next(k for k in config.dims if k.startswith("wavlm"))
        assert len(weights) == config.features[key]["spec"]["params"]["n_layers"] > 2
        assert float(weights.std()) > 1e-4, "they moved away from equal"
        assert network.stack(key).kind == kind
        assert largest_difference(network, to_onnx(network, config.model["name"], config.labels)) < 1e-4
    assert not isinstance(load_network(run.network("beside", "fold0"))[0], WeightedLayers)
    assert json.loads((run.folder / "report" / "report.json").read_text())["systems"]["both"]["test"]
    made = build(run, tmp_path / "bundle", system="both", method="none")
    assert made.difference < 1e-4
    rows = [u for u in run.manifest if u.split == "test"][:4]
    model = serkit.load(made.path)
    found = [
        list(model.predict(run.manifest.audio_path(u), text=u.text, by="clip").probabilities.values()) for u in rows
    ]
    wanted = run.predictions("both", "test").pooled().take([u.id for u in rows]).probabilities()
    assert np.abs(np.array(found) - wanted).max() < 1e-3  # features were stored as float16
