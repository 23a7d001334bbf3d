from __future__ import annotations

from pathlib import Path

from serkit.corpora.emodb import emodb

from .examples import real_data, touch

SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


def build(root: Path) -> Path:
    names = [f"wav/{s}a01{letter}a.wav" for s in SPEAKERS for letter in "WLEAFTN"]
    return touch(root, [*names, "wav/03b09Fb.wav", "wav/99a01Fa.wav", "erkennung.txt"])


N_ROWS = 71
EXPECTED = {
    "03b09Fb": {
        "audio": "wav/03b09Fb.wav",
        "speaker": "03",
        "gender": "male",
        "language": "de",
        "emotion": "happiness",
        "text": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
        "meta": {"label": "F", "sentence": "b09", "version": "b", "age": 31},
    },
    "16a01La": {"speaker": "16", "gender": "female", "emotion": "boredom", "meta": {"label": "L"}},
    "08a01Ta": {"emotion": "sadness"},
    "08a01Aa": {"emotion": "fear"},
    "08a01Ea": {"emotion": "disgust"},
    "08a01Wa": {"emotion": "anger"},
    "08a01Na": {"emotion": "neutral"},
}


def test_folds_are_a_woman_and_a_man(tmp_path: Path) -> None:
    build(tmp_path)
    for fold in range(1, 6):
        test = emodb(tmp_path, fold=fold).split("test")
        assert {u.gender for u in test} == {"female", "male"}
        assert len({u.speaker for u in test}) == 2
    alone = emodb(tmp_path, protocol="emodb-10fold-speaker", fold=10)
    assert alone.info["speakers"]["test"] == ["16"]
    assert alone.info["speakers"]["dev"] == ["03"]


def test_a_speaker_the_corpus_does_not_have_is_not_recognised(tmp_path: Path) -> None:
    assert emodb(build(tmp_path)).info["unrecognised_audio"] == {"count": 1, "examples": ["wav/99a01Fa.wav"]}


def test_real_recordings() -> None:
    manifest = emodb(real_data("emodb_2s"))
    assert len(manifest) == 408
    assert manifest.counts()["anger"] == 100
    assert manifest.info["speakers_present"] == 8
    assert manifest.info["folds"] == 5
