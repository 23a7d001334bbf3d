"""What every loss in serkit/losses keeps: a finite scalar that teaches, whatever the batch looks like."""

import importlib
import inspect
import pkgutil
from dataclasses import replace

import pytest
import torch
from torch import nn

import serkit.losses
from serkit.tensors import Batch, Outputs, length_mask

CLASSES, DIM, ROWS, TIME = 4, 6, 8, 5
LABEL_NAMES = ("anger", "happiness", "neutral", "sadness")
CONTEXT = {
    "class_counts": torch.tensor([9, 3, 30, 5]),
    "label_names": LABEL_NAMES,
    "n_classes": CLASSES,
    "dim": DIM,
    "layer_dims": {"frames/x": 4, "hidden": 3},
}
NAMES = [m.name for m in pkgutil.iter_modules(serkit.losses.__path__) if not m.name.startswith("_")]
LEAVES = ("emotion", "neutral", "attributes", "embedding", "frames", "layers")


def each(value, change):
    """A tensor, or each of a mapping of them, changed."""
    return {k: change(v) for k, v in value.items()} if isinstance(value, dict) else change(value)


def grads(outputs: Outputs) -> list[torch.Tensor | None]:
    """What reached each output, one of :data:`LEAVES` or a tensor in it."""
    leaves = [getattr(outputs, k) for k in LEAVES]
    return [t.grad for v in leaves for t in (v.values() if isinstance(v, dict) else [v])]


def context(target) -> dict:
    """The keywords of CONTEXT that a loss has in its signature; any other one needs a default."""
    parameters = inspect.signature(target).parameters
    for key, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            assert key in CONTEXT, f"{target.__name__}: keyword '{key}' has no default and training does not hand it in"
    return {k: v for k, v in CONTEXT.items() if k in parameters}


def make(name: str):
    """The loss called ``name`` as training calls it: ``f(outputs, batch)``."""
    module = importlib.import_module(f"serkit.losses.{name}")
    camel = "".join(part.capitalize() for part in name.split("_"))
    if hasattr(module, camel):
        torch.manual_seed(0)
        stateful = getattr(module, camel)(**context(getattr(module, camel)))
        assert isinstance(stateful, nn.Module)
        extra = context(stateful.forward)
        return lambda outputs, batch: stateful(outputs, batch, **extra)
    function = getattr(module, name)
    extra = context(function)
    return lambda outputs, batch: function(outputs, batch, **extra)


def example() -> tuple[Outputs, Batch]:
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 3, 1, 4, 5, 2, 3, 4])
    mask = length_mask(lengths, TIME)
    frames = torch.randn(ROWS, TIME, DIM, generator=g) * mask[:, :, None]
    outputs = Outputs(
        torch.randn(ROWS, CLASSES, generator=g),
        neutral=torch.randn(ROWS, generator=g),
        attributes=torch.randn(ROWS, 3, generator=g),
        embedding=torch.randn(ROWS, DIM, generator=g),
        frames=frames,
        frames_mask=mask,
        layers={k: torch.randn(ROWS, n, generator=g) for k, n in CONTEXT["layer_dims"].items()},
    )
    batch = Batch(
        tuple(f"u{k}" for k in range(ROWS)),
        {"x": torch.randn(ROWS, TIME, 2, generator=g) * mask[:, :, None]},
        {"x": lengths},
        torch.tensor([0, 1, 2, 3, 0, 1, 2, -1]),
        targets=torch.randn(ROWS, CLASSES, generator=g).softmax(1),
        attributes=torch.rand(ROWS, 3, generator=g) * 6 + 1,
        genders=torch.tensor([0, 1, 1, 0, 0, 1, 0, 1]),
    )
    return outputs, batch


def with_grad(outputs: Outputs) -> Outputs:
    return replace(outputs, **{k: each(getattr(outputs, k), lambda t: t.clone().requires_grad_()) for k in LEAVES})


def rows(outputs: Outputs, batch: Batch, order: torch.Tensor) -> tuple[Outputs, Batch]:
    picked = replace(outputs, **{k: each(getattr(outputs, k), lambda t: t[order]) for k in (*LEAVES, "frames_mask")})
    return picked, replace(
        batch,
        ids=tuple(batch.ids[k] for k in order.tolist()),
        features={k: v[order] for k, v in batch.features.items()},
        lengths={k: v[order] for k, v in batch.lengths.items()},
        labels=batch.labels[order],
        targets=batch.targets[order],
        attributes=batch.attributes[order],
        genders=batch.genders[order],
    )


@pytest.mark.parametrize("name", NAMES)
def test_is_a_finite_scalar_with_a_gradient(name):
    outputs, batch = example()
    outputs = with_grad(outputs)
    loss = make(name)(outputs, batch)
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert any(g is not None and g.any() for g in grads(outputs)), f"{name}: no gradient reaches any output"
    assert all(g is None or g.isfinite().all() for g in grads(outputs))


@pytest.mark.parametrize("name", NAMES)
def test_batch_order_changes_nothing(name):
    outputs, batch = example()
    turned = rows(outputs, batch, torch.tensor([3, 0, 7, 5, 1, 6, 2, 4]))
    torch.testing.assert_close(make(name)(outputs, batch), make(name)(*turned), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name):
    outputs, batch = example()
    pad = torch.nn.functional.pad
    longer = replace(outputs, frames=pad(outputs.frames, (0, 0, 0, 3)), frames_mask=pad(outputs.frames_mask, (0, 3)))
    padded = replace(batch, features={"x": pad(batch.features["x"], (0, 0, 0, 3))})
    torch.testing.assert_close(make(name)(outputs, batch), make(name)(longer, padded), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_classes_that_a_clip_cannot_have_change_nothing(name):
    outputs, batch = example()
    possible = torch.arange(CLASSES) != 3
    batch = replace(
        batch,
        labels=torch.where(batch.labels == 3, -1, batch.labels),
        targets=batch.targets * possible,
        class_mask=possible.expand(ROWS, CLASSES),
    )
    other = replace(outputs, emotion=torch.where(possible, outputs.emotion, outputs.emotion + 5.0))
    torch.testing.assert_close(make(name)(outputs, batch), make(name)(other, batch), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_stateful_losses_name_their_parameters(name):
    module = importlib.import_module(f"serkit.losses.{name}")
    camel = "".join(part.capitalize() for part in name.split("_"))
    if not hasattr(module, camel):
        assert inspect.isfunction(getattr(module, name))
        assert getattr(module, name).__doc__
        return
    stateful = getattr(module, camel)(**context(getattr(module, camel)))
    grouped = [p for group in stateful.param_groups() for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in stateful.parameters()}


def unlabelled(batch: Batch, which: torch.Tensor, targets: float | None) -> Batch:
    """The batch with the rows of (batch,) bool ``which`` without label, attributes and target distribution."""
    given = None if targets is None else batch.targets.masked_fill(which[:, None], targets)
    return replace(
        batch,
        labels=batch.labels.masked_fill(which, -1),
        targets=given,
        attributes=batch.attributes.masked_fill(which[:, None], float("nan")),
        genders=batch.genders.masked_fill(which, -1),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", [None, 0.0, float("nan")])
def test_rows_without_labels_contribute_nothing(name, targets):
    outputs, batch = example()
    which = torch.tensor([False, True, False, False, False, False, True, True])
    batch = unlabelled(batch, which, targets)
    full = batch if targets is not None else replace(batch, targets=torch.full_like(outputs.emotion, float("nan")))
    known_outputs, known = rows(outputs, full, torch.nonzero(~which).flatten())
    known = known if targets is not None else replace(known, targets=None)
    outputs = with_grad(outputs)
    loss = make(name)(outputs, batch)
    torch.testing.assert_close(loss, make(name)(known_outputs, known), atol=1e-6, rtol=1e-5)
    loss.backward()
    for k, grad in enumerate(grads(outputs)):
        assert grad is None or not grad[which].any(), f"{name}: rows without a label pull at output {k}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", [None, 0.0, float("nan")])
def test_a_batch_without_any_label_is_0_and_teaches_nothing(name, targets):
    outputs, batch = example()
    outputs = with_grad(outputs)
    loss = make(name)(outputs, unlabelled(batch, torch.ones(ROWS, dtype=torch.bool), targets))
    assert loss.item() == 0
    loss.backward()
    assert not any(g is not None and g.any() for g in grads(outputs))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("soft", [True, False])
def test_extreme_outputs_give_a_finite_loss_and_gradient(name, dtype, soft):
    outputs, batch = example()
    batch = batch if soft else replace(batch, targets=None)
    for right in (True, False):  # as sure as can be, of the label or of any other class
        extreme = replace(
            outputs, **{k: each(getattr(outputs, k), lambda t: (t.sign() * 1e4).to(dtype)) for k in LEAVES}
        )
        best = torch.nn.functional.one_hot(batch.labels.clamp(min=0), CLASSES) * 2 - 1
        neutral = best[:, LABEL_NAMES.index("neutral")]
        extreme = replace(extreme, neutral=((neutral if right else -neutral) * 1e4).to(dtype))
        extreme = with_grad(replace(extreme, emotion=((best if right else -best) * 1e4).to(dtype)))
        loss = make(name)(extreme, batch)
        assert loss.isfinite(), f"{name}: {loss.item()}"
        loss.backward()
        assert all(g is None or g.isfinite().all() for g in grads(extreme)), f"{name}: a gradient is not finite"
