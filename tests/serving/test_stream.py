"""Streams: finals equal the file's answer, partials come while somebody speaks, memory stays put."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serkit.errors import SerkitError
from serkit.segments import SegmentSettings
from serkit.serving import resampling
from serkit.serving.pieces import GivenCutter, WindowCutter, given_pieces
from serkit.serving.predictor import Model, load
from serkit.serving.results import By, Segment
from serkit.serving.scorer import Features, Logits, Scorer
from serkit.serving.stream import Stream, StreamEvent
from serkit.serving.timeline import Turn

from .signals import RATE, quiet, talk, voice, wav, wide

SAID = (Turn(0.9, 1.2, None, "oh"), Turn(2.0, 2.4, None, "well"), Turn(5.0, 5.0, None, "no"))


def fed(stream: Stream, sound: np.ndarray, sizes: list[int]) -> list[StreamEvent]:
    events, at, k = [], 0, 0
    while at < len(sound):
        events += stream.push(sound[at : at + sizes[k % len(sizes)]])
        at, k = at + sizes[k % len(sizes)], k + 1
    return events + stream.finish()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(100, 40_000), min_size=1, max_size=4))
def test_finals_equal_the_file_s_answer_in_any_chunks(model: Model, sizes: list[int]) -> None:
    sound = np.round(talk(3) * 32768) / 32768
    stream = model.stream(partial_s=None)
    finals = [e.segment for e in fed(stream, sound, sizes)]
    whole = model.predict(wav(sound, subtype="PCM_16"))
    assert tuple(finals) == whole.segments
    assert replace(stream.prediction, path=None) == replace(whole, path=None)
    assert len(finals) == 3


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_other_rates_agree_too(model: Model, rate: int) -> None:
    sound = np.round(soxr.resample(talk(2), RATE, rate) * 32768) / 32768
    finals = [e.segment for e in fed(model.stream(rate_hz=rate, partial_s=None), sound, [777, 12_345])]
    whole = model.predict(wav(sound, rate, subtype="PCM_16")).segments
    assert [(s.start_s, s.end_s, s.label) for s in finals] == [(s.start_s, s.end_s, s.label) for s in whole]
    for a, b in zip(finals, whole, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"by": "window", "window_s": 2.0, "hop_s": 0.7},
        {"by": "turn", "turns": [Turn(0.5, 2.2, "A"), Turn(2.0, 5.0, "B")]},
        {"by": "sentence", "sentences": [Turn(0.8, 1.9, None, "well"), Turn(2.5, 99.0, "A", "no")]},
        {"by": "word", "sentences": [Turn(0.8, 5.9, "A", "oh well no", SAID), Turn(7.5, 99.0, "B", "yes")]},
        {"by": "clip"},
        {"by": "segment", "labels": ("anger", "fear")},
    ],
)
def test_every_division_streams(model: Model, options: dict[str, Any]) -> None:
    sound = np.concatenate([talk(3), voice(14), quiet(1)])
    stream = model.stream(partial_s=None, **options)
    fed(stream, sound, [3_333])
    assert stream.prediction == model.predict(sound, rate_hz=RATE, **options)
    assert (options["by"] == "clip") == (not stream.prediction.segments)


def test_partials_come_while_somebody_speaks(model: Model) -> None:
    sound = np.concatenate([quiet(1), voice(5), quiet(1.5)])
    events = fed(model.stream(partial_s=1.0), sound, [1_600])
    kinds = [e.kind for e in events]
    assert kinds[-1] == "final"
    assert 2 <= kinds.count("partial") <= 5
    final = events[-1].segment
    for event in events[:-1]:
        assert event.segment.start_s == final.start_s
        assert event.at_s <= final.end_s + 1.0
        assert 0 < event.segment.speech_s <= final.speech_s
        assert event.segment.speech_s <= event.segment.end_s - event.segment.start_s
        assert event.segment.probabilities.keys() == final.probabilities.keys()


def test_a_final_answer_comes_soon_after_speech_ends(model: Model) -> None:
    sound = np.concatenate([quiet(1), voice(2), quiet(3)])
    stream = model.stream(partial_s=None)
    events = fed(stream, sound, [800])
    assert len(events) == 1
    assert events[0].at_s < 3.0 + 0.4 + 0.3 + 0.1  # the pause that ends it, a block of the detector, a chunk
    assert 0 < events[0].latency_s - events[0].work_s < 2.5
    assert stream.work_s > 0
    assert stream.heard_s == pytest.approx(6.0)


def test_hours_of_speech_keep_no_more_than_seconds(model: Model) -> None:
    stream = model.stream(partial_s=None)
    block = np.concatenate([voice(2), quiet(0.6)])
    for _ in range(20):
        stream.push(block)
    kept = stream._recent.end - stream._recent._start
    assert kept < 15 * RATE
    assert stream._head.end < 25 * RATE


def test_a_long_array_takes_no_more_memory_than_its_blocks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours in one call took 2.3 GB: they were converted, and kept, as a whole."""
    monkeypatch.setattr(resampling, "BLOCK", 20_000)
    sound = (talk(3) * 30_000).astype(np.int16)
    stream, longest = model.stream(), 0
    real = stream._to_16k

    def to_16k(chunk: np.ndarray, last: bool) -> np.ndarray:
        nonlocal longest
        longest = max(longest, len(chunk), *map(len, stream._recent._parts))
        return real(chunk, last)

    monkeypatch.setattr(stream, "_to_16k", to_16k)
    events = stream.push(sound)
    assert longest == 20_000
    assert [e.kind for e in events].count("partial") == 0, "what is open at the end of the chunk alone has one"
    stream.finish()
    monkeypatch.undo()
    whole = model.stream(partial_s=None)
    assert [e.segment for e in events] == [e.segment for e in whole.push(sound)]
    whole.finish()
    assert stream.prediction == whole.prediction
    late = model.stream()
    late.push(talk(3))
    with pytest.raises(SerkitError, match=rf"first at sample {len(sound) + 7}\)"):
        late.push(np.where(np.arange(9) == 7, np.nan, np.zeros(9)))
    short = model.stream(max_s=1.0)
    with pytest.raises(SerkitError, match=r"longer than 1 s"):
        short.push(sound)
    assert short.heard_s == 0, "refused before any work"
    exact = model.stream(max_s=0.3)
    for n in (1600, 3200):  # 0.1 + 0.2 > 0.3
        exact.push(sound[:n])
    assert exact.heard_s == 0.3


def test_misuse_is_one_clear_line(model: Model) -> None:
    stream = model.stream()
    with pytest.raises(SerkitError, match="not finished"):
        _ = stream.prediction
    with pytest.raises(SerkitError, match="no samples"):
        stream.finish()
    with pytest.raises(SerkitError, match="open another"):
        stream.push(voice(1))
    with pytest.raises(SerkitError, match="sampling rate"):
        model.stream(rate_hz=11)
    with pytest.raises(SerkitError, match="did you mean 'segment'"):
        model.stream(by="segments")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="needs the turns"):
        model.stream(by="turn")
    with pytest.raises(SerkitError, match="needs a transcript"):
        model.stream(by="sentence")
    with pytest.raises(SerkitError, match="a hop within them"):
        model.stream(by="window", window_s=1.0, hop_s=2.0)
    with pytest.raises(SerkitError, match="by 'segment' has no windows"):
        model.stream(window_s=2.0)
    with pytest.raises(SerkitError, match="partial_s"):
        model.stream(partial_s=0)


@pytest.mark.parametrize("by", ["segment", "channel"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_raw_bytes_are_no_samples(model: Model, kind: Any, by: By) -> None:
    """numpy would take a bytearray of 16-bit samples for twice as many of 8 bits."""
    stream = model.stream(by=by)
    with pytest.raises(SerkitError, match=r"a chunk of 64 bytes: expected an array .*np\.frombuffer"):
        stream.push(kind(bytes(64)))
    stream.push(np.frombuffer(bytes(64), dtype=np.int16))
    stream.push(memoryview(np.zeros(32, dtype=np.int16)))  # type: ignore[arg-type]  # which says its width
    assert stream.heard_s == 64 / RATE


@pytest.mark.parametrize("by", ["segment", "channel"])
def test_a_stream_that_heard_nothing_has_no_answer(model: Model, by: By) -> None:
    stream = model.stream(by=by)
    with pytest.raises(SerkitError, match="no samples"):
        stream.finish()
    with pytest.raises(SerkitError, match="the stream "):
        _ = stream.prediction


def test_empty_chunks_are_nothing(model: Model) -> None:
    stream = model.stream()
    assert stream.push(np.zeros(0, np.float32)) == []
    stream.push(voice(1))
    stream.push(np.zeros((0, 2), np.float32))
    stream.finish()
    assert stream.finish() == []
    assert stream.prediction.duration_s == 1.0


def test_windows_cover_speech_on_their_grid(model: Model) -> None:
    sound = np.concatenate([quiet(4), voice(6), quiet(4)])
    parts = model.predict(sound, rate_hz=RATE, by="window", window_s=2.0, hop_s=1.0).segments
    assert all(p.start_s == int(p.start_s) and p.end_s - p.start_s == 2.0 for p in parts)
    assert parts[0].start_s >= 2
    assert parts[-1].end_s <= 13
    assert {p.start_s for p in parts} >= {4.0, 5.0, 6.0, 7.0, 8.0}
    halves = model.predict(sound, rate_hz=RATE, by="window", window_s=1.0).segments
    assert {p.start_s for p in halves} >= {5.0, 5.5, 6.0, 6.5}, "half a window from one to the next"
    short = model.predict(voice(0.7), rate_hz=RATE, by="window").segments
    assert [(p.start_s, p.end_s) for p in short] == [(0.0, 0.7)]


@pytest.mark.parametrize(
    ("length_s", "last"), [(4.0, (1.5, 4.0)), (4.5, (1.5, 4.5)), (4.6, (3.0, 4.6)), (2.0, (0.0, 2.0))]
)
def test_the_rest_is_a_window_unless_the_one_before_holds_it(length_s: float, last: tuple[float, float]) -> None:
    cutter = WindowCutter(3.0, 1.5, SegmentSettings())
    sound = voice(length_s)
    pieces = [*cutter.push(sound), *cutter.finish()]
    assert (pieces[-1].start / RATE, pieces[-1].end / RATE) == pytest.approx(last)
    assert [p.start / RATE for p in pieces] == pytest.approx([1.5 * k for k in range(len(pieces))])


def test_a_long_turn_that_goes_beyond_the_recording_still_ends_with_it() -> None:
    """Of a turn of 30 s in pieces of less than 4 s, 6 s are there: the second piece is the last."""
    cutter = GivenCutter(given_pieces("turn", [Turn(0.0, 30.0)], (), 4.0), SegmentSettings())
    pieces = [*cutter.push(voice(6.0)), *cutter.finish()]
    assert [(p.start / RATE, p.end / RATE, p.last) for p in pieces] == [(0.0, 3.75, False), (3.75, 6.0, True)]
    assert pieces[-1].until == 6 * RATE


def test_pieces_of_a_turn_count_by_their_length(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of 30 s is three pieces of 10 s; of 14 s of sound the second has 4."""
    shares = iter([(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
    monkeypatch.setattr(Model, "score_one", lambda self, *rest: np.array(next(shares)))
    found = model.predict(
        voice(14.0), rate_hz=RATE, by="turn", turns=[Turn(0.0, 30.0)], labels=("anger", "sadness")
    ).segments
    assert [s.probabilities["anger"] for s in found] == pytest.approx([10 / 14])


def test_a_turn_within_another_is_answered_when_it_ends() -> None:
    turns = [Turn(0.0, 5.0, "Ann"), Turn(1.0, 2.0, "Ben")]
    cutter = GivenCutter(given_pieces("turn", turns, (), 12.0), SegmentSettings())
    assert [p.speaker for p in cutter.push(voice(4.0))] == ["Ben"]
    assert cutter.needed_from == 0
    assert [p.speaker for p in [*cutter.push(voice(2.0)), *cutter.finish()]] == ["Ann"]


def test_a_word_after_the_end_is_left_out_though_sound_near_it_is_there() -> None:
    words = (Turn(1.0, 1.5, None, "one"), Turn(5.2, 5.6, None, "two"))
    cutter = GivenCutter(given_pieces("word", (), [Turn(0.5, 6.0, None, "one two", words)], 12.0), SegmentSettings())
    pieces = [*cutter.push(voice(5.0)), *cutter.finish()]
    assert [p.text for p in pieces] == ["one"]


def test_the_emotion_that_holds_is_of_each_speaker_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little more sadness takes over from nobody's anger but the speaker's own."""
    shares = iter([(0.6, 0.4), (0.48, 0.52), (0.48, 0.52), (0.5, 0.5)])
    monkeypatch.setattr(Model, "score_one", lambda self, *rest: np.array(next(shares)))
    turns = [Turn(0.0, 1.0, "Ann"), Turn(1.0, 2.0, "Ben"), Turn(2.0, 3.0, "Ann")]
    found = model.predict(voice(3.0), rate_hz=RATE, by="turn", turns=turns, labels=("anger", "sadness"))
    assert [s.label for s in found.segments] == ["anger", "sadness", "sadness"]
    assert [s.state for s in found.segments] == ["anger", "sadness", "anger"]


def test_latency_is_what_was_heard_after_the_segment_and_the_computing() -> None:
    segment = Segment(1.0, 2.5, "anger", 1.0, {"anger": 1.0})
    assert StreamEvent("final", segment, 3.0, 0.125).latency_s == 0.625


def test_words_too_short_for_any_window_still_answer_for_the_whole(model: Model) -> None:
    """Each is a seventh of its window, and windows with less than a fifth are left out."""
    word = voice(0.4, 3, 210.0)
    sound = np.concatenate([quiet(7), word, quiet(9), word, quiet(9)])
    assert len(sound) > model.max_clip_s * RATE
    found = model.predict(sound, rate_hz=RATE, by="window")
    assert (found.segments, found.no_speech) == ((), False)
    by_speech = model.predict(sound, rate_hz=RATE)
    assert len(by_speech.segments) == 2
    assert found.probabilities == pytest.approx(by_speech.probabilities)
    once = model.predict(np.concatenate([sound, voice(6)]), rate_hz=RATE, by="window")
    (share,) = {tuple(s.probabilities.values()) for s in once.segments[-1:]}
    assert len(share) == len(once.probabilities)
    weights = [s.speech_s for s in once.segments]
    means = np.average([list(s.probabilities.values()) for s in once.segments], axis=0, weights=weights)
    assert list(once.probabilities.values()) == pytest.approx(means), "windows alone count once there are some"


def test_turns_that_hold_no_speech_all_count_alike(model: Model) -> None:
    sound = np.concatenate([voice(8), quiet(30)])
    turns = [Turn(12, 14, "A"), Turn(15, 20, "B")]
    found = model.predict(sound, rate_hz=RATE, by="turn", turns=turns)
    assert [s.abstain for s in found.segments] == ["no_speech"] * 2
    means = np.mean([list(s.probabilities.values()) for s in found.segments], axis=0)
    assert list(found.probabilities.values()) == pytest.approx(means)


def test_a_word_is_answered_by_what_is_around_it_in_its_sentence(model: Model) -> None:
    sound = np.concatenate([talk(3), voice(6, 300), quiet(1)])
    words = (Turn(1.0, 1.3, None, "oh"), Turn(4.0, 4.2, None, "well"), Turn(5.5, 5.5, None, "no"))
    sentences = [Turn(0.9, 5.6, "Ann", "oh well no", words), Turn(6.5, 8.5, "Bob", "yes")]
    parts = model.predict(sound, rate_hz=RATE, by="word", sentences=sentences).segments
    spans = {"oh": (0.9, 2.65), "well": (2.6, 5.6), "no": (4.0253, 5.6), "yes": (6.5, 8.5)}
    assert [(p.text, p.speaker) for p in parts] == [("oh", "Ann"), ("well", "Ann"), ("no", "Ann"), ("yes", "Bob")]
    for part in parts:
        around = [Turn(*spans[str(part.text)])]
        (alone,) = model.predict(sound, rate_hz=RATE, by="turn", turns=around).segments
        assert part.probabilities == pytest.approx(alone.probabilities, abs=2e-3)
    assert [(p.start_s, round(p.end_s, 2)) for p in parts] == [(1.0, 1.3), (4.0, 4.2), (5.5, 5.55), (6.5, 8.5)]
    assert [p.speech_s <= p.end_s - p.start_s + 1e-9 for p in parts] == [True] * 4


def test_a_model_that_reads_gets_the_words_around_a_word(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, score = [], model.score_one
    monkeypatch.setattr(
        model, "score_one", lambda sound, text, columns: heard.append(text) or score(sound, text, columns)
    )
    words = (Turn(1.0, 1.3, None, "oh"), Turn(4.0, 4.2, None, "well"), Turn(5.4, 5.6, None, "no"))
    beside = Turn(3.9, 4.4, "Bob", "yes", (Turn(4.0, 4.3, None, "yes"),))  # said by another at the same time
    sentences = [Turn(0.9, 5.8, None, "oh well no", words), Turn(6.0, 34.0, None, "and so on")]
    parts = model.predict(voice(35, 300), rate_hz=RATE, by="word", sentences=[*sentences, beside]).segments
    assert sorted(str(p.text) for p in parts) == ["and so on", "no", "oh", "well", "yes"]
    assert sorted(heard[:4]) == ["oh", "well no", "well no", "yes"]
    assert set(heard[4:]) == {"and so on"}
    assert len(heard) > 4


@pytest.mark.parametrize("by", ["clip", "segment", "sentence"])
def test_a_short_recording_is_answered_by_all_words_of_its_transcript(
    model: Model, monkeypatch: pytest.MonkeyPatch, by: By
) -> None:
    heard, score = [], model.score_one
    monkeypatch.setattr(
        model, "score_one", lambda sound, text, columns: heard.append(text) or score(sound, text, columns)
    )
    model.predict(talk(2), rate_hz=RATE, by=by, sentences=[Turn(1.1, 2.4, None, "and"), Turn(0.2, 1.0, None, "oh")])
    assert heard[-1] == "oh and"
    model.predict(talk(2), rate_hz=RATE, by=by, text="as given", sentences=[Turn(0.2, 1.0, None, "oh")])
    assert heard[-1] == "as given"


def test_by_word_needs_the_times_of_words(model: Model) -> None:
    with pytest.raises(SerkitError, match="the times of its words"):
        model.stream(by="word", sentences=[Turn(0, 2, None, "well")])
    with pytest.raises(SerkitError, match="nan to 2 s is not a stretch of time, for the word 'oh'"):
        model.stream(by="word", sentences=[Turn(0, 2, None, "oh", (Turn(float("nan"), 2, None, "oh"),))])
    late = [Turn(500, 502, None, "oh", (Turn(500, 501, None, "oh"),))]
    with pytest.raises(SerkitError, match="no word that was given is within the recording"):
        model.predict(talk(2), rate_hz=RATE, by="word", sentences=late)


@pytest.mark.parametrize("by", ["turn", "sentence"])
def test_turns_of_another_recording_are_refused(model: Model, by: By) -> None:
    name = "turns" if by == "turn" else "sentences"
    late = {name: [Turn(500, 501, "A", "well")]}
    with pytest.raises(SerkitError, match=rf"no {by} that was given is within the recording, which is 4\.8 s long"):
        model.predict(talk(2), rate_hz=RATE, by=by, **late)  # type: ignore[arg-type]
    for start, end in ((3, 2), (-1, 2), (2, 2), (float("nan"), 2), (1, float("inf"))):
        with pytest.raises(SerkitError, match=r"not a stretch of time"):
            model.predict(talk(2), rate_hz=RATE, by=by, **{name: [Turn(start, end, "A", "x")]})  # type: ignore[arg-type]


def test_turns_that_no_recording_could_hold_are_refused_at_once(model: Model) -> None:
    """They were divided before anything was heard: 500 turns of 11 days took eight gigabytes."""
    began = time.process_time()
    far = Turn(0, 1e6, "A", "x")
    for by, name, turn in (
        ("turn", "turns", far),
        ("sentence", "sentences", far),
        ("word", "sentences", Turn(0, 1e6, "A", "x", (far,))),
    ):
        with pytest.raises(SerkitError, match=r"500 turns, sentences or words that make 41667000 pieces.*in seconds\?"):
            model.stream(by=by, **{name: [turn] * 500})  # type: ignore[arg-type]
    assert time.process_time() - began < 5


def test_turns_keep_speakers_apart(model: Model) -> None:
    sound = talk(4)
    turns = [Turn(0.5, 2.5, "Ann"), Turn(2.4, 4.5, "Bob"), Turn(500, 501, "Ann")]
    parts = model.predict(sound, rate_hz=RATE, by="turn", turns=turns).segments
    assert [(p.start_s, p.end_s, p.speaker) for p in parts] == [(0.5, 2.5, "Ann"), (2.4, 4.5, "Bob")]
    spoken = model.predict(sound, rate_hz=RATE, turns=turns).segments
    assert [p.speaker for p in spoken][:2] == ["Ann", "Bob"]


def test_a_turn_longer_than_a_piece_is_one_answer(model: Model) -> None:
    sound = voice(30)
    parts = model.predict(sound, rate_hz=RATE, by="turn", turns=[Turn(1, 29, "A"), Turn(3, 4, "B")]).segments
    assert sorted((p.start_s, p.end_s) for p in parts) == [(1.0, 29.0), (3.0, 4.0)]
    assert all(sum(p.probabilities.values()) == pytest.approx(1) for p in parts)


def test_given_turns_say_how_much_of_them_is_speech(model: Model) -> None:
    """A diarisation that takes a pause for a turn is told so, and the pause has no part in the whole answer."""
    sound = np.concatenate([voice(3), quiet(4), voice(20)])
    turns = [Turn(0, 3, "A"), Turn(4, 6, "B"), Turn(6, 27, "A")]
    whole = model.predict(sound, rate_hz=RATE, by="turn", turns=turns)
    one, none, two = whole.segments
    assert 1 < one.speech_s <= 3
    assert (none.speech_s, none.abstain) == (0, "no_speech")
    assert 10 < two.speech_s <= 20
    assert "no_speech" not in (one.abstain, two.abstain)
    without = model.predict(sound, rate_hz=RATE, by="turn", turns=[turns[0], turns[2]])
    assert whole.probabilities == without.probabilities


def test_a_constant_offset_does_not_change_the_answer(model: Model) -> None:
    sound = talk(3)
    sound = (sound - sound.mean()).astype(np.float32)
    asked = model.predict(sound, rate_hz=RATE)
    for offset in (0.02, 0.2):
        moved = model.predict(sound + np.float32(offset), rate_hz=RATE)
        assert moved.probabilities == pytest.approx(asked.probabilities, abs=0.02)
        assert [s.label for s in moved.segments] == [s.label for s in asked.segments]
        [row] = model.predict_proba([sound + np.float32(offset)], rate_hz=RATE)
        assert row == pytest.approx(list(asked.probabilities.values()), abs=0.02)


def test_speech_from_begin_to_end_is_scored_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    score = Model.score_one
    monkeypatch.setattr(Model, "score_one", lambda self, x, *rest: scored.append(len(x)) or score(self, x, *rest))
    tight = model.predict(voice(2), rate_hz=RATE)
    assert scored == [2 * RATE]
    assert tight.segments[0].probabilities == tight.probabilities
    scored.clear()
    model.predict(talk(1), rate_hz=RATE)
    assert len(scored) == 2
    monkeypatch.undo()
    assert model.predict(voice(2), rate_hz=RATE, by="clip").probabilities == tight.probabilities


def test_the_same_features_are_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most encoders of the model in the box trim silence: of one stretch of speech, whole and stretch are one sound."""
    box, known = load(), []
    logits = Scorer.logits

    def counted(self: Scorer, rows: list[Features], before: Logits) -> Logits:
        known.append({system for system, _ in before})
        return logits(self, rows, before)

    monkeypatch.setattr(Scorer, "logits", counted)
    trimmed = {"statistics", "states_voice", "spectrum", "spectrum_own"}
    sound = np.concatenate([quiet(0.8), wide(2), quiet(0.8)])
    whole = box.predict(sound, rate_hz=RATE)
    assert known == [set(), trimmed]
    assert len(whole.segments) == 1
    assert whole.segments[0].probabilities == pytest.approx(whole.probabilities, abs=0.05)
    two = box.predict(sound, rate_hz=RATE, labels=("anger", "calm"))
    assert all(trimmed <= found for found in known[2:])
    both = whole.probabilities["anger"] + whole.probabilities["calm"]
    assert two.probabilities == pytest.approx({k: whole.probabilities[k] / both for k in ("anger", "calm")})
    before = len(known)
    box.predict(talk(2), rate_hz=RATE)
    assert known[before] == set()


def test_words_go_with_their_part(model: Model) -> None:
    words = [Turn(0.9, 1.2, None, "come"), Turn(1.3, 1.7, None, "here"), Turn(2.9, 3.5, None, "now")]
    parts = model.predict(talk(3), rate_hz=RATE, sentences=words).segments
    assert parts[0].text == "come here"
    assert parts[1].text == "now"
    assert parts[2].text is None
