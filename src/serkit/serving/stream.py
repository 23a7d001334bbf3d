"""A recording that is still being received: partial answers during speech, final ones after it.

Files take the same way, block by block, so that a stream's finals are the file's answer to the last digit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from serkit.conformal import ranked
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.recent import Recent
from serkit.remarks import Remarks
from serkit.segments import Segmenter, Stretch
from serkit.serving.pieces import WINDOW_S, Cutter, GivenCutter, Piece, SpeechCutter, WindowCutter, given_pieces
from serkit.serving.resampling import blocks_of, samples_of, to_16k
from serkit.serving.results import Decision, Prediction, Segment
from serkit.serving.speakers import speakers_of
from serkit.serving.stream_settings import StreamSettings
from serkit.serving.thresholds import LONG_SET
from serkit.serving.timeline import Hysteresis, said_in_all, speaker_at, text_at

if TYPE_CHECKING:
    from serkit.serving.predictor import Model

SHORTEST_PARTIAL_S = 0.5
TWO_VOICES = (
    "the two channels hold different voices, like a call with one side on each, and this answer is for both mixed: "
    "to have each answered separately, divide by channel: --by channel, by=channel in a request, or on the page "
    "under Options"
)


@dataclass(frozen=True)
class StreamEvent:
    """An answer of a stream.

    Attributes:
        kind: ``partial`` (somebody still speaks, it may change) or ``final``.
        segment: the answer. at_s: seconds heard by then. work_s: seconds that computing it took.
    """

    kind: Literal["partial", "final"]
    segment: Segment
    at_s: float
    work_s: float

    @property
    def latency_s(self) -> float:
        """Seconds from the end of the segment to its answer: what had to be heard after it, and the computing."""
        return self.at_s - self.segment.end_s + self.work_s


class _WeightedSum:
    """Numbers of a width, summed with weights."""

    def __init__(self, width: int) -> None:
        self._total, self.weight = np.zeros(width), 0

    def add(self, weight: int, numbers: np.ndarray) -> None:
        self._total, self.weight = self._total + weight * numbers, self.weight + weight

    @property
    def mean(self) -> np.ndarray:
        return self._total / self.weight


class Stream:
    """Chunks of a recording in, answers out.

    Args:
        model: what answers. rate_hz: sampling rate of the chunks. settings: what is asked.
        remarks: where the chunks come from a file, what was gathered of it.

    Attributes:
        remarks: what is worth knowing of the recording; a reader of a file hands them to
            :func:`serkit.audio.blocks`. Their notes are those of the answer.
        heard_s, work_s: seconds heard and seconds of computing so far; their ratio is the real-time factor.
    """

    def __init__(self, model: Model, rate_hz: float, settings: StreamSettings, remarks: Remarks | None = None) -> None:
        if settings.by == "channel":
            raise SerkitError("by 'channel' is several streams: see serkit.serving.channels.ChannelStream")
        self._settings = settings
        self.remarks = Remarks() if remarks is None else remarks
        self.remarks.rate_hz = self.remarks.rate_hz or rate_hz  # that of a file is the file's own, once it is open
        self._answer_by(model)
        self._chosen = False  # whether it is known by now which model answers
        self._rate_hz, self._to_16k = rate_hz, to_16k(rate_hz, self.remarks)
        self._segmenter = Segmenter(settings.segments)
        self._cutter = self._make_cutter()
        self._recent, self._head = Recent(), Recent()
        self._waiting: list[Piece] = []  # with by="clip": scored only once the recording is too long for one answer
        self._parts: dict[int, list[tuple[int, int, np.ndarray]]] = {}
        self._states: dict[str | None, Hysteresis] = {}
        self._segments: list[Segment] = []
        width = len(self._columns) + len(model.attributes)
        self._spoken = _WeightedSum(width)  # of the pieces, by their speech
        self._aside = _WeightedSum(width)  # of speech of which no window holds enough
        self._partial_at = 0  # sample that the last partial answer reached
        self._scored: tuple[int, int, str | None, np.ndarray] | None = None  # the last stretch, and its answer
        self._done = False
        self._prediction: Prediction | None = None
        self.work_s = 0.0

    def _answer_by(self, model: Model) -> None:
        """From now on, this model answers."""
        self._model = model
        self._columns = model.columns(self._settings.labels)
        self._labels = tuple(model.labels[k] for k in self._columns)
        self._unsure_below = model.unsure_below(self._labels, self._settings.threshold)
        asked = self._settings.coverage
        self._in_set_from = None if asked is None else model.thresholds.in_set_from(self._labels, asked)
        self._longest = round(model.max_clip_s * SAMPLE_RATE_HZ)

    @property
    def model(self) -> Model:
        """What answers, as far as has been heard."""
        return self._model

    def _choose_model(self, samples: np.ndarray) -> None:
        """Of samples that are final and about to be scored, the first that tell it decide which model answers."""
        if not self._chosen and (model := self._model.for_sound(samples)) is not None:
            self._chosen = True
            self._answer_by(model)

    @property
    def heard_s(self) -> float:
        """Seconds heard so far."""
        return self._recent.end / SAMPLE_RATE_HZ

    def push(self, chunk: np.ndarray) -> list[StreamEvent]:
        """Hear a chunk.

        Args:
            chunk: (n,) or (n, channels), float in [-1, 1] or integers of at most 32 bits at full scale, any n,
                0 included.

        Returns:
            The answers that have become final, and at most one partial one.

        Raises:
            SerkitError: not audio, longer than ``max_s``, or after :meth:`finish`.
        """
        if self._done:
            raise SerkitError("the stream is finished; open another one")
        began = time.perf_counter()
        chunk, events = samples_of(chunk), list[StreamEvent]()
        n = len(chunk) * SAMPLE_RATE_HZ / self._rate_hz if chunk.ndim else 0
        self._refuse_long((self._recent.end + n) / SAMPLE_RATE_HZ)  # before any work; a sum of seconds is not exact
        for block in blocks_of(chunk):
            events += self._hear(self._to_16k(block, False))
        if not events:
            events = self._partial(began)
        self.work_s += time.perf_counter() - began
        return events

    def finish(self) -> list[StreamEvent]:
        """End the recording: the last final answers. :attr:`prediction` is the whole.

        Raises:
            SerkitError: nothing was heard, 16-bit values in 32-bit integers, or no turn or sentence lies in it.
        """
        if self._done:
            return []
        self.remarks.refuse_narrow()
        began = time.perf_counter()
        rest = self._to_16k(np.zeros(0, dtype=np.float32), True)
        events = self._hear(rest) + self._hear(rest[:0], last=True)
        if not isinstance(self._cutter, SpeechCutter):
            self._set_aside(self._segmenter.finish())
        self._done = True
        if not self._recent.end:
            raise SerkitError("the recording is empty: no samples")
        if self._settings.by in ("turn", "sentence", "word") and not self._segments:
            raise SerkitError(
                f"no {self._settings.by} that was given is within the recording, which is {self.heard_s:.1f} s long: "
                "do they belong to another one?"
            )
        self._prediction = self._whole()
        self.work_s += time.perf_counter() - began
        return events

    @property
    def prediction(self) -> Prediction:
        """The answer for the whole recording, once it is finished.

        Raises:
            SerkitError: it is not.
        """
        if self._prediction is None:
            why = "is not finished: call finish() first" if not self._done else "has no answer: finish() said why"
            raise SerkitError(f"the stream {why}")
        return self._prediction

    def _make_cutter(self) -> Cutter:
        asked = self._settings
        if asked.by == "window":
            window_s = WINDOW_S if asked.window_s is None else asked.window_s
            return WindowCutter(window_s, window_s / 2 if asked.hop_s is None else asked.hop_s, asked.segments)
        if asked.by in ("turn", "sentence", "word"):
            pieces = given_pieces(asked.by, asked.turns, asked.sentences, asked.segments.max_s)
            return GivenCutter(pieces, asked.segments)
        return SpeechCutter(self._segmenter)

    def _refuse_long(self, seconds: float) -> None:
        limit = self._settings.max_s
        if limit is not None and seconds > limit:
            raise SerkitError(f"the recording is longer than {limit:g} s, the limit (max_s)")

    def _hear(self, samples: np.ndarray, *, last: bool = False) -> list[StreamEvent]:
        began = time.perf_counter()
        if not self._recent.end:  # a file is open by now, so that its sampling rate is known
            self._answer_by(self._model.for_rate(self.remarks.rate_hz))
        self._recent.push(samples)
        self._refuse_long(self.heard_s)
        if self._head.end <= self._longest:
            self._head.push(samples)
        spoken = [] if isinstance(self._cutter, SpeechCutter) else self._segmenter.push(samples)
        pieces = self._cutter.finish() if last else self._cutter.push(samples)
        if self._settings.by == "clip":
            self._waiting += pieces
            if self._recent.end <= self._longest:
                return []
            pieces, self._waiting = self._waiting, []
        events = []
        for piece in pieces:
            segment = self._answer(piece)
            if segment is not None and self._settings.by != "clip":
                self._segments.append(segment)
                events.append(StreamEvent("final", segment, self.heard_s, time.perf_counter() - began))
        self._set_aside(spoken)
        if self._settings.by != "clip" or self._recent.end > self._longest:
            self._recent.forget(min(self._cutter.needed_from, self._segmenter.needed_from))
        return events

    def _set_aside(self, spoken: Sequence[Stretch]) -> None:
        """Answer stretches of speech as long as no window holds enough of it to count: words with long pauses."""
        if self._settings.by != "window" or self._spoken.weight:
            return
        for s in spoken:
            self._aside.add(s.speech, self._score_final(self._recent.take(s.start, s.end), self._settings.text))

    def _score_final(self, samples: np.ndarray, text: str | None) -> np.ndarray:
        """(chosen classes + attributes,) calibrated probabilities, and attributes, of samples that do not change."""
        self._choose_model(samples)
        return self._model.score_one(samples, text, self._columns)

    def _score(self, start: int, end: int, text: str | None, *, final: bool = True) -> np.ndarray:
        """As :meth:`_score_final`, of a stretch, with its own text or that of the whole."""
        words, stretch = self._settings.text if text is None else text, self._recent.take(start, end)
        if final or self._chosen:
            found = self._score_final(stretch, words)
        else:  # a partial answer chooses nothing: where it ends is a matter of the chunks
            found = (self._model.for_sound(stretch) or self._model).score_one(stretch, words, self._columns)
        self._scored = (start, end, words, found)
        return found

    def _answer(self, piece: Piece) -> Segment | None:
        """The answer of a part, once its last piece is there."""
        text = piece.text
        if text is None and self._settings.sentences:
            text = text_at(self._settings.sentences, piece.begin / SAMPLE_RATE_HZ, piece.until / SAMPLE_RATE_HZ)
        found = self._score(piece.start, piece.end, piece.around or text)
        self._spoken.add(piece.speech, found)
        parts = self._parts.setdefault(piece.part, [])
        parts.append((piece.end - piece.start, piece.speech, found))
        if not piece.last:
            return None
        del self._parts[piece.part]
        mean = np.sum([n * p for n, _, p in parts], axis=0) / sum(n for n, *_ in parts)
        speech = sum(n for _, n, _ in parts)
        start_s, end_s = piece.begin / SAMPLE_RATE_HZ, piece.until / SAMPLE_RATE_HZ
        speaker = piece.speaker or speaker_at(self._settings.turns, start_s, end_s)
        state = self._states.setdefault(speaker, Hysteresis()).step(mean[: len(self._labels)])
        return self._segment(start_s, end_s, mean, self._labels[state], speaker, text, speech / SAMPLE_RATE_HZ)

    def _segment(
        self, start_s: float, end_s: float, found: np.ndarray, state: str, speaker: str | None, text: str | None,
        speech_s: float,
    ) -> Segment:  # fmt: skip
        one = self._decided(found, speech_s)
        return Segment(
            start_s, end_s, one.label, one.confidence, one.probabilities, one.abstain, state or one.label, speaker,
            text, speech_s, one.attributes,
        )  # fmt: skip

    def _decided(self, found: np.ndarray, speech_s: float) -> Decision:
        return Decision.of(
            self._labels, found, self._unsure_below, speech=speech_s > 0, attributes=self._model.attributes
        )

    def _partial(self, began: float) -> list[StreamEvent]:
        """An answer for the stretch that is open, if it is time for one."""
        asked, start = self._settings, self._segmenter.open_from
        if asked.partial_s is None or start is None or asked.by not in ("segment", "clip"):
            return []
        end = self._recent.end
        ready = end - start >= SHORTEST_PARTIAL_S * SAMPLE_RATE_HZ
        if not ready or end - max(self._partial_at, start) < asked.partial_s * SAMPLE_RATE_HZ:
            return []
        self._partial_at = end
        found = self._score(start, end, None, final=False)
        speaker = speaker_at(self._settings.turns, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ)
        speech_s = min(self._segmenter.open_speech, end - start) / SAMPLE_RATE_HZ
        segment = self._segment(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, found, "", speaker, None, speech_s)
        return [StreamEvent("partial", segment, self.heard_s, time.perf_counter() - began)]

    def _whole(self) -> Prediction:
        """One answer: of the clip as it is where it is short, else the mean over its parts, or over its speech."""
        words = said_in_all(self._settings.text, self._settings.sentences, self._recent.end / SAMPLE_RATE_HZ)
        if self._scored is not None and self._scored[:3] == (0, self._recent.end, words):
            found = self._scored[3]  # one stretch of speech from begin to end: it is not heard twice
        elif self._recent.end <= self._longest:
            found = self._score_final(self._head.take(0, self._head.end), words)
        elif self._spoken.weight > 0:
            found = self._spoken.mean
        elif self._aside.weight > 0:
            found = self._aside.mean
        elif self._segments:  # turns without speech: all count alike
            found = np.mean([s.numbers for s in self._segments], axis=0)
        else:
            found = self._score_final(self._head.take(0, self._longest), self._settings.text)
        speech_s = self._segmenter.speech / SAMPLE_RATE_HZ
        one = self._decided(found, speech_s)
        long = self._in_set_from is not None and self._recent.end > self._longest
        two = speech_s > 0 and self.remarks.two_sided and not self._settings.turns
        return Prediction(
            one.label, one.confidence, one.probabilities, one.abstain, speech_s == 0, tuple(self._segments),
            self._settings.by, self.heard_s, speech_s, self._model.id, None,
            self._model.notes(self._settings.text, self._settings.sentences, self.remarks.rate_hz)
            + self.remarks.notes + (TWO_VOICES,) * two + (LONG_SET.format(longest=self._model.max_clip_s),) * long,
            speakers_of(self._segments, self._settings.by, self._unsure_below), one.attributes, self._settings.coverage,
            None if self._in_set_from is None else ranked(one.probabilities, self._in_set_from),
        )  # fmt: skip
