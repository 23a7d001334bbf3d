from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.nemo import nemo
from serkit.errors import SerkitError

from .examples import touch

ACTORS = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0")
EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")


def build(root: Path) -> Path:
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for k, actor in enumerate(ACTORS):
        for emotion in EMOTIONS:
            name = f"{actor}_{emotion}_64.wav"
            touch(root / "samples", [name])
            gender = "female" if k < 3 else "male"
            # the published table carries blanks before the speaker
            lines.append(f'{name}\t{emotion}\tUcho "wykrywa" dźwięki.\tucho wykrywa\t        {actor}\t{gender}\t2{k}')
    (root / "data.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


TABLES = ("data.tsv",)
N_ROWS = 54
EXPECTED = {
    "WR0_surprised_64": {
        "audio": "samples/WR0_surprised_64.wav",
        "speaker": "WR0",
        "gender": "male",
        "language": "pl",
        "emotion": "surprise",
        "text": 'Ucho "wykrywa" dźwięki.',
        "meta": {"label": "surprised", "age": "28", "sentence": "64"},
    },
    "EB0_anger_64": {"speaker": "EB0", "gender": "female", "emotion": "anger"},
}


def test_one_actor_a_fold(tmp_path: Path) -> None:
    build(tmp_path)
    assert nemo(tmp_path, fold=9).info["speakers"]["test"] == ["WR0"]
    assert nemo(tmp_path, fold=9).info["speakers"]["dev"] == ["EB0"]


def test_no_table_and_unknown_word(tmp_path: Path) -> None:
    build(tmp_path)
    table = tmp_path / "data.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("\tanger\t", "\tangr\t"), encoding="utf-8")
    with pytest.raises(SerkitError, match="did you mean 'anger'"):
        nemo(tmp_path)
    table.unlink()
    with pytest.raises(SerkitError, match=r"no data\.tsv"):
        nemo(tmp_path)
