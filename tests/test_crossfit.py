import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made_manifest
from serkit.crossfit import crossfit_folds, even_folds
from serkit.errors import SerkitError
from serkit.types import Manifest, Utterance


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(4, 15), st.booleans())
def test_no_speaker_is_in_two_folds_and_no_fold_is_empty(seed, folds, speakers, unknown):
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(speakers * 9):
        turn = k // speakers  # every speaker has each class once, then any: a class of one fold alone is refused
        who = f"s{k % speakers}" if not (unknown and turn > 2 and k % 7 == 0) else None
        emotion = ("a", "b", "c")[turn if turn < 3 else rng.integers(3)]
        rows.append(Utterance(f"u{k}", "x", speaker=who, split="train", emotion=emotion))
    fold = crossfit_folds(Manifest("c", ("a", "b", "c"), tuple(rows)), folds, seed)
    assert set(fold) == set(range(folds))
    for who in {u.speaker for u in rows} - {None}:
        assert len({int(k) for k, u in zip(fold, rows, strict=True) if u.speaker == who}) == 1


def test_even_speakers_make_even_folds_and_a_seed_makes_the_same_ones():
    train = made_manifest(180, 8).split("train")
    fold = crossfit_folds(train, 3, seed=1)
    assert np.bincount(fold).tolist() == [46, 46, 45] or max(np.bincount(fold)) - min(np.bincount(fold)) <= 1
    assert np.array_equal(fold, crossfit_folds(train, 3, seed=1))
    assert any(not np.array_equal(fold, crossfit_folds(train, 3, seed=s)) for s in range(2, 6))


def test_too_few_speakers_and_a_class_of_one_fold_are_refused():
    train = made_manifest().split("train")
    with pytest.raises(SerkitError, match=r"crossfit.folds is 5 and train has 4 speakers: lower crossfit.folds"):
        crossfit_folds(train, 5, 0)
    alone = tuple(
        dataclasses.replace(u, emotion="neutral" if u.emotion == "anger" and u.speaker != "s0" else u.emotion)
        for u in train
    )
    with pytest.raises(SerkitError, match="every training clip of 'anger' is by speakers of one"):
        crossfit_folds(dataclasses.replace(train, utterances=alone), 2, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(5, 40), st.integers(1, 5))
def test_even_folds_are_those_of_scikit_learn(seed, folds, n_groups, n_classes):
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(seed)
    n = int(rng.integers(n_groups, 200))
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n - n_groups)])
    classes = rng.choice(2 * n_classes, size=n, p=rng.dirichlet(np.ones(2 * n_classes)))
    classes[: folds + 1] = 1  # scikit-learn wants a class with a row for each fold
    expected = np.zeros(n, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for k, (_, test) in enumerate(splitter.split(np.zeros((n, 1)), classes, groups)):
            expected[test] = k
    assert np.array_equal(even_folds(classes, groups, folds, seed), expected)


def test_a_class_with_fewer_rows_than_folds_is_dealt_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold = even_folds(np.array([0] * 8 + [1, 2]), np.arange(10), 5, 0)
    assert sorted(np.bincount(fold)) == [2] * 5
