"""What a worker does: batches of clips, long recordings, streams; always by the model's one path."""

from __future__ import annotations

import io
import math
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from serkit import audio
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.remarks import Remarks
from serkit.serving import inputs
from serkit.serving.channels import ChannelStream, open_stream
from serkit.serving.http.schemas import result_row, segment_row
from serkit.serving.http.worker import Failure, Task
from serkit.serving.predictor import Model, load
from serkit.serving.results import Prediction
from serkit.serving.stream import Stream, StreamEvent
from serkit.serving.stream_settings import StreamSettings
from serkit.serving.thresholds import Thresholds
from serkit.serving.timeline import turn_of

_DTYPES: dict[str, np.dtype[Any]] = {"pcm16": np.dtype("<i2"), "float32": np.dtype("<f4")}
_LOST = Failure("internal", "the worker crashed; start again")  # the stream was heard by one before this one
_TELL_S = 2.0  # a long recording says how far it is


class TooLong(SerkitError):
    """A recording longer than the service takes."""


class Answerer:
    """A model, and the streams that are open.

    Args:
        source: name or place of a bundle. calls: see :func:`serkit.serving.predictor.load`.
    """

    def __init__(self, source: str, calls: str = "auto") -> None:
        self.model = load(source, max_s=None, calls=calls)
        self.model.score_one(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32), None, self.model.columns(None))
        self._streams: dict[str, tuple[Stream | ChannelStream, np.dtype[Any], int, float, str | None]] = {}

    def about(self) -> dict[str, Any]:
        """What the service says of its model."""
        model = self.model
        calls = () if model.calls is None else (Thresholds(model.calls),)
        given = [one.coverages() for one in (model.thresholds, *calls)]
        return {
            "model": model.id,
            "labels": list(model.labels),
            "coverages": [coverage for coverage in given[0] if all(coverage in one for one in given)],
            "attributes": list(model.attributes),
            "reads_text": model.reads_text,
            "max_clip_s": model.max_clip_s,
            "licence": str(model.bundle.head.get("licence", {}).get("weights", "unknown")),
        }

    def predict(
        self, tasks: Sequence[Task], handles: Sequence[int | None], tell: Callable[[float], None]
    ) -> list[dict[str, Any] | Failure]:
        """An answer or a failure for each recording; short ones go through the networks together."""
        found: list[dict[str, Any] | Failure] = [Failure("internal", "not answered")] * len(tasks)
        short: list[tuple[int, np.ndarray, StreamSettings, Remarks]] = []
        for k, (task, handle) in enumerate(zip(tasks, handles, strict=True)):
            with _opened(task.content, handle) as source:
                try:
                    settings = self._settings(task)
                    remarks = Remarks()
                    whole = task.alone or len(tasks) == 1 or settings.by == "channel"
                    clip = None if whole else self._short(source, task.max_s, remarks)
                    if clip is not None:
                        short.append((k, clip, settings, remarks))
                        continue
                    found[k] = self._row(task, self._long(source, task, settings, tell))
                except SerkitError as error:
                    found[k] = _failure(error, source)
        by_model: dict[Model, list[tuple[int, np.ndarray, StreamSettings, Remarks]]] = {}
        for one in short:
            model = self.model.for_rate(one[3].rate_hz)
            by_model.setdefault(model.for_sound(one[1]) or model, []).append(one)
        for model, some in by_model.items():
            self._together(model, some, tasks, found)
        return found

    def _together(
        self,
        model: Model,
        clips: Sequence[tuple[int, np.ndarray, StreamSettings, Remarks]],
        tasks: Sequence[Task],
        found: list[dict[str, Any] | Failure],
    ) -> None:
        """Answer clips, the networks run once on all of them; each answer takes its place in ``found``."""
        texts = [str(tasks[k].options.get("text") or "") for k, *_ in clips]
        rows = model.score_clips([clip for _, clip, *_ in clips], texts)
        for (k, clip, settings, remarks), text, row in zip(clips, texts, rows, strict=True):
            try:
                stream = Stream(_Scored(self.model, model, len(clip), text, row), SAMPLE_RATE_HZ, settings, remarks)
                found[k] = self._row(tasks[k], _finished(stream, clip))
            except SerkitError as error:
                found[k] = _failure(error, None)

    def open(self, key: str, start: dict[str, Any], max_s: float) -> Failure | None:
        """Begin a stream."""
        dtype, channels = _DTYPES[str(start.pop("encoding"))], int(start.pop("channels"))
        try:
            stream = self.model.stream(**_without_none(start), max_s=None)
        except SerkitError as error:
            return Failure("bad_option", str(error))
        self._streams[key] = (stream, dtype, channels, max_s, start.get("text"))
        return None

    def push(self, key: str, content: bytes) -> list[dict[str, Any]] | Failure:
        """Hear samples of a stream; what became final, or is partial."""
        if key not in self._streams:
            return _LOST
        stream, dtype, channels, max_s, _ = self._streams[key]
        if len(content) % (dtype.itemsize * channels):
            return Failure(
                "bad_request",
                f"{len(content)} bytes are not a whole number of frames: {channels} channels of {dtype.itemsize} bytes",
            )
        samples = np.frombuffer(content, dtype=dtype)
        try:
            events = stream.push(samples.reshape(-1, channels) if channels > 1 else samples)
        except SerkitError as error:
            return _failure(error, None)
        if stream.heard_s > max_s:
            return Failure("too_long", f"the stream continues after {max_s:g} s, the limit")
        return [_event(e) for e in events]

    def finish(self, key: str) -> tuple[list[dict[str, Any]], dict[str, Any]] | Failure:
        """End a stream: its last finals, and the answer for the whole."""
        if key not in self._streams:
            return _LOST
        stream, *_, text = self._streams.pop(key)
        try:
            events = stream.finish()
            return [_event(e) for e in events], result_row(stream.prediction, 0, None, text)
        except SerkitError as error:
            return _failure(error, None)

    def drop(self, key: str) -> None:
        """Forget a stream."""
        self._streams.pop(key, None)

    def _settings(self, task: Task) -> StreamSettings:
        options = {**task.options, "max_s": None}
        for name in ("turns", "sentences"):
            if name in options:
                options[name] = [turn_of(row) for row in options[name]]
        try:
            settings = StreamSettings(**options)
            columns = self.model.columns(settings.labels)
            if settings.threshold is not None:
                self.model.unsure_below(tuple(self.model.labels[k] for k in columns), settings.threshold)
            open_stream(self.model, SAMPLE_RATE_HZ, settings)
        except SerkitError as error:
            raise _BadOption(str(error)) from None
        return settings

    def _short(self, source: Path | BinaryIO, max_s: float, remarks: Remarks) -> np.ndarray | None:
        """The samples of a clip that is answered as it is; ``None`` for a longer recording."""
        return inputs.whole(_blocks(source, remarks), min(self.model.max_clip_s, max_s))

    def _long(
        self, source: Path | BinaryIO, task: Task, settings: StreamSettings, tell: Callable[[float], None]
    ) -> Prediction:
        _refuse_longer(source, task.max_s)
        stream = open_stream(self.model, SAMPLE_RATE_HZ, settings)
        said = time.monotonic()
        with closing(_blocks(source, stream.remarks, apart=settings.by == "channel")) as blocks:
            for block in blocks:
                stream.push(block)
                if stream.heard_s > task.max_s:
                    raise TooLong(f"the recording continues after {task.max_s:g} s, the limit")
                if task.alone and time.monotonic() - said > _TELL_S:
                    said = time.monotonic()
                    tell(stream.heard_s)
        stream.finish()
        return stream.prediction

    def _row(self, task: Task, prediction: Prediction) -> dict[str, Any]:
        return result_row(prediction, task.index, task.file, task.options.get("text"))


class _BadOption(SerkitError):
    """An option that the model does not take."""


class _Scored(Model):
    """A model that knows the answer for one whole clip already, from a batch.

    Args:
        model: the same in all else. scored: which model the answer is of. n: samples of the clip. text: its words.
        row: (classes + attributes,) the answer.
    """

    def __init__(self, model: Model, scored: Model, n: int, text: str, row: np.ndarray) -> None:
        self.__dict__.update(model.__dict__)
        self._whole, self._of, self._n, self._text, self._row = model, scored, n, text, row

    def for_rate(self, rate_hz: float) -> Model:
        """As of the model, with the answer that is known."""
        return self._with_answer(self._whole.for_rate(rate_hz))

    def for_sound(self, samples: np.ndarray) -> Model | None:
        """As of the model, with the answer that is known."""
        found = self._whole.for_sound(samples)
        return None if found is None else self._with_answer(found)

    def _with_answer(self, model: Model) -> Model:
        return _Scored(model, self._of, self._n, self._text, self._row)

    def score_one(self, samples: np.ndarray, text: str | None, columns: Sequence[int]) -> np.ndarray:
        """The known row for the whole clip; parts are scored."""
        if self._whole is not self._of or len(samples) != self._n or (text or "") != self._text:
            return self._whole.score_one(samples, text, columns)
        found: np.ndarray = self._whole.chosen(self._row[None], columns)[0]
        return found


def _finished(stream: Stream, clip: np.ndarray) -> Prediction:
    stream.push(clip)
    stream.finish()
    return stream.prediction


def _blocks(source: Path | BinaryIO, remarks: Remarks, *, apart: bool = False) -> Generator[np.ndarray]:
    yield from audio.blocks(source, remarks=remarks, apart=apart)


def _refuse_longer(source: Path | BinaryIO, max_s: float) -> None:
    """By the header, where it says how long it is; a wrong header is detected while decoding."""
    found = audio.info(source)
    if max_s < found.duration_s < math.inf:
        raise TooLong(f"the recording is {found.duration_s:.1f} s long, the limit is {max_s:g} s")


@contextmanager
def _opened(content: bytes | None, handle: int | None) -> Iterator[Path | BinaryIO]:
    """A recording as a file without a name: in memory, or the service's own, deleted already.

    On Linux it has a path under /proc, so that ffmpeg reads it without a copy on disk.
    """
    if handle is None:
        if content is None or not hasattr(os, "memfd_create"):
            with tempfile.TemporaryFile() if content is None else io.BytesIO(content) as file:
                yield file
            return
        handle = os.memfd_create("recording")
        with os.fdopen(os.dup(handle), "wb") as writer:
            writer.write(content)
    try:
        path = Path(f"/proc/{os.getpid()}/fd/{handle}")
        if path.exists():
            yield path
        else:
            with os.fdopen(os.dup(handle), "rb") as file:
                file.seek(0)
                yield file
    finally:
        os.close(handle)


def _failure(error: SerkitError, source: Path | BinaryIO | None) -> Failure:
    """One line without the place where the recording lies, which is nobody's business."""
    code = "too_long" if isinstance(error, TooLong) else "bad_option" if isinstance(error, _BadOption) else "bad_audio"
    message = str(error)
    if source is not None:
        label = str(source) if isinstance(source, Path) else str(getattr(source, "name", "audio stream"))
        message = message.replace(label, "the recording")
    return Failure(code, message)


def _event(event: StreamEvent) -> dict[str, Any]:
    return {
        "type": event.kind,
        "segment": segment_row(event.segment),
        "at_s": round(event.at_s, 3),
        "latency_s": round(event.latency_s, 4),
    }


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None or k == "partial_s"}
