"""The mean of the weights of several trainings of one network: a soup (Wortsman et al. 2022, arXiv 2203.05482).

Theirs are trainings from one pretrained network, of which the mean means something; here, too, they begin with the same
weights, and differ in the order of the clips, in dropout and in augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from serkit.examples import Examples
from serkit.sampling import Loader


def mean_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of the weights in some files of the same network, by name.

    It is taken in float64 and rounded once, so that what is the same in all of them (statistics of the training
    frames, a frozen backbone) stays what it is, to the bit. What is no float is that of the first file.
    """
    first = load_file(files[0])
    sums = {name: value.double() for name, value in first.items() if value.is_floating_point()}
    for file in files[1:]:
        other = load_file(file)
        for name, total in sums.items():
            total += other[name]
    return {**first, **{name: (total / len(files)).to(first[name].dtype) for name, total in sums.items()}}


def greedy_members(values: Sequence[float], measure: Callable[[Sequence[int]], float]) -> list[int]:
    """The members of a greedy soup (the paper's recipe 1, as remembered): the best first, then each that does no harm.

    Args:
        values: of each network alone, more is better. measure: the same of the mean of some of them, by their numbers.

    Returns:
        Numbers, by falling value.
    """
    order = sorted(range(len(values)), key=lambda k: -values[k])
    kept, best = order[:1], values[order[0]]
    for k in order[1:]:
        value = measure([*kept, k])
        if value >= best:
            kept, best = [*kept, k], value
    return kept


def put_mean(network: nn.Module, files: Sequence[Path], train: Examples, batch_size: int) -> None:
    """Give a network the mean of the weights in some files, and batch normalisation its statistics anew.

    The mean of running means and variances belongs to no network. So where they differ from file to file, they are
    measured again, in one pass over the training clips; where they are all the same nothing has trained them.

    Args:
        network: loaded from one of the files, on its device. train: the training clips. batch_size: of that pass.
    """
    mean, first = mean_weights(files), load_file(files[0])
    network.load_state_dict(mean)
    found = {f"{name}.running_mean".lstrip("."): m for name, m in network.named_modules() if isinstance(m, _BatchNorm)}
    differ = [m for key, m in found.items() if key in mean and not torch.equal(mean[key], first[key])]
    changed = [(m, m.momentum) for m in differ]
    if not changed:
        return
    network.eval()
    for layer, _ in changed:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    device = next(network.parameters()).device
    with torch.no_grad():
        for batch in Loader(train, batch_size).epoch(0):
            network(batch.to(device))
    for layer, momentum in changed:
        layer.momentum = momentum
    network.eval()
