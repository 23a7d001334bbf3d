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
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.files import write_bytes, write_text
from serkit.fitting import (
    Fitting,
    copy_weights,
    make_accelerator,
    put_weights,
    set_attribute_scale,
    set_statistics,
    solve,
)
from serkit.networks import NetworkConfig, build_network, save_network, with_backbone
from serkit.scoring import measure_scores, score
from serkit.settings import System, Train

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
    config = with_backbone(config)
    accelerator = make_accelerator(system.train, device)
    torch.manual_seed(config.seed)
    network = build_network(config)
    set_statistics(network, train)
    set_attribute_scale(network, system, train)
    solve(network, train)
    fitting = Fitting(system, config, model, train, network, accelerator)
    state = _State(fitting, system.train, config.fingerprint)
    state.resume(folder / STATE)
    while not state.finished:
        begun, epochs = time.monotonic(), max(system.train.epochs, 1)
        row: dict[str, Any] = fitting.epoch(state.epoch) if system.train.epochs else {"epoch": 0}
        scores, weights = _measure(fitting, dev)
        row.update({f"dev_{name}": value for name, value in scores.items()})
        state.finish_epoch(row, _selecting(system.train.select, scores), weights)
        if accelerator.is_main_process:
            state.save(folder)
            if on_epoch is not None:
                spent = time.monotonic() - begun
                left = 0.0 if state.finished else spent * (epochs - state.epoch)
                rate = len(train) / spent
                on_epoch(EpochEnd(config.system, model, state.epoch, epochs, row, rate, left, state.finished))
    put_weights(fitting.network, state.best)
    finish = getattr(fitting.network, "finish", None)  # what a network does once it is trained: adapters are merged
    if finish is not None:
        finish()
    if accelerator.is_main_process:
        save_network(fitting.network, config, folder)
        (folder / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return fitting.network.eval()


def _selecting(select: str, scores: Mapping[str, float]) -> float | None:
    """The number that the best epoch is chosen by, of the metrics of the dev set.

    Raises:
        SerkitError: it is the concordance, and the dev clips have none.
    """
    if select == "ccc" and "ccc" not in scores:
        raise SerkitError(
            "train.select is ccc, and the dev clips have no two ratings of an attribute that the network learns: "
            "select another metric"
        )
    return scores.get(select)


def _measure(fitting: Fitting, dev: Examples) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics of the whole dev set and the weights they belong to: the average where there is one."""
    network = fitting.network
    weights = current = copy_weights(network)
    if fitting.average is not None:
        weights = {name: value.clone() for name, value in fitting.average.items()}
        put_weights(network, weights)
    size = fitting.settings.batch_size
    predictions = score(network, dev, system="dev", model="dev", batch_size=size, device=fitting.accelerator.device)
    if fitting.average is not None:
        put_weights(network, current)
    return measure_scores(predictions, dev), weights


class _State:
    """How far a training is, its best weights so far, and the file that a resume reads."""

    def __init__(self, fitting: Fitting, settings: Train, fingerprint: str) -> None:
        self.fitting, self.settings, self.fingerprint = fitting, settings, fingerprint
        self.epoch, self.best_value, self.since_best = 0, -math.inf, 0
        self.best = copy_weights(fitting.network)
        self.history: list[dict[str, Any]] = []

    @property
    def finished(self) -> bool:
        """All epochs are done (with none: the weights it starts with are measured), or ``train.patience`` is."""
        exhausted = self.settings.patience is not None and self.since_best >= self.settings.patience
        return exhausted or self.epoch >= max(self.settings.epochs, 1)

    def finish_epoch(self, row: dict[str, Any], value: float | None, weights: dict[str, torch.Tensor]) -> None:
        """Count an epoch; keep its weights where the dev metric is better than any before, or there is none."""
        self.epoch += 1
        self.history.append(row)
        self.since_best += 1
        if value is None or value > self.best_value:
            self.best_value, self.best, self.since_best = value or 0.0, weights, 0

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
