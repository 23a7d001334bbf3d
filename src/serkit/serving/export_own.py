"""Networks that write their own ONNX graph, by a method ``write_onnx``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serkit.errors import SerkitError
from serkit.serving.graphs import Graph


def has_writer(network: Any) -> bool:
    """Whether a network, or the one behind weighted layers, writes its own graph."""
    from serkit.layer_weights import WeightedLayers

    return callable(getattr(network.network if isinstance(network, WeightedLayers) else network, "write_onnx", None))


def written_by(network: Any, model: str, graph: Graph, inputs: dict[str, tuple[str, str]]) -> dict[str, str]:
    """What the method ``write_onnx`` of a network returns, if that is what it has to return."""
    found = network.write_onnx(graph, inputs)
    allowed = ("emotion", "embedding", "attributes")
    if not isinstance(found, Mapping) or "emotion" not in found or not set(found) <= set(allowed):
        given = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise SerkitError(
            f"write_onnx of model '{model}' returns {given or 'nothing'}, expected the names of its tensors by output: "
            "emotion and, if it has them, embedding and attributes"
        )
    if "embedding" in found and not isinstance(getattr(network, "embedding_dim", None), int):
        raise SerkitError(f"write_onnx of model '{model}' returns an embedding: set embedding_dim, its width, too")
    return dict(found)
