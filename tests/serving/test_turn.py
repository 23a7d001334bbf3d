"""The model in the box that reads Smart Turn's states: what it is, what it says without them, one answer everywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import serkit
from command_line import ask
from serkit import package_files
from serkit.encoders import _smart_turn
from serkit.errors import MissingExtra
from serkit.recipe import load_recipe, parse_recipe
from serkit.serving import example, measuring
from serkit.serving.bundle import names, open_bundle

from .signals import RATE, talk, wav

CLASSES = ("anger", "boredom", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def test_it_is_here_with_its_recipe_card_and_licence() -> None:
    assert "turn" in names()
    bundle = open_bundle("turn")
    assert tuple(bundle.labels) == CLASSES
    kept = parse_recipe(bundle.read("recipe.yaml").decode(), where="recipe.yaml")
    assert kept.fingerprint == load_recipe("turn").fingerprint
    assert bundle.head["licence"]["weights"].startswith("CC BY-NC-SA 4.0")
    for words in ("Smart Turn", "Intended use", "out-of-fold", "acted"):
        assert words in bundle.text("card.md")


def test_without_the_weights_it_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find, away = importlib.util.find_spec, package_files.PIPECAT.module
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == away else find(name, *rest))
    _smart_turn.published.cache_clear()
    with pytest.raises(MissingExtra, match="pip install --no-deps"):
        serkit.load("turn")
    with pytest.raises(MissingExtra, match="pip install --no-deps"):  # and not at the first call
        serkit.load("default", calls="turn")
    code, out, error = ask("predict", "example", "--model", "turn")
    assert (code, out) == (2, "")
    assert error.endswith("pip install --no-deps 'pipecat-ai>=1.0,<2'")
    monkeypatch.setattr(measuring, "measure_under", lambda *_, **__: pytest.fail("the first was measured"))
    table = tmp_path / "labels.csv"
    clips = [tmp_path / f"{label}.flac" for label in ("anger", "neutral")]
    table.write_text("path,emotion\n" + "".join(f"{clip.name},{clip.stem}\n" for clip in clips))
    for clip in clips:
        clip.write_bytes(example.path().read_bytes())
    code, _, error = ask("measure", "default", "--beside", "turn", "--corpus", "table", "--root", str(table))
    assert (code, error.endswith("pip install --no-deps 'pipecat-ai>=1.0,<2'")) == (2, True)
    _smart_turn.published.cache_clear()


def test_one_answer_for_a_file_samples_many_and_a_stream(tmp_path: Path) -> None:
    try:
        model = serkit.load("turn")
    except MissingExtra as error:
        pytest.skip(str(error))
    sound = np.round(talk(3) * 32768) / 32768
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(sound, subtype="PCM_16"))
    whole = model.predict(path)
    assert model.predict(sound.astype(np.float32), rate_hz=RATE).segments == whole.segments
    (many,) = model.predict_many([path])
    assert many.segments == whole.segments
    stream = model.stream(partial_s=None)
    events = [event for at in range(0, len(sound), 7_001) for event in stream.push(sound[at : at + 7_001])]
    finals = [event.segment for event in events + stream.finish()]
    assert tuple(finals) == whole.segments
    assert len(finals) == 3
    assert max(abs(sum(s.probabilities.values()) - 1) for s in whole.segments) < 1e-6
