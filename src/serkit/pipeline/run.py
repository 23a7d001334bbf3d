"""A run as a folder: its layout, and which stages are finished."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.features import Features
from serkit.files import fingerprint, write_json, write_text
from serkit.predictions import Predictions
from serkit.processes import cores
from serkit.recipe import TOLD, Recipe, load_recipe
from serkit.stacking import ENSEMBLES, UNFITTED, leading
from serkit.store import FeatureStore
from serkit.text_rows import json_object, json_rows, read_text
from serkit.types import SPLITS, Manifest

LAYOUTS = {
    "a run": "recipe.yaml",
    "a cross-validation": "fold*/recipe.yaml",
    "an ablation": "runs/*/fold*-seed*/recipe.yaml",
    "a search": "trials/*/fold*-seed*/recipe.yaml",
}
"""Where the recipes of a folder's runs are, by what the folder holds."""
STAGES = ("prepare", "extract", "train", "stack", "evaluate", "report")


@dataclass(frozen=True)
class Machine:
    """Where the work is done; none of it changes what is measured, but for rounding.

    Attributes:
        store: folder of the features, shared by runs. device: ``auto``, ``cpu`` or ``cuda``.
        jobs: processes at once; 0 is one per core on a CPU, one on a GPU.
        engine: who extracts features: ``local``, or ``ray``, a cluster. address: of that cluster.
    """

    store: Path
    device: str = "auto"
    jobs: int = 0
    engine: str = "local"
    address: str | None = None

    @property
    def workers(self) -> int:
        """How many processes that makes here."""
        if self.jobs > 0:
            return self.jobs
        return cores() if device_of(self) == "cpu" else 1


def threads_of(workers: int) -> int:
    """Threads for each of so many processes: the cores among them, or fewer where OMP_NUM_THREADS says so."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores() // workers)
    return min(share, int(said)) if said.isdecimal() and int(said) > 0 else share


def device_of(machine: Machine) -> str:
    """``cpu`` or ``cuda``: what ``auto`` comes to here."""
    if machine.device != "auto":
        return machine.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Run:
    """The folder of one run; ``docs/architecture.md`` describes its layout.

    The networks of a system are called ``fold0`` and so on by the cross-fit, ``full`` where one saw all of train.

    Args:
        folder: of the run; must hold a prepared run.

    Raises:
        SerkitError: it does not.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "recipe.yaml").is_file() or not (self.folder / "manifest.jsonl").is_file():
            folds = sorted(p.parent for p in self.folder.glob(LAYOUTS["a cross-validation"]))
            if folds:
                pooled = any((self.folder / "report" / n).is_file() for n in ("report.json", "matrix.json"))
                more = (
                    ""
                    if pooled
                    else "; it is not finished: run the same cv command again to resume it and make its report"
                )
                raise SerkitError(
                    f"{self.folder} holds a cross-validation; name a fold of it, such as {folds[0]}{more}"
                )
            for kind in ("an ablation", "a search"):
                if parts := sorted(p.parent for p in self.folder.glob(LAYOUTS[kind])):
                    raise SerkitError(f"{self.folder} holds {kind}; name a run of it, such as {parts[0]}")
            raise SerkitError(
                f"{self.folder} holds no run: expected recipe.yaml and manifest.jsonl; start one with run"
            )

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.folder / "recipe.yaml")

    @cached_property
    def manifest(self) -> Manifest:
        """The rows, with the recipe's labels."""
        return Manifest.load(self.folder / "manifest.jsonl")

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks that each system trains."""
        crossfit = self.recipe.crossfit
        if crossfit is None:
            return ("full",)
        return crossfit.fold_models + crossfit.refit_models

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the networks of each system that score what no network was trained on, and that a bundle has."""
        crossfit = self.recipe.crossfit
        return ("full",) if crossfit is None else crossfit.refit_models or crossfit.fold_models

    @property
    def n_networks(self) -> int:
        """How many networks the run trains, of all its systems."""
        return len(self.models) * len(self.recipe.systems)

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that have rows, in order."""
        present = {u.split for u in self.manifest}
        return tuple(s for s in SPLITS if s in present)

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """Splits that each network leaves a table of; with dev in the cross-fit, what is held out is in train's."""
        dealt = self.recipe.crossfit is not None and self.recipe.crossfit.with_dev
        return tuple(s for s in self.splits if not (dealt and s == "dev"))

    def network(self, system: str, model: str) -> Path:
        """Folder of one network."""
        return self.folder / "systems" / system / model

    def is_trained(self, system: str, model: str) -> bool:
        """Whether one network is finished and has scored every split."""
        return (self.network(system, model) / "model.safetensors").is_file() and all(
            (self.network(system, model) / f"{split}.parquet").is_file() for split in self.scored_splits
        )

    def predictions(self, system: str, split: str) -> Predictions:
        """Scores of a system on a split.

        Raises:
            SerkitError: the stage that makes them has not run.
        """
        return Predictions.load(self.predictions_path(system, split))

    def predictions_path(self, system: str, split: str) -> Path:
        """Where those scores lie."""
        return self.folder / "predictions" / f"{system}.{split}.parquet"

    def history(self, system: str) -> dict[str, list[dict[str, Any]]]:
        """Training curves of a system by model (of a soup ``full.1`` and so on): the rows of each ``history.jsonl``."""
        found: dict[str, list[dict[str, Any]]] = {}
        for model in self.models:
            path = self.network(system, model) / "history.jsonl"
            rows = [row for _, row in json_rows(read_text(path), str(path))] if path.is_file() else []
            for row in rows:
                if "soup" not in row:  # its line belongs to no curve
                    found.setdefault(f"{model}.{row['member']}" if "member" in row else model, []).append(row)
        return found

    def n_weights(self, system: str) -> int | None:
        """How many numbers one network of a system keeps, statistics of its features included; ``None``: no network."""
        from safetensors import safe_open

        path = self.network(system, self.models[0]) / "model.safetensors"
        if not path.is_file():
            return None
        with safe_open(path, framework="numpy") as kept:
            shapes: list[list[int]] = [kept.get_slice(name).get_shape() for name in list(kept.keys())]
        return sum(math.prod(shape) for shape in shapes)

    def save_features(self, features: Mapping[str, Features]) -> None:
        """Remember which content key each utterance has in which store."""
        for index, (name, found) in enumerate(features.items()):
            where = str(found.store.folder.absolute())
            row = {"feature": name, "modality": found.spec.modality, "store": where, "keys": found.keys}
            write_text(self.folder / "features" / f"{index:02d}.json", json.dumps(row))

    @cached_property
    def features(self) -> dict[str, Features]:
        """Features by key, as extraction left them.

        Raises:
            SerkitError: extraction has not run, or its store is gone.
        """
        found = {}
        for path in sorted((self.folder / "features").glob("*.json")):
            row = json_object(path)
            keys, texts = row.get("keys"), [row.get("feature"), row.get("store")]
            if not isinstance(keys, dict) or not all(isinstance(x, str) for x in (*texts, *keys.values())):
                raise SerkitError(f"{path} is damaged; delete it and run extract again")
            found[row["feature"]] = Features(FeatureStore.open(row["store"]), keys)
        missing = [name for name in self.recipe.features if name not in found]
        if missing:
            raise SerkitError(f"{self.folder}: features '{missing[0]}' are not extracted; run extract first")
        return found

    @property
    def ensembles(self) -> list[str]:
        """The ensembles that are built, in the order of :data:`serkit.stacking.ENSEMBLES`."""
        return [e for e in ENSEMBLES if self.predictions_path(e, "dev").is_file()]

    @property
    def lead(self) -> str | None:
        """What the run answers with: the stack, where there is none the mean logit, or its only system.

        ``None`` where several systems have no ensemble yet.
        """
        singles = list(self.recipe.systems)
        return leading(self.ensembles) or (singles[0] if len(singles) == 1 else None)

    def done(self, stage: str) -> bool:
        """Whether a stage is finished for this recipe and manifest, and what it leaves is there.

        That is every network and its scores of ``train``, the scores of every ensemble of ``stack``, and the files of
        ``evaluate`` and ``report``; what was deleted is made again. Features may be gone once the networks are there.
        """
        return self._state().get(stage) == self._key(stage) and self._left(stage)

    def _left(self, stage: str) -> bool:
        systems = list(self.recipe.systems)
        if stage == "train":
            there = all(self.is_trained(s, m) for s in systems for m in self.models)
            return there and all(self.predictions_path(s, split).is_file() for s in systems for split in self.splits)
        if stage == "stack" and len(systems) > 1:
            names = [*(UNFITTED if self.recipe.stack is None else ENSEMBLES)]
            return all(self.predictions_path(name, split).is_file() for name in names for split in self.splits)
        written = {"evaluate": "report.json", "report": "report.html"}.get(stage)
        return written is None or (self.folder / "report" / written).is_file()

    def mark(self, stage: str) -> None:
        """Say that a stage is finished; later stages have to run again."""
        later = STAGES[STAGES.index(stage) + 1 :]
        state = {k: v for k, v in self._state().items() if k not in later}
        write_json(self.folder / "state.json", {**state, stage: self._key(stage)})

    def _state(self) -> dict[str, str]:
        path = self.folder / "state.json"
        if not path.is_file():
            return {}
        try:
            return json_object(path)
        except SerkitError:  # then no stage is known to be finished
            return {}

    def _key(self, stage: str) -> str:
        recipe = self.recipe.fingerprint if stage in ("stack", "evaluate", "report") else networks_key(self.recipe)
        return f"{recipe}-{self.manifest.fingerprint}"


def refuse_others(folder: Path, kind: str) -> None:
    """Refuse a folder that holds something else than ``kind`` of :data:`LAYOUTS`: its report would hide the other one.

    Raises:
        SerkitError: it does.
    """
    for other, pattern in LAYOUTS.items():
        if other != kind and any(folder.glob(pattern)):
            raise SerkitError(f"{folder} holds {other}; choose another --out")


def networks_key(recipe: Recipe) -> str:
    """Hash of what decides the networks of a run: the recipe without its stack and its evaluation."""
    return fingerprint(recipe.model_dump(mode="json", exclude={*TOLD, "stack", "evaluate"}))
