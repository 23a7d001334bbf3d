"""Explanations: each number is what the model answers to the altered clip, asked by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import serkit
from serkit.errors import SerkitError
from serkit.pipeline import Run
from serkit.progress import Progress
from serkit.serving import explaining
from serkit.serving.building import build
from serkit.serving.predictor import Model

from .signals import RATE, quiet, talk, voice, wav


def log_odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_effects_are_the_fall_of_the_log_odds_when_a_stretch_is_silenced(model: Model) -> None:
    clip = voice(1.5)
    found = model.explain(clip, rate_hz=RATE)
    answer = model.predict(clip, rate_hz=RATE, by="clip")
    assert (found.label, found.answer) == (answer.label, answer.label)
    assert found.probability == pytest.approx(answer.confidence, abs=1e-6)
    assert [s.start_s for s in found.stretches] == pytest.approx([0.15 * k for k in range(10)])
    assert found.stretches[-1].end_s == pytest.approx(1.5)
    column = model.labels.index(found.label)
    level = explaining.quiet_level(clip)
    for stretch in found.stretches[::3]:
        a, b = round(stretch.start_s * RATE), round(stretch.end_s * RATE)
        silenced = explaining.silence(clip, a, b, level)
        p = model.score_clips([clip, silenced])[:, column]
        assert stretch.effect == pytest.approx(log_odds(p[0]) - log_odds(p[1]), abs=1e-5)
    effects = [s.effect for s in found.stretches]
    assert np.ptp(effects) > 1e-3
    assert [s.effect for s in found.salient] == sorted(effects, reverse=True)[: found.n_salient]


def test_a_stretch_is_turned_down_to_the_quietest_tenth_and_nothing_else_changes() -> None:
    clip = np.concatenate([quiet(0.5), voice(1.0)])
    level = explaining.quiet_level(clip)
    assert level == pytest.approx(1e-4, rel=0.2)
    found = explaining.silence(clip, 12_000, 14_400, level)
    assert np.array_equal(found[:12_000], clip[:12_000])
    assert np.array_equal(found[14_400:], clip[14_400:])
    inside = found[12_160:14_240]
    assert np.sqrt((inside**2).mean()) < 3 * level
    assert np.abs(np.diff(found[11_990:12_170])).max() <= np.abs(np.diff(clip)).max()
    assert np.array_equal(explaining.silence(clip, 0, 2_400, 1.0), clip)


def test_what_is_altered_is_answered_as_the_altered_clip_would_be(model: Model) -> None:
    clip = voice(1.2, seed=3)
    found = {a.name: a for a in model.explain(clip, rate_hz=RATE).altered}
    assert set(found) == {v.name for v in explaining.VARIATIONS}
    softer = (clip * 10 ** (-10 / 20)).astype(np.float32)
    answer = model.predict(softer, rate_hz=RATE, by="clip")
    assert found["softer"].label == answer.label
    assert found["softer"].confidence == pytest.approx(answer.confidence, abs=1e-5)


def test_each_system_alone_is_the_mean_logit_of_its_networks(model: Model) -> None:
    clip = voice(1.2)
    found = model.explain(clip, rate_hz=RATE, labels=["anger", "fear", "sadness"])
    logits = model.scorer.logits([model.scorer.features(clip, None)], {})
    systems = list(dict.fromkeys(system for system, _ in logits))
    assert [s.system for s in found.systems] == systems
    columns = [model.labels.index(name) for name in ("anger", "fear", "sadness")]
    for told in found.systems:
        mean = np.mean([v[0] for (system, _), v in logits.items() if system == told.system], axis=0)[columns]
        shares = np.exp(mean) / np.exp(mean).sum()
        assert told.confidence == pytest.approx(float(shares.max()), abs=1e-6)
        assert told.probability == pytest.approx(
            float(shares[found.label == np.array(["anger", "fear", "sadness"])][0])
        )


def test_cues_compare_the_telling_stretches_with_the_clip(model: Model) -> None:
    low, high = voice(0.9, pitch_hz=110.0), voice(0.9, pitch_hz=220.0)
    clip = np.concatenate([low, high])
    pieces = explaining.pieces_of(clip)
    cues = {c.name: c for c in explaining._cues(clip, pieces[-5:])}
    assert cues["f0_semitones"].unit == "Hz"
    assert cues["f0_semitones"].salient == pytest.approx(220, rel=0.15)
    assert 110 < cues["f0_semitones"].clip < cues["f0_semitones"].salient
    assert cues["f0_semitones"].deviations > 0.5
    assert explaining._cues(quiet(1.0), explaining.pieces_of(quiet(1.0))[:5]) == []


def test_words_are_left_out_one_by_one(finished: Path, tmp_path: Path) -> None:
    model = serkit.load(build(Run(finished), tmp_path / "b.zip", method="none").path)
    assert model.reads_text
    clip, text = voice(1.0), "what a lovely surprise"
    found = model.explain(clip, rate_hz=RATE, text=text)
    assert [w.text for w in found.words] == text.split()
    column = model.labels.index(found.label)
    p = model.score_clips([clip, clip], [text, "what a surprise"])[:, column]
    assert found.words[2].effect == pytest.approx(log_odds(p[0]) - log_odds(p[1]), abs=1e-5)
    assert any(abs(w.effect) > 1e-4 for w in found.words)
    assert model.explain(clip, rate_hz=RATE).words == []


def test_long_texts_and_long_clips_are_asked_in_bounded_parts() -> None:
    words = explaining._words(" ".join(f"w{k}" for k in range(150)))
    assert len(words) <= explaining.MOST_WORDS
    assert " ".join(words).split()[-1] == "w149"
    assert len(explaining.pieces_of(np.zeros(RATE * 20))) == explaining.MOST_STRETCHES
    assert explaining.pieces_of(np.zeros(100)) == [(0, 100)]


def test_a_part_of_a_file_has_its_own_times_and_progress_is_told(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(talk(2)))
    seen: list[Progress] = []
    found = model.explain(path, start_s=0.7, end_s=1.9, progress=seen.append)
    assert (found.start_s, found.end_s) == pytest.approx((0.7, 1.9))
    assert found.stretches[0].start_s == pytest.approx(0.7)
    assert found.path == str(path)
    assert seen[-1].done == seen[-1].total == len(found.stretches) + len(explaining.VARIATIONS)
    assert json.loads(json.dumps(found.to_row()))["label"] == found.label


def test_what_cannot_be_explained_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="no speech was found"):
        model.explain(quiet(1.0), rate_hz=RATE)
    with pytest.raises(SerkitError, match="did you mean 'anger'"):
        model.explain(voice(1.0), rate_hz=RATE, label="angre")
    with pytest.raises(SerkitError, match="rate_hz"):
        model.explain(voice(1.0))
    with pytest.raises(SerkitError, match="cut the array itself"):
        model.explain(voice(1.0), rate_hz=RATE, start_s=0.1)
    path = tmp_path / "long.wav"
    path.write_bytes(wav(talk(12)))
    with pytest.raises(SerkitError, match=r"longer than the 20 s .* speech is at 0\.\d\d to \d\.\d\d s, .*…"):
        model.explain(path)


def test_another_label_can_be_explained(model: Model) -> None:
    clip = voice(1.0)
    answer = model.predict(clip, rate_hz=RATE, by="clip")
    least = min(answer.probabilities, key=lambda name: answer.probabilities[name])
    found = model.explain(clip, rate_hz=RATE, label=least)
    assert (found.label, found.answer) == (least, answer.label)
    assert found.probability == pytest.approx(answer.probabilities[least], abs=1e-6)
    assert replace(found, path="x").to_row()["path"] == "x"


def test_explaining_loads_no_torch() -> None:
    code = (
        "import sys, serkit; m = serkit.load(); m.explain(serkit.example(), end_s=2.0); "
        "print(sorted({'torch', 'sklearn', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
