"""One network of a run: its examples, its seed, its training, and its scores on every split."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serkit.crossfit import crossfit_folds
from serkit.errors import RunFailed
from serkit.examples import Examples
from serkit.files import fingerprint
from serkit.networks import NetworkConfig, is_whole, load_network, with_backbone
from serkit.pipeline.inputs import copies_of, hearing_of, sources_of
from serkit.pipeline.run import Run
from serkit.recipe import Recipe
from serkit.scoring import score
from serkit.settings import Train
from serkit.training import EpochEnd, forget_members, train_network
from serkit.types import Manifest


def train_one(
    run: Run,
    system: str,
    model: str,
    device: str,
    on_epoch: Callable[[EpochEnd], None] | None = None,
    *,
    remember: bool = False,
) -> None:
    """Train one network of a run, if it is not finished, and write its scores on every split.

    The training split of ``fold2`` is train without the speakers of fold 2; what it holds out is scored
    as ``train.parquet`` (out-of-fold). ``full`` sees all of train, and its rows there say ``seen``. Where the
    cross-fit has dev in it (``with_dev``), fold 2 has speakers of both splits, and is what the network is watched on.

    Args:
        remember: keep augmented clips in memory for the next network, see :func:`serkit.pipeline.inputs.hearing_of`.

    Raises:
        SerkitError, RunFailed: as :func:`serkit.training.train_network`; or the memory of the device is too small.
    """
    if run.is_trained(system, model):
        return
    settings = run.recipe.systems[system]
    with _memory_of(device, system, settings.train):
        _train_one(run, system, model, device, on_epoch, remember)


def _train_one(
    run: Run, system: str, model: str, device: str, on_epoch: Callable[[EpochEnd], None] | None, remember: bool
) -> None:
    settings = run.recipe.systems[system]
    fit, held = training_rows(run, model)
    watched = run.manifest.split("dev") if "dev" in run.scored_splits else held
    sources = sources_of(run, settings)
    heard, copies = hearing_of(run, settings, remember=remember), copies_of(run, settings)
    train = Examples.of(fit, sources, targets=settings.train.targets, hearing=heard, copies=copies)
    dev = Examples.of(watched, sources, targets=settings.train.targets) if watched is not fit else None  # none held out
    config = network_config(run, system, model)
    out = run.network(system, model)
    if is_whole(out, config):  # trained, and stopped before it had scored everything
        network = load_network(out, device)[0]
        forget_members(out)
    else:
        network = train_network(settings, config, train, dev, out, model=model, device=device, on_epoch=on_epoch)
    used = next(network.parameters()).device
    size = settings.train.batch_size if settings.backbones else 64  # what fits in training fits here
    seen = frozenset(fit.ids)
    for split in run.scored_splits:
        rows = held if split == "train" else run.manifest.split(split)
        examples = Examples.of(rows, sources, targets="all")
        scores = score(network, examples, system=system, model=model, seen=seen, batch_size=size, device=used)
        scores.save(out / f"{split}.parquet")


@contextlib.contextmanager
def _memory_of(device: str, system: str, train: Train) -> Iterator[None]:
    """What to do, in one line, where the memory of a GPU is too small."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        smaller = max(1, train.batch_size // 2)
        raise RunFailed(
            f"system '{system}': the memory of '{device}' is too small for batches of {train.batch_size} clips "
            f"({str(error).split('. ')[0]}). Try --set systems.{system}.train.batch_size={smaller} --set systems."
            f"{system}.train.accumulate={2 * train.accumulate} (losses that compare the clips of a batch, such as "
            "supcon, then see fewer of them); finished networks are kept"
        ) from error


def learned_from(manifest: Manifest, recipe: Recipe) -> Manifest:
    """The rows that networks learn from: train, and dev where the cross-fit deals it into its folds."""
    splits = ("train", "dev") if recipe.crossfit is not None and recipe.crossfit.with_dev else ("train",)
    return manifest.where(lambda u: u.split in splits)


def training_rows(run: Run, model: str) -> tuple[Manifest, Manifest]:
    """The rows a network is fitted on, and those it holds out and scores."""
    train = learned_from(run.manifest, run.recipe)
    crossfit = run.recipe.crossfit
    if crossfit is None or model not in crossfit.fold_models:
        return train, train
    fold = crossfit_folds(train, crossfit.folds, crossfit.seed)
    inside = fold != crossfit.fold_models.index(model)
    rows = np.array(train.utterances, dtype=object)
    return (
        dataclasses.replace(train, utterances=tuple(rows[inside])),
        dataclasses.replace(train, utterances=tuple(rows[~inside])),
    )


def network_config(run: Run, system: str, model: str) -> NetworkConfig:
    """What to build for one network of a run; its seed comes from the recipe's seed and its name."""
    settings = run.recipe.systems[system]
    features: dict[str, dict[str, Any]] = {}
    for feature in settings.features:
        spec = run.features[feature.key].spec
        features[feature.key] = {
            "name": feature.name,
            "parameters": feature.parameters,
            "spec": dataclasses.asdict(spec),
            "fingerprint": spec.fingerprint,
        }
    seed = int(fingerprint([run.recipe.seed, system, model], 8), 16)
    config = NetworkConfig(
        system=system,
        model={"name": settings.model.name, **settings.model.parameters},
        dims={key: int(f["spec"]["dim"]) for key, f in features.items()},
        features=features,
        labels=run.manifest.labels,
        seed=seed,
        train=settings.model_dump(mode="json", exclude={"features", "model"}),
    )
    return with_backbone(config)
