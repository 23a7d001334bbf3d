"""Two made-up systems whose order by Macro-F1 is the opposite of that by CCC and by KL divergence from votes."""

from __future__ import annotations

import dataclasses

import numpy as np

from made import LABELS, made_manifest
from serkit.concordance import ratings
from serkit.predictions import Predictions
from serkit.types import Manifest


def heard(n: int = 240, speakers: int = 12) -> Manifest:
    """Clips with votes of which 0.6 are for the label, and ratings; every seventh has no rating, every eighth no label.

    Of the speakers a third each is train, dev and test.
    """
    rng = np.random.default_rng(3)
    rows = []
    for k, u in enumerate(made_manifest(n, speakers)):
        place = LABELS.index(str(u.emotion))
        votes = {LABELS[place]: 6.0, LABELS[(place + 1 + k % 2) % 3]: 4.0}
        given = {} if k % 7 == 0 else {"arousal": 2.0 + place + rng.normal(), "valence": 5.0 - place + rng.normal()}
        split = ("train", "dev", "test")[int(str(u.speaker)[1:]) % 3]
        emotion = None if k % 8 == 0 else u.emotion
        rows.append(dataclasses.replace(u, split=split, votes=votes, emotion=emotion, **given))
    return Manifest("heard", LABELS, tuple(rows))


def answers(manifest: Manifest, split: str, system: str, seed: int = 0) -> Predictions:
    """Scores of ``sharp`` (labels right, no doubt, ratings guessed) or ``soft`` (near the votes, often the second)."""
    rows = [u for u in manifest if u.split == split]
    rng = np.random.default_rng([seed, len(system)])
    votes = np.array([[(u.votes or {}).get(label, 0.0) / 10 for label in LABELS] for u in rows])
    truth = np.nan_to_num(ratings(rows), nan=3.0)
    if system == "sharp":
        scores = np.where(votes == votes.max(axis=1, keepdims=True), 0.99, 0.005)
        attributes = rng.normal(size=truth.shape)
    else:
        scores = votes + np.where(votes > 0, 0.5 - votes, 0) * rng.uniform(0.8, 1.4, size=(len(rows), 1)) + 0.001
        attributes = truth + 0.3 * rng.normal(size=truth.shape)
    attributes[:, 2] = np.nan
    ids = tuple(u.id for u in rows)
    flags = np.zeros(len(ids), dtype=bool)
    return Predictions(system, LABELS, "logit", ids, ("m",) * len(ids), flags, np.log(scores), attributes)
