from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.models.cross_attention import PUBLISHED_CODE, CrossAttention
from serkit.serving.agreement import largest_difference
from serkit.serving.export import to_onnx
from serkit.tensors import Batch, pad_sequences

BIMODAL = {"whisper/large-v3": 1280, "roberta/large": 1024}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make_batch(lengths: dict[str, list[int]], dims: dict[str, int], seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    padded = {n: pad_sequences([torch.randn(k, dims[n], generator=g) for k in ks]) for n, ks in lengths.items()}
    n_rows = len(next(iter(lengths.values())))
    return Batch(
        tuple(f"u{k}" for k in range(n_rows)),
        {n: p[0] for n, p in padded.items()},
        {n: p[1] for n, p in padded.items()},
        torch.zeros(n_rows, dtype=torch.int64),
    )


def test_parameter_counts_are_the_published_ones():
    assert count(CrossAttention(dims=BIMODAL, n_classes=8, **PUBLISHED_CODE)) == 17_992_203
    for dim, expected in ((256, 26_526_732), (512, 26_657_804)):
        network = CrossAttention(dims={**BIMODAL, "ns3": dim}, n_classes=8, **PUBLISHED_CODE, heads={"ns3": 2})
        assert count(network) == expected
        assert [a.inner.num_heads for a in network.attention.values()] == [1, 1, 2]


def test_the_papers_network_differs_by_the_pooling_bias_and_by_an_attention_per_pair():
    assert count(CrossAttention(dims=BIMODAL, n_classes=8)) == 17_992_203 - 2
    assert len(CrossAttention(dims={"a": 2, "b": 2, "c": 2}, n_classes=2, hidden=4).attention) == 6


@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcd"])
def test_any_set_of_modalities(names):
    dims = {n: 2 + k for k, n in enumerate(names)}
    network = CrossAttention(dims=dims, n_classes=4, hidden=6)
    out = network(make_batch({n: [3, 1] for n in names}, dims))
    assert out.emotion.shape == (2, 4)
    assert out.neutral.shape == (2,)
    assert out.embedding.shape == (2, 12 * len(names)) == (2, network.embedding_dim)
    assert len(network.attention) == len(names) * (len(names) - 1)


def reference(network: CrossAttention, batch: Batch, row: int) -> torch.Tensor:
    """One clip alone, straight from the paper's equations, with PyTorch's own layers."""
    encoded = []
    for k, name in enumerate(network.dims):
        x = batch.features[name][row : row + 1, : batch.lengths[name][row]]
        encoded.append(network.recurrent[k].gru(network.project[k](x))[0])
    pooled = []
    for m, own in enumerate(encoded):
        z = own
        for n, other in enumerate(encoded):
            if m != n:
                z = z + network.attention[f"{m}_from_{n}"].inner(own, other, other)[0]
        weights = torch.softmax(z[0] @ network.pool[m].score.weight[0] / z.shape[2] ** 0.5, 0)
        pooled.append(weights @ z[0])
    return network.head.emotion(network.head.norm(torch.cat(pooled)[None]))[0]


def test_network_and_gradients_equal_a_slow_exact_reference():
    torch.manual_seed(0)
    dims = {"a": 5, "b": 3, "c": 4}
    network = CrossAttention(dims=dims, n_classes=4, hidden=8, dropout=0.0, neutral_head=False)
    batch = make_batch({"a": [9, 4, 7, 1], "b": [2, 6, 1, 3], "c": [5, 5, 5, 5]}, dims)
    labels = torch.tensor([0, 1, 2, 3])
    grads, losses = [], []
    for run in (
        lambda: network(batch).emotion,
        lambda: torch.stack([reference(network, batch, row) for row in range(4)]),
    ):
        network.zero_grad()
        losses.append(F.cross_entropy(run(), labels))
        losses[-1].backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for ours, exact in zip(*grads, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


def test_its_layers_are_those_on_the_way_to_the_classes():
    """Of each clip alone: the mean of what the GRU reads, the pooled vector, and the hidden layer before its ReLU."""
    dims = {"a": 5, "b": 3}
    network = CrossAttention(dims=dims, n_classes=4, hidden=8, dropout=0.0, neutral_head=False)
    batch = make_batch({"a": [9, 4, 1], "b": [2, 6, 3]}, dims)
    out = network(batch)
    for k, name in enumerate(dims):
        for row, length in enumerate(batch.lengths[name].tolist()):
            mean = sum(network.project[k](batch.features[name][row, t]) for t in range(length)) / length
            torch.testing.assert_close(out.layers[f"frames/{name}"][row], mean, atol=1e-5, rtol=1e-5)
    pooled = torch.cat([out.layers["pooled/a"], out.layers["pooled/b"]], 1)
    assert torch.equal(pooled, out.embedding)
    last = network.head.emotion[3]
    torch.testing.assert_close(last(out.layers["hidden"].relu()), out.emotion)
    unmasked = CrossAttention(dims=dims, n_classes=4, hidden=8, **PUBLISHED_CODE).eval()
    every = unmasked.project[0](batch.features["a"]).mean(1)
    torch.testing.assert_close(unmasked(batch).layers["frames/a"], every, atol=1e-5, rtol=1e-5)


def test_each_rating_has_two_layers_of_its_own_on_the_normalised_embedding():
    dims = {"a": 5, "b": 3}
    torch.manual_seed(0)
    plain = CrossAttention(dims=dims, n_classes=4, hidden=8, dropout=0.0, neutral_head=False)
    torch.manual_seed(0)
    network = CrossAttention(dims=dims, n_classes=4, hidden=8, dropout=0.0, neutral_head=False, attribute_head=True)
    network.attributes.set_scale(torch.tensor([4.0, 3.0, 5.0]), torch.tensor([1.0, 0.5, 2.0]))
    assert count(network) - count(plain) == 3 * ((32 * 8 + 8) + (8 + 1))
    out = network(make_batch({"a": [9, 4, 1], "b": [2, 6, 3]}, dims))
    normed = F.layer_norm(out.embedding, (32,), network.head.norm.weight, network.head.norm.bias)
    for k, (mean, std) in enumerate(((4.0, 1.0), (3.0, 0.5), (5.0, 2.0))):
        first, _, _, last = network.attributes[0].parts[k]
        torch.testing.assert_close(out.attributes[:, k], last(first(normed).relu())[:, 0] * std + mean)
    (valence,) = torch.autograd.grad(
        out.attributes[:, 1].sum(), network.attributes[0].parts[0][0].weight, allow_unused=True
    )
    assert valence is None or not valence.any(), "what is learned of arousal is not of valence"
    content = to_onnx(network.eval(), "cross_attention", ("w", "x", "y", "z"))
    assert largest_difference(network, content) < 1e-5
    assert plain(make_batch({"a": [3], "b": [2]}, dims)).attributes is None


def test_unmasked_reproduces_the_published_dependence_on_the_batch():
    dims = {"a": 4, "b": 3}
    network = CrossAttention(dims=dims, n_classes=3, hidden=8, **PUBLISHED_CODE).eval()
    batch = make_batch({"a": [4, 3], "b": [2, 2]}, dims)
    longer = replace(batch, features={**batch.features, "a": F.pad(batch.features["a"], (0, 0, 0, 20))})
    assert (network(batch).emotion - network(longer).emotion).abs().max() > 1e-3


def test_unmasked_equals_plain_layers_on_padded_input():
    dims = {"a": 4, "b": 3}
    net = CrossAttention(dims=dims, n_classes=3, hidden=8, **PUBLISHED_CODE).eval()
    batch = make_batch({"a": [6, 3], "b": [2, 5]}, dims)
    h = [net.recurrent[k].gru(net.project[k](batch.features[n]))[0] for k, n in enumerate(dims)]
    pooled = []
    for m in (0, 1):
        z = h[m] + net.attention[f"{m}_from_others"].inner(h[m], h[1 - m], h[1 - m])[0]
        pooled.append((torch.softmax(net.pool[m].score(z), 1) * z).sum(1))
    torch.testing.assert_close(net(batch).emotion, net.head(torch.cat(pooled, 1))[0], atol=1e-5, rtol=1e-5)


def test_shared_attention_adds_up_over_its_keys():
    dims = {"a": 3, "b": 3, "c": 3}
    network = CrossAttention(dims=dims, n_classes=2, hidden=4, attention="per_query")
    assert set(network.attention) == {"0_from_others", "1_from_others", "2_from_others"}


def test_regularisers_act_in_training_only():
    dims = {"a": 3, "b": 3}
    batch = make_batch({"a": [5, 5], "b": [4, 4]}, dims)
    gru = {"gru_layers": 2, "layer_dropout": 0.5}
    for option in ({"noise": 0.5}, {"input_dropout": 0.5}, {"attention_dropout": 0.5}, gru):
        network = CrossAttention(dims=dims, n_classes=2, hidden=8, dropout=0.0, **option)
        assert not torch.allclose(network(batch).emotion, network(batch).emotion), option
        network.eval()
        assert torch.equal(network(batch).emotion, network(batch).emotion)


def test_what_does_not_fit_is_refused_in_one_line():
    batch = make_batch({"mfcc": [3]}, {"mfcc": 4})
    with pytest.raises(SerkitError, match="did you mean 'mfcc'"):
        CrossAttention(dims={"mfc": 4}, n_classes=2, hidden=4)(batch)
    with pytest.raises(SerkitError, match="width 5, got 4"):
        CrossAttention(dims={"mfcc": 5}, n_classes=2, hidden=4)(batch)
    with pytest.raises(SerkitError, match="no modality"):
        CrossAttention(dims={}, n_classes=2)
    with pytest.raises(SerkitError, match="did you mean 'prosody'"):
        CrossAttention(dims={"prosody": 4}, n_classes=2, hidden=4, heads={"prosdy": 2})
