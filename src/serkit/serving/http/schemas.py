"""What goes in and out of the service: pydantic models, with an example each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from serkit.conformal import COVERAGES
from serkit.errors import did_you_mean
from serkit.serving.results import COVERAGE_MEANS, THRESHOLD_MEANS, Abstain, By, Prediction, Segment

MAX_TEXT = 100_000
_SUMMARY = (
    "Seconds by the emotion that held; of parts with the pauses within them, so that they add up to more than speech_s."
)
_ATTRIBUTES = (
    "Arousal, valence and dominance on the scale of the corpus that taught them; empty of a model that learned none."
)
MAX_TURNS = 20_000
_MANY_FAULTS = 100  # all are put into words before the first is: with millions the service would answer nobody else
_SCORES: dict[str, Any] = {"anger": 0.64, "fear": 0.1, "happiness": 0.1, "neutral": 0.1, "sadness": 0.06}
_SEGMENT: dict[str, Any] = {
    "time": {"begin_s": 0.82, "end_s": 2.31},
    "text": "I have told you twice.",
    "speaker": "A",
    "label": "anger",
    "confidence": 0.64,
    "abstain": "",
    "state": "anger",
    "speech_s": 1.3,
    "scores": _SCORES,
    "attributes": {},
}
_SPEAKER: dict[str, Any] = {
    "speaker": "A",
    "label": "anger",
    "confidence": 0.64,
    "abstain": "",
    "speech_s": 1.3,
    "summary": {"anger": 1.49},
    "scores": _SCORES,
    "attributes": {},
}
RESULT_EXAMPLE: dict[str, Any] = {
    "index": 0,
    "file": "call.wav",
    "granularity": "segment",
    "time": {"begin_s": 0.0, "end_s": 12.48},
    "text": None,
    "speaker": None,
    "label": "anger",
    "confidence": 0.64,
    "abstain": "",
    "no_speech": False,
    "scores": _SCORES,
    "attributes": {},
    "duration_s": 12.48,
    "speech_s": 9.1,
    "segments": [_SEGMENT],
    "summary": {"anger": 1.49},
    "speakers": [_SPEAKER],
    "notes": [],
    "error": None,
}


def split_labels(value: Any) -> Any:
    """``a,b,c`` as a list; anything else as it is."""
    return [x.strip() for x in value.split(",") if x.strip()] if isinstance(value, str) else value


class Row(BaseModel):
    """What all models share: nothing but the named fields."""

    model_config = ConfigDict(extra="forbid")


class Span(Row):
    """A stretch of time, in seconds from the beginning of the recording."""

    begin_s: float
    end_s: float


class ErrorBody(Row):
    """What went wrong: a word for programs and one line for people."""

    code: str
    message: str


class ErrorAnswer(Row):
    """The shape of every error."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"error": {"code": "too_large", "message": "the body exceeds 100 MB"}}},
    )
    error: ErrorBody


class SegmentRow(Row):
    """A part of a recording: when, who, which words, which emotion, with what confidence."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _SEGMENT})
    time: Span
    text: str | None = Field(description="Words, if a transcript was given.")
    speaker: str | None = Field(description="Speaker, if turns were given; with by=channel, the channel.")
    label: str = Field(description="The most probable emotion.")
    confidence: float = Field(description="Its calibrated probability.")
    abstain: Abstain = Field(description="'unsure' if the answer should not be relied on.")
    state: str = Field(description="The prevailing emotion at this time, after hysteresis.")
    speech_s: float
    scores: dict[str, float] = Field(description="Calibrated probability of each label; they sum to 1.")
    attributes: dict[str, float] = Field(default={}, description=_ATTRIBUTES)


class SpeakerRow(Row):
    """What a speaker, or a channel, says in all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _SPEAKER})
    speaker: str
    label: str = Field(description="The most probable emotion.")
    confidence: float = Field(description="Its probability.")
    abstain: Abstain = Field(description="'', 'no_speech' or 'unsure'.")
    speech_s: float = Field(description="Seconds of speech.")
    summary: dict[str, float] = Field(description=_SUMMARY)
    scores: dict[str, float] = Field(
        description="Mean over the speaker's parts, weighted by the speech in them; for a channel, its own answer."
    )
    attributes: dict[str, float] = Field(default={}, description=_ATTRIBUTES)


class Result(Row):
    """The answer for one recording. One that cannot be answered, of several, has ``error`` and nothing else."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": RESULT_EXAMPLE})
    index: int = Field(description="Position of the recording in the request.")
    file: str | None = Field(description="Its name as given by the client.")
    granularity: By | None = None
    time: Span | None = None
    text: str | None = None
    speaker: str | None = None
    label: str | None = None
    confidence: float | None = None
    abstain: Abstain | None = Field(None, description="'', 'no_speech' or 'unsure'.")
    no_speech: bool | None = None
    coverage: float | None = Field(None, description="As asked for; not in answers to requests without it.")
    set: list[str] | None = Field(
        None,
        description="With coverage: the labels that include the right one with this probability, on speakers like "
        "those of the training; the most probable first.",
    )
    scores: dict[str, float] | None = None
    attributes: dict[str, float] = Field(default={}, description=_ATTRIBUTES)
    duration_s: float | None = None
    speech_s: float | None = None
    segments: list[SegmentRow] = Field(default=[])
    summary: dict[str, float] = Field(default={}, description=_SUMMARY)
    speakers: list[SpeakerRow] = Field(default=[], description="A summary for each; empty if none is known.")
    notes: list[str] = Field(default=[], description="What a reader should know about this answer.")
    error: ErrorBody | None = None

    @model_serializer(mode="wrap")
    def _without_unasked(self, written: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # keeps the schema
        """No ``coverage`` and ``set`` in answers to requests without a coverage."""
        return {k: v for k, v in written(self).items() if v is not None or k not in ("coverage", "set")}


class PredictAnswer(Row):
    """The answer of ``POST /v1/predict``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"model": "default@0123456789ab", "results": [RESULT_EXAMPLE]}},
    )
    model: str = Field(description="Name and fingerprint of the model.")
    results: list[Result] = Field(description="One for each recording, in the order of the request.")


class WordRow(Row):
    """A word of a sentence, with its times."""

    start_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    end_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    text: str = Field(max_length=1000)


class TurnRow(Row):
    """A stretch of a diarisation or a transcript."""

    start_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    end_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    speaker: str | None = Field(None, max_length=200, coerce_numbers_to_str=True)
    text: str | None = Field(None, max_length=MAX_TEXT)
    words: Annotated[list[WordRow], FailFast()] = Field(
        [], max_length=MAX_TURNS, description="The text word by word; text is required too."
    )


class Options(Row):
    """What is asked of a recording; as query, as fields of a form, or as keys of JSON."""

    timeline: bool = Field(False, description="Emotion over time, part by part.")
    by: By | None = Field(None, description="Parts of the timeline; segment (of speech) with timeline, else clip.")
    labels: list[str] | None = Field(None, max_length=200, description="Restrict answers to these labels.")
    threshold: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description=THRESHOLD_MEANS)
    coverage: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False, description=COVERAGE_MEANS)
    text: str | None = Field(None, max_length=MAX_TEXT, description="The spoken words, for models that use text.")
    window_s: float | None = Field(None, gt=0, le=600, allow_inf_nan=False, description="Length of a window.")
    hop_s: float | None = Field(
        None, gt=0, le=600, allow_inf_nan=False, description="Time from one window to the next, by default half of it."
    )
    turns: Annotated[list[TurnRow], FailFast()] = Field(
        [], max_length=MAX_TURNS, description="Who speaks when, or who says what."
    )
    sentences: Annotated[list[TurnRow], FailFast()] = Field(
        [], max_length=MAX_TURNS, description="Sentences with times."
    )


class JsonBody(Options):
    """A recording as base64, with its options."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"audio": "UklGRiQAAABXQVZF…", "name": "call.wav"}}
    )
    audio: str = Field(description="The bytes of an audio file in base64; a data: URL is accepted.")
    name: str | None = Field(None, max_length=1000)


class StreamStart(Row):
    """The first message of a stream."""

    type: Literal["start"]
    encoding: Literal["pcm16", "float32"] = "pcm16"
    rate_hz: int = Field(16_000, ge=1_000, le=768_000)
    channels: int = Field(1, ge=1, le=64)
    partial_s: float | None = Field(1.0, ge=0.2, le=60, allow_inf_nan=False)
    by: Literal["clip", "segment", "window", "channel"] = "segment"
    labels: list[str] | None = Field(None, max_length=200)
    text: str | None = Field(None, max_length=MAX_TEXT)
    threshold: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    coverage: float | None = Field(None, gt=0, lt=1, allow_inf_nan=False)
    window_s: float | None = Field(None, gt=0, le=600, allow_inf_nan=False)
    hop_s: float | None = Field(None, gt=0, le=600, allow_inf_nan=False)
    api_key: str | None = Field(None, max_length=500, repr=False)

    @field_validator("labels", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return split_labels(value)

    @property
    def bytes_of_a_second(self) -> int:
        """Of the samples that come, all channels together."""
        return self.rate_hz * self.channels * (2 if self.encoding == "pcm16" else 4)


class StreamRequest(Row):
    """A message of text after the first one."""

    type: Literal["finish", "ping"]


class LimitsRow(Row):
    """What the service takes at most."""

    max_mb: float
    max_minutes: float
    max_files: int
    job_max_mb: float
    job_max_minutes: float
    stream_max_minutes: float
    timeout_s: float
    workers: int = Field(description="Worker processes: this many recordings are processed in parallel.")


class ModelAnswer(Row):
    """Which model answers, and what it takes."""

    model: str
    labels: list[str]
    coverages: list[float] = Field(
        description=f"Those of {', '.join(f'{c:g}' for c in COVERAGES)} that it can give sets for, among all labels; a "
        "request may have others. Empty if it keeps too few held-out clips, or if its answers were never measured."
    )
    attributes: list[str] = Field(description="Those of arousal, valence and dominance that it predicts.")
    reads_text: bool
    max_clip_s: float
    licence: str = Field(description="Of the weights.")
    auth: bool = Field(description="Whether an API key is required.")
    version: str = Field(description="Of serkit.")
    limits: LimitsRow


class JobAnswer(Row):
    """A job: its status, and its results once it is done."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "id": "4gX0cZ2mH1s6mVwR", "url": "/v1/jobs/4gX0cZ2mH1s6mVwR", "status": "running",
                "created_at": "2026-01-01T12:00:00Z", "heard_s": 1830.0, "model": "default@0123456789ab",
                "results": None, "error": None,
            }
        },
    )  # fmt: skip
    id: str
    url: str
    status: Literal["queued", "running", "done", "failed"]
    created_at: str
    heard_s: float = Field(description="Seconds of the recordings processed so far.")
    model: str
    results: list[Result] | None = None
    error: ErrorBody | None = None


class Health(Row):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "ready", "starting", "shutting_down", "broken"]


def first_fault(error: ValidationError, asked: type[Row]) -> str:
    """What is wrong first, in one line; an unknown name or word with the nearest one that there is.

    Args:
        asked: whose fields may be named.
    """
    if error.error_count() > _MANY_FAULTS:
        return f"{error.error_count()} options are unknown or wrong; /docs lists the known ones"
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(x) for x in fault["loc"])[:100]
    if fault["type"] == "extra_forbidden":
        known = asked if len(fault["loc"]) == 1 else WordRow if "words" in fault["loc"] else TurnRow
        return f"no option '{place}'" + did_you_mean(str(fault["loc"][-1]), known.model_fields)
    near = ""
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        near = did_you_mean(fault["input"], re.findall(r"'([^']*)'", str(fault["ctx"]["expected"])))
        near = near if near.startswith("; did you mean") else ""
    return (f"{place}: {fault['msg']}" if place else str(fault["msg"])) + near


def segment_row(segment: Segment) -> dict[str, Any]:
    """A segment as :class:`SegmentRow` has it; the same numbers as ``serkit predict --format json``."""
    row = segment.to_row()
    return {
        "time": {"begin_s": row["start_s"], "end_s": row["end_s"]},
        **{k: row[k] for k in ("text", "speaker", "label", "confidence", "abstain", "state", "speech_s")},
        "scores": row["probabilities"],
        "attributes": row["attributes"],
    }


def _scored(row: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in row.items() if k != "probabilities"}, "scores": row["probabilities"]}


def result_row(prediction: Prediction, index: int, file: str | None, text: str | None) -> dict[str, Any]:
    """A prediction as :class:`Result` has it."""
    row = prediction.to_row()
    return {
        "index": index,
        "file": file,
        "time": {"begin_s": 0.0, "end_s": row["duration_s"]},
        "text": text,
        "speaker": None,
        "scores": row["probabilities"],
        "segments": [segment_row(s) for s in prediction.segments],
        "error": None,
        **{k: row[k] for k in ("granularity", "label", "confidence", "abstain", "no_speech")},
        **{k: row[k] for k in ("coverage", "set") if k in row},
        "speakers": [_scored(one) for one in row["speakers"]],
        **{k: row[k] for k in ("duration_s", "speech_s", "summary", "notes", "attributes")},
    }
