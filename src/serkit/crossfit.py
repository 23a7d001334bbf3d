"""Folds of the training split by speaker, so that a stack never sees an in-sample score."""

from __future__ import annotations

import numpy as np

from serkit.errors import SerkitError
from serkit.types import Manifest


def crossfit_folds(train: Manifest, folds: int, seed: int) -> np.ndarray:
    """Assign each training utterance to the fold that holds it out.

    Speakers are shuffled by the seed and dealt, the largest first, each to the fold whose class counts
    it evens out most. Without a speaker, the stretches of one recording are dealt together, and the files cut from one.

    Returns:
        (rows,) int64 in ``0 … folds - 1``.

    Raises:
        SerkitError: fewer speakers than folds, or a class that only one fold has (its models would
            never have seen it).
    """
    labels = train.label_index()
    first: dict[tuple[str | None, str], str] = {}  # the first stretch of each recording
    names = [u.speaker or f"\0{first.setdefault((u.corpus, u.recording), u.id)}" for u in train]
    speakers, index = np.unique(np.array(names), return_inverse=True)
    if len(speakers) < folds:
        known = len({u.speaker for u in train} - {None})
        loose = len(speakers) - known
        also = f" and {loose} clip{'s' * (loose != 1)} of unknown ones" if loose else ""
        raise SerkitError(
            f"crossfit.folds is {folds} and train has {known} speaker{'s' * (known != 1)}{also}: lower "
            "crossfit.folds, or set crossfit=null and stack=null to train single networks"
        )
    n_classes = len(train.labels)
    counts = np.zeros((len(speakers), n_classes))
    np.add.at(counts, (index[labels >= 0], labels[labels >= 0]), 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(speakers))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    held = np.zeros((folds, n_classes))
    n_held = np.zeros(folds)
    place = np.empty(len(speakers), dtype=np.int64)
    for speaker in order:
        spread = [float(((held + np.eye(folds)[k][:, None] * counts[speaker]) ** 2).sum()) for k in range(folds)]
        k = min(range(folds), key=lambda fold: (round(spread[fold], 6), n_held[fold], fold))
        place[speaker] = k
        held[k] += counts[speaker]
        n_held[k] += 1
    total = held.sum(axis=0)
    for k in range(folds):
        lost = np.flatnonzero((total > 0) & (total - held[k] == 0))
        if len(lost):
            raise SerkitError(
                f"every training clip of '{train.labels[lost[0]]}' is by speakers of one cross-fitting fold, so a "
                "network would never see the class: name it in drop_labels, or lower crossfit.folds"
            )
    return place[index]
