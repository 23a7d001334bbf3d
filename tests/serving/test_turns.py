"""Sessions with marked turns: one answer for each turn, that of the model to the same samples, in bounded memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.serving.predictor import Model
from serkit.serving.turns import KEPT_S, LEAD_S, PAUSE_S, RECENT_S, Chunk, Session, TurnAnswer

from .signals import RATE, quiet, voice

STEP_S = 0.02


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.round(np.clip(sound, -1, 1) * 32767).astype("<i2")


class Call:
    """A session, and all that it has heard by now, as samples."""

    def __init__(self, model: Model, **options: Any) -> None:
        self.model, self.session = model, Session(model, **options)
        self.heard = np.zeros((0, 1), np.int16)
        self.answers: list[TurnAnswer] = []

    def says(self, sound: np.ndarray, rate: int = RATE, step_s: float = STEP_S) -> None:
        samples = pcm(sound).reshape(len(sound), -1)
        self.heard = np.concatenate([self.heard, samples]) if len(self.heard) else samples
        start = len(self.heard) - len(samples)
        size = max(1, round(step_s * rate))
        for k in range(0, len(samples), size):
            part = samples[k : k + size]
            at = (start + k) / rate, (start + k + len(part)) / rate
            self.answers += self.session.hear(Chunk(part.tobytes(), rate, part.shape[1], *at))

    def marks(self, name: str, *given: float) -> None:
        self.answers += getattr(self.session, name)(*given)

    def agrees(self, answer: TurnAnswer, rate: int = RATE, **options: Any) -> None:
        samples = self.heard[round(answer.start_s * rate) : round(answer.end_s * rate)]
        want = self.model.predict(samples, rate_hz=rate, by="clip", **options)
        assert answer.probabilities == pytest.approx(want.probabilities, abs=0 if rate == RATE else 1e-5)
        assert (answer.label, answer.abstain, answer.model) == (want.label, want.abstain, want.model)
        assert answer.speech_s == pytest.approx(want.speech_s, abs=0.02)


def test_a_turn_is_answered_as_the_model_answers_its_samples(model: Model) -> None:
    call = Call(model)
    call.says(quiet(1.0))
    call.says(voice(0.3))
    call.marks("voice_started", 0.2)
    call.marks("turn_started")
    call.says(voice(1.7))
    call.marks("voice_stopped")
    call.says(quiet(0.4))
    call.marks("turn_stopped")
    pause, final = call.answers
    assert (pause.kind, final.kind) == ("pause", "final")
    assert pause.probabilities == final.probabilities
    assert final.start_s == pytest.approx(1.3 - 0.2 - LEAD_S, abs=STEP_S)
    assert final.end_s == pytest.approx(3.0)
    call.agrees(final)


def test_a_turn_that_goes_on_after_a_pause_is_one_turn(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    call.says(voice(1.0))
    call.marks("voice_stopped")
    call.says(quiet(0.6))
    call.marks("voice_started", 0.2)
    call.says(voice(1.0, seed=3, pitch_hz=190))
    call.marks("voice_stopped")
    call.says(quiet(0.2))
    call.marks("turn_stopped")
    assert [a.kind for a in call.answers] == ["pause", "pause", "final"]
    assert [(a.start_s, a.end_s) for a in call.answers] == [(0, 1.0), (0, pytest.approx(2.6)), (0, pytest.approx(2.6))]
    for answer in call.answers:
        call.agrees(answer)


def test_marks_of_a_vad_alone_are_turns(model: Model) -> None:
    call = Call(model)
    for seed in range(2):
        call.says(quiet(1.0))
        call.marks("voice_started", 0.0)
        call.says(voice(0.8, seed))
        call.marks("voice_stopped")
    assert [a.kind for a in call.answers] == ["final", "final"]
    for answer in call.answers:
        call.agrees(answer)


def test_a_turn_whose_start_is_marked_after_its_voice_has_one_answer(model: Model) -> None:
    """As where turns begin with their transcript, which comes after the VAD's end."""
    call = Call(model)
    call.says(quiet(1.0))
    call.marks("voice_started", 0.2)
    call.says(voice(1.5))
    call.marks("voice_stopped")
    call.says(quiet(0.7))
    call.marks("turn_started")
    call.says(quiet(0.4))
    call.marks("turn_stopped")
    (answer,) = call.answers
    assert (answer.kind, answer.end_s) == ("final", 2.5)
    call.agrees(answer)
    call.says(quiet(RECENT_S))
    call.marks("turn_started")  # of another one, by then
    call.says(voice(1.0, seed=3))
    call.marks("turn_stopped")
    assert [a.kind for a in call.answers] == ["final", "final"]
    assert call.answers[1].start_s == pytest.approx(3.6 + RECENT_S - LEAD_S, abs=STEP_S)


def test_a_turn_whose_start_is_marked_late_may_go_on(model: Model) -> None:
    call = Call(model)
    call.marks("voice_started")
    call.says(voice(1.0))
    call.marks("voice_stopped")
    call.says(quiet(0.5))
    call.marks("turn_started")
    call.says(quiet(0.5))
    call.marks("voice_started", 0.2)
    call.says(voice(1.0, seed=3))
    call.marks("voice_stopped")
    call.marks("turn_stopped")
    assert [(a.kind, a.start_s, a.end_s) for a in call.answers] == [("final", 0, 1), ("pause", 0, 3), ("final", 0, 3)]
    for answer in call.answers:
        call.agrees(answer)


def test_without_marks_each_stretch_of_speech_is_a_turn(model: Model) -> None:
    call = Call(model)
    for seed in range(3):
        call.says(quiet(1.0))
        call.says(voice(1.0, seed))
    call.says(quiet(1.0))
    assert len(call.answers) == 3  # before the end
    call.marks("finish")
    want = model.predict(call.heard, rate_hz=RATE).segments
    assert [(a.start_s, a.end_s, a.label) for a in call.answers] == [(s.start_s, s.end_s, s.label) for s in want]
    assert [a.probabilities for a in call.answers] == [s.probabilities for s in want]


def test_with_the_first_mark_serkit_s_own_stretches_end(model: Model) -> None:
    call = Call(model)
    call.says(quiet(1.0))
    call.says(voice(0.4))
    call.marks("voice_started", 0.3)
    call.says(voice(0.6))
    call.marks("voice_stopped")
    call.says(np.concatenate([quiet(1.0), voice(1.0), quiet(1.0)]))
    assert [a.kind for a in call.answers] == ["final"]


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_number_of_channels(model: Model, rate: int, channels: int) -> None:
    import soxr

    sound = soxr.resample(np.concatenate([quiet(0.4), voice(1.5)]), RATE, rate)
    sound = np.repeat(sound[:, None], channels, axis=1)
    call = Call(model)
    call.says(sound[: rate // 2], rate)
    call.marks("turn_started")
    call.says(sound[rate // 2 :], rate)
    call.marks("turn_stopped")
    (answer,) = call.answers
    call.agrees(answer, rate)


def test_turns_of_next_to_nothing(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    call.marks("turn_stopped")
    assert call.answers == []  # nothing was heard
    call.marks("turn_started")
    call.says(voice(0.05))
    call.marks("turn_stopped")
    call.marks("turn_started")
    call.says(quiet(1.0))
    call.marks("turn_stopped")
    assert [(a.kind, a.abstain) for a in call.answers] == [("final", "no_speech")] * 2
    call.agrees(call.answers[0])


def test_turns_close_together_share_no_sound(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    call.says(voice(0.6))
    call.marks("voice_stopped")
    call.says(quiet(0.3))
    call.marks("turn_stopped")
    call.says(quiet(0.04))
    call.marks("turn_started")
    call.says(voice(0.6, seed=2))
    call.marks("turn_stopped")
    _, first, second = call.answers
    assert first.end_s == pytest.approx(0.6)
    assert second.start_s == pytest.approx(0.6)  # what came after the pause is the start of the next
    call.agrees(second)


def test_a_turn_that_nobody_ends_is_over_some_time_after_its_pause(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    call.says(voice(1.0))
    call.marks("voice_stopped")
    call.says(quiet(PAUSE_S + 1), step_s=0.1)
    assert [a.kind for a in call.answers] == ["pause", "final"]
    call.marks("turn_stopped")
    assert len(call.answers) == 2


def test_nothing_is_heard_while_muted(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    call.says(voice(1.0))
    call.marks("mute")
    call.says(voice(1.0, seed=1))
    call.marks("turn_started")
    call.says(voice(1.0, seed=2))
    call.marks("turn_stopped")
    call.marks("unmute")
    call.says(quiet(0.2))
    call.marks("turn_started")
    call.says(voice(1.0, seed=3))
    call.marks("turn_stopped")
    assert [(a.start_s, a.end_s) for a in call.answers] == [(0, 1.0), (pytest.approx(3.0), pytest.approx(4.2))]
    for answer in call.answers:
        call.agrees(answer)


def test_another_sampling_rate_ends_a_turn(model: Model) -> None:
    session = Session(model)
    session.turn_started()
    assert session.hear(Chunk(pcm(voice(1.0)).tobytes(), RATE, 1, 0.0, 1.0)) == []
    (answer,) = session.hear(Chunk(pcm(voice(1.0)).tobytes(), 8_000, 1, 1.0, 3.0))
    assert (answer.kind, answer.end_s) == ("final", 1.0)
    assert session.turn_stopped() == []


def test_partial_answers_while_somebody_speaks(model: Model) -> None:
    call = Call(model, partial_s=1.0)
    call.says(quiet(0.5))
    call.marks("turn_started")
    call.says(voice(3.5))
    call.marks("turn_stopped")
    kinds = [a.kind for a in call.answers]
    assert kinds[-1] == "final"
    assert kinds.count("partial") in (3, 4)
    assert all(0.2 <= a.start_s < a.end_s <= 4.0 for a in call.answers if a.kind == "partial")


def test_a_long_turn_is_answered_at_its_end_in_bounded_memory(model: Model) -> None:
    call = Call(model)
    call.marks("turn_started")
    for seed in range(4):
        call.says(voice(KEPT_S / 3, seed), step_s=0.1)
    call.marks("voice_stopped")  # could not be heard again: heard on
    turn = call.session._turn
    assert turn is not None
    assert turn._kept == []
    call.says(voice(1.0), step_s=0.1)
    call.marks("turn_stopped")
    assert [a.kind for a in call.answers] == ["final"]
    call.agrees(call.answers[0])


def test_between_turns_little_sound_is_kept(model: Model) -> None:
    call = Call(model)
    call.says(quiet(RECENT_S * 4))
    kept = call.session._recent
    assert sum(sys.getsizeof(c.audio) for c in kept) < 2 * 2 * RECENT_S * RATE


def test_an_incomplete_sample_is_left_out(model: Model) -> None:
    session = Session(model)
    session.turn_started()
    assert session.hear(Chunk(b"\0", RATE, 1, 0.0, 0.0)) == []
    session.hear(Chunk(pcm(voice(1.0)).tobytes() + b"\0", RATE, 1, 0.0, 1.0))
    (answer,) = session.turn_stopped()
    assert answer.probabilities == model.predict(pcm(voice(1.0)), rate_hz=RATE, by="clip").probabilities


def test_options_are_refused_before_the_session(model: Model) -> None:
    with pytest.raises(SerkitError, match="no label 'angr'"):
        Session(model, labels=["angr", "neutral"])
    with pytest.raises(SerkitError, match="no/such/bundle"):
        Session("no/such/bundle").load()
