"""A folder of recordings to draw from: noises, impulse responses."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from serkit import audio
from serkit.errors import SerkitError
from serkit.suffixes import CONTAINERS, SOUND

_SUFFIXES = (*SOUND, *CONTAINERS)


def recording(folder: str, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32 mono 16 kHz of one file of ``folder`` (searched through), drawn uniformly.

    Raises:
        SerkitError: no such folder, or no recording in it.
    """
    paths = _paths(folder)
    return _read(paths[int(rng.integers(0, len(paths)))])


@lru_cache(maxsize=16)
def _paths(folder: str) -> tuple[str, ...]:
    root = Path(folder)
    if not root.is_dir():
        raise SerkitError(f"augmentation: no folder of recordings at {folder}")
    found = sorted(p.as_posix() for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise SerkitError(f"augmentation: no recording in {folder}; known: {', '.join(_SUFFIXES)}")
    return tuple(found)


@lru_cache(maxsize=64)
def _read(path: str) -> np.ndarray:
    samples = audio.load(path)
    samples.setflags(write=False)
    return samples
