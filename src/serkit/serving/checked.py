"""A network's ONNX graph, written only if it gives torch's numbers; and, before any work, whether that will be so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from serkit import registry
from serkit.errors import MissingExtra, SerkitError, in_one_line
from serkit.pipeline.rehearsal import own_networks
from serkit.recipe import Recipe
from serkit.serving.agreement import largest_difference, padding_effect
from serkit.serving.export import to_onnx
from serkit.serving.export_own import has_writer
from serkit.serving.graphs import Weights

if TYPE_CHECKING:
    from torch import nn

TOLERANCE: Mapping[Weights, float] = {"float32": 1e-4, "float16": 0.1, "int8": 1.0}
_LONGEST = 300  # characters of an error of torch


def checked_graph(
    network: nn.Module, model: str, labels: tuple[str, ...], weights: Weights, dims: Mapping[str, int]
) -> tuple[bytes, float]:
    """The graph of a network, and its largest difference from torch.

    Args:
        network: in eval mode. model: its name in the recipe. labels, weights: see
            :func:`serkit.serving.export.to_onnx`. dims: width by feature.

    Raises:
        SerkitError: no graph can be written; it differs from torch by more than :data:`TOLERANCE`; or the numbers of a
            model of the user's own depend on the padding of a batch.
        MissingExtra: the package onnx is not installed.
    """
    own = "." in model
    with _told(network, model, "cannot be written as ONNX"):
        content = to_onnx(network, model, labels, weights, dims=dims)
        effect = padding_effect(network, dims) if own else 0.0
    if not effect <= TOLERANCE["float32"]:
        raise SerkitError(
            f"model '{model}': the padding of a batch changes its logits by up to {effect:.2g}: leave padding out with "
            "the mask of the batch; or set masked = False in the model, and a bundle scores clips one by one"
        )
    with _told(network, model, "has an ONNX graph that fails on clips of other lengths", why=False):
        difference = largest_difference(network, content, dims=dims)
    if not difference <= TOLERANCE[weights]:
        raise SerkitError(
            f"model '{model}': its {weights} graph differs from torch by {difference:.2g} in a logit (or an "
            f"attribute, in deviations of its ratings), allowed are {TOLERANCE[weights]:g}"
            + (_way_out(network) if own else "")
        )
    return content, difference


def not_bundled(recipe: Recipe, labels: tuple[str, ...]) -> list[str]:
    """A line for each model of the user's own that a bundle cannot hold, as far as its fresh weights tell.

    Args:
        recipe: resolved. labels: of the corpus.
    """
    lines: dict[str, str] = {}
    for system, (network, dims) in own_networks(recipe, len(labels)).items():
        model = recipe.systems[system].model.name
        try:
            checked_graph(network, model, labels, "float32", dims)
        except MissingExtra:  # whoever makes a bundle is told
            continue
        except SerkitError as error:
            lines.setdefault(model, f"systems.{system} can be trained and evaluated, but not bundled: {error}")
    return list(lines.values())


def _cut(text: str) -> str:
    """What torch says of an operator goes on with the whole graph."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _way_out(network: nn.Module) -> str:
    if has_writer(network):
        return "; correct its write_onnx"
    from torch import nn

    packed = (
        "; unpack the output of a recurrent layer with pad_packed_sequence: its last state alone cannot be written"
        if any(isinstance(module, nn.RNNBase) for module in network.modules())
        else ""
    )
    return (
        f"{packed}; torch writes it from one run of the model, which fixes loops and whatever else Python computes: "
        "use operations of torch alone, or write the graph in a method write_onnx(graph, inputs)"
    )


@contextlib.contextmanager
def _told(network: nn.Module, model: str, failed: str, *, why: bool = True) -> Iterator[None]:
    """Say in one line what goes wrong with a model of the user's own, and why, unless that is onnxruntime's matter.

    Raises:
        SerkitError: as it comes, or in place of anything else that such a model raises.
    """
    try:
        yield
    except SerkitError:
        raise
    except Exception as error:  # a file of the user's own, torch's exporter and onnxruntime may raise anything
        if "." not in model:
            raise
        said = ": " + _cut(in_one_line(error, registry.file_of("models", model))) if why else ""
        raise SerkitError(f"model '{model}' {failed}{said}{_way_out(network)}") from error
