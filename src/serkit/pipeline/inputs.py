"""What the networks of a run read: features by name, their encoders, and waveforms where these are augmented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from serkit import checkpoints, registry
from serkit.copies import CopyEncoder, check_steps, copy_key
from serkit.encoding import Encoder
from serkit.errors import SerkitError, refuse
from serkit.examples import FrameSource, Hearing, Remembered
from serkit.files import fingerprint
from serkit.pipeline.run import Run
from serkit.recipe import Recipe
from serkit.settings import Feature, System

WAVEFORM = "waveform"
_REMEMBERED: dict[str, Remembered] = {}  # of this process, by rows, steps and features: one at most


def make_encoder(feature: Feature) -> Encoder:
    """Build the encoder that a feature names; nothing is loaded yet.

    The family of ``hub:ORG/MODEL`` and ``path:DIR`` is read from their ``config.json``.

    Raises:
        SerkitError: an unknown family, checkpoint or parameter, or a missing extra.
    """
    name = checkpoints.family_of(feature.name) if checkpoints.is_unlisted(feature.name) else feature.family
    registry.check_parameters("encoders", name, {"name": feature.name, **feature.parameters}, "features")
    encoder: Encoder = registry.find("encoders", name)(feature.name, **feature.parameters)
    return encoder


def make_encoders(features: Mapping[str, Feature]) -> dict[str, Encoder]:
    """Build the encoders of some features, by the same keys.

    Raises:
        SerkitError: as for :func:`make_encoder`; where several cannot be built, all of them in one line.
    """
    made, refused = {}, []
    for key, feature in features.items():
        try:
            made[key] = make_encoder(feature)
        except SerkitError as error:
            refused.append(error)
    refuse(refused)
    return made


def check_backbones(recipe: Recipe) -> bool:
    """Refuse unavailable pretrained networks before any work; downloads the available ones from the hub.

    Returns:
        Whether there is one.

    Raises:
        SerkitError: an unknown name, or one that cannot be fetched. MissingExtra: a package it needs.
    """
    trained = [system for system in recipe.systems.values() if system.backbones]
    for system in trained:
        from serkit.foundation.kinds import KINDS
        from serkit.foundation.loading import peft_package, transformers_package

        transformers_package(system.model.name)
        if system.has_adapters:
            peft_package()
        for key in system.backbones:
            KINDS[key].describe(system.model.parameters[key])
    return bool(trained)


def needed_features(recipe: Recipe) -> dict[str, Feature]:
    """Every feature of a recipe, by key, and the waveform where some system augments waveforms."""
    needed = recipe.features
    if any(_augments_waveforms(system) for system in recipe.systems.values()):
        needed.setdefault(WAVEFORM, Feature(name=WAVEFORM))
    return needed


def check_copies(recipe: Recipe) -> None:
    """Refuse copies that cannot be made, or that a system would not read.

    Raises:
        SerkitError: a step that does not change the samples of one clip, or waveforms that are augmented anyway.
    """
    for copy in recipe.copies:
        check_steps([registry.find("augment", step.name) for step in copy])
    for name, system in recipe.systems.items() if recipe.copies else ():
        if _augments_waveforms(system):
            raise SerkitError(
                f"systems.{name}: augments waveforms and recomputes their features, so it would not use the recipe's "
                "copies; leave out one of the two"
            )


def copy_encoders(recipe: Recipe) -> dict[str, Encoder]:
    """The encoders of every copy of every feature that reads audio, by the copy's key."""
    found: dict[str, Encoder] = {}
    for number, copy in enumerate(recipe.copies, start=1):
        steps = [registry.find("augment", step.name)(**step.parameters) for step in copy]
        for key, feature in recipe.features.items():
            encoder = make_encoder(feature)
            if encoder.spec.modality == "audio":
                found[copy_key(key, number)] = cast(
                    Encoder, CopyEncoder(encoder, steps, number)
                )  # has no names of its own
    return found


def copies_of(run: Run, system: System) -> list[Mapping[str, FrameSource]]:
    """Of each copy, the features that a system reads, by feature key.

    Raises:
        SerkitError: extraction has not made the copies.
    """
    copies: list[Mapping[str, FrameSource]] = []
    for number in range(1, 1 + len(run.recipe.copies)):
        keys = {f.key: copy_key(f.key, number) for f in system.features}
        copies.append({key: run.features[copy] for key, copy in keys.items() if copy in run.features})
        if not copies[-1]:
            raise SerkitError(f"{run.folder}: the copies of the clips are not extracted; run extract first")
    return copies


def sources_of(run: Run, system: System) -> Mapping[str, FrameSource]:
    """The features a system reads, by key."""
    return {f.key: run.features[f.key] for f in system.features}


def hearing_of(run: Run, system: System, *, remember: bool = False) -> Hearing | None:
    """Waveforms and encoders of a system that augments waveforms; ``None`` for any other.

    Args:
        remember: keep augmented clips for the next network of this process that is made of the same ones.

    Raises:
        SerkitError: extraction has not brought the waveforms.
    """
    if not _augments_waveforms(system):
        return None
    if WAVEFORM not in run.features:
        raise SerkitError(f"{run.folder}: the waveforms are not extracted; run extract first")
    made = {f.key: make_encoder(f) for f in system.features}
    encoders = {key: e for key, e in made.items() if e.spec.modality == "audio"}
    return Hearing(run.features[WAVEFORM], encoders, _remembered(run, system) if remember else None)


def forget_clips() -> None:
    """Give back the memory of the clips that :func:`hearing_of` was told to remember."""
    _REMEMBERED.clear()


def _remembered(run: Run, system: System) -> Remembered:
    """The clips made by networks of the same rows, steps and features; those of others are forgotten."""
    made_of = system.model_dump(mode="json", include={"features", "augment"})
    key = fingerprint([run.manifest.fingerprint, run.recipe.seed, made_of, system.train.targets])
    if key not in _REMEMBERED:
        _REMEMBERED.clear()
    return _REMEMBERED.setdefault(key, Remembered())


def _augments_waveforms(system: System) -> bool:
    kinds = [getattr(registry.find("augment", step.name), "kind", None) for step in system.augment]
    return "samples" in kinds
