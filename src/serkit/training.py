"""The training loop: one network, from examples to a checkpoint, resumable to the bit.

Every epoch ends with the metric of the whole dev set and a state file; a run that was killed goes on
from the last finished epoch and, on a CPU with the same number of threads, ends with the same bytes
as one that was not. Mixed precision and several GPUs go through accelerate.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from serkit import metrics, registry
from serkit.errors import RunFailed, SerkitError
from serkit.files import write_text
from serkit.networks import NetworkConfig, build_network, save_network
from serkit.objective import Objective
from serkit.predictions import Predictions
from serkit.recipe import System, Train
from serkit.sampling import Examples, Loader
from serkit.tensors import Batch

STATE = "state.pt"


@dataclass(frozen=True)
class EpochEnd:
    """What the loop tells after each epoch.

    Attributes:
        system, model: which network. epoch: counted from 1. epochs: how many at most.
        row: the line written to ``history.jsonl``.
        utterances_s: training utterances per second. left_s: estimate for this network.
    """

    system: str
    model: str
    epoch: int
    epochs: int
    row: Mapping[str, Any]
    utterances_s: float
    left_s: float


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
    settings = system.train
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(settings, device)
    torch.manual_seed(config.seed)
    network = build_network(config)
    _set_statistics(network, train)
    losses = Objective(system, train, network)
    steps_per_epoch = math.ceil(len(Loader(train, settings.batch_size, bucket=settings.bucket)) / settings.accumulate)
    optimizer = torch.optim.AdamW(
        [*_network_groups(network, settings), *losses.param_groups()],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
    )
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    network, losses, optimizer = accelerator.prepare(network, losses, optimizer)
    bare: nn.Module = accelerator.unwrap_model(network)
    loader = Loader(
        train, settings.batch_size, config.seed, system.balance, settings.draw, settings.bucket, _chain(system)
    )
    run = _Run(bare, accelerator.unwrap_model(losses), optimizer, settings, config.fingerprint)
    run.resume(folder / STATE)
    while run.epoch < settings.epochs and not run.exhausted:
        begun = time.monotonic()
        epoch = run.epoch
        network.train()
        losses.train()
        sums = _Means()
        step = epoch * steps_per_epoch
        optimizer.zero_grad(set_to_none=True)
        batches = loader.epoch(epoch, rank=accelerator.process_index, world=accelerator.num_processes)
        for group in _grouped(batches, settings.accumulate):
            _set_lr(optimizer, base_lrs, settings, step, steps_per_epoch)
            n_rows = sum(len(b) for b in group)
            for cpu_batch in group:
                batch = cpu_batch.to(accelerator.device)
                with accelerator.autocast():
                    total, components = losses(network(batch), batch)
                if not bool(torch.isfinite(total)):
                    raise RunFailed(
                        f"{config.system}/{model}: the loss is {float(total.detach())} in epoch {epoch + 1}; "
                        f"lower train.lr (now {settings.lr}) or set train.clip_norm"
                    )
                accelerator.backward(total * (len(batch) / n_rows))
                sums.add(len(batch), total, components)
            if settings.clip_norm is not None:
                accelerator.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            run.update_average()
            step += 1
        dev_row = run.measure(dev, accelerator.device)
        row = {
            "epoch": epoch + 1,
            "lr": optimizer.param_groups[0]["lr"],
            **sums.row(),
            **{f"dev_{k}": v for k, v in dev_row.items()},
        }
        run.finish_epoch(row, dev_row[settings.select])
        if accelerator.is_main_process:
            run.save(folder)
        if on_epoch is not None and accelerator.is_main_process:
            spent = time.monotonic() - begun
            left = spent * (settings.epochs - run.epoch)
            on_epoch(EpochEnd(config.system, model, run.epoch, settings.epochs, row, len(train) / spent, left))
    bare.load_state_dict(run.best)
    if accelerator.is_main_process:
        save_network(bare, config, folder)
        (folder / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return bare.eval()


@torch.inference_mode()
def score(
    network: nn.Module,
    examples: Examples,
    *,
    system: str,
    model: str,
    seen: frozenset[str] = frozenset(),
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> Predictions:
    """Logits of a network for every example, in the examples' own order.

    Args:
        seen: ids that this network was trained on.
    """
    network.eval()
    position = {i: k for k, i in enumerate(examples.ids)}
    scores = np.zeros((len(examples), len(examples.label_names)))
    for batch in Loader(examples, batch_size).in_order():
        logits = network(batch.to(device)).emotion.float().cpu().numpy()
        scores[[position[i] for i in batch.ids]] = logits
    flags = np.array([i in seen for i in examples.ids])
    return Predictions(system, examples.label_names, "logit", examples.ids, (model,) * len(examples), flags, scores)


class _Run:
    """Everything of a training that a resume needs, and the best weights so far."""

    def __init__(
        self, network: nn.Module, losses: nn.Module, optimizer: Any, settings: Train, fingerprint: str
    ) -> None:
        self.network, self.losses, self.optimizer = network, losses, optimizer
        self.settings, self.fingerprint = settings, fingerprint
        self.epoch, self.best_value, self.since_best = 0, -math.inf, 0
        self.best = _copy(network.state_dict())
        self.average = _copy(network.state_dict()) if settings.ema is not None else None
        self.history: list[dict[str, Any]] = []

    @property
    def exhausted(self) -> bool:
        return self.settings.patience is not None and self.since_best >= self.settings.patience

    def update_average(self) -> None:
        """Move the averaged weights towards the current ones (train.ema)."""
        if self.average is None or self.settings.ema is None:
            return
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value.detach(), 1 - self.settings.ema)
            else:
                self.average[key].copy_(value)

    def measure(self, dev: Examples, device: torch.device) -> dict[str, float]:
        """Metrics of the whole dev set, with the weights that would be kept."""
        current = _copy(self.network.state_dict())
        if self.average is not None:
            self.network.load_state_dict(self.average)
        size = self.settings.batch_size
        predictions = score(self.network, dev, system="dev", model="dev", batch_size=size, device=device)
        if self.average is not None:
            self.kept = _copy(self.average)
            self.network.load_state_dict(current)
        else:
            self.kept = current
        truth = dev.labels
        if dev.targets is not None:
            truth = np.where(truth >= 0, truth, dev.targets.argmax(axis=1))
        masked = predictions.scores
        if dev.class_mask is not None:
            masked = np.where(dev.class_mask, masked, -np.inf)
        confusion = metrics.confusion_matrix(truth, masked.argmax(axis=1), len(dev.label_names))
        row = {name: float(metrics.measure(name, confusion)) for name in metrics.METRICS}
        probabilities = predictions.probabilities()[np.arange(len(truth)), truth]
        return {**row, "cross_entropy": float(-np.log(np.maximum(probabilities, 1e-12)).mean())}

    def finish_epoch(self, row: dict[str, Any], value: float) -> None:
        self.epoch += 1
        self.history.append(row)
        self.since_best += 1
        if value > self.best_value:
            self.best_value, self.best, self.since_best = value, self.kept, 0

    def save(self, folder: Path) -> None:
        """Write the state, then the history that belongs to it; each whole or not at all."""
        state = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "best_value": self.best_value,
            "since_best": self.since_best,
            "best": self.best,
            "average": self.average,
            "network": self.network.state_dict(),
            "losses": self.losses.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": json.dumps(self.history),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        part = folder / (STATE + ".part")
        torch.save(state, part)
        part.replace(folder / STATE)
        write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))

    def resume(self, path: Path) -> None:
        """Go on from a state file of the same configuration; start afresh from any other."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return  # a state file that a crash damaged: the epochs it held are trained again
        if state["fingerprint"] != self.fingerprint:
            return
        self.network.load_state_dict(state["network"])
        self.losses.load_state_dict(state["losses"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best_value = state["epoch"], state["best_value"]
        self.since_best, self.best, self.average = state["since_best"], state["best"], state["average"]
        self.history = json.loads(state["history"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


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
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu", "cuda"):
        raise SerkitError(f"--device {device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SerkitError("--device cuda: this torch sees no GPU; use --device cpu or install a CUDA build of torch")
    AcceleratorState._reset_state()  # it is a singleton, and systems of one process may differ in precision
    precision = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[settings.precision]
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


def _network_groups(network: nn.Module, settings: Train) -> list[dict[str, Any]]:
    """Parameter groups: a network's own (layer-wise rates), or all parameters in one."""
    own = getattr(network, "param_groups", None)
    if own is not None:
        return list(own(settings.lr))
    return [{"params": [p for p in network.parameters() if p.requires_grad], "lr": settings.lr}]


def _set_lr(optimizer: Any, base: list[float], settings: Train, step: int, steps_per_epoch: int) -> None:
    """Set this step's learning rates; ``cosine_epoch`` is the published per-epoch cosine (systems.md 1.4)."""
    epoch = step // steps_per_epoch
    if settings.schedule == "cosine_epoch":
        progress = epoch / settings.epochs
    elif settings.schedule == "cosine":
        whole = max(1, settings.epochs * steps_per_epoch - settings.warmup_steps)
        progress = max(0, step - settings.warmup_steps) / whole
    else:
        progress = 0.0
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    for group, lr in zip(optimizer.param_groups, base, strict=True):
        value = lr
        if settings.schedule.startswith("cosine"):
            floor = min(settings.lr_min, lr)
            value = floor + (lr - floor) * 0.5 * (1 + math.cos(math.pi * progress))
        elif settings.schedule == "exponential":
            value = lr * settings.decay**epoch
        group["lr"] = value * warm


def _set_statistics(network: nn.Module, train: Examples) -> None:
    """Hand mean and standard deviation of the training frames to a network that normalises by them."""
    setter = getattr(network, "set_statistics", None)
    if setter is None:
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
    return tuple(registry.find("augment", step.name)(**step.parameters) for step in system.augment)


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
