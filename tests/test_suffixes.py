"""The names of recordings are told in one place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serkit
from serkit.augment._recordings import recording
from serkit.suffixes import CONTAINERS, SOUND


def test_no_suffix_is_of_both_kinds_and_wav_is_preferred() -> None:
    assert not {*SOUND} & {*CONTAINERS}
    assert SOUND[0] == ".wav"
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in (*SOUND, *CONTAINERS))


def test_no_other_module_has_a_list_of_its_own() -> None:
    for path in Path(serkit.__file__).parent.rglob("*.py"):
        named = {
            word for word in ("flac", "ogg", "aiff", "m4a") if re.search(rf"[\"' .]{word}[\"' ]", path.read_text())
        }
        assert path.name == "suffixes.py" or len(named) < 3, (path, named)


@pytest.mark.parametrize("suffix", [".opus", ".w64", ".wav"])
def test_an_augmentation_draws_from_every_sound_file(tmp_path: Path, suffix: str) -> None:
    rate = 48_000 if suffix == ".opus" else 16_000
    form = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    soundfile.write(tmp_path / f"noise{suffix}", np.full(rate, 0.1, np.float32), rate, **form)
    assert recording(str(tmp_path), np.random.default_rng(0)).shape[0] == pytest.approx(16_000, abs=200)
