from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serkit.corpora.audformat import audformat
from serkit.errors import MissingExtra, SerkitError

from .examples import touch

library = pytest.importorskip("audformat", reason="the extra serkit[audformat] is not installed")

SPEAKERS = ("s1", "s2", "s3", "s4", "s5", "s6")


def build(root: Path, splits: bool = True, odd: str = "happy") -> Path:
    db = library.Database("tiny", license="CC0-1.0", languages=["de"])
    db.schemes["emotion"] = library.Scheme(labels=sorted({"angry", "happy", odd}))
    people = {s: {"gender": "female" if k % 2 else "male"} for k, s in enumerate(SPEAKERS)}
    db.schemes["speaker"] = library.Scheme(labels=people)
    db.schemes["arousal"] = library.Scheme("float")
    files = [f"audio/{s}_{k}.wav" for s in SPEAKERS for k in range(4)]
    db["files"] = library.Table(library.filewise_index(files))
    db["files"]["speaker"] = library.Column(scheme_id="speaker")
    db["files"]["speaker"].set([s for s in SPEAKERS for _ in range(4)])
    parts = {"train": files[:16], "test": files[16:]}
    for name, part in parts.items():
        if splits:
            db.splits[name] = library.Split(name)
        index = (
            library.filewise_index(part)
            if name == "train"
            else library.segmented_index(part, ["0.5s"] * len(part), ["1.5s"] * len(part))
        )
        table = library.Table(index, split_id=name if splits else None)
        db[f"emotion.{name}"] = table
        table["emotion"] = library.Column(scheme_id="emotion")
        table["emotion"].set(["angry", "happy"] * (len(part) // 2))
        table["arousal"] = library.Column(scheme_id="arousal")
        table["arousal"].set([0.25] * len(part))
    db["emotion.train"].df.loc[files[0], "emotion"] = None
    db["emotion.train"].df.loc[files[3], "emotion"] = odd
    db.save(str(root), storage_format="csv")
    return touch(root, files)


TABLES = ("db.yaml", "db.emotion.test.csv")
N_ROWS = 24
EXPECTED = {
    "audio_s1_1": {
        "audio": "audio/s1_1.wav",
        "speaker": "s1",
        "gender": "male",
        "emotion": "happiness",
        "arousal": 0.25,
        "start_s": None,
        "end_s": None,
        "meta": {"label": "happy", "table": "emotion.train"},
    },
    "audio_s1_0": {"emotion": None},
    "audio_s6_2_0.500-1.500": {"split": "test", "start_s": 0.5, "end_s": 1.5, "gender": "female", "emotion": "anger"},
}


def test_dev_is_made_of_whole_train_speakers(tmp_path: Path) -> None:
    manifest = audformat(build(tmp_path))
    assert manifest.info["speakers"]["test"] == ["s5", "s6"]
    assert len(manifest.info["speakers"]["dev"]) == 1
    assert manifest.info["licence"] == "CC0-1.0"
    assert manifest.info["label_map"] == {"angry": "anger", "happy": "happiness"}


def test_a_database_without_splits_says_what_to_do(tmp_path: Path) -> None:
    build(tmp_path, splits=False)
    with pytest.raises(SerkitError, match="audformat-5fold-speaker"):
        audformat(tmp_path)
    assert len(audformat(tmp_path, protocol="audformat-5fold-speaker")) == 24


def test_unknown_column_and_missing_media(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(SerkitError, match="did you mean 'emotion'"):
        audformat(tmp_path, column="emotions")
    (tmp_path / "audio" / "s1_1.wav").unlink()
    assert audformat(tmp_path).info["missing_audio"] == {"count": 1, "examples": ["audio/s1_1.wav"]}


def test_a_label_that_looks_mistyped_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    build(tmp_path, odd="angr")
    with pytest.raises(SerkitError) as refused:
        audformat(tmp_path)
    assert str(refused.value) == (
        "audformat: label 'angr' (1 row, first: audio/s1_3.wav in table emotion.train) is not a known emotion; did you "
        "mean 'anger'? Correct it, or, if it is intended, confirm it: --option own_labels=angr"
    )
    assert audformat(tmp_path, own_labels="angr").labels == ("anger", "happiness", "angr")
    build(tmp_path / "other", odd="pride")
    assert "pride" in audformat(tmp_path / "other").labels, "near to nothing"


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(MissingExtra, match=r"pip install 'serkit\[audformat\]'"):
        audformat(tmp_path)


def test_a_clip_without_a_speaker_has_none(tmp_path: Path) -> None:
    build(tmp_path)
    table = tmp_path / "db.files.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("s1_0.wav,s1", "s1_0.wav,"), encoding="utf-8")
    assert {u.id: u.speaker for u in audformat(tmp_path)}["audio_s1_0"] is None
