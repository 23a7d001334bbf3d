"""A session in which somebody else says whose turn it is: sound and marks in, one answer for each turn out.

For adapters to frameworks of voice agents, such as :mod:`serkit.serving.pipecat`. Every answer is that of a
:class:`serkit.serving.stream.Stream`, and so the one that the model gives to the same samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from serkit.serving.predictor import Model, load
from serkit.serving.results import Abstain, By, Prediction, Segment
from serkit.serving.stream import Stream, StreamEvent

LEAD_S = 0.5  # of sound before the mark of a turn that belongs to it; what a VAD waits before its mark comes on top
RECENT_S = 3.0  # of sound kept between turns, for the next one
PAUSE_S = 6.0  # after the voice has stopped; a turn that neither goes on nor ends by then is over
KEPT_S = 30.0  # of a turn, to hear it again when it goes on after a pause; a longer one is answered at its end alone
Kind = Literal["partial", "pause", "final"]


@dataclass
class TurnAnswer:
    """The emotion of a turn.

    Attributes:
        label: the most probable emotion. confidence: its probability. probabilities: by label, summing to 1.
        abstain: ``unsure`` where the answer should not be relied on, ``no_speech`` where no speech was heard.
        attributes: arousal, valence and dominance, where the model learned them.
        start_s, end_s: the sound that was judged, in seconds of sound since the session began.
        speech_s: seconds of speech in it. model: name and fingerprint of what answered.
        kind: ``final`` (the turn is over; once for each), ``pause`` (the voice has stopped, the turn may go on) or
            ``partial`` (somebody still speaks).
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: Abstain
    attributes: Mapping[str, float]
    start_s: float
    end_s: float
    speech_s: float
    model: str
    kind: Kind


class Chunk(NamedTuple):
    """Sound as it came: 16-bit PCM, little-endian, channels interleaved; where it lies in the session, in seconds."""

    audio: bytes
    rate_hz: int
    channels: int
    start_s: float
    end_s: float

    @property
    def samples(self) -> np.ndarray:
        """(n, channels) int16, without an incomplete sample at the end."""
        width = 2 * self.channels
        return np.frombuffer(self.audio[: len(self.audio) // width * width], "<i2").reshape(-1, self.channels)


class Session:
    """What hears one user from the start of a session to its end. Not thread-safe.

    A turn lasts from :meth:`turn_started` to :meth:`turn_stopped`. Within it, marks of a VAD say that it may be over,
    and it is answered there and then; where only they come, they are its start and end. Before the first mark, and
    without any, each stretch of speech that serkit finds is a turn. With marks, memory does not grow with a session;
    without, the parts of the one stream are kept.

    Args:
        model: a model; or what :func:`serkit.serving.predictor.load` takes, which :meth:`load` loads.
        partial_s: a partial answer after every so many seconds of speech; ``None``: none.
        options: ``labels`` and ``threshold``: see :class:`serkit.serving.stream_settings.StreamSettings`.

    Raises:
        SerkitError: options that a model does not take.
    """

    def __init__(self, model: str | Path | Model, *, partial_s: float | None = None, **options: Any) -> None:
        self._source, self._options = model, {**options, "partial_s": partial_s, "max_s": None}
        self._turn: _Turn | None = None
        self._ended: _Turn | None = None  # by a VAD alone, a short time ago: its start as a turn may still be marked
        self._is_whole_turn = False  # started as a turn, which will be stopped as one, and not by a VAD alone
        self._is_marked = self._is_muted = False
        self._recent: deque[Chunk] = deque()
        self._speech: tuple[Stream, float] | None = None  # before any mark: what hears, and where it began
        self._rate_hz = 0
        if isinstance(model, Model):
            self._model = model
            self._open("clip", 16_000)

    def load(self) -> list[TurnAnswer]:
        """Load the model and, by a first answer, its networks, so that the first turn does not wait for them.

        Raises:
            SerkitError: no such bundle, damaged; options that it does not take.
        """
        if not isinstance(self._source, Model):
            self._model = load(self._source)
        stream = self._open("clip", 16_000)
        stream.push(np.zeros(16_000, np.int16))
        stream.finish()
        return []

    def hear(self, chunk: Chunk) -> list[TurnAnswer]:
        """Hear the next chunk. Another sampling rate than before ends the turn.

        Raises:
            SerkitError: a sampling rate that no recording has.
        """
        if self._is_muted or not len(chunk.samples):
            return []
        found = self.finish() if self._rate_hz not in (0, chunk.rate_hz) else []
        self._rate_hz = chunk.rate_hz
        if self._turn is not None:
            found += self._turn.hear(chunk)
            return found + (self.turn_stopped() if self._turn.silent_s > PAUSE_S else [])
        self._recent.append(chunk)
        while chunk.end_s - self._recent[0].end_s > RECENT_S:
            self._recent.popleft()
            self._ended = None
        if not self._is_marked:
            if self._speech is None:
                self._speech = self._open("segment", chunk.rate_hz), chunk.start_s
            found += _said(self._speech[0].push(chunk.samples), *self._speech)
        return found

    def voice_started(self, waited_s: float = 0.0) -> list[TurnAnswer]:
        """A VAD heard the user begin to speak, after it had waited for so many seconds: a turn, or its next words."""
        if self._turn is None:
            self._begin(waited_s)
        else:
            self._turn.go_on()
        return []

    def voice_stopped(self) -> list[TurnAnswer]:
        """A VAD heard the user end: a pause of the turn, or, where nobody else marks turns, its end."""
        if self._turn is None or not self._is_whole_turn:
            self._ended = self._turn
            return self.turn_stopped()
        return self._turn.answers("pause")

    def turn_started(self) -> list[TurnAnswer]:
        """The user has the turn; :meth:`turn_stopped` will say that it is over.

        Where a VAD has ended the voice within ``RECENT_S``, as with turns that begin with their transcript, the turn is
        what the VAD marked. It has its final answer already, and another one only if the voice goes on.
        """
        if self._turn is None and self._ended is not None:
            self._turn, self._ended = self._ended, None
            self._turn.rest = list(self._recent)
            self._recent.clear()
        elif self._turn is None:
            self._begin(0.0)
        self._is_whole_turn = self._turn is not None
        return []

    def turn_stopped(self) -> list[TurnAnswer]:
        """The turn is over: its answer, unless nothing was heard of it."""
        turn, self._turn, self._is_whole_turn = self._turn, None, False
        if turn is None:
            return []
        self._recent = deque(turn.rest)
        return turn.answers("final")

    def mute(self) -> list[TurnAnswer]:
        """From now on hear nothing: the answers that are due."""
        self._is_muted = True
        return self.finish()

    def unmute(self) -> list[TurnAnswer]:
        """Hear again."""
        self._is_muted = False
        return []

    def finish(self) -> list[TurnAnswer]:
        """End whatever is open: the answers that are due. What comes next is heard anew."""
        found, speech = self.turn_stopped(), self._speech
        self.abandon()
        return found if speech is None else found + _said(speech[0].finish(), *speech)

    def abandon(self) -> list[TurnAnswer]:
        """Let go of whatever is open, without an answer."""
        self._turn, self._ended, self._speech, self._is_whole_turn = None, None, None, False
        self._recent.clear()
        return []

    def _begin(self, waited_s: float) -> None:
        if self._is_muted:
            return
        self._is_marked, self._ended, self._speech = True, None, None
        self._turn = _Turn(lambda rate_hz: self._open("clip", rate_hz))
        recent, self._recent = self._recent, deque()
        for chunk in recent:
            if chunk.end_s > recent[-1].end_s - LEAD_S - waited_s:
                self._turn.hear(chunk)

    def _open(self, by: By, rate_hz: int) -> Stream:
        return cast(Stream, self._model.stream(rate_hz=rate_hz, by=by, **self._options))


class _Turn:
    """A turn while it lasts: a stream, and the sound of a short one, to hear it again if a pause was not its end."""

    def __init__(self, open_stream: Callable[[int], Stream]) -> None:
        self._open = open_stream
        self._stream: Stream | None = None
        self._kept: list[Chunk] = []  # the whole turn; of a long one nothing
        self._answer: Prediction | None = None  # to what came before the pause
        self._is_told = False  # that answer, as the final one
        self.rest: list[Chunk] = []  # what came after it
        self._start_s = self._end_s = 0.0

    @property
    def silent_s(self) -> float:
        """Seconds since the pause."""
        return self.rest[-1].end_s - self._end_s if self.rest else 0.0

    def hear(self, chunk: Chunk) -> list[TurnAnswer]:
        """Hear a chunk; after a pause only keep it."""
        if self._answer is not None:
            self.rest.append(chunk)
            return []
        if self._stream is None:
            self._stream, self._start_s = self._open(chunk.rate_hz), chunk.start_s
        self._end_s = chunk.end_s
        if self._end_s - self._start_s <= KEPT_S:
            self._kept.append(chunk)
        else:
            self._kept.clear()
        return _said(self._stream.push(chunk.samples), self._stream, self._start_s)

    def answers(self, kind: Kind) -> list[TurnAnswer]:
        """The answer to what was heard. A long turn, which could not be heard again, has none at a pause."""
        if self._stream is None or self._is_told or (kind == "pause" and not self._kept):
            return []
        self._is_told = kind == "final"
        if self._answer is None:
            self._stream.finish()
            self._answer = self._stream.prediction
        return [_answer(self._answer, self._start_s, self._end_s, self._answer.model, kind)]

    def go_on(self) -> None:
        """After a pause: another stream hears the turn from its start."""
        if self._answer is not None:
            again, self._kept, self.rest = [*self._kept, *self.rest], [], []
            self._stream, self._answer, self._is_told = None, None, False
            for chunk in again:
                self.hear(chunk)


def _answer(found: Prediction | Segment, start_s: float, end_s: float, model: str, kind: Kind) -> TurnAnswer:
    return TurnAnswer(
        found.label, found.confidence, found.probabilities, found.abstain, found.attributes,
        start_s, end_s, found.speech_s, model, kind,
    )  # fmt: skip


def _said(events: Iterable[StreamEvent], stream: Stream, began_s: float) -> list[TurnAnswer]:
    """What a stream that began at this second of the session said."""
    return [
        _answer(e.segment, began_s + e.segment.start_s, began_s + e.segment.end_s, stream.model.id, e.kind)
        for e in events
    ]
