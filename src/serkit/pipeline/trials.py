"""Trials of a recipe: the same recipe with other values of some keys, in every combination or a sample of them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit import leads, yaml_text
from serkit.errors import SerkitError, check_known
from serkit.files import fingerprint
from serkit.recipe import TOLD, Recipe, load_recipe
from serkit.reporting.text import listed
from serkit.reporting.tuning_words import value_said

AS_IT_IS = "as-it-is"
_NOT_TRIED = {  # what decides the question instead of the answer
    "labels": "the classes",
    "drop_labels": "the classes",
    "map_labels": "the classes",
    "exclude": "the clips",
    "evaluate": "the measurement",
    "seed": "the seed, for which there is --seeds",
    "name": "only the name",
    "description": "only the description",
    "published": "only what others measured",
}
_LONGEST = 80  # characters of a folder's name
_PLAIN = re.compile(r"[\w.+-]{1,24}")  # a value that stands in it as it is; of others a hash does
_MOST_COMBINATIONS = 100_000


@dataclass(frozen=True)
class Trial:
    """One recipe of a search.

    Attributes:
        key: name of its folder, which depends on its settings alone. settings: value by key, of those tried; empty of
            the recipe as it is. recipe: with these settings. values: the settings, or of the recipe as it is those
            tried that are its own, if they were drawn.
    """

    key: str
    settings: Mapping[str, Any]
    recipe: Recipe
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its settings in words, such as ``train.lr 0.001, model.hidden 64``."""
        return ", ".join(f"{k} {value_said(v)}" for k, v in self.settings.items()) or "the recipe as it is"


@dataclass(frozen=True)
class Search:
    """Everything that a search trains.

    Attributes:
        trials: the recipe as it is first. keys: values tried, by key. seeds: of networks and draws; each trial is
            trained once with each. folds: of the corpus's protocol, their dev rows pooled. metric: that decides, on
            dev, of :data:`serkit.leads.LEADS`. combinations: how many the values make. drawn: how many of these were
            taken.
        left_out: combinations that make no recipe, each with its reason, as one line.
    """

    trials: tuple[Trial, ...]
    keys: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    metric: str
    combinations: int
    drawn: int
    left_out: tuple[str, ...]

    @property
    def runs(self) -> list[tuple[Trial, int, int]]:
        """(trial, fold, seed) of every run: all trials with one seed before the next seed."""
        return [(t, fold, seed) for seed in self.seeds for fold in self.folds for t in self.trials]


def _add(found: list[Trial], trial: Trial) -> None:
    """Add a trial, unless one there trains the same; where that is the recipe as it is, it gets the values."""
    same = next((k for k, t in enumerate(found) if _means(t.recipe) == _means(trial.recipe)), None)
    if same is None:
        found.append(trial)
    elif same == 0:
        found[0] = replace(found[0], values=trial.values)


def search(
    source: str | Path,
    overrides: Sequence[str],
    tried: Sequence[str],
    *,
    trials: int | None = None,
    seeds: int = 1,
    folds: Sequence[int] = (1,),
    metric: str | None = None,
) -> Search:
    """What to train.

    Args:
        source, overrides: of the recipe, as for :func:`serkit.recipe.load_recipe`.
        tried: ``KEY=V1,V2``: keys as in overrides, values as YAML, by commas.
        trials: how many combinations to draw, without repetition and with the recipe's seed; all where ``None``.
        seeds: how many, from the recipe's own upwards. folds: numbers of folds. metric: of
            :data:`serkit.leads.LEADS`; ``None``: by which the recipe chooses the networks of all its systems, else
            ``macro_f1``.

    Raises:
        SerkitError: nothing to try, a key that is none or decides what is measured, a value that the recipe refuses
            in all combinations, or a number out of range.
    """
    if metric is not None:
        check_known(metric, leads.LEADS, f"--metric {metric}: expected {', '.join(leads.LEADS)}")
    for flag, number in (("--seeds", seeds), ("--trials", trials)):
        if number is not None and number < 1:
            raise SerkitError(f"{flag} {number}: expected at least 1")
    recipe = load_recipe(source, overrides)
    metric = metric or leads.chosen_by(recipe.systems.values()) or "macro_f1"
    if metric == leads.CCC and not _learns_ratings(recipe):
        raise SerkitError(f"--metric ccc: {_UNRATED}; choose another metric")
    keys = values_tried(tried)
    total = math.prod(map(len, keys.values()))
    found, left_out, reasons = [Trial(AS_IT_IS, {}, recipe)], [], []
    for settings in _combinations(keys, total, trials, recipe.seed):
        try:
            changed = load_recipe(source, [*overrides, *(f"{k}={json.dumps(v)}" for k, v in settings.items())])
        except SerkitError as error:
            reasons.append(_without_flag(error))
            left_out.append(f"{Trial('', settings, recipe).title}: {reasons[-1]}")
            continue
        if _dev_is_dealt(changed) != _dev_is_dealt(recipe):
            raise SerkitError(
                f"--try {', '.join(settings)}: crossfit.with_dev changes what dev measures, so that trials could not "
                "be compared; give it to all of them with --set"
            )
        if metric == leads.CCC and not _learns_ratings(changed):
            left_out.append(f"{Trial('', settings, recipe).title}: {_UNRATED}, and ccc decides")
            continue
        _add(found, Trial(folder_of(settings), settings, changed, settings))
    if len(reasons) == len(left_out) and len(found) == 1:
        nothing = "nothing to try: every value is the recipe's own; give others with --try"
        raise SerkitError(reasons[0] if reasons else nothing)
    numbers = tuple(recipe.seed + k for k in range(seeds))
    return Search(
        tuple(found), keys, numbers, tuple(folds), metric, total, min(trials or total, total), tuple(left_out)
    )


_UNRATED = "no system of it has a network that learns arousal, valence and dominance (attribute_head: true)"


def _learns_ratings(recipe: Recipe) -> bool:
    """Whether a network of the recipe can have an answer for ratings; one of your own is believed to."""
    models = [system.model for system in recipe.systems.values()]
    return any("." in model.name or model.parameters.get("attribute_head") for model in models)


def values_tried(tried: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Values by key of ``KEY=V1,V2``, each once.

    Raises:
        SerkitError: no key, no value, a key given twice, or one whose trials could not be compared.

    >>> values_tried(["train.lr=1e-3,3e-3", "losses=[cross_entropy],[focal, center_loss]"])
    {'train.lr': (0.001, 0.003), 'losses': (['cross_entropy'], ['focal', 'center_loss'])}
    """
    if not tried:
        raise SerkitError("nothing to try: give --try KEY=VALUE,VALUE, such as --try train.lr=1e-3,3e-3")
    found: dict[str, tuple[Any, ...]] = {}
    for text in tried:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise SerkitError(f"--try {text!r}: expected KEY=VALUE,VALUE, such as train.lr=1e-3,3e-3")
        if key in found:
            raise SerkitError(f"--try {key}: given twice; give all of its values at once, by commas")
        top = key.partition(".")[0]
        if top in _NOT_TRIED:
            raise SerkitError(f"--try {key}: it changes {_NOT_TRIED[top]}, so that trials could not be compared")
        parsed = yaml_text.parse(f"[{values}]", f"--try {key}")
        distinct = {json.dumps(v, sort_keys=True): v for v in parsed}
        found[key] = tuple(distinct.values())
    return found


def folder_of(settings: Mapping[str, Any]) -> str:
    """A folder's name for settings: the same ones have the same name in every search.

    >>> folder_of({"train.lr": 0.001, "model.hidden": 64})
    'model.hidden=64,train.lr=0.001'
    """
    parts = []
    for key, value in sorted(settings.items()):
        text = value_said(value)
        parts.append(f"{key}={text if _PLAIN.fullmatch(text) else fingerprint(value, 8)}")
    name = ",".join(parts)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{fingerprint(dict(settings), 8)}"


def _combinations(
    keys: Mapping[str, tuple[Any, ...]], total: int, trials: int | None, seed: int
) -> list[dict[str, Any]]:
    """All combinations of values in order, or a sample of them, in the order drawn: more trials begin as fewer do."""
    if total > _MOST_COMBINATIONS:
        raise SerkitError(f"--try: {total} combinations of {listed(list(keys))}, expected at most {_MOST_COMBINATIONS}")
    every = [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]
    if trials is None or trials >= total:
        return every
    order = np.random.default_rng([seed, 8]).permutation(total)
    return [every[k] for k in order[:trials]]


def _dev_is_dealt(recipe: Recipe) -> bool:
    """Whether the numbers on dev are out-of-fold, instead of those that epochs were chosen by."""
    return recipe.crossfit is not None and recipe.crossfit.with_dev


def _means(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says, in values that are equal where they are so as numbers (``4`` and ``4.0``)."""
    return recipe.model_dump(mode="json", exclude=TOLD)


def _without_flag(error: SerkitError) -> str:
    """The reason of a recipe's refusal, told of ``--try``."""
    return str(error).replace("--set ", "--try ")
