"""One network while it is trained: its optimiser, what an epoch of updates does, and what that depends on.

Mixed precision and several processes go through accelerate: under ``torchrun`` (or ``accelerate launch`` on GPUs)
every process has a fitting of its own and gets its share of each batch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from serkit import registry
from serkit.augment import Augmentation, split_chain
from serkit.errors import RunFailed, SerkitError
from serkit.examples import Examples
from serkit.networks import NetworkConfig
from serkit.objective import Objective
from serkit.sampling import Loader
from serkit.schedules import learning_rate
from serkit.settings import System, Train
from serkit.tensors import Batch


def copy_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """What training can change in a network, apart from it: trained parameters and buffers, no frozen backbone."""
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    return {k: v.detach().clone() for k, v in network.state_dict().items() if k not in frozen}


def put_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a network what :func:`copy_weights` took from it, or from another one like it."""
    network.load_state_dict({**network.state_dict(), **weights})


class _NetworkWithLosses(nn.Module):
    """A network and the losses of each stage as one module: gradients of several processes need one output."""

    def __init__(self, network: nn.Module, losses: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.losses = network, nn.ModuleList(losses)

    def forward(
        self, batch: Batch, shares: Mapping[str, float] | None, stage: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of the losses of a stage, each by its share, and each of them without its gradient."""
        total, components = self.losses[stage](self.network(batch), batch, shares)
        return total, {name: value.detach() for name, value in components.items()}


class Fitting:
    """A network, its losses and its optimiser, and what an epoch of updates does with them.

    Of several processes each takes its share of every batch, and accelerate averages their gradients. A second stage
    has losses, draws and rates of its own, and the same optimiser.

    Args:
        seed: of the draws; ``None``: the config's.

    Attributes:
        network: as it is. losses, loaders: of each stage. objective: the network and all losses as one module, wrapped
            by accelerate; it shares their weights.
        average: exponential moving average of the weights (``train.ema``), or ``None``.
    """

    def __init__(
        self,
        system: System,
        config: NetworkConfig,
        model: str,
        train: Examples,
        network: nn.Module,
        accelerator: Any,
        seed: int | None = None,
    ) -> None:
        settings = system.train
        self.stages = system.stages
        self.losses = [Objective(self.stages[0], train, network)]
        if len(self.stages) > 1:
            same = self.stages[1].losses == self.stages[0].losses
            self.losses += self.losses if same else [Objective(self.stages[1], train, network, earlier=self.losses[0])]
        own = [group for losses in dict.fromkeys(self.losses) for group in losses.param_groups()]
        groups = [*_network_groups(network, settings), *own]
        betas = (0.9, settings.beta2)
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay)
        self.settings, self.name, self.accelerator = settings, f"{config.system}/{model}", accelerator
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.network = network
        self.objective, self.optimizer = accelerator.prepare(_NetworkWithLosses(network, self.losses), optimizer)
        steps = augmentations(system, train)
        shares = [None, system.second_stage.without_agreement if system.second_stage is not None else None]
        seed = config.seed if seed is None else seed
        self.loaders = [
            Loader(train, settings.batch_size, seed, s.balance, s.train.draw, settings.bucket, steps, share)
            for s, share in zip(self.stages, shares, strict=False)
        ]
        self.average = copy_weights(self.network) if settings.ema is not None else None

    def stage(self, epoch: int) -> int:
        """Which stage an epoch (from 0) belongs to: 0, or 1 in the second."""
        return int(len(self.stages) > 1 and epoch >= self.stages[0].train.epochs)

    def rows(self, epoch: int) -> int:
        """How many rows an epoch (from 0) draws."""
        return self.loaders[self.stage(epoch)].n_rows

    def epoch(self, number: int) -> dict[str, float]:
        """Go once through the draw of epoch ``number`` (from 0); the row of its history, without dev."""
        self.objective.train()
        sums = _Means()
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        stage = self.stage(number)
        settings, loader = self.stages[stage].train, self.loaders[stage]
        factor = settings.lr / self.settings.lr
        steps_per_epoch = math.ceil(len(loader) / settings.accumulate)
        begun = stage * self.stages[0].train.epochs
        losses = self.losses[stage]
        losses.begin_epoch(number - (begun if losses is not self.losses[0] else 0))
        groups = _grouped(loader.epoch(number, rank=rank, world=world), settings.accumulate)
        for step, group in enumerate(groups, start=(number - begun) * steps_per_epoch):
            for param_group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                param_group["lr"] = learning_rate(settings, factor * base, step, steps_per_epoch)
            self.update(group, sums, number)
        told = {"stage": stage + 1} if len(self.stages) > 1 else {}
        return {"epoch": number + 1, **told, "lr": self.optimizer.param_groups[0]["lr"], **sums.row()}

    def update(self, group: list[Batch], sums: _Means, epoch: int) -> None:
        """One optimiser step on the gradient of some batches, as of the one large batch that they make.

        Each loss counts by its share (:meth:`serkit.objective.Objective.shares`), so that this is exact for every loss
        that is a weighted mean over rows, class weights included. A loss that compares the clips of a batch (``ccc``,
        ``supcon``, ``multi_layer_contrastive``) sees the small batches; with several processes each divides by its own
        rows.
        """
        self.optimizer.zero_grad(set_to_none=True)
        stage = self.stage(epoch)
        losses = self.losses[stage]
        shares = losses.shares(group) if len(group) > 1 else [None]
        for batch, share in zip(group, shares, strict=True):
            moved = batch.to(self.accelerator.device)
            with self.accelerator.autocast():
                total, components = self.objective(moved, share, stage)
            if not bool(torch.isfinite(total)):
                raise RunFailed(
                    f"{self.name}: the loss is {float(total.detach())} in epoch {epoch + 1}; "
                    f"lower train.lr (now {self.settings.lr:g}) or set train.clip_norm"
                )
            self.accelerator.backward(total)
            sums.add(len(batch), components, losses.sum.components(components))
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self._update_average()

    def _update_average(self) -> None:
        if self.average is None or self.settings.ema is None:
            return
        now = self.network.state_dict()  # detached, and not copied
        for key, mean in self.average.items():
            if mean.is_floating_point():
                mean.lerp_(now[key], 1 - self.settings.ema)
            else:
                mean.copy_(now[key])

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, random state included."""
        return {
            "network": copy_weights(self.network),
            "losses": self.losses[0].state_dict(),
            "later_losses": [losses.state_dict() for losses in self.losses[1:]],
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        put_weights(self.network, state["network"])
        self.losses[0].load_state_dict(state["losses"])
        for losses, kept in zip(self.losses[1:], state.get("later_losses", ()), strict=True):
            losses.load_state_dict(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            for key, value in state["average"].items():
                self.average[key].copy_(value)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


class _Means:
    """Row-weighted means over an epoch: the loss, each component as it came, and what each adds to the loss."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: dict[str, float] = {}

    def add(self, rows: int, components: Mapping[str, torch.Tensor], scaled: Mapping[str, float]) -> None:
        self.rows += rows
        values = {"loss": sum(scaled.values()), **{f"loss_{k}": float(v) for k, v in components.items()}}
        if len(scaled) > 1:  # of one loss it is the loss
            values |= {f"scaled_{k}": v for k, v in scaled.items()}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * rows

    def row(self) -> dict[str, float]:
        return {name: value / self.rows for name, value in self.sums.items()}


def check_device(settings: Train, device: str) -> None:
    """Refuse a device that is not there, and one that would train in another precision without a word.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        SerkitError: another device, one that is not there, or ``fp16`` without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SerkitError(f"--device {device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SerkitError("--device cuda: this torch finds no GPU; use --device cpu or install a CUDA build of torch")
    elsewhere = torch.cuda.is_available() or torch.backends.mps.is_available()
    if settings.precision == "fp16" and (device == "cpu" or not elsewhere):
        raise SerkitError("train.precision 'fp16' needs a GPU: on a CPU it would be fp32; set bf16 or fp32")


def make_accelerator(settings: Train, device: str) -> Any:
    """The accelerate object of a precision and a device.

    Raises:
        SerkitError: as for :func:`check_device`.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    check_device(settings, device)
    # Precision and device are kept in a singleton, and the networks of one process may differ in both.
    # accelerate has no public way to clear it (its own tests use this one); the process group stays.
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
    precision = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[settings.precision]
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a head that no loss of the recipe reads
    return Accelerator(mixed_precision=precision, cpu=device == "cpu", kwargs_handlers=[unused])


def _network_groups(network: nn.Module, settings: Train) -> list[dict[str, Any]]:
    """A network's own parameter groups (layer-wise rates), or all parameters in one."""
    own = getattr(network, "param_groups", None)
    if own is not None:
        return list(own(settings.lr))
    return [{"params": [p for p in network.parameters() if p.requires_grad], "lr": settings.lr}]


def augmentations(system: System, train: Examples) -> tuple[Augmentation, ...]:
    """The augmentations of a system, in order.

    Raises:
        SerkitError: one that needs waveforms or raters where the examples have none, or stands too late.
    """
    chain: tuple[Augmentation, ...] = tuple(
        registry.find("augment", step.name)(**step.parameters) for step in system.augment
    )
    for named, step in zip(system.augment, chain, strict=True):
        if step.kind == "samples" and train.hearing is None:
            raise SerkitError(
                f"augmentation '{named.name}' changes waveforms, and these examples have none: give them a "
                "hearing (the feature 'waveform' and the encoders), as the pipeline does"
            )
        if step.kind == "target" and system.train.targets != "votes":
            raise SerkitError(
                f"augmentation '{named.name}' changes the raters' distribution, and this system trains on labels: "
                "set train.targets: votes"
            )
    split_chain(chain)
    return chain


def _grouped(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches, the last shorter: no batch is left out of an optimiser step."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
