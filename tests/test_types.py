import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made_manifest
from serkit import journal
from serkit.errors import SerkitError
from serkit.types import Manifest, Utterance


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "a/b"}, "not file-name safe"),
        ({"id": ".hidden"}, "not file-name safe"),
        ({"id": ""}, "not file-name safe"),
        ({"id": "x" * 201}, "not file-name safe"),
        ({"speaker": ""}, "speaker is empty; leave speaker out"),
        ({"emotion": ""}, "emotion is empty"),
        ({"split": "valid"}, "split 'valid' is not one of"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"start_s": -1.0}, "start_s is -1.0"),
        ({"start_s": 2.0, "end_s": 2.0}, "end_s 2.0 is not after start_s 2.0"),
        ({"end_s": math.inf}, "end_s inf"),
        ({"arousal": math.nan}, "leave arousal out"),
        ({"votes": {}}, "votes"),
        ({"votes": {"anger": -1}}, "votes"),
        ({"votes": {"anger": 0}}, "votes"),
    ],
)
def test_what_is_not_an_utterance_is_refused(changes, message):
    with pytest.raises(SerkitError, match=message):
        Utterance(**{"id": "a", "audio": "a.wav", **changes})


def test_a_manifest_is_checked_when_it_is_made():
    a = Utterance("a", "a.wav", speaker="s", split="train", emotion="anger")
    with pytest.raises(SerkitError, match="'a' occurs twice"):
        Manifest("c", ("anger",), (a, a))
    with pytest.raises(SerkitError, match="emotion 'anger' is not among the labels"):
        Manifest("c", ("sadness",), (a,))
    with pytest.raises(SerkitError, match="a label occurs twice"):
        Manifest("c", ("anger", "anger"), ())
    b = Utterance("b", "b.wav", speaker="s", split="test")
    with pytest.raises(SerkitError, match=r"speaker 's' is in train and in test \(utterance 'b'\)"):
        Manifest("c", ("anger",), (a, b))
    assert len(Manifest("c", ("anger",), (a, b), speakers_shared=True)) == 2


TEXT = "«\u2028\x85\n2»"  # ends of line that JSON leaves as they are


def test_it_comes_back_from_jsonl_as_it_was(tmp_path):
    rows = (
        Utterance("a", "ä b.wav", 0.5, 1.5, "s", "train", "anger", {"anger": 2, "fear": 1}, 1.0, 2.0, 3.0, TEXT),
        Utterance("b", "b.wav", meta={"label": "xxx", "deep": [1, {"x": None}]}),
    )
    manifest = Manifest("c", ("anger", "fear"), rows, "/data", class_sets={"c": ("anger",)}, info={"protocol": "p"})
    manifest.save(tmp_path / "m.jsonl")
    again = Manifest.load(tmp_path / "m.jsonl")
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint
    lines = (tmp_path / "m.jsonl").read_text().split("\n")
    assert json.loads(lines[1])["text"] == TEXT  # plain JSON, one row a line
    assert "split" not in json.loads(lines[2])


def test_a_name_that_is_not_utf_8_comes_back_too(tmp_path):
    """As the system gives it to Python: half of a surrogate pair for each byte."""
    name = b"J\xf6rg.wav".decode("utf-8", "surrogateescape")
    manifest = Manifest("c", (), (Utterance("a", name, text="cut \ud83d"),), f"/data/{name}")
    manifest.save(tmp_path / "m.jsonl")
    again = Manifest.load(tmp_path / "m.jsonl")
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint
    journal.append_rows(tmp_path / "j.jsonl", [[name, 1]])
    assert list(journal.read_rows(tmp_path / "j.jsonl")) == [[name, 1]]


HEAD = '{"_manifest": {"corpus": "c", "labels": ["anger"]}}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a manifest"),
        ("hello", "is not a manifest"),
        ('{"x": 1}\n', "its first line has no '_manifest'"),
        ('{"_manifest": {"version": 1}}\n', "its '_manifest' line .* 'corpus'"),
        ('{"_manifest": 1}\n', "its '_manifest' line"),
        (HEAD + '{"id": "a", "audio": "a.wav", "emoton": "anger"}', "unknown field 'emoton'; did you mean 'emotion'"),
        (HEAD + '{"id": "a"}', "row 'a' has audio None, expected a text"),
        (HEAD + '{"audio": "a.wav"}', "row 'None' has id None, expected a text"),
        (HEAD + '{"id": "a", "audio": "a.wav", "votes": [1]}', "row 'a' is damaged"),
        (HEAD + '{"id": "a", "audio": "a.wav", "arousal": "high"}', "row 'a' is damaged"),
        (HEAD + "[1]", "expected the fields of an utterance"),
        (HEAD + '{"id": "a", "audio": "a.wav", "speaker": [1]}', r"row 'a' has speaker \[1\], expected a text"),
        (HEAD + '{"id": "a", "audio": "a.wav", "emotion": 1}', "row 'a' has emotion 1, expected a text"),
        (HEAD + '{"id": "a", "audio": "a.wav", "meta": [1]}', r"row 'a' has meta \[1\], expected an object"),
        (HEAD + '{"id": "a", "audio": "a.wav", "end_s": 1' + "0" * 400 + "}", "row 'a' is damaged"),
        ('{"_manifest": {"corpus": "c", "labels": [[1]]}}\n', "its '_manifest' line"),
        ('{"_manifest": {"corpus": "c", "labels": [], "info": []}}\n', "its '_manifest' line"),
    ],
)
def test_what_is_not_a_manifest_is_said(tmp_path, text, message):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(SerkitError, match=r"m\.jsonl.*" + message) as error:
        Manifest.load(tmp_path / "m.jsonl")
    assert "\n" not in str(error.value)
    for place in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(SerkitError, match="no manifest at"):
            Manifest.load(place)


def test_fingerprints_follow_rows_and_not_the_root():
    a = made_manifest()
    moved = Manifest(a.corpus, a.labels, a.utterances, "/elsewhere")
    assert moved.fingerprint == a.fingerprint
    fewer = a.where(lambda u: u.id != "u0")
    assert fewer.fingerprint != a.fingerprint
    assert fewer.split_hash != a.split_hash


def test_votes_are_distributions_by_label():
    rows = (
        Utterance("a", "x", votes={"anger": 3, "fear": 1, "pride": 9}),
        Utterance("b", "x", emotion="fear"),
        Utterance("c", "x"),
    )
    table = Manifest("c", ("anger", "fear"), rows).votes()
    assert table[0].tolist() == [0.75, 0.25]
    assert table[1].tolist() == [0.0, 1.0]
    assert np.isnan(table[2]).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["anger", "fear", None]), max_size=20))
def test_counts_and_indices_agree(emotions):
    rows = tuple(Utterance(f"u{k}", "x", emotion=e) for k, e in enumerate(emotions))
    manifest = Manifest("c", ("anger", "fear", "sadness"), rows)
    index = manifest.label_index()
    assert manifest.counts() == {x: int((index == k).sum()) for k, x in enumerate(manifest.labels)}
    assert int((index == -1).sum()) == emotions.count(None)


def test_paths_are_under_the_root_of_their_corpus():
    rows = (Utterance("a", "x/a.wav", corpus="one"), Utterance("b", "/abs/b.wav", corpus="two"))
    manifest = Manifest("one+two", (), rows, {"one": "/data/one", "two": "/data/two"})
    assert [str(manifest.audio_path(u)) for u in manifest] == ["/data/one/x/a.wav", "/abs/b.wav"]
