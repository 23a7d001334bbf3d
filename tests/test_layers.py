import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from serkit.errors import SerkitError
from serkit.layers import BidirectionalGRU, CrossModalAttention, FeatureNormalisation, Pool
from serkit.tensors import length_mask


def packed(gru, frames, lengths):
    """The reference: nn.GRU on a packed sequence."""
    out, _ = gru(pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(out, batch_first=True, total_length=frames.shape[1])[0]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 2), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_gru_equals_a_packed_one_in_value_and_every_gradient(lengths, extra, n_layers):
    torch.manual_seed(len(lengths))
    layer = BidirectionalGRU(4, 3, n_layers).double()
    lengths = torch.tensor(lengths)
    frames = torch.randn(len(lengths), int(lengths.max()) + extra, 4, dtype=torch.float64)
    direction = torch.randn(frames.shape[0], frames.shape[1], 6, dtype=torch.float64)
    results = []
    for run in (lambda x: layer(x, lengths), lambda x: packed(layer.gru, x, lengths)):
        layer.zero_grad()
        x = frames.clone().requires_grad_()
        out = run(x)
        (out * direction).sum().backward()
        results.append([out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


def test_gru_passes_gradcheck():
    layer = BidirectionalGRU(2, 2).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, torch.tensor([2, 3])), (x,))


def test_gru_ignores_what_stands_in_the_padding():
    layer = BidirectionalGRU(4, 3)
    x = torch.randn(2, 5, 4)
    lengths = torch.tensor([2, 5])
    other = x.clone()
    other[0, 2:] = 1e3
    torch.testing.assert_close(layer(x, lengths), layer(other, lengths))
    assert not layer(x, lengths)[0, 2:].any()


def test_gru_runs_under_autocast_in_full_precision():
    layer = BidirectionalGRU(4, 3)
    x, lengths = torch.randn(2, 5, 4, requires_grad=True), torch.tensor([2, 5])
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x, lengths)
    out.sum().backward()
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, layer(x, lengths))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("batch", "query", "memory"), [(2, 3, 5), (2, 5, 3), (4, 9, 9), (4, 12, 9), (1, 1, 1)])
def test_attention_equals_torch_in_value_and_gradient(heads, batch, query, memory):
    torch.manual_seed(0)
    layer = CrossModalAttention(8, heads).double()
    with torch.no_grad():  # torch starts the biases at zero, which would hide a forgotten one
        layer.inner.in_proj_bias.uniform_(-1, 1)
        layer.inner.out_proj.bias.uniform_(-1, 1)
    q = torch.randn(batch, query, 8, dtype=torch.float64)
    m = torch.randn(batch, memory, 8, dtype=torch.float64)
    mask = length_mask(torch.randint(1, memory + 1, (batch,)), memory)
    direction = torch.randn_like(q)
    results = []
    for run in (
        lambda q, m: layer(q, m, mask),
        lambda q, m: layer.inner(q, m, m, key_padding_mask=~mask, need_weights=False)[0],
    ):
        layer.zero_grad()
        q_, m_ = q.clone().requires_grad_(), m.clone().requires_grad_()
        out = run(q_, m_)
        (out * direction).sum().backward()
        results.append([out.detach(), q_.grad, m_.grad, *(p.grad.clone() for p in layer.parameters())])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)


def test_attention_dropout_acts_in_training_only_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = CrossModalAttention(4, dropout=0.5)
    q, m = torch.randn(1, 2, 4), torch.randn(1, 6, 4)
    draws = torch.stack([layer(q, m) for _ in range(3000)])
    assert draws.std(0).min() > 0.01
    torch.testing.assert_close(draws.mean(0), layer.eval()(q, m), rtol=0.1, atol=0.03)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(SerkitError, match="heads 3 does not divide the width 8"):
        CrossModalAttention(8, 3)


def test_scaled_pooling_is_equation_1_and_2():
    frames = torch.randn(1, 4, 9)
    pool = Pool(9, "scaled")
    m = pool.score.weight[0]
    w = torch.softmax(frames[0, :3] @ m / 3.0, 0)
    expected = sum(w[i] * frames[0, i] for i in range(3))
    torch.testing.assert_close(pool(frames, length_mask(torch.tensor([3]), 4))[0], expected)
    assert sum(p.numel() for p in pool.parameters()) == 9


def test_pooling_of_the_published_code_is_unscaled_with_bias():
    frames = torch.randn(2, 4, 9)
    pool = Pool(9, "published_code")
    w = torch.softmax(frames @ pool.score.weight[0] + pool.score.bias, 1)
    torch.testing.assert_close(pool(frames), torch.einsum("bt,btd->bd", w, frames))
    assert sum(p.numel() for p in pool.parameters()) == 10


def test_mean_and_statistics_pooling_see_real_frames_only():
    frames = torch.randn(2, 5, 3)
    mask = length_mask(torch.tensor([2, 5]), 5)
    torch.testing.assert_close(Pool(3, "mean")(frames, mask)[0], frames[0, :2].mean(0))
    both = Pool(3, "statistics")(frames, mask)
    assert both.shape == (2, Pool(3, "statistics").out_dim)
    torch.testing.assert_close(both[0, 3:], frames[0, :2].std(0, unbiased=False), rtol=1e-3, atol=1e-3)


def test_train_statistics_normalise_and_travel_with_the_weights():
    norm = FeatureNormalisation({"a/b.c": 2, "d": 1}, "train")
    mask = torch.tensor([[True, True, False]])
    x = torch.tensor([[[3.0, 5.0], [1.0, 5.0], [0.0, 0.0]]])
    with pytest.raises(SerkitError, match="never set"):
        norm("a/b.c", x, mask)
    norm.set_statistics("a/b.c", torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
    norm.set_statistics("d", torch.zeros(1), torch.ones(1))
    expected = [[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]  # a feature that never moves is centred only
    assert norm("a/b.c", x, mask).tolist() == expected
    copy = FeatureNormalisation({"a/b.c": 2, "d": 1}, "train")
    copy.load_state_dict(norm.state_dict())
    assert copy("a/b.c", x, mask).tolist() == expected


def test_statistics_that_do_not_fit_are_refused():
    norm = FeatureNormalisation({"mfcc": 2}, "train")
    with pytest.raises(SerkitError, match="did you mean 'mfcc'"):
        norm.set_statistics("mfc", torch.zeros(2), torch.ones(2))
    with pytest.raises(SerkitError, match="expected \\(2,\\)"):
        norm.set_statistics("mfcc", torch.zeros(3), torch.ones(3))
    with pytest.raises(SerkitError, match="not finite"):
        norm.set_statistics("mfcc", torch.full((2,), math.nan), torch.ones(2))
    with pytest.raises(SerkitError, match="normalize: train or level"):
        FeatureNormalisation({"mfcc": 2}).set_statistics("mfcc", torch.zeros(2), torch.ones(2))


def test_utterance_normalisation_uses_the_clip_and_leaves_padding_zero():
    norm = FeatureNormalisation({"x": 3}, "utterance")
    x = torch.randn(2, 6, 3) * 50 + 200
    mask = length_mask(torch.tensor([4, 6]), 6)
    out = norm("x", x, mask)
    torch.testing.assert_close(out[0, :4].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[0, :4].std(0, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
    assert not out[0, 4:].any()


def test_level_takes_away_how_loud_a_clip_is_and_leaves_its_shape():
    norm = FeatureNormalisation({"x": 3}, "level")
    norm.set_statistics("x", torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 2.0, 2.0]))
    x = torch.randn(2, 6, 3) * 5
    mask = length_mask(torch.tensor([4, 6]), 6)
    out = norm("x", x, mask)
    z = (x[0, :4] - torch.tensor([1.0, -2.0, 0.5])) / 2
    torch.testing.assert_close(out[0, :4], z - z.mean())
    torch.testing.assert_close(norm("x", x + 7.0, mask), out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm("x", x[:1, :4], mask[:1, :4])[0], out[0, :4])  # padding is not counted
    assert not out[0, 4:].any()
