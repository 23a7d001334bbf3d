"""Every network's ONNX graph gives torch's numbers, in a batch and alone."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
import pytest
import torch

from serkit import registry
from serkit.errors import SerkitError
from serkit.models._attributes import AttributeHead
from serkit.serving.agreement import largest_difference
from serkit.serving.export import to_onnx
from serkit.serving.graphs import Graph

LABELS = ("anger", "neutral", "sadness")
ONE, TWO, THREE = {"a": 6}, {"a": 6, "b": 9}, {"a": 6, "b": 9, "c": 4}
CASES: list[tuple[str, dict[str, int], dict[str, Any]]] = [
    ("cross_attention", ONE, {"hidden": 8}),
    ("cross_attention", TWO, {"hidden": 8, "normalize": "train"}),
    ("cross_attention", THREE, {"hidden": 8, "heads": {"b": 2}, "pooling": "statistics", "normalize": "utterance"}),
    ("cross_attention", TWO, {"hidden": 8, "heads": 4, "gru_layers": 2, "attention": "per_query", "pooling": "mean"}),
    ("cross_attention", TWO, {"hidden": 8, "masked": False, "pooling": "published_code"}),
    ("cross_attention", ONE, {"hidden": 8, "masked": False, "pooling": "mean", "neutral_head": False}),
    ("mean_pool", TWO, {"hidden": 8}),
    ("mean_pool", TWO, {"hidden": 8, "normalize": "train", "limit": 0.5, "input_dropout": 0.5}),
    ("mean_pool", THREE, {"hidden": 8, "pooling": "statistics", "normalize": "train"}),
    ("mean_pool", TWO, {"hidden": 8, "project": 5, "embed": {"b": 4}, "activation": "swiglu", "limit": 0.5}),
    ("logistic_regression", ONE, {}),
    ("logistic_regression", TWO, {"pooling": "statistics", "normalize": "train", "limit": 0.5}),
    ("quadratic", ONE, {"rank": 3}),
    ("quadratic", TWO, {"rank": 2, "pooling": "statistics", "normalize": "train", "limit": 0.5, "scale": 3.0}),
    ("mdat", TWO, {"hidden": 8, "feed_forward": 12, "head_hidden": 6}),
    ("mdat", THREE, {"hidden": 8, "heads": 2, "embed": {"c": 3}, "activation": "swiglu", "normalize": "train"}),
    ("flam", ONE, {"heads": 2, "bottleneck": 4}),
    ("flam", TWO, {"heads": 1, "width": 8, "layer_norm": True, "hidden": 5, "bottleneck": 0, "attribute_head": True}),
    ("flam", ONE, {"heads": 0, "pooling": "max", "attribute_head": True}),
    ("flam", TWO, {"heads": 2, "pooling": "last"}),
    ("flam", ONE, {"heads": 2, "pooling": "mean"}),
    ("flam", ONE, {"heads": 2, "pooling": "attentive_statistics"}),
    ("deepser", ONE, {"hidden": 8, "feed_forward": 12}),
    ("deepser", TWO, {"hidden": 8, "feed_forward": 12, "heads": 2, "attribute_head": True, "mixup": 0.5}),
    ("deepser", THREE, {"hidden": 8, "feed_forward": 12, "n_layers": 1, "fusion": "none", "normalize": "train"}),
    ("compact", ONE, {"channels": 16, "heads": 4, "n_blocks": 2}),
    ("compact", TWO, {"channels": 16, "heads": 4, "n_blocks": 1, "normalize": "train", "kernel": 3}),
    ("compact", ONE, {"channels": 16, "heads": 4, "n_blocks": 1, "normalize": "level"}),
    ("compact", {"a": 13}, {"channels": 16, "heads": 4, "n_blocks": 1, "stem": "time_frequency"}),
]


def network(name: str, dims: dict[str, int], parameters: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(3)
    built: torch.nn.Module = registry.find("models", name)(dims=dims, n_classes=len(LABELS), **parameters)
    for p in built.parameters():  # away from the small numbers of a fresh network
        torch.nn.init.uniform_(p, -0.4, 0.4)
    if parameters.get("normalize") in ("train", "level"):
        for k, (feature, dim) in enumerate(dims.items()):
            built.set_statistics(feature, torch.linspace(-5, 5, dim), torch.linspace(0.1, 3 + k, dim))  # type: ignore[operator]
    for part in built.modules():
        if isinstance(part, AttributeHead):
            part.set_scale(torch.tensor([4.0, 3.5, 2.0]), torch.tensor([1.2, 0.8, 0.0]))
    return built.eval()


@pytest.mark.parametrize(("name", "dims", "parameters"), CASES)
def test_onnx_equals_torch(name: str, dims: dict[str, int], parameters: dict[str, Any]) -> None:
    built = network(name, dims, parameters)
    content = to_onnx(built, name, LABELS)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert largest_difference(built, content) < 1e-4
    assert largest_difference(built, content, seed=1) < 1e-4


def test_the_comparison_notices_a_difference() -> None:
    built = network("mean_pool", TWO, {"hidden": 8})
    content = to_onnx(built, "mean_pool", LABELS)
    with torch.no_grad():
        built.head.emotion[3].bias[1] += 0.01  # type: ignore[union-attr, index, operator]
    assert largest_difference(built, content) > 0.009


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_a_wide_scale_of_ratings_is_no_harder_to_keep(weights: str) -> None:
    built = network("flam", ONE, {"heads": 0, "attribute_head": True})
    gaps = []
    for factor in (1.0, 1000.0):
        built.head.attributes.set_scale(factor * torch.tensor([4.0, 3.5, 2.0]), factor * torch.tensor([1.2, 0.8, 0.0]))  # type: ignore[union-attr, operator]
        gaps.append(largest_difference(built, to_onnx(built, "flam", LABELS, weights)))  # type: ignore[arg-type]
    assert gaps[1] == pytest.approx(gaps[0], rel=0.5)


@pytest.mark.parametrize("name", ["cross_attention", "compact"])
def test_smaller_weights_make_smaller_files(name: str) -> None:
    parameters = {"hidden": 64} if name == "cross_attention" else {"channels": 64}
    torch.manual_seed(0)
    built = registry.find("models", name)(dims={"a": 40}, n_classes=3, **parameters).eval()
    sizes, gaps = {}, {}
    for weights in ("float32", "float16", "int8"):
        content = to_onnx(built, name, LABELS, weights)  # type: ignore[arg-type]
        sizes[weights], gaps[weights] = len(content), largest_difference(built, content)
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert gaps["float32"] < 1e-5
    assert gaps["float16"] < 1e-2
    assert gaps["int8"] < 0.1


def test_a_graph_says_what_it_is() -> None:
    content = to_onnx(network("mean_pool", TWO, {"hidden": 8}), "mean_pool", LABELS)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x0", "n0", "x1", "n1"]
    assert session.get_modelmeta().custom_metadata_map["labels"] == '["anger", "neutral", "sadness"]'


def test_what_has_no_onnx_form_is_named() -> None:
    built = network("mean_pool", ONE, {"hidden": 8})
    with pytest.raises(SerkitError, match="did you mean 'mean_pool'"):
        to_onnx(built, "mean_pol", LABELS)
    with pytest.raises(SerkitError, match="did you mean 'float16'"):
        to_onnx(built, "mean_pool", LABELS, "float-16")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="no ONNX form of the layer Softsign"):
        Graph().sequence("x", torch.nn.Sequential(torch.nn.Softsign()))
