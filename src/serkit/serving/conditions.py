"""Conditions that recordings are measured under: ``telephone``, ``noise:10``, ``reverb+noise:20``.

Each is one or several augmentations of :mod:`serkit.augment`, applied to every clip at a fixed strength. What is random
in them is drawn from the clip's own samples and a seed: the order of clips and the number of processes change nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from serkit import registry, yaml_text
from serkit.copies import heard_through
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean
from serkit.files import fingerprint

ALL = "all"
DEFAULTS = (
    "telephone", "gsm", "8khz", "opus", "packet_loss", "noise:20", "noise:10", "noise:0", "reverb", "clipping",
    "equalizer", "gain",
)  # fmt: skip
_LINE = {"low_from_hz": 300.0, "low_to_hz": 300.0, "high_from_hz": 3400.0, "high_to_hz": 3400.0}
FIXED: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # name of a condition: its augmentation, and how strong it is
    "telephone": ("telephone", {**_LINE, "codec": "mu-law"}),
    "gsm": ("telephone", {**_LINE, "codec": "gsm"}),
    "8khz": ("telephone", {"low_to_hz": 0.0, "high_from_hz": 3900.0, "high_to_hz": 3900.0, "codec": "none"}),
    "opus": ("codec", {"low_kbps": 16.0, "high_kbps": 16.0, "format": "opus"}),
    "packet_loss": ("packet_loss", {"low_percent": 10.0, "high_percent": 10.0}),
    "noise": ("noise", {"snr_low_db": 10.0, "snr_high_db": 10.0, "color": "pink"}),
    "reverb": ("reverb", {"rt60_low_s": 0.5, "rt60_high_s": 0.5, "direct_low_db": 0.0, "direct_high_db": 0.0}),
    "clipping": ("clipping", {"low_db": 12.0, "high_db": 12.0}),
    "equalizer": ("equalizer", {"deviation_db": 5.0}),
    "gain": ("gain", {"low_db": -30.0, "high_db": -30.0}),
}  # fmt: skip
_STEP = re.compile(r"\+(?=[0-9]*[A-Za-z])")  # a plus before a name, not before a number
_PAIR = re.compile(r",(?=\w+=)")


@dataclass(frozen=True)
class Condition:
    """What is done to every recording before it is answered.

    Attributes:
        name: as it was asked for. parts: name and parameters of each augmentation, in order.
    """

    name: str
    parts: tuple[tuple[str, Mapping[str, Any]], ...]

    def heard(self, samples: np.ndarray, seed: int = 0) -> np.ndarray:
        """(samples,) float32 mono 16 kHz to (samples',) float32; the same clip and seed, the same bytes.

        Raises:
            SerkitError: a value that an augmentation refuses, or a folder without recordings.
        """
        steps = [registry.find("augment", name)(**parameters, probability=1.0) for name, parameters in self.parts]
        return heard_through(steps, samples, seed)

    @cached_property
    def sources(self) -> str | None:
        """Hash of the names, sizes and times of change of files that parts draw from; ``None`` where none does."""
        folders = [Path(parameters["folder"]) for _, parameters in self.parts if parameters.get("folder")]
        files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
        stats = [(p, p.stat()) for p in files]
        return fingerprint([[p.as_posix(), s.st_size, s.st_mtime_ns] for p, s in stats]) if folders else None

    def to_row(self) -> list[dict[str, Any]]:
        """The augmentations as JSON-able rows."""
        return [{"name": name, **parameters} for name, parameters in self.parts]


def parse(given: Sequence[str]) -> tuple[Condition, ...]:
    """Conditions as a command line names them, each once; every one is tried on a second of noise.

    Args:
        given: ``NAME``, ``NAME:STRENGTH`` (a number), ``NAME:KEY=VALUE,…``, ``NAME:STRENGTH,KEY=VALUE,…``, several of
            these joined by ``+``, or ``all``. NAME is one of :data:`FIXED`, or an augmentation of the samples of one
            clip. What is not given is as in :data:`FIXED`, else the augmentation's own default.

    Raises:
        SerkitError: an unknown name or parameter, or a value that it cannot have.

    >>> [condition.name for condition in parse(["noise:20", "reverb+gain:-6", "noise:20"])]
    ['noise:20', 'reverb+gain:-6']
    """
    found: list[Condition] = []
    for text in [one for word in given for one in (DEFAULTS if word.strip() == ALL else (word.strip(),))]:
        where = f"condition '{text}'"
        condition = Condition(text, tuple(_part(part.strip(), where) for part in _STEP.split(text)))
        try:
            condition.heard(np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE_HZ).astype(np.float32))
        except (SerkitError, ArithmeticError, MemoryError) as error:
            raise SerkitError(f"{where}: {error}") from None
        if condition.parts not in [other.parts for other in found]:
            found.append(condition)
    return tuple(found)


def _part(text: str, where: str) -> tuple[str, Mapping[str, Any]]:
    """Augmentation and parameters of ``NAME:…``."""
    name, colon, rest = text.partition(":")
    name = name.strip()
    augmentation, fixed = FIXED.get(name, (name, {}))
    if name == ALL:
        raise SerkitError(f"{where}: '{ALL}' stands for a list of conditions; give it alone, as --under {ALL}")
    if name not in FIXED and "." not in name and name not in _usable():
        known = registry.names("augment")
        why = "does not change the samples of one clip" if name in known else "is not known"
        bare, equals, strength = text.partition("=")
        if equals and not colon and bare in [*FIXED, *_usable()]:
            raise SerkitError(f"{where}: a strength follows a colon; did you mean '{bare}:{strength}'?")
        raise SerkitError(f"{where}: '{name}' {why}" + did_you_mean(name, [*FIXED, *_usable(), ALL]))
    given = _given(augmentation, rest, where) if colon else {}
    values = {**fixed, **given}
    registry.check_parameters("augment", augmentation, values, where)
    for key, why in _idle(augmentation, values).items():
        if key in given:
            raise SerkitError(f"{where}: {key} {why}")
        values.pop(key, None)
    if not _changes_samples(augmentation):
        raise SerkitError(f"{where}: '{name}' does not change the samples of one clip")
    return augmentation, values


def _given(augmentation: str, text: str, where: str) -> dict[str, Any]:
    """The parameters after the colon: ``10``, ``10,KEY=VALUE``, or ``KEY=VALUE,…``."""
    first, *pairs = _PAIR.split(text)
    found: dict[str, Any] = {}
    if "=" in first:
        pairs = [first, *pairs]
    else:
        value = yaml_text.parse(first, where) if first.strip() else None
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > sys.float_info.max:
            raise SerkitError(f"{where}: expected a number or KEY=VALUE after '{augmentation}:', got '{first}'")
        found = dict.fromkeys(_strength(augmentation, where), float(value))
    for pair in pairs:
        key, _, value = pair.partition("=")
        key = key.strip()
        if key in found:
            raise SerkitError(f"{where}: '{key}' is given twice")
        if key == "probability":
            raise SerkitError(f"{where}: probability cannot be set; a condition is applied to every recording")
        found[key] = yaml_text.parse(value, f"{where}: {key}") if value else None
    return found


def _idle(augmentation: str, values: Mapping[str, Any]) -> dict[str, str]:
    """By parameter, why it changes nothing beside the others: the colour of noise that comes from a folder."""
    described = registry.member("augment", augmentation)
    around = {key: registry.literal(source) for key, source in described.parameters.items()} | dict(values)
    return {key: why for key, need in described.needs.items() if (why := need.unmet(around.get(need.key)))}


def _strength(augmentation: str, where: str) -> tuple[str, ...]:
    """The parameters that a lone number sets: the range that comes first, both ends, or the first parameter."""
    keys = [*registry.member("augment", augmentation).parameters, ""]
    pair = (keys[0], keys[0].replace("low", "high"))
    if keys[0] in ("", "probability") or ("low" in keys[0] and keys[1] != pair[1]):
        raise SerkitError(f"{where}: '{augmentation}' has no single strength; write {augmentation}:KEY=VALUE")
    return pair if "low" in keys[0] else (keys[0],)


def _changes_samples(augmentation: str) -> bool:
    found = registry.find("augment", augmentation)
    return getattr(found, "kind", "") == "samples" and not getattr(found, "needs_partner", True)


def _usable() -> list[str]:
    return [name for name in registry.names("augment") if _changes_samples(name)]
