from __future__ import annotations

from pathlib import Path

from serkit.corpora.urdu import urdu

from .examples import touch

FOLDERS = {"A": "Angry", "H": "Happy", "N": "Neutral", "S": "Sad"}
SPEAKERS = ("SF1", "SF2", "SF10", "SM1", "SM2", "SM3", "SM24")


def build(root: Path) -> Path:
    names = [
        f"{folder}/{s}_F{k}_{letter}0{k}.wav" for s in SPEAKERS for k, (letter, folder) in enumerate(FOLDERS.items())
    ]
    return touch(root, [*names, "Sad/SM6_F4_S0100.wav", "Sad/readme.wav"])


N_ROWS = 29
EXPECTED = {
    "SF10_F1_H01": {"speaker": "SF10", "gender": "female", "language": "ur", "emotion": "happiness"},
    "SM6_F4_S0100": {"speaker": "SM6", "gender": "male", "emotion": "sadness", "meta": {"label": "S", "file": 4}},
    "SM24_F0_A00": {"emotion": "anger", "audio": "Angry/SM24_F0_A00.wav"},
}


def test_folds_keep_speakers_apart_and_classes_together(tmp_path: Path) -> None:
    build(tmp_path)
    for fold in range(1, 5):
        manifest = urdu(tmp_path, fold=fold)
        assert not manifest.speakers_shared
        assert all(manifest.split("train").counts().values())
    assert manifest.info["unrecognised_audio"]["examples"] == ["Sad/readme.wav"]
