"""What every network in serkit/models keeps: a clip's outputs are its own, and every parameter learns."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import serkit.models
from serkit.tensors import Batch, Outputs, pad_sequences

DIMS = {"speech/tiny": 5, "text": 3}
N_CLASSES = 4
NAMES = [m.name for m in pkgutil.iter_modules(serkit.models.__path__) if not m.name.startswith("_")]


def find(name: str) -> type[nn.Module]:
    module = importlib.import_module(f"serkit.models.{name}")
    found = getattr(module, "".join(part.capitalize() for part in name.split("_")))
    public = [
        k
        for k, v in vars(module).items()
        if callable(v) and not k.startswith("_") and getattr(v, "__module__", "") == module.__name__
    ]
    assert public == [found.__name__], f"serkit/models/{name}.py should hold one public class, has {public}"
    return found


def dims_of(name: str) -> dict[str, int]:
    joint = {"waveform": 1, "tokens/roberta/random": 1}
    return {"speech_backbone": {"waveform": 1}, "joint_backbones": joint}.get(name, DIMS)


def build(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    model = find(name)
    if name in ("speech_backbone", "joint_backbones"):
        pytest.importorskip("transformers")
        from serkit.foundation import backbones, text_backbones

        head = {"heads": 4, "pooling": "attention"} if name == "speech_backbone" else {}
        options = {**head, "freeze_feature_encoder": False, "dropout": 0.0, **options}
        options["backbone"] = backbones.build(backbones.describe({"name": "wavlm/random", "dropout": 0.0}))
        if name == "joint_backbones":
            described = text_backbones.describe({"name": "roberta/random", "dropout": 0.0})
            options["text_backbone"] = text_backbones.build(described)
    if "hidden" in inspect.signature(model).parameters:
        options.setdefault("hidden", 8)
    return model(dims=dims_of(name), n_classes=N_CLASSES, **options)


def clips(lengths: list[tuple[int, int]], seed: int = 0, dims: dict[str, int] = DIMS) -> list[dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)

    def frames(name: str, k: int) -> torch.Tensor:
        if name.startswith("tokens"):
            return torch.randint(4, 200, (k, 1), generator=g).float()
        k *= 350 if name == "waveform" else 1  # samples: from less than a window to a few
        return torch.randn(k, dims[name], generator=g)

    return [{n: frames(n, k) for n, k in zip(dims, pair, strict=False)} for pair in lengths]


def collate(items: list[dict[str, torch.Tensor]], extra: int = 0) -> Batch:
    features, lengths = {}, {}
    for name in items[0]:
        padded, lengths[name] = pad_sequences([item[name] for item in items])
        features[name] = torch.nn.functional.pad(padded, (0, 0, 0, extra))
    labels = torch.arange(len(items)) % N_CLASSES
    return Batch(tuple(f"u{k}" for k in range(len(items))), features, lengths, labels)


def tables(outputs: Outputs) -> dict[str, torch.Tensor]:
    rows = {"emotion": outputs.emotion, "neutral": outputs.neutral, "embedding": outputs.embedding}
    rows |= {f"layer {k}": v for k, v in (outputs.layers or {}).items()}
    return {k: v for k, v in (rows | {"attributes": outputs.attributes}).items() if v is not None}


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name):
    network = build(name).eval()
    out = network(collate(clips([(7, 2), (4, 5), (1, 1)], dims=dims_of(name))))
    assert out.emotion.shape == (3, N_CLASSES)
    assert out.emotion.isfinite().all()
    if out.neutral is not None:
        assert out.neutral.shape == (3,)
    if out.embedding is not None:
        assert out.embedding.shape == (3, network.embedding_dim)
    if out.layers is not None:
        assert {k: v.shape for k, v in out.layers.items()} == {k: (3, dim) for k, dim in network.layer_dims.items()}
        assert list(out.layers) == list(network.layer_dims)
    if out.frames is not None:
        assert out.frames_mask.shape == out.frames.shape[:2]
        assert out.frames_mask.dtype == torch.bool


@pytest.mark.parametrize("name", NAMES)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=5),
    extra=st.integers(0, 9),
    data=st.data(),
)
@settings(max_examples=15, deadline=None)
def test_padding_order_and_size_of_the_batch_change_no_output(name, lengths, extra, data):
    for options in _normalisations(name):
        network = build(name, **options).eval()
        # the mean over a clip that was standardised by itself is 0: rounding alone, which some networks make larger
        limit = 5e-5 if options.get("normalize") == "utterance" else 1e-5
        items = clips(lengths, seed=len(lengths), dims=dims_of(name))
        order = data.draw(st.permutations(range(len(items))))
        with torch.no_grad():
            alone = [tables(network(collate([item]))) for item in items]
            together = tables(network(collate([items[k] for k in order], extra)))
        for key, table in together.items():
            for row, k in enumerate(order):
                torch.testing.assert_close(table[row], alone[k][key][0], atol=limit, rtol=1e-5)


def _normalisations(name: str) -> list[dict[str, str]]:
    if "normalize" not in inspect.signature(find(name)).parameters:
        return [{}]
    return [{}, {"normalize": "utterance"}]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    network = build(name, **({"dropout": 0.0} if "dropout" in inspect.signature(find(name)).parameters else {}))
    out = network(collate(clips([(7, 3), (4, 5), (5, 2), (6, 4)], dims=dims_of(name))))
    sum((table**2).sum() for table in tables(out).values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{key} got no gradient"
        assert parameter.grad.isfinite().all(), key
        assert parameter.ndim < 2 or parameter.grad.any(), f"the gradient of {key} is all zeros"


@pytest.mark.parametrize("name", NAMES)
def test_weights_make_the_network_again(name):
    network, other = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(network.state_dict())
    batch = collate(clips([(7, 3), (4, 5)], dims=dims_of(name)))
    assert torch.equal(network(batch).emotion, other(batch).emotion)
