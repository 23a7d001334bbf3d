"""The processor in real Pipecat pipelines: all frames pass at once, each turn is answered, nothing that fails stops it.

What an answer is, is tested without Pipecat in ``test_turns.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile

import serkit
from serkit.errors import SerkitError
from serkit.serving import turns
from serkit.serving.predictor import Model

from .signals import GOLDEN, RATE, quiet, voice

try:  # it can be here without what it needs
    import pipecat.frames.frames as frames
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.tests.utils import SleepFrame, run_test

    from serkit.serving import pipecat as ours
    from serkit.serving.pipecat import EmotionFrame, EmotionProcessor, voice_line
except (ImportError, SerkitError):
    pytest.skip(
        "Pipecat is not installed, or not all that it needs: pip install 'serkit[pipecat]'", allow_module_level=True
    )

STEP_S = 0.02


def audio(sound: np.ndarray, rate: int = RATE) -> list[Any]:
    """Frames of 20 ms, as a transport sends them, of (n,) or (n, channels)."""
    samples = sound if sound.dtype == np.int16 else np.round(np.clip(sound, -1, 1) * 32767).astype("<i2")
    size = round(STEP_S * rate)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    return [
        frames.InputAudioRawFrame(audio=samples[k : k + size].tobytes(), sample_rate=rate, num_channels=channels)
        for k in range(0, len(samples), size)
    ]


def turn(sound: np.ndarray, rate: int = RATE) -> list[Any]:
    """A turn as the user aggregator marks it."""
    return [
        frames.VADUserStartedSpeakingFrame(start_secs=0.2),
        frames.UserStartedSpeakingFrame(),
        *audio(sound, rate),
        frames.VADUserStoppedSpeakingFrame(stop_secs=0.2),
        frames.UserStoppedSpeakingFrame(),
    ]


def passed(processor: FrameProcessor, sent: Iterable[Any], **options: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """What comes out of a pipeline, downstream and upstream."""
    asked = run_test(processor, frames_to_send=cast("Sequence[Any]", sent), start_timeout=60.0, **options)
    found: tuple[Sequence[Any], Sequence[Any]] = asyncio.run(asyncio.wait_for(asked, 120))
    return found


def until(event: threading.Event) -> Iterable[Any]:
    """Nothing is sent before something has happened in the thread of the model, and the loop knows."""
    for _ in range(3000):
        yield SleepFrame(0.02)
        if event.is_set():
            break
    yield SleepFrame(0.1)


def emotions(found: Sequence[Any]) -> list[EmotionFrame]:
    return [frame for frame in found if isinstance(frame, EmotionFrame)]


def errors(found: Sequence[Any]) -> list[str]:
    return [frame.error for frame in found if isinstance(frame, frames.ErrorFrame)]


class Gate:
    """In the place of a model: the same, but nothing is computed before it is opened."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.reached, self.opened = threading.Event(), threading.Event()

    def stream(self, **options: Any) -> Any:
        stream = self._model.stream(**options)
        push = stream.push

        def held(chunk: np.ndarray) -> Any:
            self.reached.set()
            self.opened.wait(60)
            return push(chunk)

        stream.push = held  # type: ignore[method-assign]
        return stream


@pytest.fixture
def gate(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterable[Gate]:
    """What ``EmotionProcessor("gate")`` loads."""
    found = Gate(model)
    monkeypatch.setattr(turns, "load", lambda source: found)
    yield found
    found.opened.set()


class Watcher(FrameProcessor):
    """Calls a function with every frame, downstream of the processor."""

    def __init__(self, see: Any) -> None:
        super().__init__()
        self._see = see

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self._see(frame)
        await self.push_frame(frame, direction)


# ---------------------------------------------------------------- frames pass, turns are answered


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 1), (24_000, 1), (48_000, 2)])
def test_every_frame_passes_and_the_turn_is_answered_as_the_model_does(model: Model, rate: int, channels: int) -> None:
    import soxr

    talk, have = soundfile.read(serkit.example(), dtype="float32")
    sound = soxr.resample(talk[: 2 * have], have, rate)
    samples = np.round(np.repeat(sound[:, None], channels, axis=1) * 32767).astype("<i2")
    sent = turn(samples, rate)
    down, up = passed(EmotionProcessor(model), sent)
    (answer,) = emotions(down)
    assert [f for f in down if isinstance(f, frames.InputAudioRawFrame)] == sent[2:-2]
    assert {f.id for f in sent} <= {f.id for f in down}
    assert errors(up) == []
    want = model.predict(samples, rate_hz=rate, by="clip")
    assert (answer.kind, answer.label, answer.abstain, answer.model) == (
        "final", want.label, want.abstain, want.model,
    )  # fmt: skip
    assert answer.probabilities == pytest.approx(want.probabilities, abs=0 if rate == RATE else 1e-5)
    assert (answer.start_s, answer.end_s) == (0, pytest.approx(2.0))


def test_the_default_model_hears_the_example() -> None:
    sound, rate = soundfile.read(serkit.example(), dtype="int16")
    down, up = passed(EmotionProcessor(), turn(sound[: 4 * rate], rate))
    (answer,) = emotions(down)
    want = serkit.load().predict(sound[: 4 * rate], rate_hz=rate)
    assert errors(up) == []
    assert (answer.label, answer.probabilities) == (want.label, want.probabilities)


def test_marks_that_come_from_below_count_too(model: Model) -> None:
    """The user aggregator sends them upstream."""

    class Below(FrameProcessor):
        async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, frames.OutputTransportMessageUrgentFrame):
                await self.broadcast_frame(frame.message["mark"])
            else:
                await self.push_frame(frame, direction)

    def mark(kind: type) -> list[Any]:
        return [frames.OutputTransportMessageUrgentFrame(message={"mark": kind}), SleepFrame(0.1)]

    sent = [
        *mark(frames.UserStartedSpeakingFrame), *audio(voice(1.0)), SleepFrame(0.1),
        *mark(frames.UserStoppedSpeakingFrame),
    ]  # fmt: skip
    down, _ = passed(Pipeline([EmotionProcessor(model), Below()]), sent)
    assert [(a.kind, a.end_s) for a in emotions(down)] == [("final", pytest.approx(1.0))]


def test_turns_are_answered_in_order(model: Model) -> None:
    lengths = (0.05, 0.6, 0.3, 2.0)
    sent = [f for k, length in enumerate(lengths) for f in (*turn(voice(length, seed=k)), *audio(quiet(0.06)))]
    answers = emotions(passed(EmotionProcessor(model), sent)[0])
    assert [a.kind for a in answers] == ["final"] * 4
    assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(answers))
    assert [round(a.end_s - a.start_s, 2) for a in answers] == [0.05, 0.66, 0.36, 2.06]  # with the sound before


def test_an_interruption_does_not_lose_an_answer(model: Model, gate: Gate) -> None:
    """It comes when the user's next turn begins, and drops frames on their way."""

    def see(frame: Any) -> None:
        if isinstance(frame, frames.InterruptionFrame):
            gate.opened.set()

    sent = [*turn(voice(0.5)), frames.InterruptionFrame(), *turn(voice(0.5)), frames.InterruptionFrame()]
    down, _ = passed(Pipeline([EmotionProcessor("gate"), Watcher(see)]), sent)
    assert len(emotions(down)) == 2
    assert not any(a.interruptible for a in emotions(down))


def test_silence_mute_and_a_session_without_marks(model: Model) -> None:
    (answer,) = emotions(passed(EmotionProcessor(model), turn(quiet(1.0)))[0])
    assert answer.abstain == "no_speech"
    sent = [frames.UserMuteStartedFrame(), *turn(voice(1.0)), frames.UserMuteStoppedFrame(), *turn(voice(0.5))]
    (answer,) = emotions(passed(EmotionProcessor(model), sent)[0])
    assert (answer.start_s, answer.end_s) == (pytest.approx(1.0), pytest.approx(1.5))
    sound = np.concatenate([quiet(0.5), voice(1.0), quiet(1.0), voice(1.0, 2)])
    found = [emotions(passed(EmotionProcessor(model), audio(sound))[0])]
    found.append(emotions(passed(EmotionProcessor(model, turns="speech"), turn(sound))[0]))
    want = model.predict(np.round(sound * 32767).astype("<i2"), rate_hz=RATE).segments
    for answers in found:
        assert [a.probabilities for a in answers] == [s.probabilities for s in want]


def test_the_end_of_a_session_brings_the_answer_to_an_open_turn(model: Model) -> None:
    down, _ = passed(EmotionProcessor(model), [frames.UserStartedSpeakingFrame(), *audio(voice(1.0))])
    assert [(a.kind, a.end_s) for a in emotions(down)] == [("final", pytest.approx(1.0))]


def test_partial_answers_are_pushed_if_asked_for(model: Model) -> None:
    sent = [frames.UserStartedSpeakingFrame(), *audio(voice(2.5)), *turn(quiet(0.1))[3:]]
    kinds = [a.kind for a in emotions(passed(EmotionProcessor(model, partials=True), sent)[0])]
    assert kinds[0] == "partial"
    assert kinds[-2:] == ["pause", "final"]


# ---------------------------------------------------------------- the loop, errors, the end


def test_frames_pass_while_the_model_computes(gate: Gate) -> None:
    sent = turn(voice(1.0))
    blocked = []

    def see(frame: Any) -> None:
        if frame is sent[-1]:  # all are through, and not even the first chunk is answered
            blocked.append(not gate.opened.is_set())
            gate.opened.set()

    down, up = passed(Pipeline([EmotionProcessor("gate"), Watcher(see)]), sent)
    assert blocked == [True]
    assert len(emotions(down)) == 1
    assert errors(up) == []


def test_a_cancelled_pipeline_does_not_wait_for_the_model(gate: Gate) -> None:
    sent = itertools.chain(turn(voice(1.0)), until(gate.reached), [frames.CancelFrame()])
    down, up = passed(EmotionProcessor("gate"), sent, send_end_frame=False)
    assert gate.reached.is_set()
    assert not gate.opened.is_set()
    assert isinstance(down[-1], frames.CancelFrame)
    assert emotions(down) == []
    assert errors(up) == []


def test_a_model_that_cannot_be_loaded_is_one_error_and_the_audio_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "BEHIND_S", 0.1)  # nothing waits for what will not come
    real, tried = turns.load, threading.Event()

    def load(source: str) -> Any:
        try:
            return real(source)
        finally:
            tried.set()

    monkeypatch.setattr(turns, "load", load)
    sent = [*turn(voice(0.3)), *turn(voice(0.3))]
    first = frames.UserStartedSpeakingFrame()
    down, up = passed(EmotionProcessor("no/such/bundle"), itertools.chain([first], until(tried), sent))
    assert {f.id for f in (first, *sent)} <= {f.id for f in down}
    assert len(errors(up)) == 1
    assert "no/such/bundle" in errors(up)[0]


def test_an_error_costs_its_turn_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    score = model.scorer.one
    calls = []

    def failing(*given: Any) -> Any:
        calls.append(given)
        if len(calls) in (2, 3):  # the first is the one that loads the networks
            raise RuntimeError("out of memory")
        return score(*given)

    monkeypatch.setattr(model.scorer, "one", failing)
    sent = [f for k in range(3) for f in (*turn(voice(0.5, seed=k)), *audio(quiet(0.6)))]
    down, up = passed(EmotionProcessor(model), sent)
    assert errors(up) == ["serkit: out of memory"]  # the same is not said again
    assert [round(a.end_s, 2) for a in emotions(down)] == [2.7]
    assert len([f for f in down if isinstance(f, frames.InputAudioRawFrame)]) == len(
        [f for f in sent if isinstance(f, frames.InputAudioRawFrame)]
    )


def test_a_model_that_is_too_slow_loses_sound_and_says_so(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "BEHIND_S", 1.0)
    last = turn(voice(0.3))

    def see(frame: Any) -> None:
        if frame is last[0]:
            gate.opened.set()

    processor = EmotionProcessor("gate")
    down, up = passed(Pipeline([processor, Watcher(see)]), [*turn(voice(1.5)), SleepFrame(0.1), *last])
    (said,) = errors(up)
    assert "behind" in said
    assert [(round(a.start_s, 2), round(a.end_s, 2)) for a in emotions(down)][-1] == (1.5, 1.8)


def test_options_that_are_wrong_are_refused_at_once(model: Model) -> None:
    with pytest.raises(SerkitError, match="did you mean 'speech'"):
        EmotionProcessor(model, turns="speeches")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="no label 'angr'"):
        EmotionProcessor(model, labels=["angr", "neutral"])


# ---------------------------------------------------------------- the language model's context


def test_a_line_for_the_language_model_replaces_the_one_before(model: Model) -> None:
    context = LLMContext([{"role": "system", "content": "Be kind."}])
    said: list[str] = []

    def line(frame: EmotionFrame) -> str:
        said.append(f"{frame.label} {frame.end_s:.2f}")
        return said[-1]

    def listed() -> list[Any]:
        return [m["content"] for m in context.get_messages()]

    pipeline = Pipeline([EmotionProcessor(model, context=line), LLMUserAggregator(context)])
    passed(pipeline, [*turn(voice(0.5)), *audio(quiet(0.5)), *turn(voice(0.5, seed=2))])
    assert said[-1].endswith("1.50")
    assert listed() == ["Be kind.", ours.TAG + said[-1]]
    pipeline = Pipeline([EmotionProcessor(model, context=lambda frame: ""), LLMUserAggregator(context)])
    passed(pipeline, turn(voice(0.5)))
    assert listed() == ["Be kind."]


def test_the_line_says_nothing_that_is_not_relied_on(model: Model) -> None:
    down, _ = passed(EmotionProcessor(model), [*turn(quiet(1.0)), *turn(voice(1.0))])
    silent, spoken = emotions(down)
    assert voice_line(silent) == ""
    spoken.abstain = ""
    assert spoken.label in voice_line(spoken)


@pytest.mark.slow
def test_with_pipecat_s_own_vad_turns_and_aggregators(model: Model) -> None:
    """The example in real time; a transcript comes 0.6 s after the voice stops, and the line is there before it."""
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregatorParams

    class Transcribing(FrameProcessor):
        async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            await self.push_frame(frame, direction)
            if isinstance(frame, frames.VADUserStoppedSpeakingFrame):
                self.create_task(self.write())

        async def write(self) -> None:
            await asyncio.sleep(0.6)
            await self.push_frame(frames.TranscriptionFrame("hello", "user", "", finalized=True))

    asked, stops = [], []

    def see(frame: Any) -> None:
        if isinstance(frame, frames.LLMContextFrame):
            asked.append([m["content"] for m in frame.context.get_messages()])
        elif isinstance(frame, frames.UserStoppedSpeakingFrame):
            stops.append(frame)

    sound, rate = soundfile.read(serkit.example(), dtype="int16")
    sent = []
    for frame in audio(np.concatenate([sound[: 5 * rate], np.zeros(2 * rate, np.int16)]), rate):
        sent += [frame, SleepFrame(STEP_S)]
    aggregator = LLMUserAggregator(LLMContext(), params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()))
    processor = EmotionProcessor(model, context=lambda frame: frame.label)
    down, up = passed(Pipeline([processor, Transcribing(), aggregator, Watcher(see)]), sent)
    answers = emotions(down)
    assert errors(up) == []
    assert len(answers) == len(stops) == len(asked) >= 1
    assert [a.kind for a in answers] == ["final"] * len(answers)
    for messages, answer in zip(asked, answers, strict=True):
        assert messages[-2:] == [ours.TAG + answer.label, "hello"]


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    pytest.importorskip("pipecat.pipeline.worker", reason="the page names classes of a later Pipecat")
    page = (Path(__file__).parents[2] / "docs" / "voice_agents.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    want = serkit.load().predict(serkit.example()).segments
    said = [f"{s.start_s:.1f} to {s.end_s:.1f} s: {s.label} {s.confidence:.2f}" for s in want]
    assert [" ".join(line.split()[:6]) for line in done.stdout.splitlines()] == said


# ---------------------------------------------------------------- without Pipecat


def test_serkit_does_not_load_pipecat_and_says_what_to_install() -> None:
    code = f"""
import sys, serkit
serkit.load({str(GOLDEN)!r})
assert "pipecat" not in sys.modules
sys.modules["pipecat"] = None
import serkit.serving.turns
import serkit.serving.pipecat
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "MissingExtra: emotion in a Pipecat pipeline needs the package 'pipecat-ai'" in done.stderr
    assert "pip install 'serkit[pipecat]'" in done.stderr
