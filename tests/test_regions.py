"""Classes from ratings: the sides of the middle, ties, missing ratings, scales, several corpora, and what is said."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from reporting.example import report
from serkit import regions
from serkit.audit import audit
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.labels import apply_labels, join, left_out
from serkit.pipeline.splits import check_splits
from serkit.readers import read_corpora
from serkit.recipe import Recipe, parse_recipe
from serkit.reporting.data_tables import changes
from serkit.reporting.reading import Source
from serkit.types import Manifest, Utterance

Ratings = tuple[float | None, float | None, float | None]


def recipe(*overrides: str) -> Recipe:
    text = "name: r\nlabels: octants\nsystems: {a: {features: [logmel]}}\ncrossfit: null\nstack: null\n"
    return parse_recipe(text, overrides)


def rated(*ratings: Ratings, scale: Any = (1, 7), name: str = "c", emotion: str | None = "anger") -> Manifest:
    """Clips with these ratings, in train, dev and test in turn."""
    rows = [
        Utterance(
            f"{name}{k}", f"{k}.wav", speaker=f"s{k % 3}", split=("train", "dev", "test")[k % 3], emotion=emotion,
            votes={"anger": 2} if emotion else None, arousal=a, valence=v, dominance=d, meta={"label": "Ang"},
        )
        for k, (a, v, d) in enumerate(ratings)
    ]  # fmt: skip
    labels = ("anger",) if emotion else ()
    return Manifest(name, labels, tuple(rows), f"/{name}", class_sets={name: labels}, info={"rating_scale": scale})


def corners(low: float, high: float) -> list[Ratings]:
    """Each octant three times, once in each split."""
    return [(a, v, d) for a, v, d in itertools.product((high, low), repeat=3) for _ in range(3)]


@pytest.mark.parametrize(("low", "high"), [(1, 7), (1, 5), (0, 1), (-1, 1), (-100.0, 250.0)])
def test_octants_are_the_sides_of_the_middle_on_any_scale(low: float, high: float) -> None:
    found = regions.divided(rated(*corners(low, high), scale=[low, high]), "octants")
    assert found.labels == regions.classes("octants") == tuple(dict.fromkeys(u.emotion for u in found))
    assert found.labels[0] == "a+v+d+"
    assert found.labels[-1] == "a-v-d-"
    assert found.counts() == dict.fromkeys(found.labels, 3)
    middle = (low + high) / 2
    for u in found:
        told = {part[0]: part[1] == "+" for part in (str(u.emotion)[k : k + 2] for k in (0, 2, 4))}
        assert told == {name[0]: (getattr(u, name) or 0) >= middle for name in ("arousal", "valence", "dominance")}


def test_quadrants_need_no_dominance() -> None:
    manifest = rated((6, 2, None), (2, 6, None), (6, 6, 1), (2, 2, 7))
    found = regions.divided(manifest, "quadrants")
    assert [u.emotion for u in found] == ["a+v-", "a-v+", "a+v+", "a-v-"]
    assert found.labels == ("a+v+", "a+v-", "a-v+", "a-v-")
    with pytest.raises(SerkitError, match=r"only arousal and valence: use labels: quadrants"):
        regions.divided(rated((6, 2, None), (2, 6, None)), "octants")


@pytest.mark.parametrize("scale", [(1, 7), (1, 5), (0, 1), (-1, 1), (0.1, 0.7)])
def test_a_rating_in_the_middle_counts_as_high_whatever_its_rounding(scale: tuple[float, float]) -> None:
    low, high = scale
    middle = low + (high - low) / 2
    near = [sum([middle] * 3) / 3, sum([low, high] * 5) / 10, middle]  # means of votes, some off by rounding
    below = middle - (high - low) / 1000
    manifest = rated(*((x, below, high) for x in near), (low, low, low), scale=scale)
    found = regions.divided(manifest, "octants")
    assert [u.emotion for u in found] == ["a+v-d+"] * 3 + ["a-v-d-"]
    assert found.info["regions"]["middle"] == 3


def test_a_clip_without_a_needed_rating_has_no_label_and_is_counted() -> None:
    manifest = rated(*corners(1, 7), (6, None, 6), (None, None, None), (2, 2, None))
    fitted = apply_labels(manifest, recipe())
    assert [u.emotion for u in fitted.utterances[-3:]] == [None] * 3
    assert [u.arousal for u in fitted.utterances[-3:]] == [6, None, 2]
    assert fitted.info["regions"]["unrated"] == 3
    assert fitted.info["regions"]["rated"] == 24
    assert left_out(fitted) == [
        "classes are octants of the ratings of arousal, valence and dominance (1 to 7 on a scale of 1 to 7): 24 clips; "
        "3 clips without these ratings have no label"
    ]


def test_the_emotion_is_kept_in_meta_and_votes_of_emotions_are_not() -> None:
    fitted = apply_labels(rated(*corners(1, 7)), recipe())
    assert fitted.utterances[0].meta == {"label": "Ang", "emotion": "anger"}
    assert all(u.votes is None for u in fitted)
    bare = apply_labels(rated(*corners(1, 7), emotion=None), recipe())
    assert bare.utterances[0].meta == {"label": "Ang"}
    assert bare.labels == fitted.labels


def test_classes_are_dropped_and_mapped_by_their_names() -> None:
    fitted = apply_labels(rated(*corners(1, 7)), recipe("drop_labels=[a-v+d+]", "map_labels={a+v+d-: a+v+d+}"))
    assert "a-v+d+" not in fitted.labels
    assert fitted.counts()["a+v+d+"] == 6
    assert fitted.info["labels"]["dropped"] == {"a-v+d+": 3}
    with pytest.raises(SerkitError, match=r"the corpus 'c' has no label 'anger'") as refused:
        apply_labels(rated(*corners(1, 7)), recipe("drop_labels=[anger]"))
    assert "its own word" not in str(refused.value)


@pytest.mark.parametrize(
    ("ratings", "scale", "said"),
    [
        ([(None, None, None)], (1, 7), "'c' has no ratings: use labels: corpus"),
        ([(6, None, 2), (None, 3, None)], (1, 7), "'c' has no clip with all of them"),
        ([(6, 2, 3)], None, r"which 'c' does not say \(its ratings lie between 2 and 6\): state it, such as"),
        ([(6, 2, 3), (1, 1, 1), (5.5, 1, 2)], (1, 5), r"2 clips of 'c' are rated off its scale, 1 to 5 \(first"),
        ([(0.9, 0.5, 0.5)], (1, 7), "1 clip of 'c' is rated off its scale, 1 to 7 .first: 'c0', arousal 0.9"),
        ([(0.9, 0.5, 0), (0, 1, 1)], (-1, 1), "one class, a.v.d.: arousal of 'c' is rated from 0 to 0.9, on"),
    ],
)
def test_ratings_that_give_no_classes_are_refused(ratings: list[Ratings], scale: Any, said: str) -> None:
    with pytest.raises(SerkitError, match=said):
        apply_labels(rated(*ratings, scale=scale), recipe())


def test_an_excluded_clip_may_be_rated_off_the_scale() -> None:
    manifest = rated(*corners(1, 7), (9, 1, 1))
    assert len(apply_labels(manifest, recipe("exclude=[c24]"))) == 24


def test_ratings_on_one_side_alone_are_remarked_upon() -> None:
    manifest = rated(*((a, v, 5) for a, v in itertools.product((2, 6), repeat=2) for _ in range(3)))
    (_, remark) = left_out(apply_labels(manifest, recipe()))
    assert remark == (
        "dominance of 'c' is rated from 5 to 5, on one side of the middle of 1 to 7: check that this is its scale"
    )


def test_thin_classes_are_refused_with_what_helps() -> None:
    manifest = rated(*corners(1, 7))
    rows = tuple(u for u in manifest if u.id != "c0")
    with pytest.raises(
        SerkitError, match=r"'a\+v\+d\+' has no training clip in 'c': name it in drop_labels, or use lab"
    ):
        apply_labels(dataclasses.replace(manifest, utterances=rows), recipe())
    with pytest.raises(
        SerkitError,
        match=r"'a\+v\+d\+' has fewer than 2 training clips in 'c': name it in map_labels or drop_labels, o",
    ):
        check_splits(apply_labels(manifest, recipe()), recipe())


def test_every_corpus_is_divided_at_the_middle_of_its_own_scale() -> None:
    joined = join([rated(*corners(1, 7), scale=(1, 7), name="x"), rated(*corners(1, 5), scale=(1, 5), name="y")])
    fitted = apply_labels(joined, recipe())
    assert {u.emotion for u in fitted if u.corpus == "y" and u.arousal == 5} == set(regions.classes("octants")[:4])
    assert fitted.class_sets == dict.fromkeys(("x", "y"), regions.classes("octants"))
    assert "x 1 to 7 on a scale of 1 to 7, y 1 to 5 on a scale of 1 to 5" in left_out(fitted)[0]
    with pytest.raises(SerkitError, match=r"rate them on other scales \(x from 1 to 7, y from 1 to 5\)"):
        check_splits(fitted, recipe("losses=[cross_entropy, ccc]"))


def test_a_corpus_without_ratings_beside_a_rated_one_has_no_labels() -> None:
    joined = join([rated(*corners(1, 7), name="x"), rated((None, None, None), name="y", scale=None)])
    fitted = apply_labels(joined, recipe())
    assert {u.emotion for u in fitted if u.corpus == "y"} == {None}
    assert fitted.info["regions"]["scales"] == {"x": [1.0, 7.0]}


def test_in_a_test_on_another_corpus_only_classes_of_training_are_answers() -> None:
    from serkit.across import with_test_corpora

    few = rated(*(c for c in corners(1, 7) if c != (7, 7, 7)), name="x")
    fitted = apply_labels(with_test_corpora(join([few, rated(*corners(1, 7), name="y")]), ["y"]), recipe())
    assert "a+v+d+" not in fitted.labels
    assert fitted.info["across"]["left_out"] == {"y": {"a+v+d+": 3}}


def test_the_labels_of_a_model_say_how_to_divide() -> None:
    manifest = rated(*corners(1, 7))
    for kind in ("quadrants", "octants"):
        names = regions.classes(kind)
        assert regions.kind_of(names[:3]) == kind
        divided = regions.like(manifest, names)
        assert divided.labels == names
        assert regions.like(divided, names) is divided
    with pytest.raises(
        SerkitError, match="the model answers octants of ratings, and no clip of 'c' is rated by arousal, v"
    ):
        regions.like(rated((6, 2, None)), regions.classes("octants"))
    assert regions.kind_of(("anger", "a+v+")) is None
    assert regions.kind_of(()) is None
    assert regions.like(manifest, ("anger", "calm")) is manifest


def test_what_a_model_maps_is_mapped_where_it_is_measured() -> None:
    manifest = rated(*corners(1, 7))
    mapped = {"labels": "octants", "map_labels": {"a+v+d-": "a+v+d+"}}
    found = regions.like(manifest, [x for x in regions.classes("octants") if x != "a+v+d-"], mapped)
    assert found.counts()["a+v+d+"] == 6
    assert "a+v+d-" not in found.labels
    own = {"labels": "octants", "map_labels": {x: "up" if x[1] == "+" else "down" for x in regions.classes("octants")}}
    found = regions.like(manifest, ("up", "down"), own)
    assert found.counts() == {"up": 12, "down": 12}
    assert regions.like(found, ("up", "down"), own) is found


def test_a_mistyped_column_is_named_where_ratings_are_missing(tmp_path: Path) -> None:
    rows = [f"a.wav,s{k % 6},{k},{k + 1},{1 + k % 5},{1 + k % 3}" for k in range(12)]
    path = table(tmp_path, "path,speaker,start_s,end_s,arousel,valence", rows)
    manifest = read_corpora(["table"], [path], options=["rating_scale=1,7"])
    with pytest.raises(SerkitError, match=r"has only valence; .*arousel.*arousal"):
        apply_labels(manifest, recipe("labels=quadrants"))


def test_the_toy_corpus_has_both(toy_root: Path) -> None:
    manifest = toy(toy_root)
    fitted = apply_labels(manifest, recipe("labels=quadrants"))
    assert fitted.labels == regions.classes("quadrants")
    assert sum(fitted.counts().values()) == len(manifest)
    assert {u.meta["emotion"] for u in fitted} == set(manifest.labels)
    assert apply_labels(manifest, recipe("labels=corpus")).fingerprint == manifest.fingerprint


def test_a_report_says_what_the_classes_are() -> None:
    fitted = apply_labels(rated(*corners(1, 7)), recipe())
    tree = report()
    tree["labels"] = list(fitted.labels)
    tree["provenance"] = {**tree["provenance"], "corpus_info": dict(fitted.info)}
    first, second, *_ = changes(Source(tree))
    assert first.startswith("Classes are octants of the ratings of arousal, valence and dominance (1 to 7 on")
    assert second.startswith("a+ is high arousal, a- low arousal; v stands for valence and d for dominance: high is")
    assert not any(line.startswith("a+ is") for line in changes(Source(report())))


def table(root: Path, header: str, rows: list[str]) -> Path:
    (root / "a.wav").touch()
    path = root / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_table_with_ratings_alone_becomes_a_run_on_quadrants(tmp_path: Path) -> None:
    rows = [f"a.wav,s{k % 6},{k},{k + 1},{6 - k % 4},{1 + k % 5},{'' if k == 7 else 3}" for k in range(48)]
    path = table(tmp_path, "path,speaker,start_s,end_s,arousal,valence,dominance", rows)
    manifest = read_corpora(["table"], [path], options=["rating_scale=1,7"])
    assert manifest.labels == ()
    assert manifest.info["rating_scale"] == (1.0, 7.0)
    assert "no emotion column: 48 of 48 rows have ratings, and none has a label of its own" in manifest.info["notes"]
    with pytest.raises(
        SerkitError, match="'table' has ratings and no emotion labels: set labels to quadrants or octants"
    ):
        check_splits(apply_labels(manifest, recipe("labels=corpus")), recipe("labels=corpus"))
    fitted = apply_labels(manifest, recipe("labels=quadrants"))
    assert fitted.labels == regions.classes("quadrants")
    codes = {f.code for f in audit(manifest, decode=False)}
    assert "rated-only" in codes
    assert not any(code.startswith(("unlabelled", "class-missing")) for code in codes)
    assert "rated-only" not in {f.code for f in audit(fitted, decode=False)}


@pytest.mark.parametrize("scale", ["[7, 1]", "3", "[1, 4, 7]", "[1, .inf]", "low"])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scale: str) -> None:
    path = table(tmp_path, "path,speaker,arousal", [f"a.wav,s,{k}" for k in range(1)])
    with pytest.raises(SerkitError, match="rating_scale"):
        read_corpora(["table"], [path], options=[f"rating_scale={scale}"])


def test_a_table_without_labels_and_ratings_is_still_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "path,speaker,arousal", ["a.wav,s1,", "a.wav,s2,n/a"])
    with pytest.raises(SerkitError, match="has no column 'emotion'"):
        read_corpora(["table"], [path])


def test_each_of_several_tables_has_its_own_scale(tmp_path: Path) -> None:
    paths = []
    for name, high in (("a", 7), ("b", 5)):
        (tmp_path / name).mkdir()
        ends = [f"a.wav,{name}{k % 6},{k},{k + 1},{(1, high)[k % 2]},{(1, high)[k // 2 % 2]}" for k in range(24)]
        made = table(tmp_path / name, "path,speaker,start_s,end_s,arousal,valence", ends)
        paths.append(made.rename(made.with_name(f"{name}.csv")))
    options = ["rating_scale=[1,7]", "table-b.rating_scale=[1,5]"]
    manifest = read_corpora(["table", "table"], paths, options=options)
    fitted = apply_labels(manifest, recipe("labels=quadrants"))
    assert fitted.info["regions"]["scales"] == {"table-a": [1.0, 7.0], "table-b": [1.0, 5.0]}
    with pytest.raises(SerkitError, match=r"rate them on other scales"):
        check_splits(fitted, recipe("labels=quadrants", "losses=[cross_entropy, ccc]"))
    with pytest.raises(SerkitError, match=r"table-b.rating_scal: no reader of table takes it; did you mean 'rating_s"):
        read_corpora(["table", "table"], paths, options=["table-b.rating_scal=[1,5]"])
