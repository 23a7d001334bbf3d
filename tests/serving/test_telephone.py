"""The model for calls that comes with serkit, and the note that sends calls to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import serkit
from serkit.recipe import load_recipe, parse_recipe
from serkit.serving import adapting
from serkit.serving.building import hears_calls
from serkit.serving.bundle import names, open_bundle
from serkit.serving.http.answering import Answerer
from serkit.serving.http.worker import Task
from serkit.serving.predictor import NARROW

from .signals import GOLDEN, voice, wav

CLASSES = ("anger", "boredom", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def test_it_is_here_with_its_recipe_card_and_licence() -> None:
    assert "telephone" in names()
    bundle = open_bundle("telephone")
    assert tuple(bundle.labels) == CLASSES
    kept = parse_recipe(bundle.read("recipe.yaml").decode(), where="recipe.yaml")
    assert kept.fingerprint == load_recipe("telephone").fingerprint
    assert "telephone" in bundle.text("card.md")
    assert bundle.head["licence"]["weights"].startswith("CC BY-NC-SA 4.0")


def test_bundles_say_whether_calls_were_among_their_training() -> None:
    assert open_bundle("telephone").head["hears_calls"] is True
    assert open_bundle("default").head["hears_calls"] is False
    assert "hears_calls" not in open_bundle(GOLDEN).head
    assert hears_calls(load_recipe("telephone"))
    assert not hears_calls(load_recipe("ueda2025"))


@pytest.mark.parametrize(("rate", "noted"), [(8000, True), (16000, False), (44100, False)])
def test_a_recording_of_8_khz_is_sent_to_it(rate: int, noted: bool, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(voice(2.0)[:: 16000 // rate or 1], rate=rate))
    model = serkit.load("default")
    assert (NARROW in model.predict(path).notes) is noted
    assert (NARROW in model.predict(path.read_bytes(), by="channel").notes) is noted
    assert NARROW not in serkit.load("telephone").predict(path).notes
    assert NARROW not in serkit.load(GOLDEN).predict(path).notes
    chunk = voice(2.0)[:: 16000 // rate or 1]
    both = np.stack([chunk, chunk], axis=1)
    assert (NARROW in model.predict(both, rate_hz=rate).notes) is noted
    assert (NARROW in model.predict(wav(both, rate=rate), by="channel").notes) is noted


def test_a_batch_of_the_service_says_what_a_clip_alone_is_told() -> None:
    answering = Answerer("default")
    clips = [Task(wav(voice(1.5, seed=k)[::2], rate=8000)) for k in range(3)]
    [alone] = answering.predict(clips[:1], [None], lambda heard_s: None)
    for together in answering.predict(clips, [None] * 3, lambda heard_s: None):
        assert together["notes"] == alone["notes"] == [NARROW]


def test_a_model_adapted_to_calls_does_not_send_them_away(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(2.0, seed=k)[::2], rate=8000))
    made = adapting.adapt("default", sorted(tmp_path.glob("*.wav")))
    adapting.write(made, tmp_path / "mine.zip")
    assert NARROW not in serkit.load(tmp_path / "mine.zip").predict(tmp_path / "0.wav").notes


def test_the_command_says_it_once_for_a_folder(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(1.5, seed=k)[::2], rate=8000))
    done = subprocess.run(
        [sys.executable, "-m", "serkit", "predict", str(tmp_path), "--format", "csv"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.count("\n") == 4
    assert done.stderr.count(NARROW) == 1
    assert "same for 2 more" in done.stderr
