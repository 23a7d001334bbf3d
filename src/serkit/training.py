"""The training loop: one network, from examples to a checkpoint, resumable to the bit.

Every epoch ends with the metric of the whole dev set and a state file; a run that was killed goes on
from the last finished epoch and, on a CPU with the same number of threads, ends with the same bytes
as one that was not. Mixed precision and several processes go through accelerate: under ``torchrun`` (or
``accelerate launch`` on GPUs) every process calls :func:`train_network` and gets its share of each batch.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from serkit import registry
from serkit.errors import RunFailed, SerkitError
from serkit.files import write_bytes, write_text
from serkit.networks import NetworkConfig, build_network, save_network
from serkit.objective import Objective
from serkit.recipe import System, Train
from serkit.sampling import Examples, Loader
from serkit.schedules import learning_rate
from serkit.scoring import measure_scores, score
from serkit.tensors import Batch

STATE = "state.pt"


@dataclass(frozen=True)
class EpochEnd:
    """What the loop tells after each epoch.

    Attributes:
        system, model: which network. epoch: counted from 1. epochs: how many at most.
        row: the line written to ``history.jsonl``.
        utterances_s: training utterances per second. left_s: estimate for this network, at most.
        last: the network is finished, by its number of epochs or by ``train.patience``.
    """

    system: str
    model: str
    epoch: int
    epochs: int
    row: Mapping[str, Any]
    utterances_s: float
    left_s: float
    last: bool


def train_network(
    system: System,
    config: NetworkConfig,
    train: Examples,
    dev: Examples,
    folder: Path,
    *,
    model: str = "full",
    device: str = "auto",
    on_epoch: Callable[[EpochEnd], None] | None = None,
) -> nn.Module:
    """Train one network and leave it, the best epoch by the dev metric, in ``folder``.

    Args:
        system: features, model, losses, balance and training settings.
        config: what to build, and the seed.
        train, dev: examples; augmentation and balance touch ``train`` only.
        folder: gets ``history.jsonl``, ``config.json``, ``model.safetensors``; a state file while it runs.
        model: name of the fold this is, for the messages.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_epoch: told after each epoch.

    Returns:
        The selected network, in eval mode on its device.

    Raises:
        RunFailed: a loss that is not finite. SerkitError: settings that do not fit each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(system.train, device)
    torch.manual_seed(config.seed)
    network = build_network(config)
    _set_statistics(network, train)
    fitting = _Fitting(system, config, model, train, network, accelerator)
    state = _State(fitting, system.train, config.fingerprint)
    state.resume(folder / STATE)
    while not state.finished:
        begun = time.monotonic()
        row = fitting.epoch(state.epoch)
        scores, weights = _measure(fitting, dev)
        row.update({f"dev_{name}": value for name, value in scores.items()})
        state.finish_epoch(row, scores[system.train.select], weights)
        if accelerator.is_main_process:
            state.save(folder)
            if on_epoch is not None:
                spent = time.monotonic() - begun
                left = 0.0 if state.finished else spent * (system.train.epochs - state.epoch)
                rate = len(train) / spent
                on_epoch(
                    EpochEnd(config.system, model, state.epoch, system.train.epochs, row, rate, left, state.finished)
                )
    fitting.network.load_state_dict(state.best)
    if accelerator.is_main_process:
        save_network(fitting.network, config, folder)
        (folder / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return fitting.network.eval()


class _Objective(nn.Module):
    """A network and its losses as one module, batch to loss: gradients of several processes need one output."""

    def __init__(self, network: nn.Module, losses: nn.Module) -> None:
        super().__init__()
        self.network, self.losses = network, losses

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of the losses, and each of them without its gradient."""
        total, components = self.losses(self.network(batch), batch)
        return total, {name: value.detach() for name, value in components.items()}


class _Fitting:
    """A network, its losses and its optimiser, and what an epoch of updates does with them.

    Of several processes each takes its share of every batch, and accelerate averages their gradients.

    Attributes:
        network, losses: as they are. objective: both as one module, wrapped by accelerate; it shares their weights.
        average: exponential moving average of the weights (``train.ema``), or ``None``.
    """

    def __init__(
        self, system: System, config: NetworkConfig, model: str, train: Examples, network: nn.Module, accelerator: Any
    ) -> None:
        settings = system.train
        losses = Objective(system, train, network)
        groups = [*_network_groups(network, settings), *losses.param_groups()]
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
        self.settings, self.name, self.accelerator = settings, f"{config.system}/{model}", accelerator
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.network, self.losses = network, losses
        self.objective, self.optimizer = accelerator.prepare(_Objective(network, losses), optimizer)
        steps = _chain(system)
        self.loader = Loader(
            train, settings.batch_size, config.seed, system.balance, settings.draw, settings.bucket, steps
        )
        self.steps_per_epoch = math.ceil(len(self.loader) / settings.accumulate)
        self.average = _copy(self.network.state_dict()) if settings.ema is not None else None

    def epoch(self, number: int) -> dict[str, float]:
        """Go once through the draw of epoch ``number`` (from 0); the row of its history, without dev."""
        self.objective.train()
        sums = _Means()
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        groups = _grouped(self.loader.epoch(number, rank=rank, world=world), self.settings.accumulate)
        for step, group in enumerate(groups, start=number * self.steps_per_epoch):
            for param_group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                param_group["lr"] = learning_rate(self.settings, base, step, self.steps_per_epoch)
            self.update(group, sums, number)
        return {"epoch": number + 1, "lr": self.optimizer.param_groups[0]["lr"], **sums.row()}

    def update(self, group: list[Batch], sums: _Means, epoch: int) -> None:
        """One optimiser step on the gradient of some batches, each weighted by its rows.

        For a loss that is a plain mean over rows this is the gradient of the one large batch. A loss that
        divides by a sum of class weights is divided by its own batch's sum, so there it is so only up to
        the difference between those sums.
        """
        self.optimizer.zero_grad(set_to_none=True)
        n_rows = sum(len(b) for b in group)
        for batch in group:
            moved = batch.to(self.accelerator.device)
            with self.accelerator.autocast():
                total, components = self.objective(moved)
            if not bool(torch.isfinite(total)):
                raise RunFailed(
                    f"{self.name}: the loss is {float(total.detach())} in epoch {epoch + 1}; "
                    f"lower train.lr (now {self.settings.lr:g}) or set train.clip_norm"
                )
            self.accelerator.backward(total * (len(batch) / n_rows))
            sums.add(len(batch), total, components)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self._update_average()

    def _update_average(self) -> None:
        if self.average is None or self.settings.ema is None:
            return
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value.detach(), 1 - self.settings.ema)
            else:
                self.average[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, random state included."""
        return {
            "network": self.network.state_dict(),
            "losses": self.losses.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.losses.load_state_dict(state["losses"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            for key, value in state["average"].items():
                self.average[key].copy_(value)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def _measure(fitting: _Fitting, dev: Examples) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics of the whole dev set and the weights they belong to: the average where there is one."""
    network = fitting.network
    weights = current = _copy(network.state_dict())
    if fitting.average is not None:
        weights = _copy(fitting.average)
        network.load_state_dict(weights)
    size = fitting.settings.batch_size
    predictions = score(network, dev, system="dev", model="dev", batch_size=size, device=fitting.accelerator.device)
    if fitting.average is not None:
        network.load_state_dict(current)
    return measure_scores(predictions, dev), weights


class _State:
    """How far a training is, its best weights so far, and the file that a resume reads."""

    def __init__(self, fitting: _Fitting, settings: Train, fingerprint: str) -> None:
        self.fitting, self.settings, self.fingerprint = fitting, settings, fingerprint
        self.epoch, self.best_value, self.since_best = 0, -math.inf, 0
        self.best = _copy(fitting.network.state_dict())
        self.history: list[dict[str, Any]] = []

    @property
    def finished(self) -> bool:
        """All epochs are done, or ``train.patience`` is."""
        exhausted = self.settings.patience is not None and self.since_best >= self.settings.patience
        return exhausted or self.epoch >= self.settings.epochs

    def finish_epoch(self, row: dict[str, Any], value: float, weights: dict[str, torch.Tensor]) -> None:
        """Count an epoch; keep its weights where the dev metric is better than any before."""
        self.epoch += 1
        self.history.append(row)
        self.since_best += 1
        if value > self.best_value:
            self.best_value, self.best, self.since_best = value, weights, 0

    def save(self, folder: Path) -> None:
        """Write the state, then the history that belongs to it; each whole or not at all."""
        buffer = io.BytesIO()  # torch tells a full disk apart from no other error; Python's own files do
        torch.save(
            {
                "fingerprint": self.fingerprint,
                "epoch": self.epoch,
                "best_value": self.best_value,
                "since_best": self.since_best,
                "best": self.best,
                "history": json.dumps(self.history),
                "fitting": self.fitting.state_dict(),
            },
            buffer,
        )
        write_bytes(folder / STATE, buffer.getvalue())
        write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))

    def resume(self, path: Path) -> None:
        """Go on from a state file of the same configuration; start afresh from any other."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return  # a state file that a crash damaged: the epochs it held are trained again
        if state.get("fingerprint") != self.fingerprint:
            return
        self.fitting.load_state_dict(state["fitting"])
        self.epoch, self.best_value = state["epoch"], state["best_value"]
        self.since_best, self.best = state["since_best"], state["best"]
        self.history = json.loads(state["history"])


class _Means:
    """Row-weighted means of the loss and its components over an epoch."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: dict[str, float] = {}

    def add(self, rows: int, total: torch.Tensor, components: Mapping[str, torch.Tensor]) -> None:
        self.rows += rows
        for name, value in {"loss": total, **{f"loss_{k}": v for k, v in components.items()}}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach()) * rows

    def row(self) -> dict[str, float]:
        return {name: value / self.rows for name, value in self.sums.items()}


def _copy(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in state.items()}


def _accelerator(settings: Train, device: str) -> Any:
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu", "cuda"):
        raise SerkitError(f"--device {device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SerkitError("--device cuda: this torch sees no GPU; use --device cpu or install a CUDA build of torch")
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


def _set_statistics(network: nn.Module, train: Examples) -> None:
    """Hand mean and standard deviation of the training frames to a network that normalises by them."""
    setter = getattr(network, "set_statistics", None)
    layer = getattr(network, "normalisation", None)
    if setter is None or (layer is not None and layer.normalize != "train"):
        return
    for name, source in train.sources.items():
        total, squares, count = 0.0, 0.0, 0
        for utterance in train.ids:
            frames = np.asarray(source.get(utterance), dtype=np.float64)
            total, squares, count = total + frames.sum(axis=0), squares + (frames**2).sum(axis=0), count + len(frames)
        mean = np.asarray(total / count)
        std = np.sqrt(np.maximum(np.asarray(squares / count) - mean**2, 0.0))
        setter(name, torch.from_numpy(mean).float(), torch.from_numpy(np.maximum(std, 1e-5)).float())


def _chain(system: System) -> tuple[Any, ...]:
    """The augmentations of a system, in order; only those that act on features can be in one that reads them."""
    chain = tuple(registry.find("augment", step.name)(**step.parameters) for step in system.augment)
    for named, step in zip(system.augment, chain, strict=True):
        if step.kind != "features":
            raise SerkitError(
                f"augmentation '{named.name}' changes the {step.kind} of a clip, and a system on stored features has "
                "no waveform and no single raters left to change; use one that acts on features, such as spec_augment"
            )
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
