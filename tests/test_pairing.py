"""Runs that were not made on the same rows are compared on the test clips that both have, and on nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command_line import ask
from serkit import pipeline
from serkit.comparison import compare
from serkit.errors import SerkitError
from serkit.labels import join
from serkit.pipeline.pairing import Side, pair
from serkit.predictions import Predictions
from serkit.types import Manifest, Utterance

LABELS = ("anger", "neutral", "sadness")


def corpus(name: str, labels: tuple[str, ...] = LABELS, tested: tuple[int, ...] = (3,), clips: int = 6) -> Manifest:
    """Four speakers with some clips each; the speakers of ``tested`` are test, the others train."""
    rows = tuple(
        Utterance(
            f"s{s}-{k}", f"{name}/s{s}-{k}.wav", speaker=f"s{s}", emotion=labels[k % len(labels)],
            split="test" if s in tested else "train",
        )
        for s in range(4)
        for k in range(clips)
    )  # fmt: skip
    info = {"protocol": "made", "fold": tested[0]}
    return Manifest(name, labels, rows, class_sets={name: labels}, info=info)


def run(
    manifest: Manifest, seed: int = 0, folder: str = "run", targets: str = "labels", select: str = "macro_f1"
) -> Any:
    """What stands for a finished run: random scores, the same for the same seed and clip."""

    def predictions(system: str, split: str) -> Predictions:
        rows = manifest.split(split).utterances
        audio = [int.from_bytes(u.audio.encode(), "little") % 2**32 for u in rows]
        scores = np.stack([np.random.default_rng([seed, a]).normal(size=len(manifest.labels)) for a in audio])
        unseen = np.zeros(len(rows), dtype=bool)
        return Predictions(system, manifest.labels, "logit", [u.id for u in rows], ["m"] * len(rows), unseen, scores)

    recipe = SimpleNamespace(systems={"net": SimpleNamespace(train=SimpleNamespace(targets=targets, select=select))})
    return SimpleNamespace(
        folder=Path(folder), manifest=manifest, predictions=predictions, recipe=recipe, ensembles=(), lead=None
    )


def side(*runs: Any, folder: str = "A", system: str | None = None) -> Side:
    return Side.of(Path(folder), runs, system)


def test_one_corpus_against_that_corpus_and_another_in_training() -> None:
    alone = run(corpus("one"), seed=1)
    joined = run(join([corpus("one"), corpus("two", ("anger", "fear", "neutral"))]), seed=2)
    found = pair(side(alone), side(joined, folder="B"), "test")
    assert found.manifests[0].ids == tuple(f"one.s3-{k}" for k in range(6))
    assert found.manifests[0].labels == LABELS, "what only the other corpus has is no class here"
    (own,), (wider,) = found.a, found.b
    np.testing.assert_allclose(own.scores, alone.predictions("net", "test").probabilities())
    raw = joined.predictions("net", "test").take(own.ids)
    columns = raw.probabilities()[:, [raw.labels.index(label) for label in LABELS]]
    np.testing.assert_allclose(wider.scores, columns / columns.sum(axis=1, keepdims=True))
    difference = compare(found.a, found.b, found.manifests, split="test", draws=20)[0]
    assert (difference.n, difference.speakers) == (6, 1)
    assert found.notes == (
        "only the 6 labelled test clips that both have are compared: A has 6, B 12",
        "a difference is one of systems and of training data: trained on 18 clips of 3 speakers of one (A) and "
        "36 clips of 6 speakers of one, two (B)",
    )
    turned = pair(side(joined, folder="B"), side(alone), "test")
    assert compare(turned.a, turned.b, turned.manifests, split="test", draws=20)[0].difference == pytest.approx(
        -difference.difference
    )


def test_clips_without_a_label_are_not_counted_among_those_that_a_side_has() -> None:
    first = corpus("one")
    bare = dataclasses.replace(first.utterances[-1], id="s3-bare", audio="one/bare.wav", emotion=None)
    alone = run(dataclasses.replace(first, utterances=(*first.utterances, bare)))
    joined = run(join([corpus("one"), corpus("two")]))
    found = pair(side(alone), side(joined, folder="B"), "test")
    assert len(found.manifests[0]) == 6
    assert found.notes[0] == "only the 6 labelled test clips that both have are compared: A has 6, B 12"


def test_clips_that_one_side_trained_on_are_not_compared() -> None:
    first, second = run(corpus("one", tested=(2, 3))), run(corpus("one", tested=(1, 2)))
    found = pair(side(first), side(second, folder="B"), "test")
    assert {u.speaker for u in found.manifests[0]} == {"one.s2"}
    assert {u.split for u in found.manifests[0]} == {"test"}


@pytest.mark.parametrize(("targets", "n"), [("labels", 13), ("votes", 15)])
def test_clips_that_teach_nothing_are_not_among_those_trained_on(targets: str, n: int) -> None:
    whole = corpus("one", tested=(2,))
    rows = [
        dataclasses.replace(u, emotion=None, votes={"anger": 1, "neutral": 1} if k < 2 else None) if k < 5 else u
        for k, u in enumerate(whole)
    ]
    open_ones = dataclasses.replace(whole, utterances=tuple(rows))
    found = pair(side(run(open_ones, targets=targets)), side(run(corpus("one", tested=(2, 3))), folder="B"), "test")
    assert f"trained on {n} clips of 3 speakers of one (A) and 12 clips of 2 speakers of one (B)" in found.notes[-1]


def test_folds_are_pooled_before_they_are_matched() -> None:
    folds = [run(corpus("one", tested=(k,)), seed=k) for k in range(4)]
    found = pair(side(*folds), side(folds[2], folder="B"), "test")
    assert found.manifests[0].ids == tuple(f"one.s2-{k}" for k in range(6))
    np.testing.assert_array_equal(found.a[0].scores, found.b[0].scores)
    assert found.notes == ("only the 6 labelled test clips that both have are compared: A has 24, B 6",)
    again = [run(corpus("one", tested=(k, (k + 2) % 4)), seed=k) for k in range(2)]
    found = pair(side(*folds), side(*again, folder="B"), "test")
    assert found.notes == (
        "a difference is one of systems and of training data: trained on 18 clips of 3 speakers of one on average (A) "
        "and 12 clips of 2 speakers of one on average (B)",
    )


def test_other_dev_clips_are_other_training_data() -> None:
    """They choose the epoch."""
    rows = corpus("one").utterances
    dev = [dataclasses.replace(u, split="dev") if u.speaker == "s0" else u for u in rows]
    left = [u for u in rows if u.speaker != "s0"]
    one, other = (dataclasses.replace(corpus("one"), utterances=tuple(r)) for r in (dev, left))
    (note,) = pair(side(run(one)), side(run(other), folder="B"), "test").notes
    assert "12 clips of 2 speakers of one (A) and 12 clips of 2 speakers of one (B)" in note


def test_on_dev_it_is_said_that_these_clips_chose_the_epochs() -> None:
    rows = [dataclasses.replace(u, split="dev") if u.speaker == "s0" else u for u in corpus("one")]
    one = dataclasses.replace(corpus("one"), utterances=tuple(rows))
    said = "epochs were chosen on these dev clips"
    for select, n in (("macro_f1", 1), ("last", 0)):
        sides = (side(run(one, select=select)), side(run(one, 1, select="last"), folder="B"))
        assert sum(said in note for note in pair(*sides, "dev").notes) == n
        assert not pair(*sides, "test").notes


def test_a_clip_that_several_folds_score_is_refused() -> None:
    folds = [run(corpus("one", tested=(3,)), seed=k) for k in range(2)]
    for sides in ((side(*folds), side(run(corpus("one", tested=(2, 3))))), (side(folds[0]), side(*folds))):
        with pytest.raises(
            SerkitError, match=r"'one\.s3-0' is in 'test' of several folds, whose mean would be an ense"
        ):
            pair(*sides, "test")


def test_classes_are_those_of_the_folds_that_score_the_clips() -> None:
    """A fold that trains on a corpus knows all of its classes; the one that tests it may know fewer."""
    wide = corpus("one")
    known = tuple(u for u in wide if u.emotion != "sadness")
    narrow = dataclasses.replace(wide, labels=LABELS[:2], class_sets={"one": LABELS[:2]}, utterances=known)
    training = dataclasses.replace(
        wide, utterances=tuple(dataclasses.replace(u, id=f"x{u.id}", split="train") for u in wide)
    )
    with pytest.raises(SerkitError, match="with other classes"):
        pair(side(run(wide)), side(run(training), run(narrow), folder="B"), "test")


def test_macro_averages_are_over_classes_with_a_common_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two perfect systems have a UAR of 1, though no common clip is of the third class; on the command line too."""
    first = corpus("one")
    fewer = tuple(dataclasses.replace(u, split="train") if u.emotion == "sadness" else u for u in first)
    second = dataclasses.replace(first, utterances=fewer, speakers_shared=True)

    def perfect(manifest: Manifest) -> Any:
        found = run(manifest)
        plain = found.predictions

        def predictions(system: str, split: str) -> Predictions:
            truth = [LABELS.index(str(u.emotion)) for u in manifest.split(split)]
            return dataclasses.replace(plain(system, split), scores=np.eye(3)[truth])

        found.predictions = predictions
        return found

    found = pair(side(perfect(first)), side(perfect(second), folder="B"), "test")
    options: dict[str, Any] = {"split": "test", "draws": 20, "metrics": ("uar", "macro_f1")}
    for d in compare(found.a, found.b, found.manifests, present_only=found.present_only, **options):
        assert (d.value_a, d.value_b, d.low, d.high, d.n) == (1.0, 1.0, 0.0, 0.0, 4)
    assert compare(found.a, found.b, found.manifests, **options)[0].value_a == pytest.approx(2 / 3)
    runs = {"A": [perfect(first)], "B": [perfect(second)]}
    monkeypatch.setattr(pipeline, "runs_of", lambda folder: runs[folder.name])
    code, said, notes = ask("compare", "A", "B", "--draws", 20, "--json")
    assert code == 0, notes
    rows = {d["metric"]: d for d in json.loads(said)}
    assert rows["uar"]["value_a"] == rows["uar"]["value_b"] == 1.0
    assert any("only the 4 labelled test clips" in note for note in rows["uar"]["notes"])
    assert "note: only the 4 labelled test clips" in notes


def test_the_same_split_is_compared_fold_by_fold_without_a_note() -> None:
    folds = [run(corpus("one", tested=(k,)), seed=k) for k in range(2)]
    others = [run(corpus("one", tested=(k,)), seed=9 + k) for k in range(2)]
    found = pair(side(*folds), side(*others, folder="B"), "test")
    assert not found.notes
    assert [m.ids for m in found.manifests] == [f.manifest.ids for f in folds]


def test_with_the_same_split_labels_and_ratings_must_be_the_same_too() -> None:
    """A CCC is measured on ratings: on another scale it would be another number."""
    for change in ({"emotion": "anger"}, {"arousal": 0.5}):
        with pytest.raises(
            SerkitError, match=f"1 test clips have other {'labels' if 'emotion' in change else 'rating'}"
        ):
            pair(side(run(corpus("one"))), side(run(relabelled(corpus("one"), **change)), folder="B"), "test")


def relabelled(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest whose last clip is changed."""
    *rows, last = manifest.utterances
    return dataclasses.replace(manifest, utterances=(*rows, dataclasses.replace(last, **changes)))


def test_clips_that_are_not_the_same_are_refused() -> None:
    two = corpus("two")
    plain = side(run(corpus("one")))

    def refused(other: Manifest) -> str:
        with pytest.raises(SerkitError) as error:
            pair(plain, side(run(other), folder="B"), "test")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "A (one, made, fold 3) and B (two, made, fold 3) have no labelled test clip in common" in refused(two)
    other = refused(join([relabelled(corpus("one"), audio="elsewhere.wav"), two]))
    assert "1 test clips have other recordings in A than in B: 'one/s3-5.wav' and 'elsewhere.wav'" in other
    assert "'one.s3-5' (see map_labels)" in refused(join([relabelled(corpus("one"), emotion="anger"), two]))
    part = refused(join([relabelled(corpus("one"), start_s=0.0, end_s=1.0), two]))
    assert "other recordings in A than in B: 'one/s3-5.wav' and 'one/s3-5.wav from 0.0 to 1.0 s'" in part
    assert "1 test clips have other ratings" in refused(join([relabelled(corpus("one"), arousal=2.0), two]))
    wider = dataclasses.replace(corpus("one"), labels=(*LABELS, "fear"), class_sets={"one": (*LABELS, "fear")})
    assert "answer the clips of 'one' with other classes (anger, neutral, sadness and anger, fear, " in refused(
        join([wider, two])
    )


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(SerkitError, match="run has no system 'nett'; did you mean 'net'"):
        side(run(corpus("one")), system="nett")
