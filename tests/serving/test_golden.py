"""A bundle written once gives the same numbers in every later version.

``tiny.zip`` was made by ``serkit run tests/serving/golden/recipe.yaml --corpus toy`` and
``serkit bundle RUN -o tests/serving/golden/tiny.zip --weights float16``; ``expected.json`` by
``python -m tests.serving.test_golden``. Neither is written again to make a test pass: where an encoder
has to change its numbers, its revision changes, and old bundles are answered by the old revision.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import serkit
from serkit.serving.predictor import Model

from .signals import GOLDEN, RATE, talk, voice

EXPECTED = GOLDEN.parent / "expected.json"
CLIPS = {"low": voice(1.5, 1, 110.0), "high": voice(2.5, 2, 230.0), "short": voice(0.3, 3, 160.0), "talk": talk(3)}


def answers(model: Model) -> dict[str, list[float]]:
    found = {k: list(model.predict(x, rate_hz=RATE, by="clip").probabilities.values()) for k, x in CLIPS.items()}
    parts = model.predict(talk(3), rate_hz=RATE).segments
    for k, part in enumerate(parts):
        found[f"part {k}"] = [part.start_s, part.end_s, *part.probabilities.values()]
    return found


def test_an_old_bundle_gives_its_numbers(model: Model) -> None:
    wanted = json.loads(EXPECTED.read_text(encoding="utf-8"))
    found = answers(model)
    assert found.keys() == wanted.keys()
    for name, numbers in wanted.items():
        assert found[name] == pytest.approx(numbers, abs=1e-5), name
    assert np.ptp([numbers[0] for name, numbers in wanted.items() if "part" not in name]) > 0.05


def test_a_folder_is_the_same_bundle_as_a_file(tmp_path: Path, model: Model) -> None:
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(tmp_path / "tiny")
    other = serkit.load(tmp_path / "tiny")
    assert other.id == model.id
    x = CLIPS["low"]
    assert other.predict(x, rate_hz=RATE).to_row() == model.predict(x, rate_hz=RATE).to_row()


def test_it_stays_small() -> None:
    assert GOLDEN.stat().st_size < 200_000


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps(answers(serkit.load(GOLDEN)), indent=1) + "\n", encoding="utf-8")
