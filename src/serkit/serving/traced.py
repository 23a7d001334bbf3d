"""The ONNX graph of a network that nobody wrote one for: what torch's exporter makes of it.

torch runs the network once and writes down what was computed. Whatever Python decides on the way, such as a loop over
clips, is fixed by the clips of that one run; whoever uses the graph compares it with torch on other clips. torch's own
attention fixes the length of a clip too, so another way to the same numbers stands in for it meanwhile.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from serkit.errors import SerkitError
from serkit.serving.agreement import Clips
from serkit.serving.graphs import OPSET, onnx_package

if TYPE_CHECKING:
    from torch import Tensor, nn

_SEED = 1  # of the clips it is traced with: others than those of the comparison


def traced(network: nn.Module, dims: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
    """Let torch write a network, with the inputs and outputs of every other graph; matrices stay float32.

    Without an embedding of its own, the network's logits stand for it.

    Args:
        network: in eval mode. dims: width by feature. metadata: what the file says of itself.

    Raises:
        SerkitError: the network gives no logits. MissingExtra: the package onnx is not installed.
        Exception: whatever torch or the network raise.
    """
    import torch

    onnx = onnx_package()
    batch = Clips.random(network, dims, _SEED).batch()
    names = [f"{kind}{k}" for k in range(len(dims)) for kind in "xn"]
    given = [part for name in dims for part in (batch.features[name], batch.lengths[name])]
    whole = _on_tensors(network, tuple(dims))
    with torch.no_grad():
        outputs = ["emotion", "embedding", "attributes"][: len(whole(*given))]
    axes = {name: {0: "batch", **({1: f"time{name[1:]}"} if name[0] == "x" else {})} for name in names}
    axes.update({name: {0: "batch"} for name in outputs})
    older: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    content = io.BytesIO()
    with _quietly(), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            whole, tuple(given), content,  # type: ignore[arg-type]  # the exporter of TorchScript takes a stream too
            input_names=names, output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, **older,
        )  # fmt: skip
    model = onnx.load_from_string(content.getvalue())
    kept = {one.name for one in model.graph.input}
    for k, dim in enumerate(dims.values()):  # what the numbers do not depend on was left out, and is handed in anyway
        frames, lengths = (onnx.TensorProto.FLOAT, ["batch", f"time{k}", dim]), (onnx.TensorProto.INT64, ["batch"])
        for name, (kind, shape) in {f"x{k}": frames, f"n{k}": lengths}.items():
            if name not in kept:
                model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def _on_tensors(network: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A network with tensors in place of a batch, and of its outputs."""
    import torch
    from torch import Tensor, nn

    from serkit.tensors import Batch

    class OnTensors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            features, lengths = (dict(zip(names, given[k::2], strict=True)) for k in (0, 1))
            rows = int(given[0].shape[0])
            outputs = self.network(Batch(("",) * rows, features, lengths, torch.full((rows,), -1)))
            emotion = getattr(outputs, "emotion", None)
            if not isinstance(emotion, Tensor):
                raise SerkitError(f"the network gives a {type(outputs).__name__} without emotion, expected Outputs")
            embedding = emotion if outputs.embedding is None else outputs.embedding
            return (emotion, embedding) if outputs.attributes is None else (emotion, embedding, outputs.attributes)

    return OnTensors().eval()


def _attention(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``nn.MultiheadAttention.forward`` in operators whose sizes follow their inputs; gives no weights.

    Raises:
        NotImplementedError: projections of their own for keys and values, or inputs that are not batch first.
    """
    import torch
    from torch.nn import functional

    if self.in_proj_weight is None or self.bias_k is not None or self.add_zero_attn or not self.batch_first:
        raise NotImplementedError("this kind of nn.MultiheadAttention")
    biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    q, k, v = (
        functional.linear(x, w, b).reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
        for x, w, b in zip((query, key, value), self.in_proj_weight.chunk(3), biases, strict=True)
    )
    hidden = torch.zeros((), dtype=query.dtype)
    for mask in (attn_mask, None if key_padding_mask is None else key_padding_mask[:, None, None, :]):
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask, -torch.inf)
        hidden = hidden if mask is None else hidden + mask
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=hidden)
    return self.out_proj(found.transpose(1, 2).flatten(2)), None


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """:func:`_attention` in place of torch's, and no fast path around it."""
    import torch
    from torch import nn

    kept, fast = nn.MultiheadAttention.forward, torch.backends.mha.get_fastpath_enabled()
    try:
        nn.MultiheadAttention.forward = _attention  # type: ignore[method-assign, assignment]  # until it is written
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        nn.MultiheadAttention.forward = kept  # type: ignore[method-assign]  # as it was
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter prints, some of it from C++: what it makes is compared anyway."""
    kept = {}
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # there is no such stream
            kept[stream] = os.dup(stream)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in kept:
            os.dup2(nowhere, stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.close(nowhere)
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
