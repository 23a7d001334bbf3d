from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.ravdess import ravdess
from serkit.errors import SerkitError

from .examples import real_data, touch

ACTORS = (1, 2, 3, 4, 7)


def build(root: Path) -> Path:
    names = [f"Actor_{a:02d}/03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in ACTORS for e in range(1, 9)]
    names += ["Actor_02/03-01-05-02-02-02-02.FLAC", "Actor_02/03-02-05-02-02-02-02.wav"]  # the last one is song
    names += ["again/Actor_02/03-01-05-01-01-01-02.wav", "Actor_01/._03-01-01-01-01-01-01.wav"]
    return touch(root, names)


N_ROWS = 41
SKIP_PROTOCOLS = ("ravdess-holdout-19to24",)  # tests on actors that this tree does not have
EXPECTED = {
    "03-01-05-02-02-02-02": {
        "audio": "Actor_02/03-01-05-02-02-02-02.FLAC",
        "speaker": "02",
        "gender": "female",
        "language": "en",
        "emotion": "anger",
        "text": "Dogs are sitting by the door.",
        "split": "dev",
        "meta": {"label": "angry", "intensity": "strong", "statement": 2, "repetition": 2},
    },
    "03-01-01-01-01-01-01": {
        "speaker": "01",
        "gender": "male",
        "emotion": "neutral",
        "text": "Kids are talking by the door.",
        "split": "test",
        "meta": {"label": "neutral", "intensity": "normal", "statement": 1, "repetition": 1},
    },
    "03-01-02-01-01-01-03": {"emotion": "calm", "split": "train"},
    "03-01-06-01-01-01-03": {"emotion": "fear"},
    "03-01-08-01-01-01-07": {"emotion": "surprise", "speaker": "07"},
}


def test_what_is_not_speech_of_ravdess_is_counted(tmp_path: Path) -> None:
    info = ravdess(build(tmp_path)).info
    assert info["unrecognised_audio"] == {"count": 1, "examples": ["Actor_02/03-02-05-02-02-02-02.wav"]}
    assert info["duplicate_names"]["count"] == 1
    assert {"what": "speakers", "here": 5, "published": 24}.items() <= info["count_findings"][0].items()
    assert any(note.startswith("partial copy: 5 of 24 speakers; 5 folds") for note in info["notes"])


def test_full_corpus_has_folds_of_two_women_and_two_men(tmp_path: Path) -> None:
    touch(tmp_path, [f"03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in range(1, 25) for e in range(1, 9)])
    for fold in range(1, 7):
        manifest = ravdess(tmp_path, fold=fold)
        first = 4 * (fold - 1) + 1
        assert manifest.info["speakers"]["test"] == [f"{a:02d}" for a in range(first, first + 4)]
        following = first + 4 if fold < 6 else 1
        assert manifest.info["speakers"]["dev"] == [f"{a:02d}" for a in range(following, following + 4)]
        genders = [u.gender for u in manifest.split("test")]
        assert genders.count("female") == genders.count("male") == 16


def test_two_actors_are_too_few(tmp_path: Path) -> None:
    touch(tmp_path, ["03-01-01-01-01-01-01.wav", "03-01-01-01-01-01-02.wav"])
    with pytest.raises(SerkitError, match=r"2 speakers here \(01, 02\).* three"):
        ravdess(tmp_path)


def test_real_recordings() -> None:
    root = real_data("ravdess")
    manifest = ravdess(root)
    assert len(manifest) == 1080
    assert manifest.info["folds"] == 6
    assert set(manifest.counts().values()) == {144, 72}
    assert manifest.counts()["neutral"] == 72
    assert ravdess(root, fold=2).info["speakers"]["test"] == ["04", "05", "06"]
    assert manifest.audio_path(manifest.utterances[0]).is_file()


def test_the_holdout_tests_the_last_six_actors(tmp_path: Path) -> None:
    touch(tmp_path / "all", [f"03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in range(1, 25) for e in range(1, 9)])
    manifest = ravdess(tmp_path / "all", protocol="ravdess-holdout-19to24")
    who = {s: sorted({int(u.speaker or 0) for u in manifest.split(s)}) for s in ("train", "dev", "test")}
    assert who == {"train": list(range(1, 16)), "dev": [16, 17, 18], "test": [19, 20, 21, 22, 23, 24]}
    touch(tmp_path / "some", [f"03-01-{e:02d}-01-01-01-{a:02d}.wav" for a in range(1, 19) for e in range(1, 9)])
    with pytest.raises(SerkitError, match=r"tests on actors 19-24, and .* has 18 others"):
        ravdess(tmp_path / "some", protocol="ravdess-holdout-19to24")
