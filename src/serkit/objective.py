"""The weighted sum of a system's losses, each found by its name in the recipe."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from serkit import registry
from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.loss_sum import LossSum
from serkit.losses._targets import target_rows
from serkit.settings import Loss, Ramp, System
from serkit.tensors import Batch, Mixture, Outputs

_NEEDED = {
    "dim": "an embedding: use another model",
    "layer_dims": "layers: use the model cross_attention",
}


class Objective(nn.Module):
    """All losses of a system as one module: (outputs, batch) to the sum and its components.

    A loss that asks for ``class_counts`` (classes,) or ``label_names`` is given those of ``train``;
    one with state is also given ``n_classes``, ``dim``, the network's embedding width, or ``layer_dims``, the widths
    of its layers by name.

    Args:
        system: its losses, their weights and ``train.loss_scale``.
        train: the training examples. network: has ``embedding_dim`` or ``layer_dims`` where a loss with state needs it.
        earlier: of the stage before: a loss with state and the same parameters there is that one, and goes on.

    Raises:
        SerkitError: a loss twice, or one with state for a network without an embedding or without layers.
    """

    def __init__(
        self, system: System, train: Examples, network: nn.Module, *, earlier: Objective | None = None
    ) -> None:
        super().__init__()
        context: dict[str, Any] = {
            "class_counts": torch.from_numpy(train.class_counts()).float(),
            "label_names": train.label_names,
            "n_classes": len(train.label_names),
            "dim": getattr(network, "embedding_dim", None),
            "layer_dims": getattr(network, "layer_dims", None),
        }
        self.parts: dict[str, Callable[[Outputs, Batch], Tensor]] = {}
        self._divisors: dict[str, Callable[[Batch], float]] = {}
        self.stateful = nn.ModuleDict()
        self._own: list[Any] = []
        for loss in system.losses:
            if loss.name in self.parts:
                raise SerkitError(f"the loss '{loss.name}' occurs twice in one system")
            made = registry.find("losses", loss.name)
            accepted = inspect.signature(made).parameters
            given = {k: v for k, v in context.items() if k in accepted}
            if inspect.isclass(made):
                for key, missing in _NEEDED.items():
                    if key in given and given[key] is None:
                        raise SerkitError(f"the loss '{loss.name}' needs a network with {missing}, or leave it out")
                module: Any = None if earlier is None else earlier._with_state(loss)
                if module is None:
                    module = made(**loss.parameters, **given)
                    self._own.append(module)
                self.stateful[loss.name.replace(".", "_")] = module
                self.parts[loss.name] = module
            else:
                self.parts[loss.name] = partial(made, **loss.parameters, **given)
            divisor = getattr(sys.modules[made.__module__], "_divisor", None)
            if divisor is not None:
                self._divisors[loss.name] = partial(divisor, **loss.parameters, **given)
        self._losses = system.losses
        weights = {loss.name: loss.largest_weight for loss in system.losses}
        self.sum = LossSum(list(weights), list(weights.values()), system.train.loss_scale)

    def begin_epoch(self, epoch: int) -> None:
        """Give each loss the weight that it has in an epoch, counted from 0; before, it has the largest of all."""
        if any(isinstance(loss.weight, Ramp) for loss in self._losses):
            self.sum.set_weights([loss.weight_at(epoch) for loss in self._losses])

    def forward(
        self, outputs: Outputs, batch: Batch, shares: Mapping[str, float] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scaled sum (scalar) and each loss as it came, by name.

        Where the network mixed rows (``outputs.mixture``), every loss sees the labels mixed alike.

        Args:
            shares: of this batch in a group of batches, by loss, from :meth:`shares`; ``None`` where it stands alone.
        """
        if outputs.mixture is not None:
            batch = _mixed(batch, outputs.mixture, outputs.emotion)
        values = {name: part(outputs, batch) for name, part in self.parts.items()}
        return self.sum(values, shares), values

    def shares(self, group: Sequence[Batch]) -> list[dict[str, float]]:
        """How much each batch counts in the loss of a group of batches, so that their sum is that of one large batch.

        A loss that is the mean of a batch's rows counts by rows. One that divides by something else (a sum of class
        weights, the rows with a label) has ``_divisor(batch, **parameters)`` beside it in its file and counts by that.

        Returns:
            For each batch a number by loss; those of one loss sum to 1.
        """
        found: list[dict[str, float]] = [{} for _ in group]
        for name in self.parts:
            divisor = self._divisors.get(name)
            sizes = [float(len(b)) if divisor is None else divisor(b) for b in group]
            if not sum(sizes) > 0:  # no row counts: the loss is 0, whatever its shares
                sizes = [float(len(b)) for b in group]
            for batch, size in zip(found, sizes, strict=True):
                batch[name] = size / sum(sizes)
        return found

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the losses with state, but for those of an earlier stage, and of a learned scaling."""
        groups = [group for module in self._own for group in module.param_groups()]
        return groups + self.sum.param_groups()

    def _with_state(self, loss: Loss) -> Any:
        """The module of a loss with state and the same parameters; ``None`` where there is none."""
        key = loss.name.replace(".", "_")
        again = any((x.name, x.parameters) == (loss.name, loss.parameters) for x in self._losses)
        return self.stateful[key] if again and key in self.stateful else None


def _mixed(batch: Batch, mixture: Mixture, emotion: Tensor) -> Batch:
    """The batch with distributions and attributes mixed as the network mixed its rows.

    As where clips are mixed before (:mod:`serkit.augment`): a row keeps its label beside its distribution, a class that
    has a share of a mixture is possible for it, and what is unknown of one clip is unknown of its mixture, as is the
    gender of two speakers who differ in it.
    """
    targets, known = target_rows(batch, emotion.shape[1], emotion.detach().float())
    mixed = mixture.shares > 0
    both = torch.where(mixed, known & known[mixture.partners], known)
    targets = torch.where(both[:, None], mixture.of(targets), 0.0)
    attributes = batch.attributes
    if attributes is not None:  # 0 times an unknown one is unknown, so rows that were not mixed are taken as they are
        attributes = torch.where(mixed[:, None], mixture.of(attributes), attributes)
    genders = batch.genders
    if genders is not None:
        genders = torch.where(mixed & (genders != genders[mixture.partners]), -1, genders)
    return replace(
        batch,
        labels=torch.where(both, batch.labels, -1),
        targets=targets,
        class_mask=None if batch.class_mask is None else batch.class_mask | (targets > 0),
        attributes=attributes,
        genders=genders,
    )
