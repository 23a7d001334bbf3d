from __future__ import annotations

import csv
from pathlib import Path

import pytest

from serkit.corpora.meld import meld
from serkit.errors import SerkitError

from .examples import touch

HEAD = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]
EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
FOLDERS = {"train": "train/train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def build(root: Path) -> Path:
    for split, folder in FOLDERS.items():
        table = root / ("train" if split == "train" else "") / f"{split}_sent_emo.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            rows = [
                [
                    str(k),
                    f"It’s {word}, {split}.",
                    ("Ross", "Rachel", f"{split} man")[k % 3],
                    word,
                    "positive",
                    "0",
                    str(k),
                ]
                for k, word in enumerate(EMOTIONS)
            ]
            csv.writer(file).writerows([HEAD, *rows])
        touch(root / folder, [f"dia0_utt{k}.mp4" for k in range(7)])
    touch(root / FOLDERS["test"], ["dia0_utt0.wav", "final_videos_testdia0_utt1.mp4"])
    return root


TABLES = ("train/train_sent_emo.csv", "test_sent_emo.csv")
N_ROWS = 21
EXPECTED = {
    "train_dia0_utt3": {
        "audio": "train/train_splits/dia0_utt3.mp4",
        "speaker": "Ross",
        "split": "train",
        "emotion": "happiness",
        "text": "It’s joy, train.",
        "meta": {"label": "joy", "sentiment": "positive", "dialogue": "train_0"},
    },
    "dev_dia0_utt2": {"split": "dev", "audio": "dev_splits_complete/dia0_utt2.mp4", "speaker": "dev man"},
    "test_dia0_utt0": {"split": "test", "audio": "output_repeated_splits_test/dia0_utt0.wav", "emotion": "anger"},
}


def test_shared_speakers_are_said_aloud(tmp_path: Path) -> None:
    manifest = meld(build(tmp_path))
    assert manifest.speakers_shared
    assert manifest.info["speakers_shared"] == {"train/dev": 2, "train/test": 2, "dev/test": 2}
    assert any("speakers shared" in note for note in manifest.info["notes"])


def test_missing_clips_tables_and_unknown_words(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "dev_splits_complete" / "dia0_utt2.mp4").unlink()
    assert meld(tmp_path).info["missing_audio"] == {"count": 1, "examples": ["dev_dia0_utt2"]}
    table = tmp_path / "test_sent_emo.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",joy,", ",jou,"), encoding="utf-8")
    with pytest.raises(SerkitError, match="did you mean 'joy'"):
        meld(tmp_path)
    table.unlink()
    with pytest.raises(SerkitError, match=r"no test_sent_emo\.csv"):
        meld(tmp_path)
