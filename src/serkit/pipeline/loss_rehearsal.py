"""What the losses of a system make of a few made-up clips, before any work."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from serkit import registry
from serkit.errors import SerkitError, in_one_line
from serkit.examples import Examples
from serkit.settings import System

_ABOUT_VALUES = (ArithmeticError, ValueError)
"""What a part may raise because of made-up values alone: all clips sound alike, and a class has two of them."""


def own_parts(system: System) -> dict[str, frozenset[str]]:
    """What the parts of the user's own among model and losses are called in a message, with their files."""
    parts: list[tuple[registry.Kind, str]] = [
        ("models", system.model.name),
        *(("losses", p.name) for p in system.losses),
    ]
    return {f"{registry.singular(kind)} '{name}'": registry.file_of(kind, name) for kind, name in parts if "." in name}


def ask_losses(system: System, examples: Examples, network: Any, later: bool) -> None:
    """Compute the losses of a system once, without gradients.

    Args:
        network: of the system, with weights. later: the system is a second stage, which need not teach all that the
            first has taught.

    Raises:
        SerkitError: a loss needs what the network or the clips do not have, or none learns the votes that are to be
            the targets; or a part of the user's own fails.
    """
    import torch

    from serkit.first_values import set_statistics, taught_attributes
    from serkit.models._attributes import AttributeHead
    from serkit.objective import Objective
    from serkit.sampling import Loader

    with _told(system, "cannot be built", passed_over=()):
        objective = Objective(system, examples, network)
    batch = Loader(examples, len(examples)).collate(np.arange(len(examples)))
    if not np.isfinite(examples.attributes).any():
        batch = replace(batch, attributes=None)
    outputs = value = None
    with torch.no_grad():
        with _told(system), contextlib.suppress(SerkitError):
            set_statistics(network, examples)
            outputs = network.eval()(batch)
        if outputs is None:
            return
        if "." in system.model.name:
            _check_outputs(system, outputs, (len(examples), len(examples.label_names)))
        with _told(system):
            if system.train.select == "ccc" and outputs.attributes is None:
                raise SerkitError(
                    "train.select is ccc, and the network gives emotion only: set attribute_head: true in a model that "
                    "has it, with a loss that trains it, or select another metric"
                )
            value, parts = objective.eval()(outputs, batch)
            _check_parts(parts)
        with _told(system):
            if value is not None and not _teaches_emotions(objective, outputs, batch):
                raise SerkitError(
                    f"no loss of the system ({_names(system)}) trains the emotion classifier: add one that does, such "
                    "as cross_entropy"
                )
            if not later and any(isinstance(part, AttributeHead) for part in network.modules()):
                taught_attributes(network, system, examples)
        if value is None or later or system.train.targets != "votes" or batch.targets is None:
            return
        with _told(system):
            _refuse_unlearned_votes(system, objective, outputs, batch, value)


def _names(system: System) -> str:
    return ", ".join(loss.name for loss in system.losses)


def _check_parts(parts: Mapping[str, Any]) -> None:
    """Refuse a loss of the user's own that gives anything but one number."""
    import torch

    for name, part in parts.items():
        if "." in name and tuple(getattr(part, "shape", (0,))) != ():
            given = f"shape {tuple(part.shape)}" if isinstance(part, torch.Tensor) else type(part).__name__
            raise SerkitError(f"loss '{name}' gives {given}, expected one number: a tensor of shape ()")


def _refuse_unlearned_votes(system: System, objective: Any, outputs: Any, batch: Any, value: Any) -> None:
    """Refuse losses whose sum, a ``value``, stays the same when the votes change."""
    import torch

    flatter = batch.targets + (1.0 if batch.class_mask is None else batch.class_mask.to(batch.targets))
    other, _ = objective(outputs, replace(batch, targets=flatter / flatter.sum(1, keepdim=True)))
    if torch.equal(value, other):
        raise SerkitError(
            f"train.targets is votes, but its losses ({_names(system)}) do not learn them: kl_soft, cosine, focal and "
            "cross_entropy with soft: true do; or set train.targets=labels"
        )


def _teaches_emotions(objective: Any, outputs: Any, batch: Any) -> bool:
    """Whether the losses depend on the scores of emotions at all."""
    import torch

    asked = outputs.emotion.detach().requires_grad_()
    with torch.enable_grad():
        value, _ = objective(replace(outputs, emotion=asked), batch)
        return bool(value.requires_grad) and torch.autograd.grad(value, asked, allow_unused=True)[0] is not None


@contextlib.contextmanager
def _told(
    system: System, failed: str = "fails on made-up clips", passed_over: tuple[type[Exception], ...] = _ABOUT_VALUES
) -> Iterator[None]:
    """Say in one line what goes wrong in a part of the user's own; what else does is passed over.

    Made-up frames do not prove that the real ones would fail, so errors about values are passed over in any part.

    Args:
        passed_over: errors of those parts that are; where there are none, no other part's are passed over either.

    Raises:
        SerkitError: as it comes, or from a part of the user's own.
    """
    try:
        yield
    except SerkitError:
        raise
    except Exception as error:  # a part of the user's own may raise anything
        own = own_parts(system)
        lines = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        guilty = [what for what, files in own.items() if files & lines]
        guilty += [what for what in own if what == f"model '{system.model.name}'"]  # what it gives broke another part
        if guilty and not isinstance(error, passed_over):
            raise SerkitError(f"{guilty[0]} {failed}: {in_one_line(error, own[guilty[0]])}") from error
        if not passed_over:
            raise


def _check_outputs(system: System, outputs: Any, shape: tuple[int, int]) -> None:
    """Refuse a model of the user's own that does not give scores of (batch, classes).

    Raises:
        SerkitError: what it gives instead.
    """
    emotion = getattr(outputs, "emotion", None)
    found = tuple(getattr(emotion, "shape", ()))
    if found != shape:
        said = f"emotion of shape {found}" if emotion is not None else f"a {type(outputs).__name__} without 'emotion'"
        raise SerkitError(
            f"model '{system.model.name}' answers {shape[0]} clips of {shape[1]} classes with {said}, expected "
            f"serkit.tensors.Outputs with emotion of shape {shape}: a row per clip, a column per class"
        )
