from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from serkit.corpora.table import table
from serkit.errors import SerkitError
from serkit.labels import left_out

from .examples import touch

HEADER = "path,emotion,speaker,gender,text,start_s,end_s,arousal,votes,room"
SPEAKERS = tuple(f"p{k}" for k in range(8))


def lines(n_takes: int = 3) -> list[str]:
    words = ("Angry", "happy", "neutral", "pride")
    return [
        f'{s}/{w}_{t}.wav,{w},{s},{"f" if k % 2 else "M"},"well, {w}",,,,,kitchen'
        for k, s in enumerate(SPEAKERS)
        for w in words
        for t in range(n_takes)
    ]


def write(root: Path, header: str, rows: list[str], name: str = "data.csv", audio: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    if audio:
        touch(root, {row.split(",")[0] for row in rows if row.split(",")[0]})
    path = root / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def build(root: Path) -> Path:
    votes = '"{""angry"": 2, ""mad"": 1, ""happy"": 1}"'
    touch(root, ["long.flac"])
    extra = [
        f"long.flac,anger,p1,female,hello,1.5,3.25,4.5,{votes},hall",
        "long.flac,xxx,p1,female,,4,6,,,hall",
    ]
    return write(root, HEADER, [*lines(), *extra])


TABLES = ("data.csv",)
N_ROWS = 98
EXPECTED = {
    "p1_Angry_0": {
        "audio": "p1/Angry_0.wav",
        "speaker": "p1",
        "gender": "female",
        "emotion": "anger",
        "text": "well, Angry",
        "start_s": None,
        "votes": None,
        "meta": {"label": "Angry", "room": "kitchen"},
    },
    "p0_pride_2": {"emotion": "pride", "gender": "male"},
    "long_1.5-3.25": {
        "start_s": 1.5,
        "end_s": 3.25,
        "arousal": 4.5,
        "emotion": "anger",
        "votes": {"anger": 3.0, "happiness": 1.0},
        "meta": {"room": "hall"},
    },
    "long_4-6": {"emotion": None, "meta": {"label": "xxx"}},
}


def message(path: Path, **keywords: Any) -> str:
    with pytest.raises(SerkitError) as caught:
        table(path, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_split_is_by_speaker_with_the_seed_and_every_class_is_in_train(tmp_path: Path) -> None:
    path = build(tmp_path)
    manifest = table(path)
    assert manifest.labels == ("anger", "happiness", "neutral", "pride")
    assert {s: len(v) for s, v in manifest.info["speakers"].items()} == {"train": 6, "dev": 1, "test": 1}
    assert min(manifest.split("train").counts().values()) > 0
    assert table(path).split_hash == manifest.split_hash
    assert len({table(path, seed=k).split_hash for k in range(6)}) > 1
    assert "no split column: split made by speaker, with seed 0" in manifest.info["notes"]
    assert manifest.info["label_map"]["Angry"] == "anger"


def test_votes_alone_give_the_label_with_most_of_them(tmp_path: Path) -> None:
    given = {
        '"{""angry"": 2, ""happy"": 1}"': "anger",
        '"{""happy"": 0.4, ""sad"": 0.3, ""angry"": 0.3}"': "happiness",
        '"{""angry"": 2, ""happy"": 2, ""sad"": 1}"': None,
        '"{""mad"": 1, ""anger"": 1, ""happy"": 1.5}"': "anger",  # two words for one class count together
        "": None,
    }
    rows = [f"s{k}/{n}.wav,s{k},{votes}" for k in range(5) for n, votes in enumerate(given)]
    manifest = table(write(tmp_path, "path,speaker,votes", rows))
    assert [u.emotion for u in manifest] == [*given.values()] * 5
    assert manifest.labels == ("anger", "happiness")  # nobody is sad for most
    note = "no emotion column: the label is the class with most votes; 10 rows have a tie or no vote"
    assert note in manifest.info["notes"]
    near = message(write(tmp_path, "path,speaker,vote", rows, "near.csv"))
    assert near.endswith("it has path, speaker, vote; did you mean 'vote'?")
    both = table(
        write(
            tmp_path,
            "path,speaker,votes,emotion",
            [f"{r},{e}" for r, e in zip(rows, ("happy", "sad") * 13, strict=False)],
            "both.csv",
        )
    )
    assert {u.emotion for u in both} == {"happiness", "sadness"}


def test_the_four_formats_give_the_same_rows(tmp_path: Path) -> None:
    path = build(tmp_path)
    first = table(path)
    (tmp_path / "data.tsv").write_text(
        "path\temotion\tspeaker\troom\n"
        + "".join(f"{u.audio}\t{u.meta['label']}\t{u.speaker}\tx\n" for u in first if not u.end_s)
    )
    rows = [
        {
            "path": u.audio,
            "emotion": u.meta["label"],
            "speaker": u.speaker,
            "gender": u.gender,
            "text": u.text,
            "start_s": u.start_s,
            "end_s": u.end_s,
            "arousal": u.arousal,
            "votes": u.votes,
            "room": u.meta["room"],
        }
        for u in first
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    import pyarrow
    import pyarrow.parquet

    plain = [{**row, "votes": json.dumps(row["votes"]) if row["votes"] else None} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), tmp_path / "data.parquet")
    assert table(tmp_path / "data.jsonl").fingerprint == first.fingerprint
    assert table(tmp_path / "data.parquet").fingerprint == first.fingerprint
    assert table(tmp_path / "data.tsv").counts()["pride"] == 24


def test_semicolons_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = build(tmp_path)
    rows = "\n".join(f"{s}/{w}_0.wav;{w};{s}" for s in SPEAKERS for w in ("Angry", "happy"))
    path.write_text("\ufeffpath;emotion;speaker\n" + rows, encoding="utf-8")
    assert len(table(path)) == 16


def test_a_table_is_known_by_its_header_whatever_its_suffix(tmp_path: Path) -> None:
    expected = table(build(tmp_path)).counts()
    rows = [u for u in table(tmp_path / "data.csv") if not u.end_s]
    for name, mark in (("tabs.csv", "\t"), ("commas.tsv", ","), ("semicolons.tsv", ";")):
        lines = [mark.join(("Path", " EMOTION", '"Speaker"', "Note, free" if mark == "\t" else "Note"))]
        lines += [mark.join((u.audio, u.meta["label"], str(u.speaker), "x")) for u in rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        manifest = table(tmp_path / name)
        assert sum(manifest.counts().values()) == sum(expected.values()) - 1
        assert any(k.startswith("Note") for k in manifest.utterances[0].meta)  # other columns keep their names
    (tmp_path / "both.csv").write_text((tmp_path / "data.csv").read_text().replace("room", "Emotion", 1))
    assert table(tmp_path / "both.csv").utterances[0].meta["Emotion"] == "kitchen"


@pytest.mark.parametrize("absent", ["nan", "NaN", "NA", "n/a", "null", ""])
def test_a_rating_that_is_absent_is_none(tmp_path: Path, absent: str) -> None:
    rows = [f"{s}_{w}.wav,{w},{s},{absent if s == 'p1' else 3.5}" for s in SPEAKERS for w in ("happy", "sad")]
    manifest = table(write(tmp_path, "path,emotion,speaker,arousal", rows))
    assert {u.arousal for u in manifest if u.speaker == "p1"} == {None}
    assert {u.arousal for u in manifest if u.speaker != "p1"} == {3.5}
    rows[0] = rows[0].replace("3.5", "inf")
    assert "arousal is inf" in message(write(tmp_path, "path,emotion,speaker,arousal", rows))


def test_a_column_that_looks_mistyped_is_named_and_no_other(tmp_path: Path) -> None:
    rows = [f"{s}_{w}.wav,{w},{s},1.5,2,room" for s in "abcdef" for w in ("happy", "sad")]
    manifest = table(write(tmp_path, "path,emotion,speaker,arousel,take,place", rows))
    said = "column 'arousel' was kept but not used; did you mean 'arousal'?"
    assert left_out(manifest) == [said]
    assert said in manifest.info["notes"]
    both = [f"{row},3" for row in rows]
    assert left_out(table(write(tmp_path, "path,emotion,speaker,arousel,take,place,arousal", both))) == []


def test_no_speaker_is_refused_unless_said_aloud(tmp_path: Path) -> None:
    rows = [f"{k}.wav,{'happy' if k % 2 else 'sad'}" for k in range(20)]
    path = write(tmp_path, "path,emotion", rows)
    text = message(path)
    assert "20 rows" in text
    assert "assume_speakers=utterance" in text
    manifest = table(path, assume_speakers="utterance")
    assert {u.speaker for u in manifest} == {None}
    assert all(len(manifest.split(s)) >= 2 for s in ("train", "dev", "test"))
    assert any("by utterance" in note for note in manifest.info["notes"])
    assert "expected 'utterance'" in message(path, assume_speakers="clip")


def test_one_speaker_is_one_clear_line(tmp_path: Path) -> None:
    rows = [f"{k}.wav,{'happy' if k % 2 else 'sad'},me" for k in range(20)]
    path = write(tmp_path, "path,emotion,speaker", rows)
    assert "1 speaker here (me)" in message(path)
    manifest = table(path, speakers_shared="true")
    assert manifest.speakers_shared
    assert manifest.info["speakers_shared"]["train/test"] == 1


def with_split(split: dict[str, str]) -> list[str]:
    return [f"{s}_{w}.wav,{w},{s},{split[s]}" for s in split for w in ("happy", "sad")]


def test_own_splits_are_kept_and_dev_is_made_of_train_speakers(tmp_path: Path) -> None:
    names = ["train", "training", "train", "train", "test", "dev"]
    path = write(tmp_path / "a", "path,emotion,speaker,split", with_split(dict(zip("abcdef", names, strict=True))))
    assert table(path).info["speakers"] == {"train": ["a", "b", "c", "d"], "dev": ["f"], "test": ["e"]}
    names[5] = "test"
    path = write(tmp_path / "b", "path,emotion,speaker,split", with_split(dict(zip("abcdef", names, strict=True))))
    manifest = table(path, seed=3)
    assert manifest.info["speakers"]["test"] == ["e", "f"]
    assert len(manifest.info["speakers"]["dev"]) == 1
    assert set(manifest.info["speakers"]["dev"]) < set("abcd")


def test_wrong_splits_are_refused(tmp_path: Path) -> None:
    good = {"a": "train", "b": "dev", "c": "test"}
    path = write(tmp_path / "a", "path,emotion,speaker,split", with_split({**good, "d": "trian"}))
    assert "did you mean 'train'" in message(path)
    path = write(tmp_path / "b", "path,emotion,speaker,split", with_split({"a": "train", "b": "dev"}))
    assert "no test rows" in message(path)
    assert table(path, train_only=True).info["speakers"] == {"train": ["a"], "dev": ["b"], "test": []}
    only_dev = write(tmp_path / "d", "path,emotion,speaker,split", with_split({"a": "dev", "b": "dev"}))
    assert "no train rows ({'dev': 4}); give train at least" in message(only_dev, train_only=True)
    both = [*with_split(good), "x.wav,sad,a,test"]
    path = write(tmp_path / "c", "path,emotion,speaker,split", both)
    assert "speaker 'a' is in train and in test" in message(path)
    assert table(path, speakers_shared=True).info["speakers_shared"]["train/test"] == 1


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("pth,emotion,speaker", "a.wav,sad,x", "no column 'path'.*did you mean 'pth'"),
        ("file,audio,emotion", "a.wav,b.wav,sad", "no column 'path' \\(or one of file, .*it has file, audio, emotion$"),
        ("path,emotions,speaker", "a.wav,sad,x", "did you mean 'emotions'"),
        ("path,emotion,speaker,start_s", "a.wav,sad,x,soon", "line 2: start_s is 'soon'"),
        ("path,emotion,speaker,start_s,end_s", "a.wav,sad,x,3,2", "line 2.*end_s"),
        ("path,emotion,speaker,gender", "a.wav,sad,x,femal", "did you mean 'female'"),
        ("path,emotion,speaker,votes", "a.wav,sad,x,{sad", "line 2: votes is"),
        ("path,emotion,speaker", ",sad,x", "line 2 has no path"),
        ("path,emotion,speaker", "a.wav,sad,x,1,2", "line 2 has more cells"),
        ("path,emotion,speaker,emotion", "a.wav,sad,x,happy", "has two columns 'emotion'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, header: str, row: str, expected: str) -> None:
    path = write(tmp_path, header, [row])
    with pytest.raises(SerkitError, match=expected) as caught:
        table(path)
    assert "\n" not in str(caught.value)


def test_duplicates_are_refused_and_equal_names_in_two_folders_are_not(tmp_path: Path) -> None:
    rows = lines(1)
    path = write(tmp_path / "a", HEADER, [*rows, rows[0]])
    assert "lines 2 and 34 are the same stretch" in message(path)
    assert len(table(write(tmp_path / "b", HEADER, [*rows, rows[0].replace(".wav", ".flac")]))) == 33
    path = write(tmp_path / "c", "id,path,emotion,speaker", ["1,a.wav,sad,x", "1,b.wav,happy,y"], audio=False)
    touch(tmp_path / "c", ["a.wav"])
    assert "lines 2 and 3 have the same id" in message(path)


def test_missing_recordings(tmp_path: Path) -> None:
    path = build(tmp_path)
    (tmp_path / "p3" / "pride_1.wav").unlink()
    assert table(path).info["missing_audio"] == {"count": 1, "examples": ["p3/pride_1.wav"], "rows_kept": True}
    lost = write(tmp_path / "b", HEADER, lines(), audio=False)
    assert "none of the 96 recordings exists" in message(lost)


def test_thin_classes_are_found(tmp_path: Path) -> None:
    rows = lines(1)
    path = write(tmp_path, HEADER, [*rows, "p0/x.wav,bored,p0,M,,,,,,", "p0/y.wav,bored,p0,M,,,,,,"])
    findings = table(path).info["class_findings"]
    assert any(line.startswith("class 'boredom' has 2 clips") for line in findings)
    only = write(tmp_path / "one", "path,emotion,speaker", [f"{k}.wav,sad,s{k}" for k in range(5)])
    assert "1 class (sadness)" in message(only)


def with_label(root: Path, word: str, n: int, **keywords: Any) -> Path:
    rows = [f"{s}_{word}_{k}.wav,{word},{s}" for k in range(n) for s in SPEAKERS]
    rows += [f"{s}_{w}_{k}.wav,{w},{s}" for s in SPEAKERS for w in ("happy", "neutral") for k in range(2)]
    return write(root / word, "path,emotion,speaker", rows)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("hapiness", "happiness"),
        ("Hapy", "happiness"),
        ("nuetral", "neutral"),
        ("fera", "fear"),
        ("suprise", "surprise"),
    ],
)
@pytest.mark.parametrize("n", [1, 5])
def test_a_mistyped_label_is_refused_with_the_nearest_however_frequent_it_is(
    tmp_path: Path, word: str, meant: str, n: int
) -> None:
    path = with_label(tmp_path, word, n)
    assert f"label '{word}' ({8 * n} rows, first: line 2) is not a known emotion; did you mean '{meant}'?" in message(
        path
    )
    assert f"confirm it: --option own_labels={word}" in message(path)
    for own in (word, [word], f" {word} "):
        assert word in table(path, own_labels=own).labels


@pytest.mark.parametrize("word", ["boredom2", "disappointment", "pride", "danger", "unhappy", "contentment"])
def test_a_label_that_is_near_to_nothing_is_a_class_as_it_stands(tmp_path: Path, word: str) -> None:
    assert word in table(with_label(tmp_path, word, 3)).labels


def test_labels_of_ones_own_are_near_to_one_another_by_frequency_or_case(tmp_path: Path) -> None:
    def labelled(name: str, n: dict[str, int]) -> Path:
        rows = [f"{s}_{w}_{k}.wav,{w},{s}" for s in SPEAKERS for w in n for k in range(n[w])]
        return write(tmp_path / name, "path,emotion,speaker", rows)

    assert table(labelled("alike", {"class_a": 3, "class_b": 3})).labels == ("class_a", "class_b")
    assert "label 'prdie' (8 rows, first: line 2)" in message(labelled("rare", {"prdie": 1, "pride": 10, "sad": 2}))
    assert "did you mean 'pride'" in message(labelled("case", {"Pride": 2, "pride": 2, "sad": 2}))
    single = write(
        tmp_path / "one", "path,emotion,speaker", ["x.wav,sadnes,a", *(f"{k}.wav,sad,{k}" for k in range(4))]
    )
    assert "label 'sadnes' (1 row, first: line 2)" in message(single)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", b""),
        ("b.parquet", b"no"),
        ("c.jsonl", b"{"),
        ("d.csv", b"\xff\xfe\0"),
        ("e.txt", b""),
    ):
        (tmp_path / name).write_bytes(content)
        assert name in message(tmp_path / name)


@pytest.mark.slow  # a few seconds
def test_a_corpus_of_the_size_of_the_challenge_in_seconds(tmp_path: Path) -> None:
    """66 992 + 25 258 rows: rows and split made in seconds, and well below 1 GiB."""
    words = ("angry", "happy", "sad", "neutral", "surprise", "fear", "disgust", "contempt")
    rows = [
        f"clip_{k}.wav,{words[k * 7919 % 8]},{f's{k % 1400},train' if k < 66_992 else f's{2000 + k % 700},dev'}"
        for k in range(66_992 + 25_258)
    ]
    rows += [f"t_{k}.wav,{words[k % 8]},t{k % 50},test" for k in range(100)]
    path = write(tmp_path, "path,emotion,speaker,split", rows, audio=False)
    touch(tmp_path, ["t_0.wav"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    manifest = table(path)
    taken_s = time.process_time() - start
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(manifest) == 92_350
    assert manifest.info["rows_by_split"] == {"dev": 25_258, "test": 100, "train": 66_992}
    assert taken_s < 10
    assert grown_kib < 600 * 1024


@pytest.mark.parametrize("header", ["file,label,speaker", "Filename,Label,Speaker", "audio,emotion,speaker"])
def test_columns_that_other_tools_call_otherwise_are_understood(tmp_path: Path, header: str) -> None:
    rows = [header]
    for k in range(9):
        name = f"{k}.wav"
        (tmp_path / name).touch()
        rows.append(f"{name},{('angry', 'sad', 'neutral')[k // 3]},s{k % 3}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = table(tmp_path / "t.csv")
    assert [u.audio for u in found] == [f"{k}.wav" for k in range(9)]
    assert [u.emotion for u in found][::3] == ["anger", "sadness", "neutral"]
    first = header.split(",")[0]
    assert f"column '{first}' is used as 'path'" in found.info["notes"]
    assert "file" not in found.utterances[0].meta


def test_answers_of_predict_are_labels_once_they_are_corrected(tmp_path: Path) -> None:
    """Regression: ``measure`` on a model's own answers said that it is always right, and ``adapt`` learned them."""
    header = "path,label,confidence,abstain,anger,neutral"
    rows = ["a.wav,anger,0.7,,0.7,0.3", "b.wav,neutral,0.9,,0.1,0.9", "c.wav,anger,0.6,unsure,0.6,0.4"]
    with pytest.raises(
        SerkitError, match=r"answers\.csv holds answers of serkit predict as they were given.*name that"
    ):
        table(write(tmp_path, header, rows, "answers.csv"), test_only=True)
    objects = [
        {"path": "a.wav", "label": "anger", "confidence": 0.7, "abstain": "", "probabilities": {"anger": 0.7}},
        {"path": "b.wav", "label": "neutral", "confidence": 0.9, "abstain": "", "probabilities": {"neutral": 0.9}},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    with pytest.raises(SerkitError, match=r"answers\.jsonl holds answers"):
        table(tmp_path / "answers.jsonl", test_only=True)
    cleared = [rows[0], rows[1], rows[2].replace("anger", "")]
    with pytest.raises(SerkitError, match="as they were given"):
        table(write(tmp_path, header, cleared, "answers.csv"), test_only=True)
    corrected = [rows[0].replace("anger", "neutral"), rows[1], rows[2]]
    found = table(write(tmp_path, header, corrected, "answers.csv"), test_only=True)
    assert [u.emotion for u in found] == ["neutral", "neutral", "anger"]
    assert "1 of 3 labels differ from the answers of serkit predict beside them" in found.info["notes"]
    named = table(write(tmp_path, header.replace("label", "emotion"), rows, "right.csv"), test_only=True)
    assert [u.emotion for u in named] == ["anger", "neutral", "anger"]


def test_ratings_beside_answers_of_predict_are_answers_too(tmp_path: Path) -> None:
    """``measure`` found a CCC of 1 on them."""
    header = "path,label,confidence,abstain,anger,neutral,arousal"
    rows = ["a.wav,neutral,0.7,,0.7,0.3,4.5", "b.wav,anger,0.9,,0.9,0.1,2.5"]
    found = table(write(tmp_path, header, rows, "answers.csv"), test_only=True)
    assert [u.arousal for u in found] == [None, None]
    assert any("ratings are answers of serkit predict, and left out" in note for note in found.info["notes"])
    named = table(write(tmp_path, header.replace("label", "emotion"), rows, "right.csv"), test_only=True)
    assert [u.arousal for u in named] == [4.5, 2.5]


@pytest.mark.parametrize("confidence", ["0.9", ""])
def test_a_table_of_somebodys_own_may_have_columns_called_as_those_of_predict(tmp_path: Path, confidence: str) -> None:
    rows = [f"a.wav,anger,{confidence},", f"b.wav,neutral,{confidence},"]
    found = table(write(tmp_path, "path,label,confidence,abstain", rows), test_only=True)
    assert [u.emotion for u in found] == ["anger", "neutral"]
    assert not any("predict" in note for note in found.info["notes"])
