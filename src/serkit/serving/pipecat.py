"""The caller's emotion in a Pipecat pipeline: a processor that lets all frames pass and adds one after each turn.

Of Pipecat 1.x (https://github.com/pipecat-ai/pipecat): ``pip install 'serkit[pipecat]'``. Which of its frames mark
turns was read in ``pipecat/processors/aggregators/llm_response_universal.py`` of 1.14: the user aggregator sends
``VADUserStartedSpeakingFrame`` and then ``UserStartedSpeakingFrame``, for each pause the VAD's frames, and at the end,
when its language model has been asked already, ``UserStoppedSpeakingFrame``; all of them both ways.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from serkit.errors import MissingExtra, check_known
from serkit.serving.predictor import Model
from serkit.serving.turns import Chunk, Session, TurnAnswer

try:
    from pipecat.frames.frames import (
        CancelFrame,
        DataFrame,
        EndFrame,
        Frame,
        InputAudioRawFrame,
        LLMMessagesTransformFrame,
        StartFrame,
        UserMuteStartedFrame,
        UserMuteStoppedFrame,
        UserStartedSpeakingFrame,
        UserStoppedSpeakingFrame,
        VADUserStartedSpeakingFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
except ImportError as error:
    raise MissingExtra("pipecat-ai", "pipecat", "emotion in a Pipecat pipeline") from error

TURNS = ("pipeline", "speech")
PARTIAL_S = 1.0
BEHIND_S = 30.0  # of sound that waits to be heard; beyond, it is dropped
END_S = 5.0  # that the end of a session waits for the last answer
TAG = "[The user's voice] "  # begins the line for the language model, which is found again by it


@dataclass
class EmotionFrame(DataFrame, TurnAnswer):  # type: ignore[misc]  # mypy does not read Pipecat
    """The emotion of a turn of the user: what :class:`serkit.serving.turns.TurnAnswer` says, as a frame.

    Times are seconds of the user's audio since the pipeline started.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.interruptible = False  # from Pipecat 1.11 on the user's next turn does not drop the answer to this one


def voice_line(frame: EmotionFrame) -> str:
    """A line for the language model; empty where the answer should not be relied on."""
    return "" if frame.abstain else f"sounds like {frame.label} (confidence {frame.confidence:.0%}), whatever the words"


class EmotionProcessor(FrameProcessor):  # type: ignore[misc]  # mypy does not read Pipecat
    """Passes every frame on at once, hears the user's audio, and pushes an :class:`EmotionFrame` after each turn.

    Place it after ``transport.input()``. Turns are marked by Pipecat's frames, as :class:`serkit.serving.turns.Session`
    says; while the user is muted, nothing is heard. Computing is done in a thread of its own, in order. An error of the
    model is pushed as ``ErrorFrame``, and the pipeline goes on. The audio is of one user: several would be one sound.

    Args:
        model: name, folder or file of a bundle, loaded in the thread when the pipeline starts; or a loaded model, which
            several processors may share.
        labels, threshold: as for :meth:`serkit.serving.predictor.Model.predict`.
        partials: also push ``partial`` answers, after every second of speech, and those at a ``pause``.
        turns: ``speech``: Pipecat's marks are disregarded, and stretches of speech that serkit finds are answered.
        context: makes a line for the language model of a ``pause`` or ``final`` answer, such as :func:`voice_line`. It
            replaces the line before it, by an ``LLMMessagesTransformFrame``; an empty one only removes that.
        options: of Pipecat's ``FrameProcessor``.

    Raises:
        SerkitError: unknown ``turns``; labels or a threshold that a loaded model does not take.
    """

    def __init__(
        self,
        model: str | Path | Model = "default",
        *,
        labels: Sequence[str] | None = None,
        threshold: float | None = None,
        partials: bool = False,
        turns: Literal["pipeline", "speech"] = "pipeline",
        context: Callable[[EmotionFrame], str] | None = None,
        **options: Any,
    ) -> None:
        check_known(turns, TURNS, f"turns '{turns}'")
        super().__init__(**options)
        self._session = Session(model, partial_s=PARTIAL_S if partials else None, labels=labels, threshold=threshold)
        self._partials, self._turns, self._line = partials, turns, context
        self._thread = ThreadPoolExecutor(1, "serkit-emotion")
        self._work: asyncio.Task[None] | None = None
        self._asked: deque[_Asked] = deque()
        self._more, self._is_ending = asyncio.Event(), False
        self._came_s = self._heard_s = 0.0  # the user's audio: all of it, and what was heard or dropped
        self._complained = ""
        self._told: tuple[float, str] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on, and note what it says. ``EndFrame`` alone waits, for the answers that are due."""
        await super().process_frame(frame, direction)
        if isinstance(frame, EndFrame) and self._work is not None:
            self._ask(self._session.finish)
            self._is_ending = True
            await asyncio.wait({self._work}, timeout=END_S)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame) and self._work is None:
            self._work = self.create_task(self._answer_all())
        elif isinstance(frame, CancelFrame):
            await self._stop()
        elif isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            await self._take(frame)
        elif isinstance(frame, UserMuteStartedFrame):
            self._ask(self._session.mute)
        elif isinstance(frame, UserMuteStoppedFrame):
            self._ask(self._session.unmute)
        elif self._turns == "pipeline":
            self._mark(frame)

    async def cleanup(self) -> None:
        """End the work when the pipeline is taken down."""
        await super().cleanup()
        await self._stop()

    def _mark(self, frame: Frame) -> None:
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._ask(self._session.voice_started, frame.start_secs)
        elif isinstance(frame, UserStartedSpeakingFrame):
            self._ask(self._session.turn_started)
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._ask(self._session.voice_stopped)
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._ask(self._session.turn_stopped)

    async def _take(self, frame: InputAudioRawFrame) -> None:
        """Have a chunk heard; where too many wait, drop them, and the turn that they were of."""
        start_s, self._came_s = self._came_s, self._came_s + frame.num_frames / frame.sample_rate
        chunk = Chunk(frame.audio, frame.sample_rate, frame.num_channels, start_s, self._came_s)
        self._ask(self._session.hear, chunk)
        if self._asked and self._came_s - self._heard_s > BEHIND_S:
            marks = [asked for asked in self._asked if asked.until_s is None]
            self._asked = deque([_Asked(self._session.abandon, ()), *marks])
            self._heard_s = self._came_s
            await self.push_error(f"serkit: computing is {BEHIND_S:g} s behind; what waited was dropped, with its turn")

    def _ask(self, what: Callable[..., list[TurnAnswer]], *given: Any) -> None:
        """Have the thread do something, after all that it was asked before."""
        if self._work is not None and not self._work.done():
            self._asked.append(_Asked(what, given))
            self._more.set()

    async def _answer_all(self) -> None:
        """The work: one thing after the other in the thread, and each one's answers pushed."""
        if not await self._answer(_Asked(self._session.load, ())):
            self._asked.clear()
            return
        while True:
            while self._asked:
                asked = self._asked.popleft()
                await self._answer(asked)
                self._heard_s = max(self._heard_s, asked.until_s or 0.0)
            if self._is_ending:
                return
            self._more.clear()
            await self._more.wait()

    async def _answer(self, asked: _Asked) -> bool:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, asked.what, *asked.given)
            for answer in found:
                await self._say(EmotionFrame(**vars(answer)))
        except Exception as error:  # noqa: BLE001  # whatever fails in a model, the call goes on
            self._session.abandon()
            if str(error) != self._complained:  # once, not for every chunk
                self._complained = str(error)
                await self.push_error(f"serkit: {error}", exception=error)
            return False
        return True

    async def _say(self, frame: EmotionFrame) -> None:
        self._complained = ""
        if frame.kind == "final" or self._partials:
            await self.push_frame(frame)
        if frame.kind != "partial" and self._line is not None:
            await self._tell(frame.start_s, self._line(frame))

    async def _tell(self, start_s: float, line: str) -> None:
        """Put a line into the context in the place of the last one, unless it is there for this turn already."""
        if (start_s, line) == self._told:
            return
        self._told = start_s, line

        def replaced(messages: list[Any]) -> list[Any]:
            others = [m for m in messages if not (isinstance(m, dict) and str(m.get("content")).startswith(TAG))]
            return others + [{"role": "developer", "content": TAG + line}] * bool(line)

        await self.push_frame(LLMMessagesTransformFrame(transform=replaced))

    async def _stop(self) -> None:
        """Let go of what is not answered. What is being computed ends by itself, and nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._work is not None:
            await self.cancel_task(self._work)
        self._asked.clear()


class _Asked(NamedTuple):
    """Something for the thread to do."""

    what: Callable[..., list[TurnAnswer]]
    given: tuple[Any, ...]

    @property
    def until_s(self) -> float | None:
        """Of a chunk: where it ends in the session, in seconds."""
        return next((x.end_s for x in self.given if isinstance(x, Chunk)), None)
