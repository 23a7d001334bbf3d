import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made_manifest
from serkit.crossfit import crossfit_folds
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
        rows.append(Utterance(f"u{k}", f"u{k}.wav", speaker=who, split="train", emotion=emotion))
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


def test_a_speaker_of_half_the_clips_has_a_fold_alone():
    rows = [Utterance(f"u{k}", f"{k}.wav", speaker="most" if k < 10 else f"s{k}", emotion="a") for k in range(20)]
    for seed in range(5):  # dealt late, the fold of most would have others already
        fold = crossfit_folds(Manifest("c", ("a",), tuple(rows)), 2, seed)
        assert np.bincount(fold).tolist() == [10, 10]


def test_a_class_that_one_fold_lacks_is_learned_from_the_others():
    rows = [Utterance(f"u{k}", f"{k}.wav", speaker=f"s{k}", emotion="b" if k < 2 else "a") for k in range(9)]
    fold = crossfit_folds(Manifest("c", ("a", "b"), tuple(rows)), 3, seed=0)
    assert len(set(fold[:2])) == 2
    assert set(fold) == {0, 1, 2}


def test_stretches_of_one_recording_are_in_one_fold_where_speakers_are_unknown():
    rows = tuple(
        Utterance(f"u{k}", f"{k // 4}.wav", start_s=k % 4, end_s=k % 4 + 1, split="train", emotion="ab"[k // 4 % 2])
        for k in range(96)
    )
    fold = crossfit_folds(Manifest("c", ("a", "b"), rows), 3, seed=0).reshape(24, 4)
    assert (fold == fold[:, :1]).all()
    assert sorted(np.bincount(fold[:, 0])) == [8, 8, 8]


def test_files_cut_from_one_recording_are_in_one_fold_where_speakers_are_unknown():
    rows = tuple(
        Utterance(f"u{k}", f"{k}.wav", split="train", emotion="ab"[k // 4 % 2], meta={"recording": k // 4})
        for k in range(96)
    )
    fold = crossfit_folds(Manifest("c", ("a", "b"), rows), 3, seed=0).reshape(24, 4)
    assert (fold == fold[:, :1]).all()


def test_too_few_speakers_and_a_class_of_one_fold_are_refused():
    train = made_manifest().split("train")
    loose = tuple(dataclasses.replace(u, speaker=None) if k == 0 else u for k, u in enumerate(train))
    with pytest.raises(SerkitError, match=r"folds is 9 and train has 4 speakers and 1 clip of unknown ones: lower"):
        crossfit_folds(dataclasses.replace(train, utterances=loose), 9, seed=0)
    with pytest.raises(SerkitError, match=r"crossfit.folds is 5 and train has 4 speakers: lower crossfit.folds"):
        crossfit_folds(train, 5, 0)
    alone = tuple(
        dataclasses.replace(u, emotion="neutral" if u.emotion == "anger" and u.speaker != "s0" else u.emotion)
        for u in train
    )
    with pytest.raises(SerkitError, match="every training clip of 'anger' is by speakers of one"):
        crossfit_folds(dataclasses.replace(train, utterances=alone), 2, 0)
