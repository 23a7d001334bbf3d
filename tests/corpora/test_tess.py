from __future__ import annotations

from pathlib import Path

import pytest

from serkit.corpora.tess import tess
from serkit.errors import SerkitError

from .examples import touch

WORDS = ("back", "bar", "base", "bath", "bean", "beg", "bite", "boat", "bone", "book")
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")


def build(root: Path) -> Path:
    names = [f"{s}_{label}/{s}_{w}_{label}.wav" for s in ("OAF", "YAF") for w in WORDS for label in LABELS]
    names.remove("OAF_neutral/OAF_bite_neutral.wav")
    return touch(root, [*names, "OAF_neutral/OA_bite_neutral.wav"])  # as in the release


N_ROWS = 140
EXPECTED = {
    "OAF_bite_neutral": {
        "audio": "OAF_neutral/OA_bite_neutral.wav",
        "speaker": "OAF",
        "gender": "female",
        "emotion": "neutral",
        "text": "Say the word bite.",
        "meta": {"label": "neutral", "word": "bite", "age": 64},
    },
    "YAF_back_ps": {"speaker": "YAF", "emotion": "surprise", "split": "test", "meta": {"label": "ps", "age": 26}},
    "YAF_bar_sad": {"emotion": "sadness", "split": "dev"},
}


def test_speakers_shared_is_said_with_numbers_and_words_are_not_shared(tmp_path: Path) -> None:
    manifest = tess(build(tmp_path))
    assert manifest.speakers_shared
    assert manifest.info["speakers_shared"] == {"train/dev": 2, "train/test": 2, "dev/test": 2}
    words = {s: {u.meta["word"] for u in manifest.split(s)} for s in ("train", "dev", "test")}
    assert not words["train"] & words["test"]
    assert not words["dev"] & words["test"]


def test_by_speaker_the_test_actress_is_unheard(tmp_path: Path) -> None:
    build(tmp_path)
    manifest = tess(tmp_path, protocol="tess-2fold-speaker", fold=2)
    assert manifest.info["speakers"] == {"train": ["OAF"], "dev": ["OAF"], "test": ["YAF"]}
    assert manifest.info["speakers_shared"] == {"train/dev": 1, "train/test": 0, "dev/test": 0}


def test_by_speaker_needs_both(tmp_path: Path) -> None:
    touch(tmp_path, [f"OAF_{w}_sad.wav" for w in WORDS])
    with pytest.raises(SerkitError, match="needs both speakers, only OAF is here"):
        tess(tmp_path, protocol="tess-2fold-speaker")
