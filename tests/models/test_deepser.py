from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.layers import CrossModalAttention
from serkit.models.deepser import Deepser
from serkit.tensors import Batch, pad_sequences

DIMS = {"speech": 5, "text": 3}
LENGTHS = [(7, 2), (4, 5), (1, 1), (6, 3)]


def clips(seed: int = 0) -> list[dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [{"speech": torch.randn(a, 5, generator=g), "text": torch.randn(b, 3, generator=g)} for a, b in LENGTHS]


def batch_of(items: list[dict[str, torch.Tensor]], extra: int = 0) -> Batch:
    features, lengths = {}, {}
    for name in DIMS:
        padded, lengths[name] = pad_sequences([item[name] for item in items])
        features[name] = F.pad(padded, (0, 0, 0, extra))
    ids = tuple(str(k) for k in range(len(items)))
    return Batch(ids, features, lengths, torch.zeros(len(items), dtype=torch.int64))


def made(**options: object) -> Deepser:
    torch.manual_seed(0)
    options = {"hidden": 8, "feed_forward": 16, "attribute_head": True, **options}
    return Deepser(dims=DIMS, n_classes=4, **options)  # type: ignore[arg-type]


def torch_layer(layer: nn.Module, heads: int) -> nn.TransformerEncoderLayer:
    """A layer of torch with the weights of one of ours."""
    hidden, units = layer.inner[0].in_features, layer.inner[0].out_features  # type: ignore[index,union-attr]
    other = nn.TransformerEncoderLayer(hidden, heads, units, dropout=0.0, batch_first=True).eval()
    other.self_attn.load_state_dict(layer.attention.inner.state_dict())  # type: ignore[union-attr]
    for theirs, ours in (
        (other.linear1, layer.inner[0]), (other.linear2, layer.inner[3]),  # type: ignore[index]
        (other.norm1, layer.norm_attention), (other.norm2, layer.norm_inner),
    ):  # fmt: skip
        theirs.load_state_dict(ours.state_dict())  # type: ignore[union-attr,arg-type]
    return other


def one_clip(network: Deepser, clip: dict[str, torch.Tensor], heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and attributes of a clip alone, with torch's own layers, step by step as the paper's figure has them."""

    def leg(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        states = [module.project(x)]  # type: ignore[operator]
        for layer in module.layers:  # type: ignore[union-attr]
            states.append(torch_layer(layer, heads)(states[-1]))
        return states[1:]

    states = [leg(module, clip[name][None]) for module, name in zip(network.legs, DIMS, strict=True)]
    pooled = [s[-1].mean(dim=1) for s in states]
    if len(network.fusion):
        a = leg(network.fusion[0], torch.cat([s[0] for s in states], dim=1))
        b = leg(network.fusion[1], torch.cat([*(s[-1] for s in states), a[-1]], dim=1))
        pooled.append(b[-1].mean(dim=1))
    embedding = F.relu(network.embed(torch.cat(pooled, dim=1)))
    assert network.attributes is not None
    return network.emotion(embedding)[0], 1 + 6 * torch.sigmoid(network.attributes[0](embedding))[0]


@pytest.mark.parametrize("fusion", ["deep", "none"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 2])
def test_agrees_with_torchs_own_layers_clip_by_clip_whatever_is_padded(fusion: str, n_layers: int, heads: int) -> None:
    network = made(fusion=fusion, n_layers=n_layers, heads=heads).eval()
    with torch.no_grad():
        outputs = network(batch_of(clips(), extra=3))
        assert outputs.attributes is not None
        for row, clip in enumerate(clips()):
            emotion, attributes = one_clip(network, clip, heads)
            torch.testing.assert_close(outputs.emotion[row], emotion, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(outputs.attributes[row], attributes, atol=1e-5, rtol=1e-5)


def test_what_lies_in_the_padding_is_seen_nowhere() -> None:
    """Regression: the released code attends to padding and pools it, so that logits depend on the batch."""
    network = made().eval()
    batch = batch_of(clips(), extra=4)
    noise = {n: torch.where(batch.mask(n)[:, :, None], x, torch.randn_like(x)) for n, x in batch.features.items()}
    with torch.no_grad():
        plain, noisy = network(batch), network(replace(batch, features=noise))
    torch.testing.assert_close(plain.emotion, noisy.emotion, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.attributes, noisy.attributes, atol=1e-5, rtol=1e-5)


def test_the_released_sizes() -> None:
    """512 wide, two modalities: parameters counted by hand from the description."""
    network = Deepser(dims={"wavlm": 1024, "roberta": 1024}, n_classes=8, attribute_head=True)
    layer = 4 * (512 * 512 + 512) + (512 * 2048 + 2048) + (2048 * 512 + 512) + 4 * 512
    leg = lambda dim: dim * 512 + 512 + 512 * 512 + 512 + 2 * layer  # noqa: E731  # a formula
    expected = 2 * leg(1024) + 2 * leg(512) + (3 * 512 * 512 + 512) + (512 * 8 + 8) + (512 * 3 + 3)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert len(Deepser(dims={"x": 4}, n_classes=2, fusion="none").fusion) == 0


def test_attributes_stay_on_the_raters_scale() -> None:
    network = made(attribute_low=1.0, attribute_high=5.0).eval()
    loud = batch_of([{n: 1e3 * x for n, x in clip.items()} for clip in clips()])
    with torch.no_grad():
        network.attributes[0].weight.mul_(1e3)  # type: ignore[union-attr]
        found = network(loud).attributes
    assert found.min() >= 1
    assert found.max() <= 5


def test_rows_are_mixed_in_training_alone_and_the_mixture_says_how() -> None:
    network = made(mixup=1.0, dropout=0.0)
    batch = batch_of(clips())
    assert network.eval()(batch).mixture is None
    plain: list[torch.Tensor] = []
    network.embed.register_forward_hook(lambda _, __, out: plain.append(out.detach()))
    mixed = network.train()(batch)
    assert sorted(mixed.mixture.partners.tolist()) == [0, 1, 2, 3]
    assert float(mixed.mixture.shares.min()) >= 0
    assert float(mixed.mixture.shares.max()) <= 0.5
    for row, (partner, share) in enumerate(zip(mixed.mixture.partners, mixed.mixture.shares, strict=True)):
        expected = ((1 - share) * plain[0][row] + share * plain[0][partner]).relu()
        torch.testing.assert_close(mixed.embedding[row], expected)
    assert made(mixup=0.0).train()(batch).mixture is None


def test_so_many_batches_are_mixed_and_the_shares_are_of_the_beta_distribution() -> None:
    torch.manual_seed(0)
    network = made(mixup=0.3)
    rows = torch.zeros(200, 1)
    drawn = [network._mixture(rows) for _ in range(1000)]
    assert 0.25 < sum(m is not None for m in drawn) / 1000 < 0.35
    shares = torch.cat([m.shares for m in drawn if m is not None])
    # E min(λ, 1 − λ) of Beta(0.2, 0.2) by numerical integration over (0, ½), with λ = u^5 against the singularity
    u = torch.linspace(0, 0.5**0.2, 200_001, dtype=torch.float64)
    x = u**5
    density = 5 * (1 - x) ** -0.8  # x^-0.8 dx = 5 du
    expected = torch.trapezoid(x * density, u) / torch.trapezoid(density, u)
    assert float(shares.mean()) == pytest.approx(float(expected), rel=0.03)


def test_a_seed_gives_the_same_mixture() -> None:
    network, found = made(mixup=1.0).train(), []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(network(batch_of(clips())).emotion)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fusion": "dep"}, "no fusion 'dep'; did you mean 'deep'"),
        ({"heads": 3}, "heads 3 does not divide the width 8"),
        ({"attribute_low": 7.0}, "attributes run from 7.0 to 7.0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(SerkitError, match=said):
        made(**options)
    with pytest.raises(SerkitError, match="no modality"):
        Deepser(dims={}, n_classes=2)


def test_one_head_attends_as_torch_does() -> None:
    layer = made().legs[0].layers[0]  # type: ignore[union-attr]
    assert isinstance(layer.attention, CrossModalAttention)
    x, mask = torch.randn(2, 6, 8), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with torch.no_grad():
        ours = layer.eval()(x, mask)
        theirs = torch_layer(layer, 1)(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=1e-5)
