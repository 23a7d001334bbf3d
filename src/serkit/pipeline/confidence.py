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
        allowed = _allowed(rows, manifest)
        fitted, held = calibration.fit_and_measure(
            rows.probabilities, rows.truth, rows.speakers, rows.labels, allowed=allowed
        )
        fits.append(fitted)
        dev.append(dataclasses.replace(rows, probabilities=held))
    temperatures = [f.temperature or 1.0 for f in fits]
    how = fits[0].record["measured"]
    if "dev" in splits:
        found["dev"] = _row(dev, temperatures, f"on dev, {how}", draws, seed)
    labelled = any(u.emotion is not None for m in manifests for u in m.split("test"))
    if "test" in tables and "test" in splits and labelled:
        test = []
        for fitted, table, manifest in zip(fits, tables["test"], manifests, strict=True):
            rows = evaluation.decide(table, manifest, split="test")
            shares = masked(fitted.apply(rows.probabilities), _allowed(rows, manifest))
            test.append(dataclasses.replace(rows, probabilities=shares))
        found["test"] = _row(test, temperatures, "on dev", draws, seed)
    return found


def _allowed(rows: Decisions, manifest: Manifest) -> np.ndarray:
    """(rows, classes) bool: what a clip's corpus can have. The others have no share, in a fit neither."""
    return allowed_classes([u.id for u in rows.utterances], manifest)


def _row(parts: Sequence[Decisions], temperatures: list[float], fitted: str, draws: int, seed: int) -> dict[str, Any]:
    rows = evaluation.pool(parts)
    groups = clusters(rows.speakers)
    return {
        "temperature": temperatures,
        "fitted": fitted,
        "ece": evaluation.ece(rows, groups, draws=draws, seed=seed).to_row(),
        "reliability": list(evaluation.reliability(rows, groups, draws=draws, seed=seed)),
    }
