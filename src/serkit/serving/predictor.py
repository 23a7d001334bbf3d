"""Prediction with a bundle: recordings, arrays, bytes and streams, always by the one feature path.

What is computed of a clip is in :mod:`serkit.serving.scorer`, what is unsure in :mod:`serkit.serving.thresholds`, how
a recording is cut and answered part by part in :mod:`serkit.serving.stream`. Loads numpy and onnxruntime; torch only
where an encoder of the bundle needs it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from serkit import audio
from serkit.bandwidth import narrow
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known
from serkit.probabilities import restricted
from serkit.remarks import Remarks
from serkit.serving import inputs, notes
from serkit.serving.bundle import Bundle, for_calls, open_bundle
from serkit.serving.channels import ChannelStream, open_stream
from serkit.serving.classifier import Classifier
from serkit.serving.explanation import Explanation
from serkit.serving.inputs import Recording
from serkit.serving.pieces import standing_for
from serkit.serving.results import By, Prediction
from serkit.serving.scorer import Scorer
from serkit.serving.stream import Stream
from serkit.serving.stream_settings import StreamSettings
from serkit.serving.thresholds import Thresholds
from serkit.serving.timeline import Turn

MAX_S = 12 * 3600.0
CALL_HZ = 8000.0


def load(
    source: str | Path = "default", *, threads: int = 1, max_s: float | None = MAX_S, calls: str | Path = "auto"
) -> Model:
    """Load a bundle: a folder, a file, or the name of one that comes with serkit.

    Args:
        source: ``default``, or where a bundle lies. threads: of each network in onnxruntime.
        max_s: longer recordings are refused, in seconds; ``None``: none is.
        calls: the bundle that answers calls in its place; ``none``: this one does; ``auto``:
            ``telephone`` does in place of ``default``, where that is meant by its name.

    Raises:
        SerkitError: no such bundle, damaged, or of a later serkit; weights its encoders need are not to be had; a
            bundle for calls that has other labels.
    """
    bundle = open_bundle(source)
    model = Model(bundle, threads=threads, max_s=max_s, calls=for_calls(bundle, source, calls))
    if calls != "auto":
        model.for_rate(CALL_HZ)  # what it needs and is not to be had is said before any work, not at the first call
    return model


def _again(source: str, id_: str, threads: int, max_s: float | None, calls: str | None, stands_in: bool) -> Model:
    """The model that was pickled, by what :meth:`Model.__reduce__` gave."""
    bundle = open_bundle(source)
    if bundle.id != id_:
        raise SerkitError(f"{source} is '{bundle.id}' now, and the model that was pickled was '{id_}'")
    model = Model(bundle, threads=threads, max_s=max_s, calls=None if calls is None else open_bundle(calls))
    model._stands_in = stands_in
    return model


class Model(Classifier):
    """A trained system.

    Args:
        bundle: what it is. threads: of each network. max_s: longest recording, in seconds.
        calls: what answers calls in its place; loaded when it is needed.

    Attributes:
        labels: class order. classes_: the same as an array, as scikit-learn has it.
        attributes: those of arousal, valence and dominance that it answers, on the scale of its training's ratings.
        id: name and fingerprint. max_clip_s: longer recordings are answered part by part.
        scorer: what computes the probabilities of a clip. thresholds: which of them are unsure.

    Raises:
        SerkitError: an encoder of the bundle cannot be loaded. MissingExtra: a package that it needs is absent.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, max_s: float | None = MAX_S, calls: Bundle | None = None
    ) -> None:
        self.bundle, self._max_s = bundle, max_s
        self.calls, self._threads, self._stands_in = calls, threads, False
        self._for_calls: Model | None = None
        self.scorer, self.thresholds = Scorer(bundle, threads=threads), Thresholds(bundle)
        self.labels = bundle.labels
        self.classes_ = np.array(bundle.labels)
        self.id = bundle.id
        self.max_clip_s = bundle.max_clip_s
        self.reads_text, self.attributes = self.scorer.reads_text, self.scorer.attributes

    def __repr__(self) -> str:
        return f"Model({self.id}: {', '.join(self.labels)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: where the bundle lies. It is loaded there, and refused if it is another one by then."""
        calls = None if self.calls is None else str(Path(self.calls.source).absolute())
        lies = str(Path(self.bundle.source).absolute())
        return _again, (lies, self.id, self._threads, self._max_s, calls, self._stands_in)

    def for_rate(self, rate_hz: float) -> Model:
        """What answers recordings of a sampling rate in Hz: the model for calls at 8 kHz or less, if there is one."""
        if self.calls is None or not 0 < rate_hz <= CALL_HZ:
            return self
        if self._for_calls is None:
            self._for_calls = Model(self.calls, threads=self._threads, max_s=self._max_s)
            self._for_calls._stands_in = True
        return self._for_calls

    def for_sound(self, samples: np.ndarray) -> Model | None:
        """What answers such a sound: the model for calls where nothing lies above 4 kHz; ``None``: too little to tell.

        Args:
            samples: (samples,) float32 mono 16 kHz.
        """
        if self.calls is None:
            return self
        found = narrow(samples)
        return None if found is None else self.for_rate(CALL_HZ) if found else self

    @overload
    def predict(self, recording: list[Any] | tuple[Any, ...], *, rate_hz: float | None = None) -> np.ndarray: ...

    @overload
    def predict(
        self,
        recording: Recording,
        *,
        rate_hz: float | None = None,
        labels: Sequence[str] | None = None,
        text: str | None = None,
        by: By = "segment",
        turns: Sequence[Turn] = (),
        sentences: Sequence[Turn] = (),
        threshold: float | None = None,
        coverage: float | None = None,
        heard: Callable[[float], None] | None = None,
        **options: Any,
    ) -> Prediction: ...

    def predict(
        self,
        recording: Any,
        *,
        rate_hz: float | None = None,
        labels: Sequence[str] | None = None,
        text: str | None = None,
        by: By = "segment",
        turns: Sequence[Turn] = (),
        sentences: Sequence[Turn] = (),
        threshold: float | None = None,
        coverage: float | None = None,
        heard: Callable[[float], None] | None = None,
        **options: Any,
    ) -> Prediction | np.ndarray:
        """Answer for one recording, of any length, in constant memory; for a list, as scikit-learn has it.

        Args:
            recording: path, bytes of a file, an open binary file, or an array with ``rate_hz``: (samples,) or
                (samples, channels), float in [-1, 1] or integers of at most 32 bits at full scale. Or a list of these,
                or an array of paths, without further options.
            labels, text, by, turns, sentences, threshold, coverage: see
                :class:`serkit.serving.stream_settings.StreamSettings`, as are further ``options``: ``window_s``,
                ``hop_s``, ``segments``. heard: is told now and then how many seconds of a file have been heard.

        Returns:
            The answer; for a list (recordings,) the labels that :meth:`predict_proba` finds the most probable.
            :meth:`predict_many` gives whole answers for a list.

        Raises:
            SerkitError: not audio, empty, damaged, too long; an unknown label; a threshold that was never reached; too
                few held-out clips for a coverage.
        """
        if (many := inputs.several(recording)) is not None:
            if (
                options
                or by != "segment"
                or any((labels, text, turns, sentences, threshold is not None, coverage is not None))
            ):
                raise SerkitError("predict of a list gives labels and takes rate_hz alone; predict_many takes the rest")
            answers: np.ndarray = self.classes_[self.predict_proba(many, rate_hz=rate_hz).argmax(axis=1)]
            return answers
        settings = self._settings(
            labels=inputs.names(labels), text=text, by=by, turns=turns, sentences=sentences,
            threshold=threshold, coverage=coverage, **options,
        )  # fmt: skip
        recording = inputs.known(recording)
        if isinstance(recording, np.ndarray):
            if rate_hz is None:
                raise SerkitError("an array needs its sampling rate: rate_hz=…")
            stream = open_stream(self, rate_hz, settings)
            stream.push(inputs.refuse_empty(recording))
        else:
            if rate_hz is not None:
                raise SerkitError("rate_hz is for arrays: a file has its own sampling rate")
            stream = open_stream(self, SAMPLE_RATE_HZ, settings)
            for block in audio.blocks(recording, max_s=self._max_s, remarks=stream.remarks, apart=by == "channel"):
                stream.push(block)
                if heard is not None:
                    heard(stream.heard_s)
        stream.finish()
        path = str(recording) if isinstance(recording, (str, Path)) else None
        return replace(stream.prediction, path=path)

    def predict_many(
        self, recordings: Iterable[Recording], *, errors: Literal["raise", "return"] = "raise", **options: Any
    ) -> list[Prediction | SerkitError]:
        """:meth:`predict` for each recording, in order.

        Args:
            errors: ``return`` puts the error of a recording that cannot be answered in its place.
            options: as for :meth:`predict`.

        Returns:
            As many answers as there are recordings.

        Raises:
            SerkitError: that of the first recording that cannot be answered, unless ``errors`` is ``return``.
        """
        check_known(errors, ("raise", "return"), f"errors '{errors}'")
        found: list[Prediction | SerkitError] = []
        for recording in inputs.listed(recordings, "predict_many"):
            try:
                found.append(self.predict(recording, **options))
            except SerkitError as error:
                if errors == "raise":
                    raise
                found.append(error)
        return found

    def predict_proba(
        self, recordings: Sequence[Recording], *, rate_hz: float | None = None, texts: Sequence[str] | None = None
    ) -> np.ndarray:
        """(recordings, classes) calibrated probabilities, the networks run once on all short clips together.

        Recordings longer than ``max_clip_s`` are answered part by part. Differs from :meth:`predict` with ``by="clip"``
        by rounding alone (1e-5).

        Args:
            recordings: as for :meth:`predict`. rate_hz: of the arrays among them. texts: one for each.

        Returns:
            (recordings, classes) float64, each row summing to 1, columns in the order of ``labels``.

        Raises:
            SerkitError: as for :meth:`predict`, of the first recording that cannot be answered; not one text for each.
        """
        many = [inputs.known(r) for r in inputs.listed(recordings, "predict_proba")]
        words: list[str | None] = [None] * len(many) if texts is None else list(texts)
        if len(words) != len(many):
            raise SerkitError(f"{len(many)} recordings and {len(words)} texts: expected one for each")
        found = np.zeros((len(many), len(self.labels)))
        clips: dict[Model, dict[int, np.ndarray]] = {}
        for k, (recording, text) in enumerate(zip(many, words, strict=True)):
            rate = rate_hz if isinstance(recording, np.ndarray) else None
            begin, remarks = recording.tell() if isinstance(recording, io.IOBase) else 0, Remarks()
            clip = inputs.whole(self.blocks(recording, rate, remarks), self.max_clip_s)
            if clip is not None:
                model = self.for_rate(remarks.rate_hz)
                clips.setdefault(model.for_sound(clip) or model, {})[k] = clip
                continue
            if isinstance(recording, io.IOBase):
                recording.seek(begin)
            found[k] = list(self.predict(recording, rate_hz=rate, text=text, by="clip").probabilities.values())
        for model, some in clips.items():
            scored = model.scorer.several(list(some.values()), [words[k] for k in some])
            found[list(some)] = scored[:, : len(self.labels)]
        return found

    def embed(self, recording: Recording, *, rate_hz: float | None = None, text: str | None = None) -> np.ndarray:
        """(dim,) float32: the networks' embeddings, each of length 1, one after the other, whatever the sampling rate.

        Of a recording longer than ``max_clip_s`` each is the mean over its stretches of speech, by the speech in them.

        Raises:
            SerkitError: as for :meth:`predict`.
        """
        sums = [np.zeros(1, np.float32)] * len(self.scorer.sessions)
        for weight, clip in standing_for(self.blocks(recording, rate_hz), self.max_clip_s):
            sums = [total + weight * one for total, one in zip(sums, self.scorer.embedded(clip, text), strict=True)]
        return np.concatenate([inputs.of_length_1(total) for total in sums])

    def explain(self, recording: Recording, **options: Any) -> Explanation:
        """Why the answer to a clip is what it is: see :func:`serkit.serving.explaining.explain` for the options."""
        from serkit.serving.explaining import explain

        return explain(self, recording, **options)

    def stream(
        self, *, rate_hz: float = SAMPLE_RATE_HZ, partial_s: float | None = 1.0, by: By = "segment", **options: Any
    ) -> Stream | ChannelStream:
        """Open a stream: see :class:`serkit.serving.stream.Stream` for what it takes and gives.

        Args:
            rate_hz: of the chunks. partial_s: a partial answer after every so many seconds of speech; ``None``: none.
            by, options: as for :meth:`predict`.

        Returns:
            A stream to ``push`` chunks into and to ``finish``; with ``by="channel"`` one that answers for each channel.

        Raises:
            SerkitError: options that do not go together, or that the model cannot meet.
        """
        labels = inputs.names(options.pop("labels", None))
        return open_stream(self, rate_hz, self._settings(labels=labels, by=by, partial_s=partial_s, **options))

    def columns(self, labels: Sequence[str] | None) -> list[int]:
        """Places of some labels in the class order: see :meth:`serkit.serving.thresholds.Thresholds.columns`."""
        return self.thresholds.columns(labels)

    def unsure_below(self, labels: Sequence[str], threshold: float | None) -> float:
        """The confidence below which an answer is unsure: see :class:`serkit.serving.thresholds.Thresholds`."""
        return self.thresholds.unsure_below(labels, threshold)

    def notes(self, text: str | None, sentences: Sequence[Turn], rate_hz: float = 0.0) -> tuple[str, ...]:
        """What a reader should know of an answer with such words, to a recording of such a rate (0: not known)."""
        call = 0 < rate_hz <= CALL_HZ
        found = notes.of_bundle(self.bundle, call=call, stands_in=self._stands_in)
        return found + notes.of_words(text, sentences, reads_text=self.reads_text)

    def score_one(self, samples: np.ndarray, text: str | None, columns: Sequence[int]) -> np.ndarray:
        """(chosen classes + attributes,) calibrated probabilities, attributes, of (samples,) float32 mono 16 kHz."""
        found: np.ndarray = self.chosen(self.scorer.one(samples, text), columns)[0]
        return found

    def chosen(self, scored: np.ndarray, columns: Sequence[int]) -> np.ndarray:
        """(rows, chosen classes + attributes) of (rows, classes + attributes): probabilities among some classes."""
        n = len(self.labels)
        return np.hstack([restricted(scored[:, :n], columns), scored[:, n:]])

    def score_clips(self, clips: Sequence[np.ndarray], texts: Sequence[str] | None = None) -> np.ndarray:
        """(clips, classes + attributes) calibrated probabilities and attributes, the networks run once on all together.

        Args:
            clips: (samples,) float32 mono 16 kHz each. texts: one for each, for models that read.
        """
        if not len(clips):
            return np.zeros((0, len(self.labels) + len(self.attributes)))
        return self.scorer.several(clips, [None] * len(clips) if texts is None else list(texts))

    def _settings(self, **options: Any) -> StreamSettings:
        known = {"rate_hz", *StreamSettings.__dataclass_fields__}
        for key in options:
            check_known(key, known, f"predict has no option '{key}'")
        return StreamSettings(**{"max_s": self._max_s, **options})

    def blocks(
        self,
        recording: Recording,
        rate_hz: float | None,
        remarks: Remarks | None = None,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        channel: int | None = None,
    ) -> Generator[np.ndarray]:
        """(samples,) float32 mono 16 kHz of a recording, or of a part of a file, in order.

        Args:
            recording, rate_hz: as for :meth:`predict`. remarks: learn the recording's own sampling rate.
            start_s, end_s: the part. channel: the one that is heard, 1 the first.

        Raises:
            SerkitError: see :meth:`predict`; a sampling rate with a file, or a part of an array.
        """
        recording, remarks = inputs.known(recording), Remarks() if remarks is None else remarks
        if isinstance(recording, np.ndarray):
            if rate_hz is None:
                raise SerkitError("an array needs its sampling rate: rate_hz=…")
            if any(k is not None for k in (start_s, end_s, channel)):
                raise SerkitError("start_s, end_s and channel are for files: cut the array itself")
            remarks.rate_hz = rate_hz
            yield audio.to_mono_16k(inputs.refuse_empty(recording), rate_hz)
        else:
            if rate_hz is not None:
                raise SerkitError("rate_hz is for arrays: a file has its own sampling rate")
            part: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "channel": channel}
            yield from audio.blocks(recording, max_s=self._max_s, remarks=remarks, **part)
