from __future__ import annotations

from pathlib import Path

from serkit.corpora.savee import savee

from .examples import touch

CODES = ("a", "d", "f", "h", "n", "sa", "su")


def build(root: Path) -> Path:
    return touch(
        root, [f"AudioData/{s}/{c}{k:02d}.wav" for s in ("DC", "JE", "JK", "KL") for c in CODES for k in (1, 2)]
    )


N_ROWS = 56
EXPECTED = {
    "DC_sa01": {
        "audio": "AudioData/DC/sa01.wav",
        "speaker": "DC",
        "gender": "male",
        "emotion": "sadness",
        "split": "test",
        "meta": {"label": "sa", "number": 1},
    },
    "JE_su02": {"emotion": "surprise", "split": "dev"},
    "KL_n01": {"emotion": "neutral", "split": "train"},
    "KL_a01": {"emotion": "anger"},
}


def test_the_flat_layout_gives_the_same_rows(tmp_path: Path) -> None:
    build(tmp_path / "folders")
    names = [f"ALL/{s}_{c}{k:02d}.wav" for s in ("DC", "JE", "JK", "KL") for c in CODES for k in (1, 2)]
    folders, flat = savee(tmp_path / "folders", fold=2), savee(touch(tmp_path / "flat", names), fold=2)
    assert flat.ids == folders.ids
    assert flat.split_hash == folders.split_hash
    assert flat.utterances[0].audio == "ALL/DC_a01.wav"
