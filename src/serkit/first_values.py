"""What a network takes from the training clips before its first update: statistics, the scale of ratings, weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.losses._targets import target_rows
from serkit.models._attributes import AttributeHead
from serkit.objective import Objective
from serkit.sampling import Loader
from serkit.settings import System


def set_statistics(network: nn.Module, train: Examples) -> None:
    """Hand mean and standard deviation of the training frames to a network that normalises by them."""
    setter = getattr(network, "set_statistics", None)
    layer = getattr(network, "normalisation", None)
    if setter is None or (layer is not None and not layer.keeps_statistics):
        return
    for name, source in train.sources.items():
        total, squares, count = 0.0, 0.0, 0
        for utterance in train.ids:
            frames = np.asarray(source.get(utterance), dtype=np.float64)
            total, squares, count = total + frames.sum(axis=0), squares + (frames**2).sum(axis=0), count + len(frames)
        mean = np.asarray(total / count)
        std = np.sqrt(np.maximum(np.asarray(squares / count) - mean**2, 0.0))
        setter(name, torch.from_numpy(mean).float(), torch.from_numpy(np.maximum(std, 1e-5)).float())


def solve(network: nn.Module, train: Examples, batch_size: int = 64) -> None:
    """Let a network that can (``solves``, as ``quadratic`` with ``start: ridge``) compute its weights from train.

    It is given every clip once, and once more in each of its copies.
    """
    if not getattr(network, "solves", False):
        return
    each = [replace(train, sources=sources, copies=()) for sources in (train.sources, *train.copies)]
    batches = (batch for rows in each for batch in Loader(rows, batch_size).in_order())
    like, n_classes = torch.zeros(()), len(train.label_names)
    network.eval()
    network.solve((batch, target_rows(batch, n_classes, like)[0]) for batch in batches)  # type: ignore[operator]  # with solves


def set_attribute_scale(network: nn.Module, system: System, train: Examples) -> None:
    """Tell a network's attribute head on which scale the ratings of train lie, and which of them its losses teach.

    Raises:
        SerkitError: the network has an attribute head and nothing can teach it.
    """
    heads = [m for m in network.modules() if isinstance(m, AttributeHead)]
    if not heads:
        return
    known = np.isfinite(train.attributes)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, train.attributes, 0.0).sum(axis=0, dtype=np.float64) / count
    std = np.sqrt((np.where(known, train.attributes - mean, 0.0) ** 2).sum(axis=0) / count)
    taught = taught_attributes(network, system, train)
    if not (taught & (std > 0)).any():
        raise SerkitError(
            "attribute_head is true, and no two ratings of the training clips differ: leave the head and its loss out"
        )
    std = np.where(taught, np.where(std > 0, std, 1.0), 0.0)  # one that is always the same is learned as that
    for head in heads:
        head.set_scale(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def taught_attributes(network: nn.Module, system: System, train: Examples) -> np.ndarray:
    """(3,) bool: whether a loss of the system moves arousal, valence, dominance, asked with a few rated clips.

    Their ratings are made up, so that it does not depend on which clips these are.

    Raises:
        SerkitError: no loss reads any of them, or the head cannot say all of the ratings.
    """
    known = train.attributes[np.isfinite(train.attributes)]
    for low, high in (m.ends for m in network.modules() if isinstance(m, AttributeHead) and m.ends is not None):
        if len(known) and not low <= known.min() <= known.max() <= high:
            raise SerkitError(
                f"training clips are rated from {known.min():g} to {known.max():g}, and the attribute head answers "
                f"{low:g} to {high:g}: set model.attribute_low and model.attribute_high"
            )
    rated = [np.flatnonzero(np.isfinite(column))[:4] for column in train.attributes.T]
    rows = np.unique(np.concatenate(rated)) if len(train.attributes) else np.zeros(0, dtype=np.int64)
    taught = np.zeros(3, dtype=bool)
    if len(rows):
        batch = Loader(train, len(rows)).collate(rows)
        with torch.random.fork_rng(devices=[]):
            objective = Objective(system, train, network).eval()
        with torch.no_grad():
            outputs = network.eval()(batch)
        steps = torch.arange(len(rows), dtype=torch.float32)[:, None].expand(-1, 3)
        ratings = torch.where(torch.isfinite(torch.from_numpy(train.attributes[rows])), steps, torch.nan)
        asked = (steps * 0.5 - 1.0).requires_grad_()
        with torch.enable_grad():
            value, _ = objective(replace(outputs, attributes=asked), replace(batch, attributes=ratings))
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, asked, allow_unused=True)
            taught = taught if gradient is None else (gradient != 0).any(dim=0).numpy()
    if not taught.any():
        raise SerkitError(
            "attribute_head is true, but no loss of the system trains it: add one that learns arousal, valence and "
            "dominance, such as ccc, where the corpus has them, or leave the head out"
        )
    return taught
