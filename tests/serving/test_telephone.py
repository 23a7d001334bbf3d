"""The model for calls that comes with serkit, which answers them in place of the default one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
from typer.testing import CliRunner

import serkit
from serkit.bandwidth import narrow
from serkit.cli import app
from serkit.errors import SerkitError
from serkit.recipe import load_recipe, parse_recipe
from serkit.serving import adapting
from serkit.serving.building import hears_calls
from serkit.serving.bundle import NAMED, names, open_bundle
from serkit.serving.http.answering import Answerer
from serkit.serving.http.worker import Task
from serkit.serving.notes import NARROW, SENT

from .signals import GOLDEN, quiet, voice, wav, wide

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


def call(rate: int = 8000, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """A recording of this sampling rate, which has sound up to half of it."""
    return soxr.resample(wide(seconds, seed=seed), 16000, rate).astype(np.float32)


@pytest.mark.parametrize(("rate", "sent"), [(8000, True), (16000, False), (44100, False)])
def test_recordings_of_8_khz_are_answered_by_it_in_place_of_default(rate: int, sent: bool, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(call(rate), rate=rate))
    model, telephone = serkit.load("default"), serkit.load("telephone")
    other = telephone if sent else serkit.load("default", calls="none")
    both = np.stack([call(rate), call(rate)], axis=1)
    for recording, options in (
        (path, {}),
        (path.read_bytes(), {"by": "segment"}),
        (call(rate), {"rate_hz": rate, "by": "window", "window_s": 1.0, "hop_s": 0.5}),
        (both, {"rate_hz": rate}),
        (wav(both, rate=rate), {"by": "channel"}),
        (path, {"threshold": 0.5, "labels": ["anger", "fear", "sadness"]}),
        (path, {"coverage": 0.9}),
    ):
        found = model.predict(recording, **options)
        wanted = other.predict(recording, **options)
        assert found == replace(wanted, notes=found.notes)
        assert [n for n in found.notes if n not in wanted.notes] == [SENT.format(name="telephone")] * sent
    assert model.predict_proba([path, wav(wide(1.0))])[0] == pytest.approx(
        list((telephone if sent else model).predict(path, by="clip").probabilities.values()), abs=1e-5
    )
    stream = model.stream(rate_hz=rate)
    stream.push(call(rate))
    stream.finish()
    assert stream.prediction.model == (telephone if sent else model).id
    assert model.explain(path, end_s=0.8).model == (telephone if sent else model).id


def test_a_call_is_known_by_its_sound_where_it_was_resampled(tmp_path: Path) -> None:
    model, telephone = serkit.load("default"), serkit.load("telephone")
    resampled = soxr.resample(call(8000, 3.0), 8000, 16000).astype(np.float32)
    pauses = np.concatenate([quiet(0.7, 1e-6), resampled, quiet(0.7, 1e-6), resampled])
    for options in ({}, {"by": "segment"}, {"by": "window", "window_s": 1.0, "hop_s": 0.5}, {"by": "clip"}):
        found = model.predict(pauses, rate_hz=16000, **options)
        wanted = telephone.predict(pauses, rate_hz=16000, **options)
        assert found == replace(wanted, notes=(*found.notes,))
        assert SENT.format(name="telephone") in found.notes
        streams = [model.stream(rate_hz=16000, **options) for _ in range(2)]
        for stream, size in zip(streams, (1000, 16000), strict=True):
            for k in range(0, len(pauses), size):
                stream.push(pauses[k : k + size])
            stream.finish()
        assert streams[0].prediction == streams[1].prediction
        assert streams[0].prediction.probabilities == pytest.approx(found.probabilities, abs=1e-4)
    assert model.explain(resampled, rate_hz=16000).model == telephone.id
    mixed = [wav(resampled), wav(wide(3.0))]
    assert model.predict_proba(mixed) == pytest.approx(
        np.array(
            [
                list(m.predict(x, by="clip").probabilities.values())
                for m, x in ((telephone, mixed[0]), (model, mixed[1]))
            ]
        ),
        abs=1e-5,
    )
    answering = Answerer("default")
    both = answering.predict([Task(x) for x in mixed], [None] * 2, lambda s: None)
    assert [bool(found["notes"]) for found in both] == [True, False]
    alone = [answering.predict([Task(x)], [None], lambda s: None)[0] for x in mixed]
    for one, together in zip(alone, both, strict=True):
        assert one["scores"] == pytest.approx(together["scores"], abs=1e-5)
        assert one["notes"] == together["notes"]


def test_what_is_too_faint_or_too_short_to_tell_is_answered_by_the_model_asked() -> None:
    assert narrow(1e-4 * call(16000)) is None
    assert narrow(call(16000, 0.4)) is None
    assert narrow(call(16000)) is False
    assert narrow(soxr.resample(call(8000), 8000, 16000)) is True
    faint = 1e-4 * soxr.resample(call(8000), 8000, 16000).astype(np.float32)
    assert serkit.load("default").predict_proba([wav(faint)]).shape == (1, 9)
    assert serkit.load("default").for_sound(faint) is None


def test_only_default_by_its_name_has_one_unless_it_is_said(tmp_path: Path) -> None:
    narrow = call()
    plain = serkit.load("default", calls="none")
    assert plain.predict(narrow, rate_hz=8000).model == plain.id
    assert NARROW in plain.predict(narrow, rate_hz=8000).notes
    assert serkit.load("telephone").calls is None
    copied = tmp_path / "default.zip"
    copied.write_bytes((NAMED / "default.zip").read_bytes())
    assert serkit.load(copied).calls is None
    assert serkit.load(copied, calls="telephone").predict(narrow, rate_hz=8000).model == serkit.load("telephone").id
    with pytest.raises(SerkitError, match=r"calls: 'tiny' answers with anger, fear, .* expected what 'default'"):
        serkit.load("default", calls=GOLDEN)
    with pytest.raises(SerkitError, match=r"no bundle 'telefone'.*did you mean 'telephone'"):
        serkit.load("default", calls="telefone")


def test_a_batch_of_the_service_answers_each_clip_by_its_own_model() -> None:
    answering = Answerer("default")
    clips = [Task(wav(call(16000 if k % 2 else 8000, 1.5, seed=k), rate=16000 if k % 2 else 8000)) for k in range(4)]
    alone = [answering.predict([clip], [None], lambda heard_s: None)[0] for clip in clips]
    for k, (together, one) in enumerate(zip(answering.predict(clips, [None] * 4, lambda s: None), alone, strict=True)):
        assert together["notes"] == one["notes"] == ([] if k % 2 else [SENT.format(name="telephone")])
        assert together["label"] == one["label"]
        scores = [list(found["scores"].values()) for found in (together, one)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert Answerer("default", "none").predict(clips[:1], [None], lambda s: None)[0]["notes"] == [NARROW]


def test_a_model_adapted_to_calls_does_not_send_them_away(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(2.0, seed=k)[::2], rate=8000))
    made = adapting.adapt("default", sorted(tmp_path.glob("*.wav")))
    adapting.write(made, tmp_path / "mine.zip")
    assert NARROW not in serkit.load(tmp_path / "mine.zip").predict(tmp_path / "0.wav").notes


def test_the_command_says_it_once_for_a_folder(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(1.5, seed=k)[::2], rate=8000))

    def asked(*words: str) -> tuple[str, str]:
        done = CliRunner().invoke(app, ["predict", str(tmp_path), "--format", "csv", *words])
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    answers, said = asked()
    assert answers.count("\n") == 4
    assert said.count(SENT.format(name="telephone")) == 1
    assert "2 more" in said
    assert asked("--model", "telephone")[0] == answers
    answers, said = asked("--calls", "none")
    assert said.count(NARROW) == 1
    assert asked("--model", "telephone")[0] != answers
