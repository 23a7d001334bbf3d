from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.models.flam import Flam
from serkit.tensors import Batch


def batch_of(lengths: list[int], dim: int = 32, time: int | None = None, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    time = time or max(lengths)
    frames = torch.zeros(len(lengths), time, dim)
    for row, n in enumerate(lengths):
        frames[row, :n] = torch.randn(n, dim, generator=generator)
    ids = tuple(str(k) for k in range(len(lengths)))
    sizes = torch.tensor(lengths)
    return Batch(ids, {"wavlm": frames}, {"wavlm": sizes}, torch.zeros(len(lengths), dtype=torch.int64))


def made(dim: int = 32, **options: object) -> Flam:
    torch.manual_seed(0)
    return Flam(dims={"wavlm": dim}, n_classes=4, **options).eval()  # type: ignore[arg-type]


def slow(network: Flam, clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """U and z of one clip (time, dim), head by head and frame by frame from the equations of arXiv 2512.04551."""
    inner = network.head.attention.inner  # type: ignore[union-attr]
    dim, heads = clip.shape[1], inner.num_heads
    q, k, v = (clip @ w.T + b for w, b in zip(inner.in_proj_weight.chunk(3), inner.in_proj_bias.chunk(3), strict=True))
    parts = []
    for h in range(heads):
        s = slice(h * dim // heads, (h + 1) * dim // heads)
        rows = [
            sum(a * v[t, s] for t, a in enumerate(F.softmax(k[:, s] @ q[now, s] / math.sqrt(dim // heads), dim=0)))
            for now in range(len(clip))
        ]
        parts.append(torch.stack(rows))  # type: ignore[arg-type]
    u = clip + torch.cat(parts, dim=1) @ inner.out_proj.weight.T + inner.out_proj.bias
    alpha = F.softmax(u @ network.head.pool.score.weight[0], dim=0)  # type: ignore[union-attr]
    return u, sum(a * row for a, row in zip(alpha, u, strict=True))  # type: ignore[return-value]


def test_agrees_with_the_equations_clip_by_clip() -> None:
    network, lengths = made(), [7, 3, 1]
    batch = batch_of(lengths, time=9)
    with torch.no_grad():
        outputs = network(batch)
        for row, n in enumerate(lengths):
            u, z = slow(network, batch.features["wavlm"][row, :n])
            assert torch.allclose(outputs.frames[row, :n], u, atol=1e-5)
            assert not outputs.frames[row, n:].any()
            embedding = network.head.embed(z)
            assert torch.allclose(outputs.embedding[row], embedding, atol=1e-5)
            assert torch.allclose(outputs.emotion[row], network.head.emotion(embedding), atol=1e-5)
    assert outputs.frames_mask.sum(dim=1).tolist() == lengths
    assert outputs.embedding.shape == (3, 64)


def reference_pool(pooling: str, u: torch.Tensor, network: Flam) -> torch.Tensor:
    if pooling == "mean":
        return u.mean(dim=0)
    if pooling == "max":
        return u.max(dim=0).values
    if pooling == "last":
        return u[-1]
    first, _, second = network.head.pool.score  # type: ignore[misc]
    alpha = F.softmax(torch.tanh(u @ first.weight.T + first.bias) @ second.weight[0], dim=0)
    mean = (alpha[:, None] * u).sum(dim=0)
    return torch.cat([mean, ((alpha[:, None] * u**2).sum(dim=0) - mean**2 + 1e-5).sqrt()])


@pytest.mark.parametrize("pooling", ["mean", "max", "last", "attentive_statistics"])
def test_other_poolings_by_name_agree_with_a_reference(pooling: str) -> None:
    network = made(heads=0, pooling=pooling, bottleneck=0)
    batch = batch_of([6, 2, 4], time=8)
    batch.features["wavlm"][1, 2:] = 50.0  # padding that is not zero must not be seen either
    with torch.no_grad():
        outputs = network(batch)
        for row, n in enumerate([6, 2, 4]):
            expected = reference_pool(pooling, batch.features["wavlm"][row, :n], network)
            assert torch.allclose(outputs.embedding[row], expected, atol=1e-4)
    assert network.embedding_dim == outputs.embedding.shape[1]


@pytest.mark.parametrize("pooling", ["attention", "mean", "max", "last", "attentive_statistics"])
def test_padding_changes_nothing_under_any_pooling(pooling: str) -> None:
    network = made(pooling=pooling, layer_norm=True, attribute_head=True, neutral_head=True)
    batch = batch_of([9, 2], time=20)
    with torch.no_grad():
        alone = network(
            Batch(("1",), {"wavlm": batch.features["wavlm"][1:, :2]}, {"wavlm": torch.tensor([2])}, batch.labels[1:])
        )
        together = network(batch)
    for name in ("emotion", "embedding", "attributes", "neutral"):
        assert torch.allclose(getattr(alone, name)[0], getattr(together, name)[1], atol=1e-5), name


def test_a_width_that_heads_do_not_divide_is_projected() -> None:
    network = made(dim=30)
    assert network(batch_of([4, 2], dim=30)).frames.shape == (2, 4, 32)
    assert made(dim=32).project[0].__class__.__name__ == "Identity"
    with pytest.raises(SerkitError, match="heads 16 does not divide"):
        made(width=40)


def test_several_encoders_follow_one_another_in_time() -> None:
    torch.manual_seed(0)
    network = Flam(dims={"a": 8, "b": 20}, n_classes=3, heads=4).eval()
    lengths = {"a": torch.tensor([2, 3]), "b": torch.tensor([5, 1])}
    features = {"a": torch.randn(2, 3, 8), "b": torch.randn(2, 5, 20)}
    outputs = network(Batch(("0", "1"), features, lengths, torch.zeros(2, dtype=torch.int64)))
    assert outputs.frames.shape == (2, 8, 20)
    assert outputs.frames_mask.tolist() == [[True, True, False] + [True] * 5, [True] * 4 + [False] * 4]


def test_paper_size_and_misuse() -> None:
    network = Flam(dims={"wavlm": 1024}, n_classes=4)
    attention = 4 * 1024 * 1024 + 4 * 1024
    assert sum(p.numel() for p in network.parameters()) == attention + 1024 + (1024 * 64 + 64) + (64 * 4 + 4)
    with pytest.raises(SerkitError, match="did you mean 'attentive_statistics'"):
        made(pooling="attentive_statistic")
    with pytest.raises(SerkitError, match="built for width 32, got 8"):
        made()(batch_of([3], dim=8))
    with pytest.raises(SerkitError, match="without features of 'wavlm'"):
        made()(Batch(("0",), {}, {}, torch.zeros(1, dtype=torch.int64)))
