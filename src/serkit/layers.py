"""Building blocks that several networks share; each gives a clip the same numbers in any batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from serkit.errors import SerkitError, check_known

Pooling = Literal["scaled", "published_code", "mean", "statistics"]
Normalize = Literal["none", "train", "level", "utterance"]
_STD_FLOOR = 1e-5


class BidirectionalGRU(nn.Module):
    """A bidirectional GRU that stops at each row's own length, as on a packed sequence.

    Args:
        dim: width of a frame. hidden: units per direction.
        n_layers: stacked layers. layer_dropout: between them, in training.

    On CPU both directions run side by side, the backward one on length-reversed frames, with the
    backward pass written out (weight gradients as one product over all steps): the values of
    ``nn.GRU`` on ``pack_padded_sequence`` without its cost. Elsewhere the packed ``nn.GRU`` (cuDNN) runs.
    The parameters are those of ``nn.GRU(bidirectional=True)``, in :attr:`gru`.
    """

    def __init__(self, dim: int, hidden: int, n_layers: int = 1, layer_dropout: float = 0.0) -> None:
        super().__init__()
        between = layer_dropout if n_layers > 1 else 0.0
        self.gru = nn.GRU(dim, hidden, n_layers, batch_first=True, dropout=between, bidirectional=True)
        self.layer_dropout = layer_dropout

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, time, dim) and (batch,) real lengths to (batch, time, 2 * hidden), zeros in the padding."""
        if frames.device.type != "cpu":
            packed = nn.utils.rnn.pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
            unpacked = nn.utils.rnn.pad_packed_sequence(
                self.gru(packed)[0], batch_first=True, total_length=frames.shape[1]
            )
            return unpacked[0]
        for layer in range(self.gru.num_layers):
            if layer:
                frames = F.dropout(frames, self.layer_dropout, self.training)
            names = (f"l{layer}", f"l{layer}_reverse")
            parameters = [
                torch.stack([getattr(self.gru, f"{kind}_{name}") for name in names])
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            frames = cast(Tensor, _GRUScan.apply(frames, lengths, *parameters))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return frames


class _GRUScan(torch.autograd.Function):
    """One bidirectional GRU layer: gates r, z, n as in ``nn.GRU``; axis 0 of the weights is the direction.

    Work is laid out (direction, time, batch, gates), direction 1 in reversed time, so that a step of
    both directions is one batched product. The backward pass first turns everything it knows into
    factors of the incoming gradient; a step is then a product, a multiplication and an addition.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]  # torch leaves it untyped
    def forward(
        ctx: Any, frames: Tensor, lengths: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        batch, time, dim = frames.shape
        h = w_hh.shape[2]
        index, back, mask = _reversal(lengths, batch, time)
        flat = frames.reshape(batch * time, dim)
        inputs = frames.new_empty(2, time * batch, dim)
        gates = frames.new_empty(2, time, batch, 3 * h)
        bias = torch.cat([b_ih[:, : 2 * h] + b_hh[:, : 2 * h], b_ih[:, 2 * h :]], 1)
        for way in range(2):
            torch.index_select(flat, 0, index[way], out=inputs[way])
            torch.addmm(bias[way], inputs[way], w_ih[way].t(), out=gates[way].view(time * batch, 3 * h))
        new = gates[..., 2 * h :] * 2.0  # tanh(x) = 2 sigmoid(2x) - 1, and the sigmoid is the faster one
        gates[..., 2 * h :] = b_hh[:, None, None, 2 * h :]
        states = frames.new_zeros(2, time + 1, batch, h)
        _step_forward(gates, new, states, w_hh.transpose(1, 2))
        out = frames.new_empty(batch, time, 2 * h)
        out[..., :h] = states[0, 1:].transpose(0, 1)
        out[..., h:] = states[1, 1:].reshape(time * batch, h)[back].view(batch, time, h)
        if not bool(mask.all()):
            out *= mask.t()[:, :, None]
        ctx.save_for_backward(inputs, gates, new, states, w_ih, w_hh, index, back, mask)
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]  # torch leaves it untyped
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # the decorator's type
        inputs, gates, new, states, w_ih, w_hh, index, back, mask = ctx.saved_tensors
        (_, time, batch, h), dim = new.shape, inputs.shape[2]
        carried = grad.new_empty(2, time, batch, h)  # gradient of every state, completed from the end on
        carried[0] = grad[..., :h].transpose(0, 1)
        carried[1] = grad[..., h:].reshape(batch * time, h)[index[1]].view(time, batch, h)
        if not bool(mask.all()):
            carried *= mask[None, :, :, None]
        factors, candidate = _factors(gates, new, states[:, :-1])
        _step_backward(factors, carried, gates[..., h : 2 * h], w_hh)
        steps = factors.view(2, time * batch, 3 * h)
        grad_w_hh = torch.bmm(steps.transpose(1, 2), states[:, :-1].reshape(2, time * batch, h))
        grad_b_hh = steps.sum(1)
        torch.mul(carried, candidate, out=factors[..., 2 * h :])  # the candidate's input is not gated by r
        grad_w_ih = torch.bmm(steps.transpose(1, 2), inputs)
        grad_b_ih = torch.cat([grad_b_hh[:, : 2 * h], steps[..., 2 * h :].sum(1)], 1)
        grad_frames = None
        if ctx.needs_input_grad[0]:
            both = torch.bmm(steps, w_ih)
            grad_frames = both[1][back].view(batch, time, dim)
            grad_frames += both[0].view(time, batch, dim).transpose(0, 1)
        return grad_frames, None, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh


def _reversal(lengths: Tensor, batch: int, time: int) -> tuple[Tensor, Tensor, Tensor]:
    """(2, time*batch) rows of (batch*time) by direction, the way back of direction 1, (time, batch) mask."""
    step = torch.arange(time)[:, None]
    row = torch.arange(batch)[None, :]
    mask = step < lengths[None, :]
    reverse = torch.where(mask, lengths[None, :] - 1 - step, step)
    index = torch.stack([(row * time + step).reshape(-1), (row * time + reverse).reshape(-1)])
    return index, (reverse * batch + row).t().reshape(-1), mask


def _step_forward(gates: Tensor, new: Tensor, states: Tensor, w_hh: Tensor) -> None:
    """Fill ``gates`` (r, z, recurrent part of n), ``new`` (n) and ``states`` step by step, in place."""
    h = new.shape[3]
    minus_one = new.new_tensor(-1.0)
    previous, *following = states.unbind(1)
    views = (gates, gates[..., : 2 * h], gates[..., :h], gates[..., h : 2 * h], gates[..., 2 * h :], new)
    for (gate, both, r, z, recurrent, n), state in zip(
        zip(*(view.unbind(1) for view in views), strict=True), following, strict=True
    ):
        gate.baddbmm_(previous, w_hh)
        both.sigmoid_()
        n.addcmul_(r, recurrent, value=2.0).sigmoid_()
        torch.add(minus_one, n, alpha=2, out=n)
        torch.lerp(n, previous, z, out=state)
        previous = state


def _factors(gates: Tensor, new: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives by the gates' inputs per unit of state gradient, (2, time, batch, 3h), and n's alone."""
    r, z, recurrent = gates.chunk(3, 3)
    candidate = torch.addcmul(new.new_ones(()), new, new, value=-1)
    candidate.addcmul_(candidate, z, value=-1)
    factors = torch.empty_like(gates)
    by_r, by_z, by_n = factors.chunk(3, 3)
    torch.mul(candidate, r, out=by_n)
    torch.mul(by_n, recurrent, out=by_r)
    by_r.addcmul_(by_r, r, value=-1)
    torch.sub(previous, new, out=by_z)
    by_z.mul_(z).addcmul_(by_z, z, value=-1)
    return factors, candidate


def _step_backward(factors: Tensor, carried: Tensor, z: Tensor, w_hh: Tensor) -> None:
    """Multiply ``factors`` by the gradient of each state, and carry that from the last step to the first."""
    directions, time, batch, h = carried.shape
    by_gate = factors.view(directions, time, batch, 3, h).unbind(1)
    step, grad, update = factors.unbind(1), carried.unbind(1), z.unbind(1)
    for t in range(time - 1, 0, -1):
        by_gate[t].mul_(grad[t].unsqueeze(2))
        grad[t - 1].baddbmm_(step[t], w_hh).addcmul_(grad[t], update[t])
    by_gate[0].mul_(grad[0].unsqueeze(2))


class CrossModalAttention(nn.Module):
    """Multi-head attention of one modality (query) over another (key and value), padding masked.

    Args:
        dim: width of both. heads: must divide it. dropout: of the attention weights, in training.

    Values and parameters are those of ``nn.MultiheadAttention`` (:attr:`inner`). With one head the four
    projections are moved to the shorter side, ``(q Wq)(k Wk)' = ((q Wq) Wk) k'``: of a sentence of 20
    tokens and a clip of 300 frames, only the tokens are projected.

    Raises:
        SerkitError: ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise SerkitError(f"attention: heads {heads} does not divide the width {dim}")
        self.inner = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, time, dim) of the query and of the memory, (batch, memory time) bool, to the query's shape."""
        if self.inner.num_heads > 1:
            padding = None if mask is None else ~mask
            return cast(Tensor, self.inner(query, memory, memory, key_padding_mask=padding, need_weights=False)[0])
        w_q, w_k, w_v = self.inner.in_proj_weight.chunk(3)
        b_q, b_k, b_v = self.inner.in_proj_bias.chunk(3)
        w_o, b_o = self.inner.out_proj.weight, self.inner.out_proj.bias
        short_query = query.shape[1] <= memory.shape[1]
        if short_query:
            left, right = _project_twice(query, w_q, b_q, w_k), memory
            bias = (query @ (b_k @ w_q) + b_q @ b_k)[:, :, None]  # equal for all keys: softmax drops it
        else:
            left, right = query, _project_twice(memory, w_k, b_k, w_q)
            bias = (memory @ (b_q @ w_k) + b_q @ b_k)[:, None, :]
        scale = 1.0 / math.sqrt(query.shape[2])
        shape = (query.shape[0], query.shape[1], memory.shape[1])
        scores = torch.baddbmm((bias * scale).expand(shape), left, right.transpose(1, 2), alpha=scale)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -math.inf)
        weights = F.dropout(scores.softmax(-1), self.inner.dropout, self.training)
        if short_query:
            mixed = _project_twice(weights @ memory, w_v, None, w_o.t())
            return mixed + weights.sum(-1, keepdim=True) * (w_o @ b_v) + b_o
        return weights @ _project_twice(memory, w_v, b_v, w_o.t()) + b_o


def _project_twice(x: Tensor, first: Tensor, bias: Tensor | None, second: Tensor) -> Tensor:
    """``(x first' + bias) second``; the matrices are multiplied beforehand where the rows are many enough."""
    if x.shape[0] * x.shape[1] <= 2 * x.shape[2]:
        return F.linear(x, first, bias) @ second
    product = x @ (first.t() @ second)
    return product if bias is None else product + bias @ second


class Pool(nn.Module):
    """Frames of a clip to one vector, over its real frames only.

    Args:
        dim: width of a frame.
        pooling: ``scaled``: softmax of ``r.m / sqrt(dim)`` (Ueda et al. 2025, eq. 1-2);
            ``published_code``: softmax of ``r.m + b`` (their code); ``mean``; ``statistics``: mean and
            standard deviation.

    Attributes:
        out_dim: width of the vector.

    Raises:
        SerkitError: an unknown pooling.
    """

    def __init__(self, dim: int, pooling: Pooling = "scaled") -> None:
        super().__init__()
        check_known(pooling, get_args(Pooling), f"no pooling '{pooling}'")
        self.pooling = pooling
        self.out_dim = 2 * dim if pooling == "statistics" else dim
        self.score = nn.Linear(dim, 1, bias=pooling == "published_code") if pooling in _LEARNED else None

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, time, dim) and (batch, time) bool to (batch, out_dim)."""
        if self.score is not None:
            scores = self.score(frames)[:, :, 0]
            if self.pooling == "scaled":
                scores = scores / math.sqrt(frames.shape[2])
            if mask is not None:
                scores = scores.masked_fill(~mask, -math.inf)
            pooled: Tensor = scores.softmax(1)[:, None, :] @ frames
            return pooled[:, 0]
        if mask is None:
            mask = frames.new_ones(frames.shape[:2], dtype=torch.bool)
        mean, variance = _moments(frames, mask)
        if self.pooling == "mean":
            return mean
        return torch.cat([mean, (variance + _STD_FLOOR).sqrt()], 1)


_LEARNED = ("scaled", "published_code")


def _moments(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, dim) mean and population variance over the frames that ``mask`` (batch, time) marks real."""
    real = mask[:, :, None].to(frames.dtype)
    n = real.sum(1)
    mean = (frames * real).sum(1) / n
    return mean, (((frames - mean[:, None, :]) * real) ** 2).sum(1) / n


class FeatureNormalisation(nn.Module):
    """What happens to features before the first layer: nothing, train statistics, or each clip's own.

    Args:
        dims: width by encoder name, in order.
        normalize: ``none``; ``train``: subtract mean and divide by standard deviation of the training
            frames, kept as buffers and set by :meth:`set_statistics`; ``utterance``: of the clip's frames;
            ``level``: as ``train``, and then less the clip's mean over all its frames and dimensions, so that of a
            log spectrum the loudness of the recording goes and its shape stays.

    Raises:
        SerkitError: an unknown way.
    """

    def __init__(self, dims: Mapping[str, int], normalize: Normalize = "none") -> None:
        super().__init__()
        check_known(normalize, get_args(Normalize), f"no normalize '{normalize}'")
        self.dims, self.normalize = dict(dims), normalize
        self.keeps_statistics = normalize in ("train", "level")
        self._ready = not self.keeps_statistics
        if self.keeps_statistics:
            for k, dim in enumerate(self.dims.values()):
                self.register_buffer(f"mean_{k}", torch.zeros(dim))
                self.register_buffer(f"std_{k}", torch.zeros(dim))

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and standard deviation of one modality's training frames.

        Raises:
            SerkitError: no such modality, another width, not finite, or another kind of normalisation.
        """
        if not self.keeps_statistics:
            raise SerkitError(f"normalize is '{self.normalize}': statistics are kept with normalize: train or level")
        check_known(name, self.dims, f"no modality '{name}' in this network")
        shape = (self.dims[name],)
        if tuple(mean.shape) != shape or tuple(std.shape) != shape:
            raise SerkitError(
                f"statistics of '{name}': expected {shape}, got {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        if not (bool(mean.isfinite().all()) and bool(std.isfinite().all())):
            raise SerkitError(f"statistics of '{name}' are not finite: a feature is NaN or infinite")
        k = list(self.dims).index(name)
        constant = std < _STD_FLOOR  # a feature that never moves in training stays as it is, centred
        cast(Tensor, getattr(self, f"mean_{k}")).copy_(mean)
        cast(Tensor, getattr(self, f"std_{k}")).copy_(torch.where(constant, torch.ones_like(std), std))

    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(dim,) mean and standard deviation by modality, where they are kept."""
        if not self.keeps_statistics:
            return {}
        kept = dict(self.named_buffers())
        return {name: (kept[f"mean_{k}"], kept[f"std_{k}"]) for k, name in enumerate(self.dims)}

    def forward(self, name: str, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) of modality ``name`` and (batch, time) bool; padding stays zero.

        Raises:
            SerkitError: the statistics of ``normalize: train`` or ``level`` were never set.
        """
        if self.normalize == "none":
            return frames
        if self.normalize == "utterance":
            mean, variance = _moments(frames, mask)
            frames = (frames - mean[:, None, :]) * (variance + _STD_FLOOR).rsqrt()[:, None, :]
        else:
            k = list(self.dims).index(name)
            std = cast(Tensor, getattr(self, f"std_{k}"))
            if not self._ready:
                self._ready = all(bool((b > 0).all()) for n, b in self.named_buffers() if n.startswith("std_"))
                if not self._ready:
                    raise SerkitError(f"normalize: {self.normalize}, but the statistics of train were never set")
            frames = (frames - cast(Tensor, getattr(self, f"mean_{k}"))) / std
            if self.normalize == "level":
                frames = frames - _moments(frames, mask)[0].mean(dim=1)[:, None, None]
        return frames * mask[:, :, None]


class Normalised(nn.Module):
    """Base of a network that normalises its features before all else: ``self.normalisation`` keeps the statistics."""

    normalisation: FeatureNormalisation

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (dim,) mean and deviation of one modality's training frames (``normalize: train`` or ``level``)."""
        self.normalisation.set_statistics(name, mean, std)
