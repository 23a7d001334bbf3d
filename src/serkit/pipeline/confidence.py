"""Calibration of a run after temperature scaling, measured on rows not used for fitting it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from serkit import calibration, evaluation
from serkit.bootstrap import clusters
from serkit.combining import allowed_classes
from serkit.evaluation import Decisions
from serkit.predictions import Predictions
from serkit.probabilities import masked
from serkit.types import Manifest


def scaled(
    tables: Mapping[str, Sequence[Predictions]],
    manifests: Sequence[Manifest],
    splits: Collection[str] = ("dev", "test"),
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """By split, ECE and reliability of one system after temperature scaling.

    The temperature of a fold is fitted on its dev. Dev itself is scaled by copies that have not seen the clip's
    speaker; test by the whole of dev.

    Args:
        tables: predictions by split, one for each manifest; only ``dev`` and ``test`` are looked at.
        manifests: one for each fold. splits: those to measure; dev is fitted on in any case.
        draws, seed: of the bootstrap.

    Returns:
        ``{split: {temperature, fitted, ece, reliability}}``; ``temperature`` holds one number for each fold.
    """
    found: dict[str, Any] = {}
    fits, dev = [], []
    for table, manifest in zip(tables["dev"], manifests, strict=True):
        rows = evaluation.decide(table, manifest, split="dev")
        fitted, held = calibration.fit_and_measure(rows.probabilities, rows.truth, rows.speakers, rows.labels)
        fits.append(fitted)
        dev.append(_with(rows, held, manifest))
    temperatures = [f.temperature or 1.0 for f in fits]
    how = fits[0].record["measured"]
    if "dev" in splits:
        found["dev"] = _row(dev, temperatures, f"on dev, {how}", draws, seed)
    labelled = any(u.emotion is not None for m in manifests for u in m.split("test"))
    if "test" in tables and "test" in splits and labelled:
        test = []
        for fitted, table, manifest in zip(fits, tables["test"], manifests, strict=True):
            rows = evaluation.decide(table, manifest, split="test")
            test.append(_with(rows, fitted.apply(rows.probabilities), manifest))
        found["test"] = _row(test, temperatures, "on dev", draws, seed)
    return found


def _with(rows: Decisions, probabilities: np.ndarray, manifest: Manifest) -> Decisions:
    """The same rows with other probabilities; what a clip's corpus cannot have stays at 0."""
    allowed = allowed_classes([u.id for u in rows.utterances], manifest)
    return dataclasses.replace(rows, probabilities=masked(probabilities, allowed))


def _row(parts: Sequence[Decisions], temperatures: list[float], fitted: str, draws: int, seed: int) -> dict[str, Any]:
    rows = evaluation.pool(parts)
    groups = clusters(rows.speakers)
    return {
        "temperature": temperatures,
        "fitted": fitted,
        "ece": evaluation.ece(rows, groups, draws=draws, seed=seed).to_row(),
        "reliability": list(evaluation.reliability(rows, groups, draws=draws, seed=seed)),
    }
