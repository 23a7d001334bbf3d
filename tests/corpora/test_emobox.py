from __future__ import annotations

import json
from pathlib import Path

import pytest

from serkit.corpora.emobox import emobox
from serkit.errors import SerkitError

from .examples import real_data, touch

OPTIONS = {"dataset": "savee"}
WORDS = {"a": "Angry", "h": "Happy", "n": "Neutral"}


def write_list(root: Path, dataset: str, fold: int, split: str, rows: list[tuple[str, str]]) -> None:
    path = root / "data" / dataset / f"fold_{fold}" / f"{dataset}_{split}_fold_{fold}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"key": f"{dataset}-{Path(wav).stem}", "dataset": dataset, "wav": wav, "type": "raw", "emo": emo, "channel": 1}
        for wav, emo in rows
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")


def build(root: Path) -> Path:
    speakers = ("DC", "JE", "JK", "KL")
    clips = {s: [(f"downloads/savee/{s}_{word}{k}.wav", word) for word in WORDS for k in range(4)] for s in speakers}
    for fold, test in enumerate(speakers, 1):
        write_list(root, "savee", fold, "test", clips[test])
        write_list(root, "savee", fold, "train", [row for s in speakers if s != test for row in clips[s]])
    (root / "data" / "savee" / "label_map.json").write_text(json.dumps(WORDS), encoding="utf-8")
    return touch(root, [wav for s in speakers for wav, _ in clips[s]])


TABLES = ("data/savee/fold_1/savee_test_fold_1.jsonl", "data/savee/label_map.json")
N_ROWS = 48
SKIP_PROTOCOLS = ()
EXPECTED = {
    "savee-DC_a0": {
        "audio": "downloads/savee/DC_a0.wav",
        "speaker": "DC",
        "split": "test",
        "emotion": "anger",
        "language": "en",
        "meta": {"label": "a", "dataset": "savee"},
    },
    "savee-KL_h3": {"emotion": "happiness", "speaker": "KL"},
}


def crema(root: Path) -> Path:
    """A fold as EmoBox publishes it for CREMA-D: every speaker on both sides."""
    rows = [(f"downloads/cremad/AudioWAV/10{s:02d}_IE{k}_ANG_XX.wav", "ANG") for s in range(1, 6) for k in "OHWX"]
    write_list(root, "cremad", 1, "train", [r for r in rows if "IEO" not in r[0]])
    write_list(root, "cremad", 1, "test", [r for r in rows if "IEO" in r[0]])
    (root / "data" / "cremad" / "label_map.json").write_text('{"ANG": "Angry"}', encoding="utf-8")
    return touch(root, [wav for wav, _ in rows])


def test_dev_is_whole_speakers_where_the_fold_shares_none(tmp_path: Path) -> None:
    manifest = emobox(build(tmp_path), dataset="savee", fold=2)
    assert not manifest.speakers_shared
    assert manifest.info["speakers"]["test"] == ["JE"]
    assert len(manifest.info["speakers"]["dev"]) == 1
    assert "dev is 15 % of train: whole speakers" in manifest.info["notes"]


def test_shared_speakers_are_found_and_said(tmp_path: Path) -> None:
    manifest = emobox(crema(tmp_path), dataset="cremad")
    assert manifest.speakers_shared
    assert manifest.info["speakers_shared"]["train/test"] == 5
    assert any("5 of 5 test speakers also in train" in note for note in manifest.info["notes"])
    better = emobox(tmp_path, dataset="cremad", protocol="emobox-5fold-speaker")
    assert not better.speakers_shared
    assert len(better) == len(manifest) == 20


def test_names_that_do_not_tell_the_speaker(tmp_path: Path) -> None:
    rows = [(f"downloads/mesd/{e}_F_A_{k}.wav", e) for e in ("Anger", "Fear") for k in range(20)]
    write_list(tmp_path, "mesd", 1, "train", rows[::2])
    write_list(tmp_path, "mesd", 1, "test", rows[1::2])
    touch(tmp_path, [wav for wav, _ in rows])
    manifest = emobox(tmp_path, dataset="mesd")
    assert {u.speaker for u in manifest} == {None}
    assert len(manifest.split("dev")) > 0
    assert any("blind to speakers" in note for note in manifest.info["notes"])
    with pytest.raises(SerkitError, match="speakers"):
        emobox(tmp_path, dataset="mesd", protocol="emobox-5fold-speaker")


def test_no_agreement_and_other_words(tmp_path: Path) -> None:
    words = {"X": "No-agreement", "O": "Other", "N": "Neutral"}
    rows = [(f"downloads/msppodcast/Audio/MSP-PODCAST_{k:04d}.wav", e) for k, e in enumerate("XONXON")]
    for split, part in (("train", rows[:3]), ("valid", rows[3:5]), ("test", rows[5:])):
        write_list(tmp_path, "msppodcast", 1, split, part)
    (tmp_path / "data" / "msppodcast" / "label_map.json").write_text(json.dumps(words), encoding="utf-8")
    touch(tmp_path, [wav for wav, _ in rows])
    manifest = emobox(tmp_path, dataset="msppodcast")
    assert [u.emotion for u in manifest] == [None, "other", "neutral"] * 2
    assert [u.split for u in manifest] == ["train"] * 3 + ["dev"] * 2 + ["test"]


def test_which_data_set(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(SerkitError, match="did you mean 'savee'"):
        emobox(tmp_path, dataset="save")
    with pytest.raises(SerkitError, match="say which data set"):
        emobox(tmp_path)


def test_broken_lines_and_repeated_keys(tmp_path: Path) -> None:
    build(tmp_path)
    path = tmp_path / "data" / "savee" / "fold_1" / "savee_test_fold_1.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n{broken", encoding="utf-8")
    with pytest.raises(SerkitError, match=r"^emobox: .*line 13 is not JSON"):
        emobox(tmp_path, dataset="savee")
    path.write_text(text + "\n[1]", encoding="utf-8")
    with pytest.raises(SerkitError, match=r"^emobox: .*line 13 is not a JSON object"):
        emobox(tmp_path, dataset="savee")
    path.write_text(text + "\n" + text.splitlines()[0], encoding="utf-8")
    with pytest.raises(SerkitError, match="occurs twice"):
        emobox(tmp_path, dataset="savee")


def test_recordings_elsewhere_and_in_another_format(tmp_path: Path) -> None:
    rows = [(f"downloads/ravdess/Actor_{s:02d}/03-01-05-01-02-01-{s:02d}.wav", "Angry") for s in range(1, 19)]
    write_list(tmp_path, "ravdess", 1, "train", rows[4:])
    write_list(tmp_path, "ravdess", 1, "test", rows[:4])
    manifest = emobox(tmp_path, dataset="ravdess", audio_root=str(real_data("ravdess")))
    assert len(manifest) == 18
    assert manifest.audio_path(manifest.utterances[0]).suffix == ".flac"
    assert manifest.info["speakers"]["test"] == ["01", "02", "03", "04"]


def test_times_that_are_no_numbers(tmp_path: Path) -> None:
    path = build(tmp_path) / "data" / "savee" / "fold_1" / "savee_test_fold_1.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"channel": 1', '"start_time": "1"'), encoding="utf-8")
    with pytest.raises(SerkitError, match=r"savee_test_fold_1.jsonl, line 1: start_time is '1', expected seconds"):
        emobox(tmp_path, dataset="savee")
