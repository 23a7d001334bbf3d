"""A recording whose channels are speakers, as a call has the agent on the left and the customer on the right.

Every channel is heard and answered alone, by the one path of :mod:`serkit.serving.stream`: its parts are those of a
file that holds this channel and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from serkit.errors import SerkitError
from serkit.remarks import Remarks
from serkit.serving.resampling import samples_of
from serkit.serving.results import Decision, Prediction
from serkit.serving.speakers import mean_by_speech, speaker_from
from serkit.serving.stream import Stream, StreamEvent
from serkit.serving.stream_settings import StreamSettings
from serkit.serving.timeline import Turn

if TYPE_CHECKING:
    from serkit.serving.predictor import Model

MAX_CHANNELS = 8
_FOREVER_S = 1e9
ONE_SOUND = "the channels hold the same sound: every part occurs once for each of them; by segment it occurs once"


def open_stream(model: Model, rate_hz: float, settings: StreamSettings) -> Stream | ChannelStream:
    """What hears a recording that is divided as ``settings.by`` says; args as for :class:`Stream`."""
    kind = ChannelStream if settings.by == "channel" else Stream
    return kind(model, rate_hz, settings)


def speaker_of(channel: int) -> str:
    """What the speaker of a channel is called, counted from 0.

    >>> speaker_of(0)
    'channel 1'
    """
    return f"channel {channel + 1}"


def refuse_many(n_channels: int) -> None:
    """Raise :class:`SerkitError` where there are more channels than are answered each alone."""
    if n_channels > MAX_CHANNELS:
        raise SerkitError(
            f"{n_channels} channels: by 'channel' answers for at most {MAX_CHANNELS}; give fewer, or divide it "
            "differently (by 'segment' uses the mean of the channels); an array is (samples, channels)"
        )


def _refuse_strangers(sentences: Sequence[Turn], n_channels: int) -> None:
    """Raise :class:`SerkitError` where words are of no channel that there is."""
    names = [speaker_of(k) for k in range(n_channels)]
    for sentence in sentences:
        if sentence.speaker not in names:
            said = "nobody" if sentence.speaker is None else f"'{sentence.speaker}'"
            raise SerkitError(
                f"words of {said}: by 'channel' the speaker of each sentence is its channel, "
                f"'{names[0]}' to '{names[-1]}'"
            )


class ChannelStream:
    """Chunks of a recording in, answers for each of its channels out: used as a :class:`Stream` is.

    The answer for the whole is the mean over the channels' own, weighted by the speech in them; where there is none,
    all count alike. Its ``speech_s`` is their sum.

    Args:
        model: what answers. rate_hz: sampling rate of the chunks. settings: what is asked, ``by`` being ``channel``.

    Attributes:
        remarks: what is worth knowing of the recording, as for a :class:`Stream`.
    """

    def __init__(self, model: Model, rate_hz: float, settings: StreamSettings) -> None:
        self._model, self._rate_hz, self._settings = model, rate_hz, replace(settings, by="segment")
        self.remarks = Remarks()
        _refuse_strangers(settings.sentences, MAX_CHANNELS)
        self._first = self._opened(0)  # refuses options that no recording could be answered with
        self._streams: list[Stream] = []
        self._alike = True  # what all channels held so far
        self._prediction: Prediction | None = None

    @property
    def heard_s(self) -> float:
        """Seconds heard so far."""
        return self._first.heard_s

    @property
    def work_s(self) -> float:
        """Seconds of computing so far, for all channels."""
        return sum(stream.work_s for stream in self._streams)

    def push(self, chunk: np.ndarray) -> list[StreamEvent]:
        """Hear a chunk; args and errors as for :meth:`Stream.push`, every chunk of as many channels as the first.

        Returns:
            The answers that have become final, and at most one partial one for each channel.

        Raises:
            SerkitError: more than 8 channels, another number than before, or words of one that there is not.
        """
        if self._prediction is not None:
            raise SerkitError("the stream is finished; open another one")
        chunk = samples_of(chunk)
        if chunk.size == 0:
            return []
        if chunk.ndim not in (1, 2):
            raise SerkitError(f"array of shape {chunk.shape}: expected (samples,) or (samples, channels)")
        columns = chunk.reshape(len(chunk), -1).T
        if not self._streams:
            self._streams = self._many(len(columns))
        if len(columns) != len(self._streams):
            raise SerkitError(f"a chunk of {len(columns)} channels after chunks of {len(self._streams)}")
        self._alike = self._alike and all(np.array_equal(columns[0], other) for other in columns[1:])
        return self._told([s.push(np.ascontiguousarray(c)) for s, c in zip(self._streams, columns, strict=True)])

    def finish(self) -> list[StreamEvent]:
        """End the recording, as :meth:`Stream.finish` does; errors as there."""
        if self._prediction is not None:
            return []
        if not self._streams:
            raise SerkitError("the recording is empty: no samples")
        events = self._told([s.finish() for s in self._streams])
        self._prediction = self._whole([s.prediction for s in self._streams])
        return events

    @property
    def prediction(self) -> Prediction:
        """The answer for the whole recording, once it is finished.

        Raises:
            SerkitError: it is not.
        """
        if self._prediction is None:
            raise SerkitError("the stream is not finished: call finish() first")
        return self._prediction

    def _many(self, n_channels: int) -> list[Stream]:
        refuse_many(n_channels)
        _refuse_strangers(self._settings.sentences, n_channels)
        return [self._first, *(self._opened(k) for k in range(1, n_channels))]

    def _opened(self, channel: int) -> Stream:
        """All that is said in a channel is said by one speaker, in the words of this channel."""
        name = speaker_of(channel)
        words = tuple(s for s in self._settings.sentences if s.speaker == name)
        settings = replace(self._settings, turns=(Turn(0.0, _FOREVER_S, name),), sentences=words)
        return Stream(self._model, self._rate_hz, settings, self.remarks)

    def _told(self, found: Sequence[Sequence[StreamEvent]]) -> list[StreamEvent]:
        """What all channels answered, in order of time."""
        return sorted((e for events in found for e in events), key=lambda e: (e.segment.start_s, e.segment.end_s))

    def _whole(self, alone: Sequence[Prediction]) -> Prediction:
        labels = tuple(alone[0].probabilities)
        cut = self._first.model.unsure_below(labels, self._settings.threshold)
        speakers = tuple(
            speaker_from(speaker_of(k), p.numbers, p, p.segments, "channel", cut, p.speech_s)
            for k, p in enumerate(alone)
        )
        if len(alone) == 1:
            return replace(alone[0], by="channel", speakers=speakers)
        notes = tuple(note for note in alone[0].notes if all(note in p.notes for p in alone))
        speech = [p.speech_s for p in alone]
        notes += (ONE_SOUND,) * (self._alike and any(speech))
        whole = Decision.of(
            labels, mean_by_speech(alone), cut, speech=any(speech), attributes=tuple(alone[0].attributes)
        )
        parts = sorted((s for p in alone for s in p.segments), key=lambda s: (s.start_s, s.speaker))
        return replace(
            alone[0], label=whole.label, confidence=whole.confidence, abstain=whole.abstain, by="channel",
            probabilities=whole.probabilities, attributes=whole.attributes, no_speech=not any(speech),
            segments=tuple(parts), speech_s=sum(speech), speakers=speakers, notes=notes,
        )  # fmt: skip
