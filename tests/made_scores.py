"""Made-up scores of systems that each know one part of the truth."""

from __future__ import annotations

import numpy as np

from serkit.predictions import Predictions
from serkit.types import Manifest, Utterance

LABELS = ("anger", "happiness", "neutral", "sadness")


def make_manifest(n=600, speakers=12, seed=0, split="train", prefix="u", unlabelled=0):
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        emotion = None if k < unlabelled else LABELS[rng.choice(4, p=[0.2, 0.3, 0.4, 0.1])]
        who = f"{prefix}-s{k % speakers}"
        rows.append(Utterance(f"{prefix}{k}", f"{k}.wav", speaker=who, split=split, emotion=emotion))
    return Manifest("planted", LABELS, tuple(rows))


def scores_of(manifest, system, turn, seed, sharp=1.0, model="fold0"):
    """Logits that know the class, under other names: system says class turn[k] where it hears k."""
    rng = np.random.default_rng(seed)
    truth = np.maximum(manifest.label_index(), 0)
    scores = rng.normal(size=(len(manifest), 4))
    scores[np.arange(len(truth)), np.asarray(turn)[truth]] += sharp
    rows = len(manifest)
    return Predictions(system, LABELS, "logit", manifest.ids, (model,) * rows, np.zeros(rows, bool), scores)


def planted(manifest, seed=0, model="fold0"):
    """Two systems that swap classes and one that is right but weak: only a fitted ensemble can use the first two."""
    return {
        "swaps_ends": scores_of(manifest, "swaps_ends", [3, 1, 2, 0], seed + 1, 2.5, model),
        "swaps_middle": scores_of(manifest, "swaps_middle", [0, 2, 1, 3], seed + 2, 2.5, model),
        "weak": scores_of(manifest, "weak", [0, 1, 2, 3], seed + 3, 0.8, model),
    }
