"""The style encoder's pooling: against a slow one, clip by clip, and blind to what clips are padded with."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.models._style_pooling import StylePooling
from serkit.models.speech_backbone import SpeechBackbone
from serkit.tensors import length_mask

from .waves import batch_of, waves

LENGTHS = (9, 1, 4)


def pooling(**options: Any) -> StylePooling:
    torch.manual_seed(0)
    return StylePooling(6, **{"width": 8, "kernel": 5, "heads": 2, "dropout": 0.0, **options}).eval()


def clips() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), max(LENGTHS) + 3, 6, generator=g), length_mask(torch.tensor(LENGTHS), 12)


def slow(pool: Any, frames: Tensor) -> Tensor:
    """One clip of (time, dim) frames, head by head and frame by frame, as the released code computes it."""
    x = frames
    for layer in (pool.dense[0], pool.dense[3]):
        x = x @ layer.weight.T + layer.bias
        x = x * torch.tanh(torch.log1p(torch.exp(x)))
    time, width = x.shape
    for convolution in pool.convolutions:
        half = convolution.kernel_size[0] // 2
        wide = torch.cat([torch.zeros(half, width), x, torch.zeros(half, width)])
        seen = torch.stack([wide[t : t + 2 * half + 1] for t in range(time)])  # (time, kernel, width)
        both = torch.einsum("tkc,ock->to", seen, convolution.weight) + convolution.bias
        x = x + both[:, :width] * torch.sigmoid(both[:, width:])
    rows, biases = pool.project.weight.split(width), pool.project.bias.split(width)
    q, k, v = (x @ w.T + b for w, b in zip(rows, biases, strict=True))
    own = width // pool.heads
    parts = []
    for h in range(pool.heads):
        columns = slice(h * own, (h + 1) * own)
        weights = torch.softmax(q[:, columns] @ k[:, columns].T / math.sqrt(width), dim=1)
        parts.append(weights @ v[:, columns])
    x = x + torch.cat(parts, dim=1) @ pool.merge.weight.T + pool.merge.bias
    found: Tensor = (x @ pool.last.weight.T + pool.last.bias).mean(dim=0)
    return found


@pytest.mark.parametrize("options", [{}, {"kernel": 3, "heads": 4}, {"kernel": 1, "heads": 1}])
def test_it_is_what_the_slow_one_computes_clip_by_clip(options: dict[str, Any]) -> None:
    pool, (frames, mask) = pooling(**options), clips()
    with torch.no_grad():
        found = pool(frames, mask)
        for row, n in enumerate(LENGTHS):
            torch.testing.assert_close(found[row], slow(pool, frames[row, :n]), atol=1e-5, rtol=1e-5)


def test_what_lies_in_the_padding_changes_nothing_and_gets_no_gradient() -> None:
    pool, (frames, mask) = pooling(), clips()
    other = torch.where(mask[:, :, None], frames, 1e3)
    assert torch.equal(pool(other, mask), pool(frames, mask))
    frames.requires_grad_()
    pool(frames, mask).pow(2).sum().backward()
    assert frames.grad is not None
    assert not frames.grad[~mask].any()
    assert frames.grad[mask].any(dim=1).all()
    assert all(p.grad is not None and p.grad.any() for p in pool.parameters())


def test_dropout_acts_in_training_alone() -> None:
    pool, (frames, mask) = pooling(dropout=0.5), clips()
    assert torch.equal(pool(frames, mask), pool(frames, mask))
    pool.train()
    assert not torch.equal(pool(frames, mask), pool(frames, mask))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kernel": 4}, "4 frames, expected an odd number"), ({"heads": 3}, "8 cannot be shared by 3")],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SerkitError, match=said):
        pooling(**options)


def on_backbone(**options: Any) -> SpeechBackbone:
    pytest.importorskip("transformers")
    from serkit.foundation import backbones

    torch.manual_seed(0)
    return SpeechBackbone(
        dims={"waveform": 1}, n_classes=8, backbone=backbones.build(backbones.describe("wavlm/random")),
        pooling="style", style_width=16, hidden=16, dropout=0.5, attribute_head=True, **options,
    ).eval()  # fmt: skip


def test_on_a_backbone_a_clip_keeps_its_numbers_in_any_batch() -> None:
    network, clips_ = on_backbone(), waves(3000, 9200, 5200)
    with torch.no_grad():
        together = network(batch_of(clips_, extra=2000, filler=0.9))
        for row, clip in enumerate(clips_):
            alone = network(batch_of([clip]))
            torch.testing.assert_close(together.emotion[row], alone.emotion[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together.attributes[row], alone.attributes[0], atol=1e-5, rtol=1e-5)
    assert together.embedding.shape == (3, 16)


def test_both_heads_are_dense_normalised_relu_and_out() -> None:
    network = on_backbone()
    x = torch.randn(2, 16)
    heads: list[tuple[Any, int]] = [(network.head.emotion, 8), (network.head.attributes, 3)]
    for head, width in heads:
        first, norm, last = head[1], head[2], head[5]
        assert [type(layer).__name__ for layer in head] == [
            "Dropout", "Linear", "LayerNorm", "ReLU", "Dropout", "Linear",
        ]  # fmt: skip
        wanted = last(F.relu(norm(first(x))))
        assert wanted.shape == (2, width)
        torch.testing.assert_close(head(x), wanted)


def test_its_onnx_graph_answers_as_torch_does() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from serkit.serving.agreement import largest_difference
    from serkit.serving.export import to_onnx

    network = on_backbone(style_heads=4, style_kernel=3)
    labels = tuple("abcdefgh")
    assert largest_difference(network, to_onnx(network, "speech_backbone", labels)) < 1e-4
