"""Speakers summed up: means over their own parts by speech, in the order in which they speak."""

from __future__ import annotations

import pytest

from serkit.serving.predictor import Model
from serkit.serving.results import Segment
from serkit.serving.speakers import speakers_of
from serkit.serving.timeline import Turn

from .signals import RATE, talk


def part(start_s: float, end_s: float, speaker: str | None, joy: float, speech_s: float) -> Segment:
    label = "joy" if joy > 0.5 else "anger"
    shares = {"joy": joy, "anger": 1 - joy}
    return Segment(start_s, end_s, label, shares[label], shares, "", label, speaker, None, speech_s)


def test_a_speaker_is_the_mean_of_the_parts_by_speech() -> None:
    parts = [
        part(0, 2, "B", 0.9, 1.0),
        part(1, 4, "A", 0.2, 2.0),
        part(4, 5, None, 1.0, 1.0),
        part(6, 9, "B", 0.3, 3.0),
    ]
    first, second = speakers_of(parts, "turn", cut=0.6)
    assert (first.speaker, second.speaker) == ("B", "A")
    assert first.probabilities == pytest.approx({"joy": 0.45, "anger": 0.55})
    assert (first.label, first.abstain, first.speech_s) == ("anger", "unsure", 4.0)
    assert first.summary == {"anger": 3.0, "joy": 2.0}
    assert (second.label, second.confidence, second.abstain) == ("anger", 0.8, "")
    assert speakers_of([part(0, 1, None, 0.4, 1.0)], "segment", cut=0.0) == ()


def test_one_who_says_nothing_has_an_answer_that_does_not_count() -> None:
    (found,) = speakers_of([part(0, 1, "A", 0.9, 0.0), part(2, 3, "A", 0.7, 0.0)], "turn", cut=0.0)
    assert found.abstain == "no_speech"
    assert found.probabilities["joy"] == pytest.approx(0.8)


def test_windows_that_overlap_count_once_for_each() -> None:
    parts = [part(0, 3, "A", 0.9, 2.0), part(1.5, 4.5, "B", 0.1, 2.0), part(3, 6, "A", 0.9, 2.0)]
    first, second = speakers_of(parts, "window", cut=0.0)
    assert first.summary == {"joy": 6.0}
    assert second.summary == {"anger": 3.0}


def test_turns_of_a_recording_are_summed_up(model: Model) -> None:
    turns = [Turn(0.5, 2.2, "Ann"), Turn(2.4, 4.3, "Bob"), Turn(4.9, 7.0, "Ann")]
    found = model.predict(talk(3), rate_hz=RATE, by="turn", turns=turns)
    assert [s.speaker for s in found.speakers] == ["Ann", "Bob"]
    for speaker in found.speakers:
        own = [s for s in found.segments if s.speaker == speaker.speaker]
        assert speaker.speech_s == pytest.approx(sum(s.speech_s for s in own))
        assert speaker.confidence == max(speaker.probabilities.values())
        assert sum(speaker.probabilities.values()) == pytest.approx(1)
    assert model.predict(talk(3), rate_hz=RATE).speakers == ()
