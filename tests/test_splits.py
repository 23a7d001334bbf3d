"""What is asked of data before any work: here, attributes of corpora that are joined."""

import contextlib
import dataclasses

import pytest

from serkit.errors import SerkitError
from serkit.labels import apply_labels, join
from serkit.pipeline.splits import check_splits
from serkit.recipe import parse_recipe
from serkit.types import Manifest, Utterance

TEXT = "name: r\nsystems: {a: {features: [logmel], model: {name: flam, attribute_head: true}, losses: [focal%s]}}"


def corpus(name, scale):
    rows = tuple(
        Utterance(f"{label}{split}{k}", "x", speaker=f"{split}{k}", split=split, emotion=label, arousal=3.0)
        for label in ("anger", "neutral")
        for split in ("train", "dev", "test")
        for k in range(8)
    )
    return Manifest(name, ("anger", "neutral"), rows, f"/{name}", info={"rating_scale": scale})


@pytest.mark.parametrize("other", [[1, 5], None])
def test_attributes_on_one_scale_or_an_unknown_one_are_joined(other):
    recipe = parse_recipe(TEXT % ", ccc")
    joined = apply_labels(join([corpus("a", [1, 5]), corpus("b", other)]), recipe)
    check_splits(joined, recipe)
    assert all(u.arousal == 3.0 for u in joined)


@pytest.mark.parametrize("loss", ["ccc", "attribute_mse"])
def test_attributes_on_two_scales_are_not_learned_together(loss):
    joined = join([corpus("a", [1, 5]), corpus("b", (1, 7))])
    recipe = parse_recipe(TEXT % f", {loss}")
    with pytest.raises(SerkitError, match=r"systems\.a: it learns arousal, .* \(a from 1 to 5, b from 1 to 7\)"):
        check_splits(apply_labels(joined, recipe), recipe)
    unrated = dataclasses.replace(corpus("b", (1, 7)))
    unrated = dataclasses.replace(
        unrated, utterances=tuple(dataclasses.replace(u, arousal=None) for u in unrated.utterances)
    )
    check_splits(apply_labels(join([corpus("a", [1, 5]), unrated]), recipe), recipe)
    plain = parse_recipe(TEXT % "", ["model.attribute_head=false"])
    check_splits(apply_labels(joined, plain), plain)
    alone = dataclasses.replace(corpus("a", [1, 5]))
    check_splits(apply_labels(alone, recipe), recipe)


def test_a_dev_split_that_cannot_be_measured_by_ccc_selects_nothing_by_it():
    recipe = parse_recipe(TEXT % ", ccc", ["train.select=ccc"])
    manifest = corpus("a", [1, 5])
    check_splits(apply_labels(manifest, recipe), recipe)
    rows = [dataclasses.replace(u, arousal=None, valence=3.0) if u.split == "dev" else u for u in manifest]
    other = dataclasses.replace(manifest, utterances=tuple(rows))
    with pytest.raises(SerkitError, match="no two ratings of an attribute that split 'train' has"):
        check_splits(apply_labels(other, recipe), recipe)


def test_a_dev_split_without_votes_selects_nothing_by_the_divergence_from_them():
    text = "name: r\nsystems: {a: {features: [logmel], losses: [kl_soft], train: {targets: votes, select: %s}}}"
    rows = [dataclasses.replace(u, votes={u.emotion: 2.0} if u.split == "train" else None) for u in corpus("a", None)]
    manifest = dataclasses.replace(corpus("a", [1, 5]), utterances=tuple(rows))
    recipe = parse_recipe(text % "uar")
    check_splits(apply_labels(manifest, recipe), recipe)
    recipe = parse_recipe(text % "kl")
    with pytest.raises(
        SerkitError, match=r"systems\.a: train\.select is kl, .* no clip of split 'dev' of 'a' has votes"
    ):
        check_splits(apply_labels(manifest, recipe), recipe)


@pytest.mark.parametrize(
    ("genders", "said"),
    [((None, "other"), "no gender of a speaker"), (("male", None), "only male speakers"), (("male", "female"), "")],
)
def test_a_gender_that_one_half_of_train_lacks_is_not_learned(genders, said):
    recipe = parse_recipe(TEXT % ", ccc, gender")
    both = ("male", "female")  # in dev and test, where nothing is learned of them
    rows = [
        dataclasses.replace(u, gender=(genders if u.split == "train" else both)[int(u.id[-1]) % 2])
        for u in corpus("a", [1, 5])
    ]
    manifest = apply_labels(dataclasses.replace(corpus("a", [1, 5]), utterances=tuple(rows)), recipe)
    if not said:
        check_splits(manifest, recipe)
        return
    with pytest.raises(SerkitError, match=rf"systems\.a: the loss 'gender' needs female and male .*{said}: leave"):
        check_splits(manifest, recipe)


def test_what_a_second_stage_balances_must_be_there():
    text = "name: r\nsystems: {a: {features: [logmel], second_stage: {after_epochs: 1, lr: 1, balance: corpus}}}"
    with pytest.raises(SerkitError, match=r"systems\.a\.second_stage: balance: corpus needs two corpora"):
        check_splits(corpus("a", [1, 5]), parse_recipe(text))


def test_every_network_of_a_cross_fit_has_ratings_to_learn_from():
    recipe = parse_recipe(TEXT % ", ccc", ["crossfit={folds: 2}"])
    manifest = corpus("a", [1, 5])
    check_splits(apply_labels(manifest, recipe), recipe)
    rows = [u if u.speaker in ("train0", "dev0") else dataclasses.replace(u, arousal=None) for u in manifest]
    few = dataclasses.replace(manifest, utterances=tuple(rows))  # all ratings of train are of one speaker
    with pytest.raises(SerkitError, match=r"a: without the speakers of fold \d no two training clips are rated"):
        check_splits(apply_labels(few, recipe), recipe)
    alone = parse_recipe(TEXT % ", ccc", ["crossfit=null", "stack=null"])
    check_splits(apply_labels(few, alone), alone)


@pytest.mark.parametrize(
    ("votes", "more", "refused"),
    [
        ({"anger": 0.75, "neutral": 0.25}, "", True),
        ({"anger": 0.75, "neutral": 0.25}, ", n_raters: 4", False),
        ({"anger": 2.5, "neutral": 0.5}, "", False),
        ({"anger": 1.0}, "", False),
    ],
)
def test_raters_are_not_left_out_of_shares_of_unknown_many(votes, more, refused):
    rows = tuple(dataclasses.replace(u, votes=votes) for u in corpus("a", None))
    text = "name: r\nsystems: {a: {features: [logmel], losses: [kl_soft], train: {targets: votes}, augment: [%s]}}"
    recipe = parse_recipe(text % "{name: annotator_dropout%s}" % more)
    fitted = apply_labels(dataclasses.replace(corpus("a", None), utterances=rows), recipe)
    said = pytest.raises(SerkitError, match=r"systems\.a: .* the votes of 'a' are shares .* n_raters")
    with said if refused else contextlib.nullcontext():
        check_splits(fitted, recipe)
