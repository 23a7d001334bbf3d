import dataclasses

import pytest

from serkit.errors import SerkitError
from serkit.labels import apply_labels, join, left_out
from serkit.pipeline.splits import check_splits
from serkit.recipe import parse_recipe
from serkit.types import Manifest, Utterance

SYSTEMS = "name: r\nsystems: {a: {features: [logmel]}}\n"


def recipe(**settings):
    import yaml

    return parse_recipe(SYSTEMS + (yaml.safe_dump(settings) if settings else ""))


def corpus(name="c", labels=("anger", "calm", "neutral")):
    rows = [
        Utterance(f"{label}{k}", "x", speaker=f"s{k}", split=("train", "dev", "test")[k], emotion=label)
        for label in labels
        for k in range(3)
    ]
    rows.append(Utterance("unsure", "x", speaker="s0", split="train", votes={"anger": 1, "calm": 1}))
    return Manifest(name, labels, tuple(rows), f"/{name}")


def test_as_the_corpus_has_them():
    fitted = apply_labels(corpus(), recipe())
    assert fitted.labels == ("anger", "calm", "neutral")
    assert fitted.ids == corpus().ids


def test_map_drop_and_exclude_are_done_and_counted():
    settings = recipe(map_labels={"calm": "neutral"}, drop_labels=["anger"], exclude=["neutral1"])
    fitted = apply_labels(corpus(), settings)
    assert fitted.labels == ("neutral",)
    assert fitted.counts() == {"neutral": 5}
    said = fitted.info["labels"]
    assert said["mapped"] == {"calm -> neutral": 3}
    assert said["dropped"] == {"anger": 3}
    assert said["excluded"] == ["neutral1"]
    unsure = next(u for u in fitted if u.id == "unsure")
    assert unsure.votes == {"neutral": 1}


def test_votes_for_labels_that_become_one_are_added_and_dropped_ones_left_out():
    votes = {"anger": 1.0, "calm": 2.0, "neutral": 4.0}
    data = corpus()
    data = dataclasses.replace(
        data, utterances=(*data.utterances[:-1], dataclasses.replace(data.utterances[-1], votes=votes))
    )
    for settings, expected in (
        ({"map_labels": {"calm": "anger"}}, {"anger": 3.0, "neutral": 4.0}),
        ({"map_labels": {"calm": "neutral"}, "drop_labels": ["neutral"]}, {"anger": 1.0, "neutral": 2.0}),
    ):
        fitted = apply_labels(data, recipe(**settings))
        assert next(u for u in fitted if u.id == "unsure").votes == expected


def test_what_is_said_of_thin_classes_follows_the_labels():
    thin = corpus()
    rows = tuple(u for u in thin if u.id != "anger2")
    data = dataclasses.replace(thin, utterances=rows, info={"class_findings": ["class 'anger' has no clip in test: …"]})
    assert [line[:35] for line in apply_labels(data, recipe()).info["class_findings"]] == [
        "class 'anger' has 2 clips: drop it "
    ]
    assert apply_labels(data, recipe(drop_labels=["anger"])).info["class_findings"] == []
    joined = join([data, corpus("d")])
    found = apply_labels(joined, recipe(drop_labels=["anger"])).info["corpora"]
    assert [found[name].get("class_findings") for name in ("c", "d")] == [[], None]


def test_votes_for_labels_outside_are_left_out_and_counted():
    rows = [
        *corpus().utterances,
        Utterance("some", "x", split="train", emotion="anger", votes={"anger": 2, "pride": 1, "shame": 0}),
        Utterance("all", "x", split="train", votes={"pride": 1, "calm": 2}),
    ]
    voted = Manifest("c", ("anger", "calm", "neutral"), tuple(rows))
    fitted = apply_labels(voted, recipe(drop_labels=["calm"]))
    by_id = {u.id: u.votes for u in fitted}
    assert (by_id["unsure"], by_id["some"], by_id["all"]) == ({"anger": 1}, {"anger": 2}, None)
    assert fitted.info["labels"]["votes_left_out"] == {"calm": 2, "pride": 2}
    assert fitted.info["labels"]["votes_all_left_out"] == 1
    assert apply_labels(corpus(), recipe()).info["labels"]["votes_left_out"] == {}
    assert left_out(apply_labels(corpus(), recipe())) == left_out(corpus()) == []
    assert left_out(fitted) == [
        "clips left out: 3 of 'calm'; 9 remain",
        "rater votes left out, because their label is not a class of the clip's corpus here: calm (2 clips), pride "
        "(2 clips); 1 clip lost every vote",
    ]


def test_an_empty_label_is_named_with_the_one_it_resembles():
    rows = [*corpus().utterances, Utterance("late", "x", split="test", emotion="nuetral")]
    with pytest.raises(SerkitError, match=r"'nuetral' has no training clip.*map_labels if 'neutral' is meant"):
        apply_labels(Manifest("c", ("anger", "calm", "neutral", "nuetral"), tuple(rows)), recipe())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ["anger", "neutral"]}, "has 3 clips of 'calm', which is not among the recipe's labels"),
        ({"labels": ["anger", "calm", "neutral", "fear"]}, "label 'fear' has no training clip"),
        ({"drop_labels": ["angr"]}, "drop_labels: the corpus 'c' has no label 'angr'; did you mean 'anger'"),
        ({"map_labels": {"clam": "neutral"}}, "map_labels: .* did you mean 'calm'"),
        ({"exclude": ["unsur"]}, "exclude: no utterance 'unsur' in 'c'; did you mean 'unsure'"),
    ],
)
def test_what_is_not_said_aloud_is_refused(settings, message):
    with pytest.raises(SerkitError, match=message):
        apply_labels(corpus(), recipe(**settings))


def test_a_corpus_s_own_word_for_a_label_is_translated():
    data = corpus()
    rows = tuple(dataclasses.replace(u, meta={"label": {"anger": "Wut"}.get(u.emotion, "xxx")}) for u in data)
    data = dataclasses.replace(data, utterances=rows)
    for settings in ({"map_labels": {"Wut": "calm"}}, {"drop_labels": ["Wut"]}):
        with pytest.raises(SerkitError, match=r"the corpus 'c' has no label 'Wut'; 'Wut' is its own word for 'anger'$"):
            apply_labels(data, recipe(**settings))
    with pytest.raises(SerkitError, match=r"'xxx' is its own word for 'calm', 'neutral', no label$"):
        apply_labels(data, recipe(drop_labels=["xxx"]))


def test_joined_corpora_are_told_apart_and_their_classes_kept():
    other = corpus("d", ("anger", "fear"))
    both = join([corpus(), other])
    assert both.labels == ("anger", "calm", "fear", "neutral")
    assert both.class_sets == {"c": ("anger", "calm", "neutral"), "d": ("anger", "fear")}
    assert both.ids[0] == "c.anger0"
    assert {u.speaker for u in both} == {f"{c}.s{k}" for c in "cd" for k in range(3)}
    assert {str(both.audio_path(u)) for u in both} == {"/c/x", "/d/x"}
    fitted = apply_labels(both, recipe(map_labels={"calm": "neutral"}))
    assert fitted.class_sets == {"c": ("anger", "neutral"), "d": ("anger", "fear")}
    assert join([other]) is other
    with pytest.raises(SerkitError, match="--corpus d is given twice"):
        join([other, other])


def test_votes_for_a_class_of_another_corpus_are_left_out_of_a_joined_clip():
    rows = (Utterance("torn", "x", speaker="s9", split="train", votes={"anger": 1, "fear": 2, "calm": 1}),)
    first = corpus("a")
    first = dataclasses.replace(first, utterances=first.utterances + rows)
    fitted = apply_labels(join([first, corpus("b", ("anger", "fear"))]), recipe())
    votes = {u.id: u.votes for u in fitted}
    assert votes["a.torn"] == {"anger": 1, "calm": 1}, "fear is a class of b alone"
    assert votes["b.unsure"] == {"anger": 1}
    assert fitted.info["labels"]["votes_left_out"] == {"calm": 1, "fear": 1}


# ---------------------------------------------------------------- classes that raters voted for


LEARN_VOTES = "name: r\nsystems: {a: {features: [logmel], losses: [kl_soft], train: {targets: votes}}}\n"


def voting(**settings):
    import yaml

    return parse_recipe(LEARN_VOTES + (yaml.safe_dump(settings) if settings else ""))


def mixed(name="c"):
    """Clips with votes for ``awe``, that is the label of none, and one vote for ``rage`` in test alone."""
    given = corpus(name)
    rows = [
        dataclasses.replace(u, votes={u.emotion or "calm": 3.0, "awe": 1.0 if u.speaker == "s0" else 0.0})
        if u.emotion != "neutral"
        else u
        for u in given
    ]
    odd = Utterance("odd", "x", speaker="s2", split="test", emotion="anger", votes={"anger": 1.0, "rage": 1.0})
    return dataclasses.replace(given, utterances=(*rows, odd))


def test_labels_votes_adds_what_raters_voted_for():
    fitted = apply_labels(mixed(), voting(labels="votes", drop_labels=["rage"]))
    assert fitted.labels == ("anger", "calm", "neutral", "awe"), "the corpus's own first"
    assert fitted.counts()["awe"] == 0
    shares = fitted.votes()[[u.id for u in fitted].index("anger0")]
    assert shares.tolist() == [0.75, 0.0, 0.0, 0.25]
    assert fitted.info["labels"]["votes_left_out"] == {"rage": 1}, "dropped, and told"
    assert apply_labels(mixed(), voting(drop_labels=[])).labels == ("anger", "calm", "neutral"), "corpus is as before"
    assert apply_labels(mixed(), voting(labels="votes", exclude=["odd"])).labels == fitted.labels, (
        "no vote of it counts"
    )


def test_a_class_of_votes_needs_a_vote_in_train_and_systems_that_learn_votes():
    with pytest.raises(SerkitError, match="label 'rage' has no training clip or vote in 'c'; name it in drop_labels"):
        apply_labels(mixed(), voting(labels="votes"))
    either = LEARN_VOTES.replace("{a:", "{b: {features: [logmel]}, a:") + "labels: votes\ndrop_labels: [rage]\n"
    for of_labels in (recipe(labels="votes", drop_labels=["rage"]), parse_recipe(either)):
        with pytest.raises(
            SerkitError, match=r"'awe' has no training clip in 'c'.* votes in every system: train\.targets"
        ):
            apply_labels(mixed(), of_labels)
    listed = apply_labels(mixed(), voting(labels=["anger", "calm", "neutral", "awe"]))
    assert listed.labels[-1] == "awe"
    plain = dataclasses.replace(corpus(), utterances=tuple(u for u in corpus() if not u.votes))
    with pytest.raises(SerkitError, match=r"labels: votes: no clip of 'c' comes with rater votes; set labels=corpus"):
        apply_labels(plain, voting(labels="votes"))


def test_classes_that_too_few_votes_teach_are_named_at_once():
    """Of 32 words of which many are rare, nobody wants to hear of one at a time."""
    votes = {"joy": 3.0, "awe": 1.0, "fear": 0.0, "grief": 0.0}  # a table names words that nobody chose too
    rows = [Utterance(f"u{k}", "x", speaker=f"s{k}", split="train", emotion="joy", votes=votes) for k in range(4)]
    rows[0] = dataclasses.replace(rows[0], votes={**votes, "rage": 1.0, "trust": 1.0})
    rows += [dataclasses.replace(rows[1], id=f"{x}", split=x, speaker=x) for x in ("dev", "test")]
    odd = dataclasses.replace(rows[-1], votes={**votes, "fear": 1.0, "love": 1.0})
    recipe = voting(labels="votes")
    with pytest.raises(SerkitError, match=r"label 'fear' has no training clip or vote .*; the same holds for love$"):
        apply_labels(Manifest("c", ("joy",), (*rows[:-1], odd)), recipe)
    thin = apply_labels(Manifest("c", ("joy",), tuple(rows)), recipe)
    with pytest.raises(
        SerkitError, match=r"'rage' has fewer than 2 training clips with a vote .* same holds for trust$"
    ) as caught:
        check_splits(thin, recipe)
    assert "train.targets" not in str(caught.value), "votes are learned"
    few = apply_labels(Manifest("c", ("joy",), tuple(rows)), voting(labels="votes", drop_labels=["rage", "trust"]))
    check_splits(few, recipe)
    assert few.labels == ("joy", "awe")


def test_a_corpus_whose_raters_had_no_such_word_does_not_have_the_class():
    fitted = apply_labels(join([mixed(), corpus("d")]), voting(labels="votes", drop_labels=["rage"]))
    assert fitted.labels == ("anger", "calm", "neutral", "awe")
    assert fitted.class_sets == {"c": fitted.labels, "d": ("anger", "calm", "neutral")}


def test_classes_that_votes_alone_teach_are_one_line():
    data = dataclasses.replace(mixed(), info={"class_findings": []})
    (line,) = apply_labels(data, voting(labels="votes", drop_labels=["rage"])).info["class_findings"]
    assert line.startswith("1 of 4 classes is the label of fewer than 3 clips (awe): the votes are learned")
