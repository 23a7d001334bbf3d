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
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.files import fingerprint, write_bytes, write_text
from serkit.first_values import set_attribute_scale, set_statistics, solve
from serkit.fitting import (
    Fitting,
    copy_weights,
    make_accelerator,
    put_weights,
)
from serkit.networks import NetworkConfig, build_network, is_whole, load_network, save_network, with_backbone
from serkit.scoring import measure_scores, score
from serkit.settings import System, Train
from serkit.soups import greedy_members, put_mean
from serkit.text_rows import json_rows, read_text

STATE = "state.pt"
MEMBERS = "members"  # folder of the trainings that a soup is made of, until it is made
SHARED = "shared.pt"  # in it, the state after the epochs that they share
_SIGN = {"kl": -1.0}  # of a metric that is better where it is less


@dataclass(frozen=True)
class EpochEnd:
    """What the loop tells after each epoch.

    Attributes:
        system, model: which network. epoch: counted from 1, over all members of a soup. epochs: how many at most.
        row: the line written to ``history.jsonl``.
        utterances_s: training utterances per second, 0 where a soup was made. left_s: estimate for this network, at
            most.
        last: the network is finished, by its number of epochs or by ``train.patience``.
        share: of all its work, from 0 to 1, what is done. member, members: which training of a soup of how many; with
            ``last`` it is the soup itself.
    """

    system: str
    model: str
    epoch: int
    epochs: int
    row: Mapping[str, Any]
    utterances_s: float
    left_s: float
    last: bool
    share: float
    member: int = 1
    members: int = 1


def train_network(
    system: System,
    config: NetworkConfig,
    train: Examples,
    dev: Examples | None,
    folder: Path,
    *,
    model: str = "full",
    device: str = "auto",
    on_epoch: Callable[[EpochEnd], None] | None = None,
) -> nn.Module:
    """Train one network and leave it, the best epoch by the dev metric, in ``folder``.

    With ``train.soup`` it is trained several times, each in a folder of its own below ``folder`` until all are. What is
    left is the mean of their weights.

    Args:
        system: features, model, losses, balance and training settings.
        config: what to build, and the seed.
        train, dev: examples; augmentation and balance touch ``train`` only. Without ``dev`` the last epoch is kept.
        folder: gets ``history.jsonl``, ``config.json``, ``model.safetensors``; a state file while it runs.
        model: name of the fold this is, for the messages.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_epoch: told after each epoch.

    Returns:
        The selected network, in eval mode on its device.

    Raises:
        RunFailed: a loss that is not finite. SerkitError: settings that do not fit each other.
    """
    config, soup = with_backbone(config), system.train.soup
    if soup is None:
        return _train_once(system, config, train, dev, folder, model, device, on_epoch)
    places = [folder / MEMBERS / str(k + 1) for k in range(soup)]
    for k, place in enumerate(places):
        if not is_whole(place, config):
            _train_once(system, config, train, dev, place, model, device, on_epoch, k, soup)
    accelerator = make_accelerator(system.train, device)
    network, row = _soup_of(system, train, dev, places, accelerator.device)
    if accelerator.is_main_process:
        rows = [{"member": k + 1, **each} for k, place in enumerate(places) for each in _history(place)]
        _write_history(folder, [*rows, row])
        save_network(network, config, folder)
        if on_epoch is not None:
            n = _so_far([1] * system.train.epochs, system.train.shared_epochs, soup - 1, system.train.epochs)
            on_epoch(EpochEnd(config.system, model, n, n, row, 0.0, 0.0, True, 1.0, soup, soup))
    accelerator.wait_for_everyone()  # every process has read what is now removed
    if accelerator.is_main_process:
        forget_members(folder)
    return network if accelerator.is_main_process else load_network(folder, accelerator.device)[0]


def forget_members(folder: Path) -> None:
    """Remove the trainings that a soup in ``folder`` was made of, once it is made."""
    shutil.rmtree(folder / MEMBERS, ignore_errors=True)


def _train_once(
    system: System,
    config: NetworkConfig,
    train: Examples,
    dev: Examples | None,
    folder: Path,
    model: str,
    device: str,
    on_epoch: Callable[[EpochEnd], None] | None,
    member: int = 0,
    members: int = 1,
) -> nn.Module:
    """One training, to a network in ``folder``; the first member of a soup is trained as the network without one.

    Members begin with the same weights, or go on from the first one's shared epochs; their draws, dropout and
    augmentation differ.

    Raises:
        SerkitError: the state after the shared epochs is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = make_accelerator(system.train, device)
    torch.manual_seed(config.seed)
    network = build_network(config)
    set_statistics(network, train)
    set_attribute_scale(network, system, train)
    solve(network, train)
    seed = int(fingerprint([config.seed, member], 8), 16) if member else config.seed
    fitting = Fitting(system, config, model, train, network, accelerator, seed)
    state = _State(fitting, system.train, config.fingerprint)
    state.resume(folder / STATE)
    shared, epochs = system.train.shared_epochs if members > 1 else 0, max(system.train.epochs, 1)
    if member and state.epoch == 0:
        state.resume(folder.parent / SHARED)
        if state.epoch != shared:
            raise SerkitError(f"{folder.parent / SHARED} is damaged; delete {folder.parent} and train again")
        torch.manual_seed(seed)
    rows = [fitting.rows(k) for k in range(epochs)]
    whole = _so_far(rows, shared, members - 1, epochs)
    while not state.finished:
        if members > 1 and state.epoch == shared:
            if shared and not member and accelerator.is_main_process:
                write_bytes(folder.parent / SHARED, (folder / STATE).read_bytes())
            state.best_value, state.since_best = -math.inf, 0
        begun = time.monotonic()
        row: dict[str, Any] = fitting.epoch(state.epoch) if system.train.epochs else {"epoch": 0}
        scores, weights = _measure(fitting, dev)
        row.update({f"dev_{name}": value for name, value in scores.items()})
        state.finish_epoch(row, _selecting(system.train.select, scores), weights)
        if accelerator.is_main_process:
            state.save(folder)
            if on_epoch is not None:
                rate = rows[state.epoch - 1] / (time.monotonic() - begun)
                done = _so_far(rows, shared, member, epochs if state.finished else state.epoch)
                number, n = (
                    _so_far([1] * epochs, shared, *at) for at in ((member, state.epoch), (members - 1, epochs))
                )
                left, last = (whole - done) / rate, members == 1 and state.finished
                on_epoch(
                    EpochEnd(config.system, model, number, n, row, rate, left, last, done / whole, member + 1, members)
                )
    put_weights(fitting.network, state.best)
    finish = getattr(fitting.network, "finish", None)  # what a network does once it is trained: adapters are merged
    if finish is not None:
        finish()
    if accelerator.is_main_process:
        _write_history(folder, state.history)  # also where it was killed between its last state and this
        save_network(fitting.network, config, folder)
        (folder / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return fitting.network.eval()


def _so_far(costs: Sequence[int], shared: int, member: int, epoch: int) -> int:
    """What a soup has cost so far, where a member (from 0) has had some epochs; each costs its own number."""
    return sum(costs[:epoch]) + member * sum(costs[shared:])


def _soup_of(
    system: System, train: Examples, dev: Examples | None, places: Sequence[Path], device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    """The mean of some trained networks, and its line of the history: which they are (from 1), its metrics of dev."""
    settings, network = system.train, load_network(places[0], device)[0]
    files = [place / "model.safetensors" for place in places]

    def measure(members: Sequence[int]) -> dict[str, float]:
        put_mean(network, [files[k] for k in members], train, settings.batch_size)
        size = settings.batch_size
        if dev is None:
            return {}
        return measure_scores(score(network, dev, system="dev", model="dev", batch_size=size, device=device), dev)

    kept = list(range(len(places)))
    if settings.members == "greedy":
        sign, key = _SIGN.get(settings.select, 1.0), f"dev_{settings.select}"
        alone = [max(sign * row[key] for row in _history(place)) for place in places]
        kept = greedy_members(alone, lambda members: sign * measure(members)[settings.select])
    found = {f"dev_{name}": value for name, value in measure(kept).items()}
    return network, {"soup": [k + 1 for k in kept], **found}


def _write_history(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "history.jsonl"
    return [row for _, row in json_rows(read_text(path), str(path))]


def _selecting(select: str, scores: Mapping[str, float]) -> float | None:
    """The number that the best epoch is chosen by, of the metrics of the dev set; more is better.

    Raises:
        SerkitError: it is the concordance or the divergence from votes, and the dev clips have none.
    """
    if select == "ccc" and "ccc" not in scores:
        raise SerkitError(
            "train.select is ccc, and the dev clips have no two ratings of an attribute that the network learns: "
            "select another metric"
        )
    if select == "kl" and "kl" not in scores:
        raise SerkitError("train.select is kl, and no dev clip has rater votes: select another metric")
    return _SIGN.get(select, 1.0) * scores[select] if select in scores else None


def _measure(fitting: Fitting, dev: Examples | None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics of the whole dev set and the weights they belong to: the average where there is one."""
    network = fitting.network
    weights = current = copy_weights(network)
    if fitting.average is not None:
        weights = {name: value.clone() for name, value in fitting.average.items()}
    if dev is None:
        return {}, weights
    if fitting.average is not None:
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
        """All epochs are done (with none: the weights it starts with are measured), or ``train.patience`` is.

        A second stage begins in any case, and so does what is not shared by a soup; patience counts from there.
        """
        stages, patience = self.fitting.stages, self.settings.patience
        begun = max(stages[0].train.epochs if len(stages) > 1 else 0, self.settings.shared_epochs)
        exhausted = patience is not None and min(self.since_best, self.epoch - begun) >= patience
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
        _write_history(folder, self.history)

    def resume(self, path: Path) -> None:
        """Go on from a state file of the same configuration; start afresh from any other."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return  # a state file that a crash damaged: the epochs it held are trained again
        if not isinstance(state, dict) or state.get("fingerprint") != self.fingerprint:
            return
        self.fitting.load_state_dict(state["fitting"])
        self.epoch, self.best_value = state["epoch"], state["best_value"]
        self.since_best, self.best = state["since_best"], state["best"]
        self.history = json.loads(state["history"])
