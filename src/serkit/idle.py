"""Settings that have no effect because of another one: the rate's ``decay`` where the schedule has none.

Which setting needs which other one is said where it is declared, with :class:`serkit.parameters.Needs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serkit import registry
from serkit.parameters import Needs
from serkit.settings import System, Train


def settings_with_needs(systems: Mapping[str, System]) -> Iterator[tuple[str, str, str, bool]]:
    """Every setting of every system that another one can make idle.

    Args:
        systems: of a recipe, by name.

    Yields:
        The system; the key in it as ``--set`` takes it (``train.decay``, ``losses.supcon.max_frames``); why it changes
        nothing, ``""`` where it does; whether its value differs from its default.
    """
    for name, system in systems.items():
        for group, values, needs, defaults in _groups(system):
            around = {**dict(system), **values}
            for key, need in needs.items():
                unmet = need.unmet(around[need.key]) if need.key in around else ""
                if group == "train" and unmet and key not in _replaced(system):  # the second stage may use it
                    later = system.stages[-1]
                    unmet = need.unmet({**dict(later), **dict(later.train)}[need.key])
                yield name, f"{group}.{key}", unmet, values[key] != defaults[key]
        yield from ((name, *row) for row in _of_second_stage(system))


def idle_everywhere(systems: Mapping[str, System]) -> dict[str, str]:
    """By key, why a setting changes nothing in any system that has it."""
    reasons: dict[str, set[str]] = {}
    for _, key, unmet, _ in settings_with_needs(systems):
        reasons.setdefault(key, set()).add(unmet)
    return {key: min(found) for key, found in reasons.items() if "" not in found}


def idle_notes(systems: Mapping[str, System], written: Mapping[str, System]) -> list[str]:
    """A line for each setting that a recipe gives a value of its own and that changes nothing in any of its systems.

    Args:
        systems: of the recipe as it is used. written: of the same recipe as its file has them.
    """
    given = {key for _, key, _, is_given in settings_with_needs(written) if is_given}
    return [f"{key} {why}" for key, why in idle_everywhere(systems).items() if key in given]


def _replaced(system: System) -> set[str]:
    """The settings of ``train`` that a second stage has of its own."""
    second = system.second_stage
    return set() if second is None or second.draw is None else {"draw"}


def _of_second_stage(system: System) -> Iterator[tuple[str, str, bool]]:
    """The settings of a second stage, as :func:`settings_with_needs` yields them without the system."""
    second = system.second_stage
    if second is None:
        return
    begins = len(system.stages) > 1
    why = f"has no effect while train.epochs is {system.train.epochs}; it needs more than {second.after_epochs}"
    yield "second_stage", "" if begins else why, True
    if not begins:
        yield from ((f"second_stage.{key}", why, False) for key in type(second).model_fields)
        return
    later = system.stages[-1]
    around = {**dict(later), "targets": later.train.targets}
    for key, field in type(second).model_fields.items():
        for need in (n for n in field.metadata if isinstance(n, Needs)):
            yield f"second_stage.{key}", need.unmet(around[need.key]), getattr(second, key) != field.default


def _groups(system: System) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Needs], Mapping[str, Any]]]:
    """The parts of a system that have such settings: how ``--set`` calls it, its values, needs and defaults."""
    fields = Train.model_fields
    needs = {key: n for key, f in fields.items() for n in f.metadata if isinstance(n, Needs)}
    yield "train", dict(system.train), needs, {key: f.default for key, f in fields.items()}
    entries = [("models", "model", system.model)]
    entries += [("losses", f"losses.{x.name}", x) for x in system.losses]
    later = system.second_stage.losses if system.second_stage is not None else None
    entries += [("losses", f"second_stage.losses.{x.name}", x) for x in later or ()]
    entries += [("augment", f"augment.{x.name}", x) for x in system.augment]
    for kind, group, entry in entries:
        member = registry.member(kind, entry.name)
        defaults = {key: registry.literal(source) for key, source in member.parameters.items()}
        yield group, {**defaults, **entry.parameters}, member.needs, defaults
