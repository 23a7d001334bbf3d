"""The reference loops over layers, clips and their pairs, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serkit.errors import SerkitError
from serkit.losses.multi_layer_contrastive import MultiLayerContrastive
from serkit.losses.supcon import supcon
from serkit.tensors import Batch, Outputs

DIMS = {"frames/speech": 6, "frames/text": 6, "pooled/speech": 8, "pooled/text": 8, "hidden": 6}
LABELS = [0, 1, 0, 2, 1, 0, -1]  # the only clip of class 2 has no positive; the last has no label


def batch_of(labels: list[int], targets: torch.Tensor | None = None) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets)


def layers_of(rows: int = len(LABELS)) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {k: torch.randn(rows, n, dtype=torch.float64, requires_grad=True) for k, n in DIMS.items()}


def outputs_of(layers: dict[str, torch.Tensor] | None) -> Outputs:
    return Outputs(torch.zeros(len(LABELS), 3), layers=layers)


def made(**options: Any) -> MultiLayerContrastive:
    torch.manual_seed(0)
    return MultiLayerContrastive(**{"layer_dims": DIMS, "width": 5, **options}).double()


def reference(loss: MultiLayerContrastive, layers: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
    """Of each layer the mean over labelled clips of -mean_p log share_p, 0 for a clip that is alone in its class."""
    clips = [k for k, label in enumerate(LABELS) if label >= 0]
    total = torch.zeros((), dtype=torch.float64)
    for name, project in zip(loss.names, loss.project, strict=True):
        points = {}
        for k in clips:
            first = project[0].weight @ layers[name][k] + project[0].bias
            point = project[2].weight @ first.clamp(min=0) + project[2].bias
            points[k] = point / (point @ point).sqrt()
        for a in clips:
            others = [k for k in clips if k != a]
            below = sum(torch.exp(points[a] @ points[k] / temperature) for k in others)
            positives = [k for k in others if LABELS[k] == LABELS[a]]
            for p in positives:
                share = torch.exp(points[a] @ points[p] / temperature) / below
                total = total - torch.log(share) / len(positives) / len(clips)
    return total / len(loss.names)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("layers", ["all", "pooled"])
def test_it_agrees_with_the_reference_and_its_gradients(temperature: float, layers: str) -> None:
    loss, given = made(temperature=temperature, layers=layers), layers_of()
    value, expected = loss(outputs_of(given), batch_of(LABELS)), reference(loss, given, temperature)
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    leaves = [given[name] for name in loss.names] + list(loss.parameters())
    pulls = [torch.autograd.grad(v, leaves) for v in (value, expected)]
    for ours, theirs in zip(*pulls, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


def test_it_is_supcon_on_a_layer_but_for_the_clips_that_are_alone() -> None:
    loss, given = made(layers="hidden", temperature=0.2), layers_of()
    apart = outputs_of(given)
    embedding = loss.project[0](given["hidden"])
    paired = supcon(Outputs(apart.emotion, embedding=embedding), batch_of(LABELS), level="utterance", temperature=0.2)
    assert loss(apart, batch_of(LABELS)).item() == pytest.approx(paired.item() * 5 / 6)


@pytest.mark.parametrize(("layers", "named"), [("frames", 2), ("pooled", 2), ("hidden", 1), ("all", 5)])
def test_only_the_chosen_layers_are_pulled_at_and_have_a_projection(layers: str, named: int) -> None:
    loss, given = made(layers=layers), layers_of()
    loss(outputs_of(given), batch_of(LABELS)).backward()
    pulled = {name for name, layer in given.items() if layer.grad is not None and layer.grad.any()}
    assert pulled == set(loss.names)
    assert len(loss.project) == len(loss.names) == named
    assert all(p.grad is not None for p in loss.parameters())


def test_projections_are_as_wide_as_read() -> None:
    whole = MultiLayerContrastive(layer_dims={"frames/x": 512, "pooled/x": 1024, "hidden": 512})
    shapes = [(p[0].in_features, p[0].out_features, p[2].out_features) for p in whole.project]
    assert shapes == [(512, 256, 512), (1024, 512, 512), (512, 512, 512)]
    assert whole.temperature == 0.1


def test_mixed_labels_count_as_their_larger_class_or_in_part() -> None:
    targets = torch.tensor([[0.7, 0.3, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])
    given = outputs_of(layers_of())
    dominant = made()(given, batch_of([-1] * 7, targets))
    assert dominant.item() == pytest.approx(made()(given, batch_of([0, 1, 0, 2, -1, 0, -1])).item())
    soft = made(mixed="soft")(given, batch_of([-1] * 7, targets))
    skipped = made(mixed="skip")(given, batch_of([-1] * 7, targets))
    assert skipped.item() == pytest.approx(made()(given, batch_of([-1, 1, 0, 2, -1, 0, -1])).item())
    assert len({round(v.item(), 6) for v in (dominant, soft, skipped)}) == 3


def test_what_is_wrong_is_one_line() -> None:
    with pytest.raises(SerkitError, match="needs a network with layers"):
        made()(outputs_of(None), batch_of(LABELS))
    with pytest.raises(SerkitError, match="no layers 'frame'; did you mean 'frames'"):
        made(layers="frame")
    with pytest.raises(SerkitError, match=r"has no layers 'frames', only \['hidden'\]"):
        made(layer_dims={"hidden": 4}, layers="frames")
    with pytest.raises(SerkitError, match="temperature 0"):
        made(temperature=0)
    with pytest.raises(SerkitError, match="no rule 'softt' for mixed labels"):
        made(mixed="softt")
