"""Small ONNX graphs run on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serkit.serving.graphs import Graph


def run(build: Callable[..., Sequence[str]], **fed: Any) -> list[np.ndarray]:
    """What ``build(graph, *names)`` adds to a graph, computed.

    Args:
        build: is given the graph and the names of the inputs in the order of ``fed``; returns names of tensors.
        fed: arrays by the name of the input; float64 becomes float32.
    """
    import onnxruntime

    arrays = {k: np.asarray(v, dtype=np.float32) if np.asarray(v).dtype == np.float64 else np.asarray(v)
              for k, v in fed.items()}  # fmt: skip
    graph = Graph()
    names = [graph.input(k, [f"{k}{axis}" for axis in range(v.ndim)], v.dtype) for k, v in arrays.items()]
    made = build(graph, *names)
    content = graph.to_bytes({f"out{k}": (name, None) for k, name in enumerate(made)}, {})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, arrays))
