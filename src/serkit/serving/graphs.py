"""ONNX graphs written node by node: the layers that serkit's networks are made of.

Explicit on purpose: no tracing, no exporter whose output changes between versions. Every function takes
names of tensors and returns names; a clip's numbers do not depend on its batch. Needs the package onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serkit.errors import MissingExtra, SerkitError

if TYPE_CHECKING:
    import torch

Weights = Literal["float32", "float16", "int8"]
WEIGHTS = ("float32", "float16", "int8")
OPSET = 17
_LARGEST = 2**31 - 2**20  # bytes of weights in one file: protobuf writes no message of 2 GiB
_LOWEST = -3.0e38  # softmax gives it no weight, and no NaN where a row is all padding


def onnx_package() -> Any:
    """The package onnx.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "onnx", "writing ONNX networks") from None
    return onnx


class Graph:
    """A graph that grows.

    Args:
        weights: how matrices are kept in the file: ``float32``, ``float16`` (half the size) or ``int8`` (a
            quarter, one scale for each output). Arithmetic is float32 throughout: onnxruntime expands them
            once, when it loads the graph.

    Raises:
        MissingExtra: the package onnx is not installed.
    """

    def __init__(self, weights: Weights = "float32") -> None:
        self._onnx = onnx_package()
        self.weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._inputs: list[Any] = []
        self._n = 0

    def input(self, name: str, shape: Sequence[int | str], dtype: Any = np.float32) -> str:
        """Declare an input; strings in its shape are free sizes."""
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def __call__(self, op: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        self._n += 1
        outputs = [f"{op.lower()}_{self._n}" + (f"_{k}" if k else "") for k in range(n_outputs)]
        self._nodes.append(self._onnx.helper.make_node(op, list(inputs), outputs, **attributes))
        return outputs[0]

    def many(self, op: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of all its outputs."""
        self(op, *inputs, n_outputs=n_outputs, **attributes)
        return list(self._nodes[-1].output)

    def either(
        self, condition: str, then: Callable[[], Sequence[str]], other: Callable[[], Sequence[str]]
    ) -> list[str]:
        """What ``then`` returns where the () bool is true, else what ``other`` does; only one of them is computed.

        Args:
            then, other: add nodes and return the names of as many tensors; they may use all that stands before them.
        """
        branches = [self._inner(build, [])[1] for build in (then, other)]
        n_outputs = len(branches[0].output)
        return self.many("If", condition, n_outputs=n_outputs, then_branch=branches[0], else_branch=branches[1])

    def scan(
        self,
        states: Sequence[str],
        sequences: Sequence[str],
        step: Callable[[list[str], list[str]], tuple[Sequence[str], Sequence[str]]],
        *,
        backwards: bool = False,
    ) -> list[str]:
        """Go along the first axis of some tensors, carrying states.

        Args:
            states: tensors as they are before the first step. sequences: (steps, …) tensors of the same length.
            step: is given the names of the states and of one item of each sequence; adds nodes and returns the names
                of the new states, and of what this step yields.
            backwards: from the last item to the first; what is yielded stands in the order of the items all the same.

        Returns:
            The last states, then (steps, …) of each thing yielded.
        """
        self._n += 1
        given = [f"carried_{self._n}_{k}" for k in range(len(states))]
        items = [f"item_{self._n}_{k}" for k in range(len(sequences))]
        (new, made), body = self._inner(lambda: step(given, items), [*given, *items])
        way = (
            {"scan_input_directions": [1] * len(items), "scan_output_directions": [1] * len(made)} if backwards else {}
        )
        n_outputs = len(new) + len(made)
        return self.many("Scan", *states, *sequences, n_outputs=n_outputs, body=body, num_scan_inputs=len(items), **way)

    def _inner(self, build: Callable[[], Any], inputs: Sequence[str]) -> tuple[Any, Any]:
        """What a function returns that adds the nodes of an inner graph, and this graph; its outputs have new names."""
        outer, self._nodes = self._nodes, []
        returned = build()
        flat = [name for part in returned for name in ([part] if isinstance(part, str) else part)]
        outputs = [self("Identity", name) for name in flat]
        nodes, self._nodes = self._nodes, outer
        undeclared = self._onnx.helper.make_empty_tensor_value_info
        self._n += 1
        graph = self._onnx.helper.make_graph(
            nodes, f"inner_{self._n}", [undeclared(name) for name in inputs], [undeclared(name) for name in outputs]
        )
        return returned, graph

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A small constant, exact; equal ones are kept once."""
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = name = f"constant_{len(self._constants)}"
            self._constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return self._known[key]

    def double(self, value: Any) -> str:
        """A small float64 constant."""
        return self.constant(value, np.float64)

    def matrix(self, array: np.ndarray, reduced: Sequence[int]) -> str:
        """A weight in the precision of this graph; ``reduced`` are the axes that its product sums over."""
        array = np.asarray(array, dtype=np.float32)
        name = f"weight_{len(self._constants)}"
        if self.weights == "float32":
            self._constants[name] = self._onnx.numpy_helper.from_array(array, name)
            return name
        if self.weights == "float16":
            if np.abs(array).max(initial=0.0) > 6.0e4:
                raise SerkitError("a weight is too large for float16; write the bundle with float32 weights")
            self._constants[name] = self._onnx.numpy_helper.from_array(array.astype(np.float16), name)
            return self("Cast", name, to=self._onnx.TensorProto.FLOAT)
        scale = np.maximum(np.abs(array).max(axis=tuple(reduced), keepdims=True), 1e-12) / 127.0
        self._constants[name] = self._onnx.numpy_helper.from_array(np.round(array / scale).astype(np.int8), name)
        return self("Mul", self("Cast", name, to=self._onnx.TensorProto.FLOAT), self.constant(scale))

    def inline(self, content: bytes, feeds: Mapping[str, str]) -> dict[str, str]:
        """Add all of another graph.

        Args:
            content: an ONNX model of the same opset. feeds: tensors of this graph by the name of its input.

        Returns:
            Names of tensors by the name of its output.

        Raises:
            SerkitError: a model of another opset, or with functions of its own.
        """
        onnx = self._onnx
        self._n += 1
        prefix = f"graph_{self._n}_"
        model = onnx.compose.add_prefix(onnx.load_model_from_string(content), prefix)
        found = {entry.domain: entry.version for entry in model.opset_import}
        if found.pop("", None) != OPSET or found or len(model.functions):
            raise SerkitError(
                f"a network in ONNX that is not of opset {OPSET} alone cannot become part of another graph"
            )
        helper, graph = onnx.helper, model.graph
        self._nodes += [
            helper.make_node("Identity", [feeds[x.name.removeprefix(prefix)]], [x.name]) for x in graph.input
        ]
        self._nodes += graph.node
        self._constants |= {tensor.name: tensor for tensor in graph.initializer}
        return {x.name.removeprefix(prefix): x.name for x in graph.output}

    def to_bytes(
        self, outputs: Mapping[str, tuple[str, int | Sequence[int | str] | None]], metadata: dict[str, str]
    ) -> bytes:
        """The model; ``outputs`` are a tensor and its shape by the name to give it.

        Args:
            outputs: a shape is the second size of (batch, size), or all sizes, or ``None``: not said.

        Raises:
            SerkitError: more weights than one file can hold.
        """
        size = sum(len(tensor.raw_data) for tensor in self._constants.values())
        if size > _LARGEST:
            smaller = " with --weights float16 or int8" if self.weights == "float32" else ", or fewer of its layers"
            raise SerkitError(
                f"the ONNX graph of this network has {size / 1e9:.1f} GB of {self.weights} weights, and one file holds "
                f"at most {_LARGEST / 1e9:.1f} GB: write the bundle{smaller}"
            )
        helper = self._onnx.helper
        nodes = self._nodes + [helper.make_node("Identity", [inner], [name]) for name, (inner, _) in outputs.items()]
        declared = [self._declared(name, shape) for name, (_, shape) in outputs.items()]
        graph = helper.make_graph(nodes, "serkit", self._inputs, declared, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="serkit")
        model.ir_version = 8
        helper.set_model_props(model, metadata)
        return bytes(model.SerializeToString())

    def _declared(self, name: str, shape: int | Sequence[int | str] | None) -> Any:
        helper = self._onnx.helper
        if shape is None:
            return helper.make_empty_tensor_value_info(name)
        sizes = ["batch", shape] if isinstance(shape, int) else list(shape)
        return helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, sizes)

    # what follows is made of the above

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self("Add", a, b)

    def times(self, a: str, b: str) -> str:
        """a * b, element by element."""
        return self("Mul", a, b)

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Insert axes of size 1."""
        return self("Unsqueeze", x, self.constant(axes, np.int64))

    def squeeze(self, x: str, *axes: int) -> str:
        """Remove axes of size 1."""
        return self("Squeeze", x, self.constant(axes, np.int64))

    def total(self, x: str, axis: int, keep: bool = False) -> str:
        """Sum over an axis."""
        return self("ReduceSum", x, self.constant([axis], np.int64), keepdims=int(keep))

    def real(self, mask: str) -> str:
        """Booleans as float32."""
        return self.cast(mask, np.float32)

    def cast(self, x: str, dtype: Any) -> str:
        """x in another numpy dtype."""
        return self("Cast", x, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def time(self, x: str, axis: int = 1) -> str:
        """() int64: the size of an axis of x."""
        return self.squeeze(self("Shape", x, start=axis, end=axis + 1), 0)

    def positions(self, time: str) -> str:
        """(1, time) int64: 0, 1, 2 …"""
        counted = self("Range", self.constant(0, np.int64), time, self.constant(1, np.int64))
        return self.unsqueeze(counted, 0)

    def mask(self, lengths: str, time: str) -> str:
        """(batch,) lengths to (batch, time) bool."""
        return self("Less", self.positions(time), self.unsqueeze(lengths, 1))

    def masked(self, x: str, mask: str) -> str:
        """(batch, time, dim) with zeros where (batch, time) is false."""
        return self.times(x, self.unsqueeze(self.real(mask), 2))

    def linear(self, x: str, layer: torch.nn.Linear) -> str:
        """``x W' + b``."""
        bias = None if layer.bias is None else numpy(layer.bias)
        return self.affine(x, numpy(layer.weight).T, bias)

    def affine(self, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        """``x weight + bias`` with (in, out) weight."""
        product = self("MatMul", x, self.matrix(weight, (0,)))
        return product if bias is None else self.add(product, self.constant(bias))

    def layer_norm(self, x: str, layer: torch.nn.LayerNorm) -> str:
        """Over the last axis."""
        weight, bias = self.constant(numpy(layer.weight)), self.constant(numpy(layer.bias))
        return self("LayerNormalization", x, weight, bias, axis=-1, epsilon=float(layer.eps))

    def gelu(self, x: str) -> str:
        """The exact one, by the error function."""
        half = self("Erf", self.times(x, self.constant(1 / math.sqrt(2))))
        return self.times(self.times(x, self.constant(0.5)), self.add(half, self.constant(1.0)))

    def sequence(self, x: str, module: torch.nn.Module) -> str:
        """A chain of linear layers, LayerNorm, ReLU, Tanh, Mish, SwiGLU; dropout passes."""
        import torch

        from serkit.models._emotion_head import SwiGlu

        for layer in module.children():
            if isinstance(layer, torch.nn.Linear):
                x = self.linear(x, layer)
            elif isinstance(layer, torch.nn.LayerNorm):
                x = self.layer_norm(x, layer)
            elif isinstance(layer, torch.nn.ReLU):
                x = self("Relu", x)
            elif isinstance(layer, torch.nn.Tanh):
                x = self("Tanh", x)
            elif isinstance(layer, torch.nn.Mish):
                x = self.times(x, self("Tanh", self("Softplus", x)))
            elif isinstance(layer, SwiGlu):
                gate = self.linear(x, layer.gate)
                x = self.times(self.times(gate, self("Sigmoid", gate)), self.linear(x, layer.value))
            elif not isinstance(layer, (torch.nn.Dropout, torch.nn.Identity)):
                raise SerkitError(f"no ONNX form of the layer {type(layer).__name__}")
        return x

    def softmax(self, scores: str, mask: str | None) -> str:
        """Over the last axis, nothing where ``mask`` (of a shape that broadcasts) is false."""
        if mask is not None:
            scores = self("Where", mask, scores, self.constant(_LOWEST))
        return self("Softmax", scores, axis=-1)

    def moments(self, frames: str, mask: str) -> tuple[str, str]:
        """(batch, dim) mean and population variance over real frames."""
        real = self.unsqueeze(self.real(mask), 2)
        n = self.total(real, 1)
        mean = self("Div", self.total(self.times(frames, real), 1), n)
        away = self.times(self("Sub", frames, self.unsqueeze(mean, 1)), real)
        return mean, self("Div", self.total(self.times(away, away), 1), n)

    def gru(self, x: str, lengths: str, module: torch.nn.GRU) -> str:
        """(batch, time, dim) to (batch, time, 2 hidden), both directions, zeros in the padding."""
        h = module.hidden_size
        n = self("Cast", lengths, to=self._onnx.TensorProto.INT32)
        x = self("Transpose", x, perm=[1, 0, 2])
        for layer in range(module.num_layers):
            w, r, b_w, b_r = (
                np.stack([_gates(numpy(getattr(module, f"{kind}_l{layer}{way}"))) for way in ("", "_reverse")])
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            bias = self.constant(np.concatenate([b_w, b_r], axis=1))
            weights = (self.matrix(w, (2,)), self.matrix(r, (2,)), bias, n)
            y = self("GRU", x, *weights, hidden_size=h, direction="bidirectional", linear_before_reset=1)
            y = self("Transpose", y, perm=[0, 2, 1, 3])  # (time, direction, batch, h) was given
            x = self("Reshape", y, self.constant([0, 0, 2 * h], np.int64))
        return self("Transpose", x, perm=[1, 0, 2])

    def attention(self, query: str, memory: str, mask: str | None, module: torch.nn.MultiheadAttention) -> str:
        """(batch, time, dim) each, (batch, memory time) bool; as ``nn.MultiheadAttention``.

        With one head the projections are multiplied together beforehand: half the weights and products.
        """
        dim, heads = module.embed_dim, module.num_heads
        w_q, w_k, w_v = np.split(numpy(module.in_proj_weight), 3)
        b_q, b_k, b_v = np.split(numpy(module.in_proj_bias), 3)
        w_o, b_o = numpy(module.out_proj.weight), numpy(module.out_proj.bias)
        scale = 1.0 / math.sqrt(dim // heads)
        if heads == 1:  # what depends on the query alone is equal for all keys, and softmax drops it
            left = self.affine(query, (w_q.T @ w_k) * scale, (b_q @ w_k) * scale)
            scores = self("MatMul", left, self("Transpose", memory, perm=[0, 2, 1]))
            weights = self.softmax(scores, None if mask is None else self.unsqueeze(mask, 1))
            return self("MatMul", weights, self.affine(memory, (w_o @ w_v).T, w_o @ b_v + b_o))
        shape = self.constant([0, 0, heads, dim // heads], np.int64)
        parts = []
        for x, w, b in ((query, w_q * scale, b_q * scale), (memory, w_k, b_k), (memory, w_v, b_v)):
            split = self("Reshape", self.affine(x, w.T, b), shape)
            parts.append(self("Transpose", split, perm=[0, 2, 1, 3]))
        scores = self("MatMul", parts[0], self("Transpose", parts[1], perm=[0, 1, 3, 2]))
        weights = self.softmax(scores, None if mask is None else self.unsqueeze(mask, 1, 2))
        mixed = self("Transpose", self("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
        return self.affine(self("Reshape", mixed, self.constant([0, 0, dim], np.int64)), w_o.T, b_o)

    def convolution(self, x: str, layer: torch.nn.Conv1d | torch.nn.Conv2d) -> str:
        """(batch, channels, …) to the same with the layer's stride and padding."""
        weight = self.matrix(numpy(layer.weight), tuple(range(1, layer.weight.ndim)))
        bias = () if layer.bias is None else (self.constant(numpy(layer.bias)),)
        sides = [int(p) for p in layer.padding]
        return self("Conv", x, weight, *bias, strides=[int(s) for s in layer.stride], pads=sides + sides)

    def halved(self, lengths: str) -> str:
        """``(n + 1) // 2`` of int64."""
        return self("Div", self.add(lengths, self.constant(1, np.int64)), self.constant(2, np.int64))


def numpy(tensor: Any) -> np.ndarray:
    """A torch parameter as float32 numpy."""
    return np.asarray(tensor.detach().cpu().float().numpy())


def _gates(weight: np.ndarray) -> np.ndarray:
    """torch's order r, z, n to ONNX's z, r, h."""
    r, z, n = np.split(weight, 3)
    return np.concatenate([z, r, n])
