"""Errors of a recipe's parts, found before any work: each is built once, and its losses get a few made-up frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from serkit import checkpoints, registry
from serkit.errors import MissingExtra, SerkitError, check_known, in_one_line
from serkit.examples import Examples, Hearing
from serkit.files import fingerprint
from serkit.pipeline.inputs import WAVEFORM, check_copies, make_encoder, needed_features
from serkit.pipeline.loss_rehearsal import ask_losses, own_parts
from serkit.pipeline.networks_of_run import learned_from
from serkit.pipeline.texts_of_run import check_source
from serkit.recipe import Recipe
from serkit.settings import System
from serkit.types import ATTRIBUTES, Manifest

_WIDTH, _FRAMES = 64, 8  # of features that are made up
_SAMPLES = 1600  # of the feature 'waveform'
_ONE_WIDE = (WAVEFORM, "tokens")  # encoders whose frames are one number each: a sample, the id of a token
_OWN_FRAMES, _OWN_SAMPLES = 300, 48_000  # for a part of the user's own: as many as a clip of some seconds has
_LARGEST = 50_000_000  # parameters of a network that is built with weights only to ask its losses


def check_parts(recipe: Recipe, manifest: Manifest) -> None:
    """Build encoders, augmentations, networks and losses once, so that what they refuse is told before any work.

    Encoders are built where they need no checkpoint, of the others the words are checked. Networks are built on
    features of a made-up width, one on a pretrained network in its shape alone, as far as that is known without a
    download; one of the user's own on the width that it will have. Their losses are asked what they make of a few
    clips with made-up features: what they need of labels, heads or attributes is refused here, and so is what goes
    wrong in a file of the user's own, unless made-up values alone may be the reason.

    Args:
        recipe: resolved. manifest: with the recipe's labels, splits checked.

    Raises:
        SerkitError: parameters that do not go together or are out of range, a loss that cannot do without what the
            network or the corpus does not have, or a part of the user's own that fails; the line names the system.
    """
    for feature in needed_features(recipe).values():
        modality = ""
        if ":" not in feature.name and "." not in feature.family:
            parameters = {"name": feature.name, **feature.parameters}
            registry.check_parameters("encoders", feature.family, parameters, "features")
        if feature.family not in checkpoints.FAMILIES and ":" not in feature.name:
            with contextlib.suppress(MissingExtra):  # whoever extracts is told
                encoder = _built("encoders", feature.family, partial(make_encoder, feature))
                modality = getattr(getattr(encoder, "spec", None), "modality", "")
        elif ":" not in feature.name:
            modality = registry.find("encoders", feature.family).MODALITY  # type: ignore[attr-defined]  # of each family
        if modality == "text":
            check_source(recipe.transcripts, feature.name)
    train = learned_from(manifest, recipe)
    passed: set[tuple[str, bool]] = set()
    for name, system in recipe.systems.items():
        for stage, at in zip(system.stages, ("", ".second_stage"), strict=False):
            design, later = _design(stage), bool(at)
            try:
                if not {(design, False), (design, later)} & passed:  # a first stage is asked more than a second
                    _rehearse(stage, train, later=later)
                    passed.add((design, later))
            except SerkitError as error:
                raise SerkitError(f"systems.{name}{at}: {error}") from None
    check_copies(recipe)
    for step in (step for copy in recipe.copies for step in copy):
        _built("augment", step.name, partial(registry.find("augment", step.name), **step.parameters))


def own_networks(recipe: Recipe, n_classes: int) -> dict[str, tuple[Any, dict[str, int]]]:
    """Fresh networks of the models of the user's own, in eval mode, with the widths of their features, by system.

    One of several systems with the same design stands for all of them; those that cannot be built here are left out.
    Of layers that are stacked, a network sees their sum.
    """
    import torch

    found: dict[str, tuple[Any, dict[str, int]]] = {}
    passed: set[str] = set()
    for name, system in recipe.systems.items():
        if "." not in system.model.name or (design := _design(system)) in passed:
            continue
        passed.add(design)
        dims = _dims(system)
        with torch.random.fork_rng(devices=[]):
            network = _network(system, dims, n_classes)
        if network is not None:
            found[name] = network.eval(), dims
    return found


def _design(system: System) -> str:
    """Hash of all that a rehearsal depends on: systems that differ in their features' names alone share one."""
    own = "." in system.model.name
    features = [f.model_dump(mode="json") if own else f.family in _ONE_WIDE and f.family for f in system.features]
    parts = system.model_dump(mode="json", include={"model", "losses", "augment"})
    return fingerprint([features, parts, system.train.targets, system.train.loss_scale, system.train.select])


def _rehearse(system: System, train: Manifest, *, later: bool = False) -> None:
    """Build a system's augmentations and network, and hand its losses what the network says of a few clips.

    Args:
        later: it is a second stage, which need not teach all that the first has taught.

    Raises:
        SerkitError: whatever one of them refuses.
    """
    import torch

    from serkit.fitting import augmentations

    dims = _dims(system)
    few = _few(train, votes=system.train.targets == "votes")
    own = bool(own_parts(system))
    heard = {f.key for f in system.features if f.family == WAVEFORM}
    n_frames, n_samples = (_OWN_FRAMES, _OWN_SAMPLES) if own else (_FRAMES, _SAMPLES)
    sources = {key: _Silence(dim, n_samples if key in heard else n_frames) for key, dim in dims.items()}
    hearing = Hearing(_Silence(1, _SAMPLES), {})  # a run has one wherever it is needed
    examples = Examples.of(few, sources, targets=system.train.targets, hearing=hearing)
    _check_augmentations(system, dims)
    augmentations(system, examples)
    with torch.random.fork_rng(devices=[]):
        network = _network(system, dims, len(train.labels))
        if network is not None:
            ask_losses(system, examples, network, later)


def _check_augmentations(system: System, dims: Mapping[str, int]) -> None:
    """Build each augmentation of a system, and refuse one that changes a feature that is not there, or ids."""
    for step in system.augment:
        built = _built("augment", step.name, partial(registry.find("augment", step.name), **step.parameters))
        for key in getattr(built, "encoders", None) or ():
            check_known(key, dims, f"augmentation '{step.name}': no feature '{key}' here")
        tokens = [f.key for f in system.features if f.family == "tokens"]
        if getattr(built, "kind", "") == "features" and set(tokens) & set(getattr(built, "encoders", None) or tokens):
            raise SerkitError(
                f"augmentation '{step.name}' changes numbers, and {tokens[0]} are ids of tokens: leave it out"
            )


def _dims(system: System) -> dict[str, int]:
    """Width of each feature by key: its own for a model of the user's, which may count on it; else a made-up one.

    Nothing is loaded or fetched; a width that is known only then is 0.
    """
    own = "." in system.model.name
    dims = {f.key: 1 if f.family in _ONE_WIDE else _WIDTH for f in system.features}
    for feature in system.features if own else ():
        dims[feature.key] = 0
        if "hub:" not in feature.name:
            with contextlib.suppress(MissingExtra):
                spec = make_encoder(feature).spec
                dims[feature.key] = spec.dim // int(spec.params["n_layers"] if spec.layer == "all" else 1)
    return dims


def _network(system: System, dims: Mapping[str, int], n_classes: int) -> Any:
    """A system's network, with weights; ``None`` where that cannot be had here, or takes too long only for this.

    One on a pretrained network is given a tiny one of the same family, once its own shape has been built.
    """
    import torch

    parameters = {k: v for k, v in system.model.parameters.items() if k != "layer_weights"}
    name = system.model.name
    make = partial(registry.find("models", name), dims=dims, n_classes=n_classes)
    if not all(dims.values()):
        return None
    if system.backbones:
        return _on_backbones(name, make, parameters)
    if "." in name:
        return _built("models", name, lambda: make(**parameters))
    with torch.device("meta"):
        shape = make(**parameters)
    return make(**parameters) if sum(p.numel() for p in shape.parameters()) <= _LARGEST else None


def _on_backbones(name: str, make: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """A network on tiny backbones of the wanted families, after one in the shape of the wanted backbones themselves."""
    import torch

    try:
        from serkit.foundation.kinds import wanted

        kinds = wanted(parameters)
        sketches = {key: kind.sketch(parameters[key]) for key, kind in kinds.items()}
        if None in sketches.values():
            return None
        with torch.device("meta"):
            shapes = {key: kind.build(sketches[key], weights=False) for key, kind in kinds.items()}
            _built("models", name, lambda: make(**parameters | shapes))
        tiny = {key: kind.describe(f"{sketches[key]['family']}/random") for key, kind in kinds.items()}
        small = {key: kind.build(tiny[key], weights=False) for key, kind in kinds.items()}
    except MissingExtra:  # whoever trains is told
        return None
    plain = {**parameters, **small, "tuning": "frozen"}
    plain |= {key: value for key, value in (("frozen_layers", 0), ("text_tuning", None)) if key in parameters}
    return None if "." in name else make(**plain)


def _built(kind: registry.Kind, name: str, build: Callable[[], Any]) -> Any:
    """What ``build`` makes; anything that a part of the user's own raises is said in one line.

    Raises:
        SerkitError: it cannot be built.
    """
    try:
        return build()
    except SerkitError:
        raise
    except Exception as error:  # re-raised, but for a part of the user's own, which may raise anything
        if "." not in name:
            raise
        what = f"{registry.singular(kind)} '{name}'"
        raise SerkitError(f"{what} cannot be built: {in_one_line(error, registry.file_of(kind, name))}") from error


def _few(train: Manifest, *, votes: bool) -> Manifest:
    """Two clips of each class, one that raters have judged, and two of which each attribute is known."""
    left = dict.fromkeys((*train.labels, None), 2)
    kept, rated, known = [], 1, np.full(len(ATTRIBUTES), 2)
    for u in train.utterances:
        take = left[u.emotion] > 0 and (u.emotion is not None)
        take_rated = votes and rated > 0 and bool(u.votes)
        has = np.array([value is not None for value in u.attributes])
        take_known = bool((has & (known > 0)).any()) and (u.emotion is not None or bool(u.votes))
        if take or take_rated or take_known:
            kept.append(u)
            left[u.emotion] -= 1
            rated, known = rated - bool(u.votes), known - has
    return replace(train, utterances=tuple(kept))


@dataclass(frozen=True)
class _Silence:
    """Frames of zeros of some width: samples, of width 1, or others."""

    dim: int
    n_frames: int

    def frames(self, utterance_id: str) -> int:
        return self.n_frames

    def get(self, utterance_id: str) -> np.ndarray:
        return np.zeros((self.frames(utterance_id), self.dim), dtype=np.float32)
