from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from serkit import pipeline, regions
from serkit.audit import audit
from serkit.corpora.msp_podcast import msp_podcast
from serkit.errors import SerkitError
from serkit.labels import left_out, teaching
from serkit.readers import read_corpora
from serkit.recipe import load_recipe, parse_recipe

from .examples import check_rows, touch

HEAD = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
ROWS = [
    ["MSP-PODCAST_0001_0001.wav", "A", "5.2", "2.0", "4.8", "11", "Female", "Train"],
    ["MSP-PODCAST_0001_0002.wav", "X", "4.0", "4.0", "4.0", "11", "Female", "Train"],
    ["MSP-PODCAST_0001_0003.wav", "O", "4.0", "4.0", "4.0", "12", "Male", "Train"],
    ["MSP-PODCAST_0001_0004.wav", "N", "4.0", "4.0", "4.0", "Unknown", "Unknown", "Train"],
    ["MSP-PODCAST_0001_0005.wav", "H", "4.0", "6.0", "4.0", "13", "Male", "Train"],
    ["MSP-PODCAST_0002_0001.wav", "S", "2.0", "2.5", "3.0", "21", "Male", "Development"],
    ["MSP-PODCAST_0002_0002.wav", "U", "5.0", "4.5", "3.0", "22", "Female", "Development"],
    ["MSP-PODCAST_0003_0001.wav", "F", "5.0", "2.5", "3.0", "31", "Male", "Test1"],
    ["MSP-PODCAST_0003_0002.wav", "D", "4.0", "2.5", "3.0", "32", "Male", "Test2"],
    ["MSP-PODCAST_0003_0003.wav", "C", "4.0", "2.5", "3.0", "33", "Female", "Test1"],
]
VOTES = [
    ["MSP-PODCAST_0001_0001.wav", "WORKER1", "Angry", "Angry,Annoyed", "5", "2", "5"],
    ["MSP-PODCAST_0001_0001.wav", "WORKER2", "Angry", "Frustrated", "6", "2", "5"],
    ["MSP-PODCAST_0001_0001.wav", "WORKER3", "Other-Determined", "Annoyed", "5", "2", "5"],
    ["MSP-PODCAST_0001_0002.wav", "WORKER1", "Happy", "Happy", "5", "2", "5"],
    ["MSP-PODCAST_0001_0002.wav", "WORKER2", "Sad", "Sad", "5", "2", "5"],
]
WIDE = ["FileName", "Workers", "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom"]


def write(path: Path, head: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def build(root: Path) -> Path:
    touch(root, [f"Audios/{row[0]}" for row in ROWS])
    touch(root, ["Audios/MSP-PODCAST_test3_0001.wav"])
    write(root / "Labels" / "labels_consensus.csv", HEAD, ROWS)
    write(root / "Labels" / "labels_detailed.csv", WIDE, VOTES)
    (root / "Transcripts").mkdir()
    (root / "Transcripts" / "MSP-PODCAST_0001_0001.txt").write_text("I told you so.\n", encoding="utf-8")
    return root


TABLES = ("Labels/labels_consensus.csv", "Labels/labels_detailed.csv")
N_ROWS = 8
SKIP_PROTOCOLS = ("msp-podcast-is25",)  # has no test rows, which is said
EXPECTED = {
    "MSP-PODCAST_0001_0001": {
        "audio": "Audios/MSP-PODCAST_0001_0001.wav",
        "speaker": "11",
        "split": "train",
        "emotion": "anger",
        "votes": {"anger": 2.0, "other": 1.0},
        "arousal": 5.2,
        "valence": 2.0,
        "dominance": 4.8,
        "text": "I told you so.",
        "gender": "female",
        "language": "en",
        "meta": {"label": "A", "set": "Train"},
    },
    "MSP-PODCAST_0001_0002": {"emotion": None, "votes": {"happiness": 1.0, "sadness": 1.0}, "meta": {"label": "X"}},
    "MSP-PODCAST_0001_0004": {"speaker": None, "gender": None, "votes": None, "text": None},
    "MSP-PODCAST_0002_0002": {"split": "dev", "emotion": "surprise"},
    "MSP-PODCAST_0003_0003": {"split": "test", "emotion": "contempt"},
}


def test_votes_come_in_two_forms(tmp_path: Path) -> None:
    build(tmp_path)
    wide = msp_podcast(tmp_path)
    detail = [[r[0], f"{r[1]}; {r[2]}; {r[3]}; A:{r[4]}; V:{r[5]}; D:{r[6]};"] for r in VOTES]
    write(tmp_path / "Labels" / "labels_detailed.csv", ["FileName", "EmoDetail"], detail)
    narrow = msp_podcast(tmp_path)
    assert [u.votes for u in narrow] == [u.votes for u in wide]
    assert narrow.info["ratings"] == len(VOTES)


def test_segments_of_one_podcast_are_of_one_recording(tmp_path: Path) -> None:
    build(tmp_path)
    read = msp_podcast(tmp_path, protocol="msp-podcast-is25", unlabelled_test=True)
    podcasts = {u.id: u.meta.get("recording") for u in read}
    assert podcasts["MSP-PODCAST_0001_0001"] == podcasts["MSP-PODCAST_0001_0004"] == "MSP-PODCAST_0001"
    assert podcasts["MSP-PODCAST_0002_0001"] == "MSP-PODCAST_0002"
    assert podcasts["MSP-PODCAST_test3_0001"] is None, "its name does not say which podcast it is from"


def test_other_is_dropped_kept_or_unlabelled_as_said(tmp_path: Path) -> None:
    build(tmp_path)
    name = "MSP-PODCAST_0001_0003"
    dropped = msp_podcast(tmp_path)
    assert name not in dropped.ids
    assert dropped.info["left_out"] == {"Test2": 1, "Test3": 1, "Train O": 1}
    assert "other" not in dropped.labels
    kept = {u.id: u for u in msp_podcast(tmp_path, other="keep")}
    assert kept[name].emotion == "other"
    bare = {u.id: u for u in msp_podcast(tmp_path, other="none")}
    assert bare[name].emotion is None
    with pytest.raises(SerkitError, match="drop, keep or none"):
        msp_podcast(tmp_path, other="maybe")


def test_test3_is_test_only_when_asked_for(tmp_path: Path) -> None:
    build(tmp_path)
    without = msp_podcast(tmp_path, protocol="msp-podcast-is25")
    assert len(without.split("test")) == 0
    assert any("no test rows" in note for note in without.info["notes"])
    asked = msp_podcast(tmp_path, protocol="msp-podcast-is25", unlabelled_test="true")
    assert asked.split("test").ids == ("MSP-PODCAST_test3_0001",)
    assert asked.split("test").utterances[0].emotion is None
    assert "unlabelled-test" in {f.code for f in audit(asked, decode=False) if f.severity == "error"}
    with pytest.raises(SerkitError, match="unlabelled_test belongs to"):
        msp_podcast(tmp_path, unlabelled_test=True)


def test_unlabelled_rows_elsewhere_are_refused(tmp_path: Path) -> None:
    build(tmp_path)
    rows = [*ROWS, ["MSP-PODCAST_0009_0001.wav", "", "", "", "", "", "", "Test1"]]
    touch(tmp_path, ["Audios/MSP-PODCAST_0009_0001.wav"])
    write(tmp_path / "Labels" / "labels_consensus.csv", HEAD, rows)
    with pytest.raises(SerkitError, match="MSP-PODCAST_0009_0001' of Test1 has no EmoClass"):
        msp_podcast(tmp_path)


def test_challenge_layout_counts_and_an_honest_test(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "Audios").rename(tmp_path / "Audio")
    manifest = msp_podcast(tmp_path, protocol="msp-podcast-is25")
    check = manifest.info["count_findings"][0]
    assert check["what"] == "labelled train rows"
    assert check["here"] == 3  # A, N, H; neither X nor O
    assert check["published"] == 66_992
    assert "2505.20007" in check["source"]
    honest = msp_podcast(tmp_path, protocol="msp-podcast-is25-devtest", seed=3)
    assert {u.meta["set"] for u in honest.split("test")} == {"Development"}
    assert {u.meta["set"] for u in honest.split("dev")} == {"Train"}


def challenge(root: Path) -> Path:
    """What the 2025 challenge handed out: Train and Development, and recordings of Test3 without labels."""
    rows = [
        [f"MSP-PODCAST_{k:04d}_{n:04d}.wav", code, "4", "4", "4", f"{k}", "Male", subset]
        for k, subset in ((1, "Train"), (2, "Train"), (3, "Train"), (4, "Train"), (5, "Development"))
        for n, code in enumerate("ASHUFDCN")
    ]
    touch(root, [f"Audio/{row[0]}" for row in rows] + ["Audio/MSP-PODCAST_test3_0001.wav"])
    write(root / "Labels" / "labels_consensus.csv", HEAD, rows)
    return root


def test_the_challenge_copy_goes_into_a_run_with_the_right_option(tmp_path: Path, small_text: str) -> None:
    root, recipe = challenge(tmp_path / "msp"), parse_recipe(small_text)

    def prepared(name: str, protocol: str | None, *options: str) -> pipeline.Run:
        manifest = read_corpora(["msp_podcast"], [root], protocol=protocol, options=options)
        return pipeline.prepare(recipe, manifest, tmp_path / name)

    for protocol in (None, "msp-podcast-is25"):
        with pytest.raises(SerkitError, match=r"no utterance in split 'test'.*unlabelled_test=true.*--no-test"):
            prepared("refused", protocol)
    hidden = prepared("hidden", "msp-podcast-is25", "unlabelled_test=true").manifest
    assert hidden.info["options"] == {"other": "drop", "unlabelled_test": True, "transcripts": True}
    assert hidden.split("test").ids == ("MSP-PODCAST_test3_0001",)
    assert len(hidden.split("train")) == 32
    honest = prepared("honest", "msp-podcast-is25-devtest").manifest
    assert {u.meta["set"] for u in honest.split("test")} == {"Development"}


def test_speakers_in_two_official_splits_are_named(tmp_path: Path) -> None:
    build(tmp_path)
    rows = [*ROWS, ["MSP-PODCAST_0009_0001.wav", "A", "4", "4", "4", "11", "Female", "Test1"]]
    touch(tmp_path, ["Audios/MSP-PODCAST_0009_0001.wav"])
    write(tmp_path / "Labels" / "labels_consensus.csv", HEAD, rows)
    manifest = msp_podcast(tmp_path)
    assert manifest.speakers_shared
    assert manifest.info["overlapping_speakers"] == {"11": ["test", "train"]}
    assert any("11" in note and "two of the official splits" in note for note in manifest.info["notes"])
    assert not msp_podcast(tmp_path, protocol="msp-podcast-release-test2").speakers_shared


def test_rows_without_recording_are_counted(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "Audios" / ROWS[0][0]).unlink()
    manifest = msp_podcast(tmp_path)
    assert manifest.info["missing_audio"] == {"count": 1, "examples": ["MSP-PODCAST_0001_0001"]}
    assert "rows-without-audio" in {f.code for f in audit(manifest, decode=False)}


def test_json_of_older_releases(tmp_path: Path) -> None:
    build(tmp_path)
    new = msp_podcast(tmp_path)
    (tmp_path / "Labels" / "labels_consensus.csv").unlink()
    old = {row[0]: dict(zip(HEAD[1:], row[1:], strict=True)) for row in ROWS}
    text = json.dumps(old).replace("Development", "Validation")
    (tmp_path / "Labels" / "labels_concensus.json").write_text(text, encoding="utf-8")
    check_rows(msp_podcast(tmp_path), EXPECTED)
    assert msp_podcast(tmp_path).fingerprint == new.fingerprint


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [(7, "Tset1", "did you mean 'Test1'"), (1, "Q", "EmoClass 'Q'"), (2, "high", "rating 'high'")],
)
def test_what_the_table_may_not_say(tmp_path: Path, column: int, value: str, message: str) -> None:
    build(tmp_path)
    rows = [list(row) for row in ROWS]
    rows[0][column] = value
    write(tmp_path / "Labels" / "labels_consensus.csv", HEAD, rows)
    with pytest.raises(SerkitError, match=message):
        msp_podcast(tmp_path)


def test_a_table_without_its_columns(tmp_path: Path) -> None:
    build(tmp_path)
    write(tmp_path / "Labels" / "labels_consensus.csv", ["FileName", "EmoClass"], [r[:2] for r in ROWS])
    with pytest.raises(SerkitError, match="no column 'Split_Set'"):
        msp_podcast(tmp_path)


@pytest.mark.slow
def test_a_corpus_of_challenge_size_is_read_in_seconds(tmp_path: Path) -> None:
    n = 116_221
    codes = "NHASUFDCXO"
    rows = [
        [f"MSP-PODCAST_{k:06d}.wav", codes[k % 10], "4", "4", "4", str(k % 2000), "Male", "Train"] for k in range(n)
    ]
    for k in range(84_260, n):
        rows[k][7], rows[k][5] = "Development", f"d{k % 500}"
    (tmp_path / "Audios").mkdir()
    for row in rows:
        (tmp_path / "Audios" / row[0]).touch()
    write(tmp_path / "Labels" / "labels_consensus.csv", HEAD, rows)
    votes = [[row[0], "W", "Happy", "", "4", "4", "4"] for row in rows for _ in range(5)]
    write(tmp_path / "Labels" / "labels_detailed.csv", WIDE, votes)
    start = time.process_time()
    manifest = msp_podcast(tmp_path, protocol="msp-podcast-is25", transcripts=False)
    assert time.process_time() - start < 30
    assert len(manifest) == n - n // 10


def test_clips_of_other_emotions_are_there_for_ratings_and_votes_with_an_option(tmp_path: Path) -> None:
    """Regression: recipes said "all clips with ratings, whatever their emotion", and the reader leaves class O out."""
    build(tmp_path)
    write(tmp_path / "Labels" / "labels_detailed.csv", WIDE, [*VOTES, ["MSP-PODCAST_0001_0003.wav", "W", *["Sad"] * 2]])
    plain, kept = (msp_podcast(tmp_path, other=other) for other in ("drop", "none"))
    said = (
        "left out by the reader of msp_podcast: Test2 (1 clip), Test3 (1 clip), Train O (1 clip); --option other=none"
    )
    assert left_out(plain)[0].startswith(said)
    assert left_out(kept) == ["left out by the reader of msp_podcast: Test2 (1 clip), Test3 (1 clip)"]
    assert "MSP-PODCAST_0001_0003" not in plain.ids
    by_ratings = regions.divided(kept, "quadrants", ()).split("train")
    for name, rows in (("sail2025", by_ratings), ("emosphere2025", by_ratings), ("medusa2025", kept.split("train"))):
        assert "MSP-PODCAST_0001_0003" in teaching(rows, load_recipe(name)).ids
