"""Training on some corpora and testing on others: which rows are test, which classes count, and what is refused."""

import dataclasses

import pytest

from serkit import across
from serkit.errors import SerkitError
from serkit.labels import apply_labels, join, left_out
from serkit.recipe import parse_recipe
from serkit.types import Manifest, Utterance

RECIPE = parse_recipe("name: r\nsystems: {a: {features: [logmel]}}")


def corpus(name, labels, n_speakers=4, splits=("train", "train", "dev", "test"), info=None):
    rows = tuple(
        Utterance(f"s{k}-{label}-{take}", f"s{k}-{label}-{take}.wav", speaker=f"s{k}", split=splits[k], emotion=label)
        for k in range(n_speakers)
        for label in labels
        for take in range(2)
    )
    return Manifest(name, labels, rows, f"/{name}", class_sets={name: labels}, info=info or {"protocol": f"{name}-own"})


def three():
    return join(
        [
            corpus("one", ("anger", "fear", "neutral")),
            corpus("two", ("anger", "neutral", "sadness")),
            corpus("three", ("anger", "boredom", "neutral")),
        ]
    )


def test_no_row_and_no_speaker_of_a_test_corpus_is_in_train_or_dev():
    made = across.with_test_corpora(three(), ["two"])
    assert {u.split for u in made if u.corpus == "two"} == {"test"}
    assert {u.corpus for u in made.split("test")} == {"two"}
    assert {u.corpus for u in made if u.split in ("train", "dev")} == {"one", "three"}
    who = {s: {u.speaker for u in made.split(s)} for s in ("train", "dev", "test")}
    assert not who["test"] & (who["train"] | who["dev"])
    assert who["dev"] == {"one.s2", "three.s2"}
    assert "one.s3" in who["train"], "the training corpora's own test speakers train too"
    assert made.info["corpora"]["two"]["protocol"] == across.PROTOCOL
    assert made.info["corpora"]["one"]["protocol"] == "one-own"
    assert not made.speakers_shared


def test_own_test_speakers_may_stay_test():
    made = across.with_test_corpora(three(), ["two", "three"], keep_own_test=True)
    assert {u.speaker for u in made.split("test") if u.corpus == "one"} == {"one.s3"}
    assert {u.corpus for u in made.split("train")} == {"one"}


def test_rows_that_the_protocol_does_not_use_stay_unused():
    two = corpus("two", ("anger", "neutral"), splits=("train", "dev", "test", None))
    made = across.with_test_corpora(join([corpus("one", ("anger", "neutral")), two]), ["two"])
    assert {u.split for u in made if u.speaker == "two.s3"} == {None}
    assert len(made.split("test")) == 12


def test_speakers_shared_by_the_splits_of_a_test_corpus_are_no_matter():
    two = corpus("two", ("anger", "neutral"))
    same = tuple(dataclasses.replace(u, speaker="s") for u in two)
    notes = {"notes": ["speakers shared: 1 in train/test", "other"]}
    shared = dataclasses.replace(two, utterances=same, speakers_shared=True, info=notes)
    one = corpus("one", ("anger", "neutral"))
    made = across.with_test_corpora(join([one, shared]), ["two"])
    assert not made.speakers_shared
    assert made.info["corpora"]["two"]["notes"] == ["other"]
    other = across.with_test_corpora(join([one, shared]), ["one"])
    assert other.speakers_shared, "train and dev share one: dev is optimistic, and the report says so"
    assert other.info["corpora"]["two"]["speakers_shared"] == {"train/dev": 1, "train/test": 0, "dev/test": 0}


def test_only_shared_classes_are_measured_and_the_others_are_counted():
    made = apply_labels(across.with_test_corpora(three(), ["one"]), RECIPE)
    assert made.labels == ("anger", "boredom", "neutral", "sadness")
    assert made.class_sets["one"] == ("anger", "neutral")
    assert made.class_sets["two"] == ("anger", "neutral", "sadness"), "training rows keep their own classes"
    assert {u.emotion for u in made.split("test")} == {"anger", "neutral"}
    assert made.info["across"] == {
        "trained_on": ["two", "three"],
        "tested_on": ["one"],
        "shared": {"one": ["anger", "neutral"]},
        "left_out": {"one": {"fear": 8}},
    }
    assert left_out(made) == [
        "trained on two, three, tested on one: 16 clips, answered among 2 shared classes (anger, neutral); 8 clips "
        "left out, of classes that training does not know: 8 of 'fear'"
    ]


def test_rows_that_the_protocol_does_not_use_share_no_class_and_are_not_counted():
    made = three()
    unused = [
        dataclasses.replace(made.utterances[0], id=f"one.{label}", emotion=label, split=None)
        for label in ("sadness", "fear")
    ]
    made = dataclasses.replace(
        made,
        utterances=(*made.utterances, *unused),
        class_sets={**made.class_sets, "one": ("anger", "fear", "neutral", "sadness")},
    )
    found = apply_labels(across.with_test_corpora(made, ["one"]), RECIPE)
    assert found.class_sets["one"] == ("anger", "neutral")
    assert found.info["across"]["left_out"] == {"one": {"fear": 8}}


def test_a_recipe_may_map_what_training_does_not_know():
    mapped = parse_recipe("name: r\nmap_labels: {fear: sadness}\nsystems: {a: {features: [logmel]}}")
    made = apply_labels(across.with_test_corpora(three(), ["one"]), mapped)
    assert made.info["across"]["shared"] == {"one": ["anger", "neutral", "sadness"]}
    assert made.info["across"]["left_out"] == {"one": {}}
    listed = parse_recipe(
        "name: r\nlabels: [anger, neutral]\ndrop_labels: [sadness, boredom]\nsystems: {a: {features: [logmel]}}"
    )
    made = apply_labels(across.with_test_corpora(three(), ["one"]), listed)
    assert made.labels == ("anger", "neutral")
    assert made.info["across"]["left_out"] == {"one": {"fear": 8}}
    assert made.info["labels"]["dropped"] == {"sadness": 8, "boredom": 8}


def test_a_label_outside_the_recipes_list_is_still_refused_in_training():
    listed = parse_recipe("name: r\nlabels: [anger, neutral]\nsystems: {a: {features: [logmel]}}")
    with pytest.raises(SerkitError, match="clips of 'sadness', which is not among the recipe's labels"):
        apply_labels(across.with_test_corpora(three(), ["one"]), listed)


def test_a_corpus_must_be_left_to_train_on():
    with pytest.raises(
        SerkitError, match=r"--test-on names every corpus given \(one, two, three\); leave one to train"
    ):
        across.with_test_corpora(three(), ["one", "two", "three"])


def test_one_corpus_is_not_enough():
    with pytest.raises(SerkitError, match="needs two corpora or more, got 'one' alone; repeat --corpus and --root"):
        across.with_test_corpora(corpus("one", ("anger", "neutral")), ["one"])


def test_fewer_than_two_shared_classes_are_refused_in_one_line():
    joined = join([corpus("one", ("anger", "fear")), corpus("two", ("anger", "sadness"))])
    with pytest.raises(SerkitError) as error:
        apply_labels(across.with_test_corpora(joined, ["two"]), RECIPE)
    assert str(error.value) == (
        "'two' and the corpora to train on (one) share 1 class (anger), two are needed; 'two' has anger, sadness, "
        "training has anger, fear: see map_labels"
    )


def test_an_ordinary_manifest_is_as_it_was():
    joined = three()
    made = apply_labels(joined, RECIPE)
    assert "across" not in made.info
    assert across.trained_on(made) == "one+two+three"
    assert across.learnable(joined) == joined.labels
    assert across.lines(made) == []
