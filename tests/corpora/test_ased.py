from __future__ import annotations

from pathlib import Path

from serkit.corpora.ased import ased

from .examples import real_data, touch

FOLDERS = {"n1": "01Neutral", "f2": "02Fearful", "h3": "03Happy", "s4": "04Sad", "a5": "05Angry"}


def build(root: Path) -> Path:
    for speaker in range(1, 7):
        gender = 1 if speaker % 2 else 2
        touch(
            root,
            [
                f"{folder}/{code}-{sentence:02d}-01-{gender:02d}-{speaker:02d}.wav"
                for code, folder in FOLDERS.items()
                for sentence in (1, 2, 3, 7)
            ],
        )
    return touch(root, ["04Sad/S4-04-02-02-06.wav"])  # one file of the release has a capital letter


N_ROWS = 121
EXPECTED = {
    "a5-03-01-02-02": {
        "audio": "05Angry/a5-03-01-02-02.wav",
        "speaker": "02",
        "gender": "male",
        "language": "am",
        "emotion": "anger",
        "meta": {"label": "angry", "sentence": "angry-03", "repetition": 1},
    },
    "f2-01-01-01-01": {"emotion": "fear", "gender": "female", "meta": {"sentence": "common-01"}},
    "S4-04-02-02-06": {"emotion": "sadness", "meta": {"label": "sad", "sentence": "sad-04", "repetition": 2}},
}


def test_unseen_sentences_leave_the_words_no_say(tmp_path: Path) -> None:
    manifest = ased(build(tmp_path), protocol="ased-5fold-speaker-unseen-sentence")
    said = {s: {u.meta["sentence"] for u in manifest.split(s)} for s in ("train", "dev", "test")}
    assert said["test"] == said["dev"] == {"common-01", "common-02"}
    assert not said["train"] & said["test"]
    assert (
        set(manifest.split("train").counts().values()) == {8, 9} or min(manifest.split("train").counts().values()) > 0
    )
    assert manifest.info["rows_by_split"]["None"] > 0
    usual = ased(tmp_path)
    assert usual.info["speakers"] == manifest.info["speakers"]


def test_real_recordings() -> None:
    root = real_data("ased")
    manifest = ased(root)
    assert len(manifest) == 1688
    assert manifest.counts() == {"anger": 328, "fear": 348, "happiness": 332, "neutral": 364, "sadness": 316}
    assert len({u.meta["sentence"] for u in manifest}) == 27
    assert manifest.info["speakers_present"] == 50
    for fold in range(1, 6):
        counts = ased(root, fold=fold).split("test").counts()
        assert min(counts.values()) >= 50, "every fold has every emotion in number"
