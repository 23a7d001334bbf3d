"""What all makers of bundles put into them alike: files of arrays, and what held-out answers tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serkit import calibration
from serkit.errors import SerkitError
from serkit.serving.bundle import Bundle


def check_max_clip(max_clip_s: float) -> None:
    """Refuse parts of recordings that are too short to be answered."""
    if not max_clip_s >= 1.0:
        raise SerkitError(f"clips of at most {max_clip_s} s: expected 1 s or more")


def arrays_file(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of a safetensors file."""
    from safetensors.numpy import save

    content: bytes = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    return content


def held_out_file(probabilities: np.ndarray, truth: np.ndarray) -> bytes:
    """(rows, classes) calibrated held-out probabilities and (rows,) truth, as :attr:`Bundle.held_out` reads them."""
    return arrays_file({"probabilities": probabilities.astype(np.float32), "truth": truth.astype(np.int16)})


def sureness(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """What calibrated held-out answers tell of how sure an answer may be taken to be, for ``bundle.json``."""
    return {
        "unsure_below": calibration.unsure_below(probabilities, truth),
        "levels": [vars(level) for level in calibration.levels(probabilities, truth)],
        "reliability": calibration.reliability(probabilities, truth),
    }


def head_of(bundle: Bundle) -> dict[str, Any]:
    """What a bundle says of itself, for one that is made from it: without what is not so of that one, or is written
    anew."""
    return {key: value for key, value in bundle.head.items() if key not in ("format", "files", "hears_calls")}
