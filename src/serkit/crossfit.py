"""Folds by speaker, of the training split for networks and of scored rows for what is fitted on scores."""

from __future__ import annotations

import numpy as np

from serkit.errors import SerkitError
from serkit.types import Manifest


def crossfit_folds(train: Manifest, folds: int, seed: int) -> np.ndarray:
    """Assign each training utterance to the fold that holds it out.

    Speakers are shuffled by the seed and dealt, the largest first, each to the fold whose class counts
    it evens out most. An utterance without a speaker is dealt on its own.

    Returns:
        (rows,) int64 in ``0 … folds - 1``.

    Raises:
        SerkitError: fewer speakers than folds, or a class that only one fold has (its models would
            never have seen it).
    """
    labels = train.label_index()
    names = [u.speaker if u.speaker is not None else f"\0{u.id}" for u in train.utterances]
    speakers, index = np.unique(np.array(names), return_inverse=True)
    if len(speakers) < folds:
        raise SerkitError(
            f"crossfit.folds is {folds} and train has {len(speakers)} speaker{'s' * (len(speakers) != 1)}: lower "
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


def even_folds(classes: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deal whole groups into folds so that each class is spread over them as evenly as the groups allow.

    Groups are shuffled by the seed; the one whose class counts differ most comes first, and each goes to the fold
    that leaves the shares of the classes most even, among equals to the smallest. These are the folds of scikit-learn's
    ``StratifiedGroupKFold`` with the same seed, without its warning where a class has fewer rows than there are folds:
    such a class is in fewer of them.

    Args:
        classes, groups: (rows,) int64. folds: how many, at most as many as there are groups.

    Returns:
        (rows,) int64 in ``0 … folds - 1``.
    """
    _, y, of_class = np.unique(classes, return_inverse=True, return_counts=True)
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max() + 1, len(of_class)))
    np.add.at(counts, (group, y), 1)
    order = np.arange(len(counts))
    np.random.RandomState(seed).shuffle(order)  # the draw of scikit-learn, whose folds these are
    order = order[np.argsort(-np.std(counts[order], axis=1), kind="stable")]
    held, place = np.zeros((folds, len(of_class))), np.empty(len(counts), dtype=np.int64)
    for one in order:
        best, least, fewest = 0, np.inf, np.inf
        for k in range(folds):
            held[k] += counts[one]
            uneven = np.std(held / of_class, axis=0).mean()
            held[k] -= counts[one]
            size = held[k].sum()
            if uneven < least or (np.isclose(uneven, least) and size < fewest):
                best, least, fewest = k, uneven, size
        held[best] += counts[one]
        place[one] = best
    return np.asarray(place[group], dtype=np.int64)
