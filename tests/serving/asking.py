"""Recordings asked about, and what is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from serkit import audio
from serkit.serving.pool import Asked
from serkit.serving.predicting import predict
from serkit.serving.predictor import Model

from .signals import GOLDEN, RATE

LABELS = ["anger", "fear", "happiness", "neutral", "sadness"]


def asked(*inputs: object, **options: object) -> Asked:
    return Asked(tuple(str(i) for i in inputs), model=str(GOLDEN), **options)  # type: ignore[arg-type]


def ask(what: Asked) -> tuple[int, str, list[str]]:
    written: list[str] = []
    complaints: list[str] = []
    failed = predict(what, written.append, complaints.append)
    return failed, "".join(written), complaints


def alike(model: Model, paths: Sequence[Path]) -> np.ndarray:
    """(recordings, classes) answers, which are the same one by one, together, and as a stream (the second)."""
    alone = np.array([list(model.predict(p, by="clip").probabilities.values()) for p in paths])
    assert model.predict_proba(paths) == pytest.approx(alone, abs=1e-5)
    stream = model.stream(rate_hz=RATE, by="clip")
    samples = audio.load(paths[1])
    for start in range(0, len(samples), 1234):
        stream.push(samples[start : start + 1234])
    stream.finish()
    assert list(stream.prediction.probabilities.values()) == pytest.approx(alone[1], abs=1e-6)
    return alone
