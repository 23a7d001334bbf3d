"""The model in the box: what it is, what it may be used for, and that nothing heavy is loaded to ask it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import serkit
from serkit.recipe import load_recipe, parse_recipe
from serkit.serving.bundle import NAMED, names, open_bundle
from serkit.serving.results import Prediction

from .signals import RATE, quiet, voice, wav

CLASSES = ("anger", "boredom", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def test_it_is_here_small_and_answers_with_the_classes_of_its_data() -> None:
    assert "default" in names()
    here = {p.stem: p.stat().st_size for p in NAMED.glob("*.zip")}
    assert here["default"] + here["telephone"] <= 10 * 1024 * 1024  # the two that are asked for by that name
    assert sum(here.values()) <= 14 * 1024 * 1024
    bundle = open_bundle("default")
    assert tuple(bundle.labels) == CLASSES
    assert bundle.head["weights"] == "int8"


def test_its_recipe_is_the_one_in_the_repository() -> None:
    kept = parse_recipe(open_bundle("default").read("recipe.yaml").decode(), where="recipe.yaml")
    assert kept.fingerprint == load_recipe("default").fingerprint


def test_its_weights_have_a_licence_of_their_own() -> None:
    bundle = open_bundle("default")
    assert bundle.head["licence"]["weights"].startswith("CC BY-NC-SA 4.0")
    assert "CC BY-NC-SA 4.0" in bundle.read("LICENCE.md").decode()
    assert "RAVDESS" in (NAMED / "LICENSE-WEIGHTS.md").read_text(encoding="utf-8")
    card = bundle.read("card.md").decode()
    for words in ("Intended use", "out-of-fold", "ravdess", "ased", "emodb", "acted", "Known failures", "CC BY-NC-SA"):
        assert words in card
    done = subprocess.run(
        [sys.executable, "-m", "serkit", "predict", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CC BY-NC-SA 4.0" in done.stdout


def test_asking_it_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(wav(voice(1.5)))
    code = f"""
import json, sys
import serkit
answer = serkit.load("default").predict({str(tmp_path / "clip.wav")!r})
heavy = ("torch", "sklearn", "skops", "transformers", "scipy", "pandas")
print(json.dumps([answer.label, [m for m in heavy if m in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    label, heavy = json.loads(done.stdout)
    assert label in CLASSES
    assert heavy == []


def test_fewer_labels_are_renormalised_and_many_clips_answered_as_one() -> None:
    model = serkit.load("default")
    clips = [voice(1.0 + 0.3 * k, seed=k, pitch_hz=110.0 + 50 * k) for k in range(4)]
    alone = [model.predict(clip, rate_hz=RATE) for clip in clips]
    together = list(model.predict_many(clips, rate_hz=RATE))
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Prediction)
        assert one.label == other.label
        for name in CLASSES:
            assert one.probabilities[name] == pytest.approx(other.probabilities[name], abs=1e-4)
    few = model.predict(clips[0], rate_hz=RATE, labels=["anger", "neutral"])
    assert set(few.probabilities) == {"anger", "neutral"}
    assert sum(few.probabilities.values()) == pytest.approx(1.0)
    both = alone[0].probabilities["anger"] + alone[0].probabilities["neutral"]
    assert few.probabilities["anger"] == pytest.approx(alone[0].probabilities["anger"] / both, abs=1e-4)


def test_silence_is_no_speech() -> None:
    answer = serkit.load("default").predict(np.zeros(3 * RATE, dtype=np.float32), rate_hz=RATE)
    assert answer.no_speech
    assert serkit.load("default").predict(quiet(2.0), rate_hz=RATE).no_speech
