"""What a prediction is: plain frozen rows, one for a recording and one for each of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from serkit.errors import SerkitError

Abstain = Literal["", "no_speech", "unsure"]
By = Literal["clip", "segment", "window", "sentence", "word", "turn", "channel"]
THRESHOLD_MEANS = (
    "Answers are 'unsure' below the smallest confidence at and above which answers were right at least this often on "
    "held-out speakers [default: where answers of that confidence were more often wrong than right]."
)
COVERAGE_MEANS = (
    "Also give the set of classes that holds the right one with this probability, such as 0.9. It was measured on "
    "held-out speakers of the training corpora; on other recordings the sets hold the right one less often."
)
CALLS_MEANS = (
    "Bundle for calls: recordings of 8 kHz or less, or with nothing above 4 kHz; none: --model answers them too; auto: "
    "telephone, where --model is default."
)
BYS = ("clip", "segment", "window", "sentence", "word", "turn", "channel")


def division(by: By | None, *, timeline: bool, named: str = "timeline") -> By:
    """How a recording is divided: as asked, else by segment where a timeline is wanted, else not at all.

    Args:
        named: what wants the timeline, for the message.

    Raises:
        SerkitError: a timeline of a recording that is not to be divided.

    >>> division(None, timeline=True), division("window", timeline=False), division(None, timeline=False)
    ('segment', 'window', 'clip')
    """
    if timeline and by == "clip":
        raise SerkitError(f"{named} is of parts, and by 'clip' makes none: leave one of the two out")
    return by or ("segment" if timeline else "clip")


@dataclass(frozen=True)
class Decision:
    """What probabilities come to: the one rule for a part, a speaker, a channel and a whole recording.

    Attributes:
        label: the most probable emotion. confidence: its probability. probabilities: by label.
        abstain: ``no_speech`` where none was heard, ``unsure`` where the confidence is below the cut.
        attributes: arousal, valence and dominance by name, as far as the model learned them.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: Abstain
    attributes: Mapping[str, float]

    @classmethod
    def of(
        cls, labels: Sequence[str], found: Iterable[float], cut: float, *, speech: bool, attributes: Sequence[str] = ()
    ) -> Self:
        """From (classes + attributes,) probabilities of some labels, and attributes after them.

        Args:
            cut: confidence below which an answer is unsure. speech: whether any was heard. attributes: their names.
        """
        numbers = list(map(float, found))
        shares = dict(zip(labels, numbers[: len(labels)], strict=True))
        label = max(shares, key=lambda name: shares[name])
        abstain: Abstain = "no_speech" if not speech else "unsure" if shares[label] < cut else ""
        known = dict(zip(attributes, numbers[len(labels) :], strict=True))
        return cls(label, shares[label], shares, abstain, known)


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        start_s, end_s: where it lies in the recording. label: the most probable emotion. confidence: its probability.
        probabilities: by label, summing to 1. abstain: ``unsure`` where the answer should not be relied on,
            ``no_speech`` where a turn or sentence that was given holds none.
        state: the emotion that holds at this time, after hysteresis. speaker, text: where known.
        speech_s: seconds of speech in it, by the detector.
        attributes: arousal, valence and dominance, where the model learned them, on the scale of the corpus that
            taught them.
    """

    start_s: float
    end_s: float
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: Abstain = ""
    state: str = ""
    speaker: str | None = None
    text: str | None = None
    speech_s: float = 0.0
    attributes: Mapping[str, float] = field(default_factory=dict)

    @property
    def numbers(self) -> list[float]:
        """Probabilities, then attributes."""
        return [*self.probabilities.values(), *self.attributes.values()]

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row; what is not known is ``None``."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "speaker": self.speaker,
            "text": self.text,
            "label": self.label,
            "confidence": self.confidence,
            "abstain": self.abstain,
            "state": self.state,
            "speech_s": round(self.speech_s, 3),
            "probabilities": dict(self.probabilities),
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True)
class Speaker:
    """What a speaker, or a channel, says in all.

    Attributes:
        speaker: the name. label: the most probable emotion. confidence: its probability.
        probabilities: by label: the mean over the speaker's parts, weighted by the speech in them; of a channel, the
            answer that a recording of it alone would have. abstain: as for a recording.
        speech_s: seconds of speech. summary: as :attr:`Prediction.summary`, of the speaker's parts.
        attributes: as the probabilities; empty where the model learned none.
    """

    speaker: str
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: Abstain
    speech_s: float
    summary: Mapping[str, float]
    attributes: Mapping[str, float] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return {
            "speaker": self.speaker,
            "label": self.label,
            "confidence": self.confidence,
            "abstain": self.abstain,
            "speech_s": round(self.speech_s, 3),
            "summary": dict(self.summary),
            "probabilities": dict(self.probabilities),
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True)
class Prediction:
    """The answer for one recording.

    Attributes:
        label, confidence, probabilities: of the whole; filled for every readable recording, speech or not.
        abstain: empty, ``no_speech`` or ``unsure``. no_speech: the detector found none.
        segments: its parts, in order of time; empty with ``by="clip"``.
        by: how it was divided. duration_s, speech_s: of the whole; ``by="channel"`` sums the speech of all channels.
        model: name and fingerprint of the bundle. path: of the recording, where it has one.
        notes: what a reader should know of this answer, such as text that was not given.
        speakers: each one summed up, in the order in which they first speak, or of the channels; empty where none is
            known.
        attributes: arousal, valence and dominance of the whole, where the model learned them.
        coverage: probability that was asked for. set: the classes that hold the right one with it on speakers like
            those of the training, the most probable first; ``None`` where none was asked for.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: Abstain
    no_speech: bool
    segments: tuple[Segment, ...]
    by: By
    duration_s: float
    speech_s: float
    model: str
    path: str | None = None
    notes: tuple[str, ...] = field(default=())
    speakers: tuple[Speaker, ...] = field(default=())
    attributes: Mapping[str, float] = field(default_factory=dict)
    coverage: float | None = None
    set: tuple[str, ...] | None = None

    @property
    def numbers(self) -> list[float]:
        """Probabilities, then attributes."""
        return [*self.probabilities.values(), *self.attributes.values()]

    @property
    def summary(self) -> dict[str, float]:
        """Seconds of the parts, their pauses included, by the emotion that held there, the most first.

        Where windows overlap, their time is shared between them half and half, so that no second counts twice. Where
        two channels speak at once, both count. :attr:`speech_s` counts speech without the pauses, and is less.
        """
        return held_s(self.segments, self.by)

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row; ``coverage`` and ``set`` are in it where they were asked for."""
        sets = {} if self.set is None else {"coverage": self.coverage, "set": list(self.set)}
        return {
            "path": self.path,
            "duration_s": round(self.duration_s, 3),
            "speech_s": round(self.speech_s, 3),
            "label": self.label,
            "confidence": self.confidence,
            "abstain": self.abstain,
            "no_speech": self.no_speech,
            **sets,
            "probabilities": dict(self.probabilities),
            "attributes": dict(self.attributes),
            "granularity": self.by,
            "segments": [s.to_row() for s in self.segments],
            "summary": self.summary,
            "speakers": [s.to_row() for s in self.speakers],
            "model": self.model,
            "notes": list(self.notes),
        }


def held_s(parts: Sequence[Segment], by: By) -> dict[str, float]:
    """Seconds by the emotion that held: see :attr:`Prediction.summary`."""
    seconds: dict[str, float] = {}
    last: Segment | None = None
    for part in parts:
        overlap = 0.0
        if by == "window" and last is not None:
            overlap = max(0.0, last.end_s - part.start_s)
            seconds[last.state] -= overlap / 2
        seconds[part.state] = seconds.get(part.state, 0.0) + part.end_s - part.start_s - overlap / 2
        last = part
    return {k: round(v, 3) for k, v in sorted(seconds.items(), key=lambda item: -item[1])}
