"""A bundle that answers: recordings, arrays, bytes and streams, always by the one feature path.

Loads numpy and onnxruntime; torch only where an encoder of the bundle needs it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from serkit import audio, calibration
from serkit.dsp import without_offset
from serkit.encoding import SAMPLE_RATE_HZ, Encoder
from serkit.errors import SerkitError, did_you_mean
from serkit.extraction import compute
from serkit.predictions import Predictions
from serkit.serving import inputs
from serkit.serving.bundle import Bundle, open_bundle
from serkit.serving.channels import ChannelStream, open_stream
from serkit.serving.classifier import Classifier
from serkit.serving.inputs import Recording
from serkit.serving.pieces import standing_for
from serkit.serving.results import By, Prediction
from serkit.serving.stream import Stream, StreamSettings
from serkit.serving.timeline import Turn

MAX_S = 12 * 3600.0
CALL_HZ = 8000.0
NARROW = (
    "a recording of 8 kHz, as calls are, and the model was trained on wider ones: it is right less often here than its "
    "card says; the model 'telephone' was trained on calls too"
)
TEXT_UNREAD = "the model reads no words: the text that was given did not change the answer"
NO_TEXT = "the model reads words and none were given: an empty text stood in for them"

Logits = dict[tuple[str, str], np.ndarray]  # of each network, by system and model


def load(source: str | Path = "default", *, threads: int = 1, max_s: float | None = MAX_S) -> Model:
    """Load a bundle: a folder, a file, or the name of one that comes with serkit.

    Args:
        source: ``default``, or where a bundle lies. threads: of each network in onnxruntime.
        max_s: recordings longer than this are refused.

    Raises:
        SerkitError: no such bundle, damaged, or of a later serkit; weights its encoders need are not to be had.
    """
    return Model(open_bundle(source), threads=threads, max_s=max_s)


class Model(Classifier):
    """A trained system.

    Args:
        bundle: what it is. threads: of each network. max_s: longest recording.

    Attributes:
        labels: class order. classes_: the same as an array, as scikit-learn has it.
        id: name and fingerprint. max_clip_s: longer recordings are answered part by part.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, max_s: float | None = MAX_S) -> None:
        self.bundle, self._threads, self._max_s = bundle, threads, max_s
        self.labels = bundle.labels
        self.classes_ = np.array(bundle.labels)
        self.id = f"{bundle.name}@{bundle.fingerprint[:12]}"
        self.max_clip_s = bundle.max_clip_s
        self._encoders: dict[str, Encoder] = bundle.encoders()
        for encoder in self._encoders.values():
            encoder.load()
        self.reads_text = any(e.spec.modality == "text" for e in self._encoders.values())
        self._held: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._cuts: dict[tuple[tuple[str, ...], float | None], float] = {}
        self._last: tuple[dict[str, np.ndarray], Logits] | None = None  # the features answered last, and how

    def __repr__(self) -> str:
        return f"Model({self.id}: {', '.join(self.labels)})"

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
        heard: Callable[[float], None] | None = None,
        **options: Any,
    ) -> Prediction | np.ndarray:
        """Answer for one recording, of any length, in constant memory; for a list, as scikit-learn has it.

        Args:
            recording: path, bytes of a file, an open binary file, or an array with ``rate_hz``: (samples,) or
                (samples, channels), float in [-1, 1] or integers of at most 32 bits at full scale. Or a list of these,
                or an array of paths, without further options.
            labels, text, by, turns, sentences, threshold: see :class:`serkit.serving.stream.StreamSettings`, as
                are further ``options``: ``window_s``, ``hop_s``, ``segments``. heard: is told now and then how many
                seconds of a file have been heard.

        Returns:
            The answer; for a list (recordings,) the labels that :meth:`predict_proba` finds the most probable.
            :meth:`predict_many` gives whole answers for a list.

        Raises:
            SerkitError: not audio, empty, damaged, too long; an unknown label; a threshold that was never reached.
        """
        if (many := inputs.several(recording)) is not None:
            if options or by != "segment" or any((labels, text, turns, sentences, threshold)):
                raise SerkitError("predict of a list gives labels and takes rate_hz alone; predict_many takes the rest")
            answers: np.ndarray = self.classes_[self.predict_proba(many, rate_hz=rate_hz).argmax(axis=1)]
            return answers
        settings = self._settings(
            labels=inputs.names(labels), text=text, by=by, turns=turns, sentences=sentences,
            threshold=threshold, **options,
        )  # fmt: skip
        recording = inputs.known(recording)
        if isinstance(recording, np.ndarray):
            if rate_hz is None:
                raise SerkitError("an array needs its sampling rate: rate_hz=…")
            stream = open_stream(self, rate_hz, settings)
            stream.push(inputs.refuse_empty(recording))
        else:
            if rate_hz is not None:
                raise SerkitError("rate_hz is for arrays: a file says its own sampling rate")
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
        """
        if errors not in ("raise", "return"):
            raise SerkitError(f"errors '{errors}'" + did_you_mean(errors, ("raise", "return")))
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
        """
        many = [inputs.known(r) for r in inputs.listed(recordings, "predict_proba")]
        words: list[str | None] = [None] * len(many) if texts is None else list(texts)
        if len(words) != len(many):
            raise SerkitError(f"{len(many)} recordings and {len(words)} texts: expected one for each")
        found = np.zeros((len(many), len(self.labels)))
        clips: dict[int, np.ndarray] = {}
        for k, (recording, text) in enumerate(zip(many, words, strict=True)):
            rate = rate_hz if isinstance(recording, np.ndarray) else None
            begin = recording.tell() if isinstance(recording, io.IOBase) else 0
            clip = inputs.whole(self._blocks(recording, rate), self.max_clip_s)
            if clip is not None:
                clips[k] = clip
                continue
            if isinstance(recording, io.IOBase):
                recording.seek(begin)
            found[k] = list(self.predict(recording, rate_hz=rate, text=text, by="clip").probabilities.values())
        if clips:
            found[list(clips)] = self._answered(list(clips.values()), [words[k] for k in clips])
        return found

    def embed(self, recording: Recording, *, rate_hz: float | None = None, text: str | None = None) -> np.ndarray:
        """(dim,) float32: the networks' embeddings, each of length 1, one after the other.

        Of a recording longer than ``max_clip_s`` each is the mean over its stretches of speech, by the speech in them.
        """
        sums = [np.zeros(1, np.float32)] * len(self._sessions)
        for weight, clip in standing_for(self._blocks(recording, rate_hz), self.max_clip_s):
            sums = [total + weight * one for total, one in zip(sums, self._embedded(clip, text), strict=True)]
        return np.concatenate([inputs.of_length_1(total) for total in sums])

    def _embedded(self, samples: np.ndarray, text: str | None) -> list[np.ndarray]:
        features = self._features(samples, text)
        found = []
        for name, session in self._sessions.items():
            fed = inputs.feed([features], self._entries[name].features)
            found.append(inputs.of_length_1(session.run(["embedding"], fed)[0][0]))
        return found

    def stream(
        self, *, rate_hz: float = SAMPLE_RATE_HZ, partial_s: float | None = 1.0, by: By = "segment", **options: Any
    ) -> Stream | ChannelStream:
        """Open a stream: see :class:`serkit.serving.stream.Stream` for what it takes and gives.

        Args:
            rate_hz: of the chunks. partial_s: a partial answer after every so many seconds of speech.
            by, options: as for :meth:`predict`.
        """
        labels = inputs.names(options.pop("labels", None))
        return open_stream(self, rate_hz, self._settings(labels=labels, by=by, partial_s=partial_s, **options))

    def columns(self, labels: Sequence[str] | None) -> list[int]:
        """Places of some labels in the class order; all where ``None``.

        Raises:
            SerkitError: a label the model does not have, one twice, or fewer than two.
        """
        if labels is None:
            return list(range(len(self.labels)))
        for label in labels:
            if label not in self.labels:
                raise SerkitError(f"the model has no label '{label}'" + did_you_mean(label, self.labels))
        if len(set(labels)) != len(labels) or len(labels) < 2:
            raise SerkitError(f"labels {', '.join(labels)}: expected two or more, each once")
        return [self.labels.index(label) for label in labels]

    def unsure_below(self, labels: Sequence[str], threshold: float | None) -> float:
        """The confidence below which an answer counts as unsure, measured on held-out speakers.

        Args:
            labels: that the answer is restricted to. threshold: precision wanted; ``None``: right more often
                than wrong.

        Raises:
            SerkitError: that precision was never reached.
        """
        asked = (tuple(labels), threshold)
        if asked not in self._cuts:
            self._cuts[asked] = self._measured_cut(*asked)
        return self._cuts[asked]

    def notes(self, text: str | None, sentences: Sequence[Turn], rate_hz: float = 0.0) -> tuple[str, ...]:
        """What a reader should know of an answer with such words, to a recording of such a rate (0: not known)."""
        narrow = 0 < rate_hz <= CALL_HZ and self.bundle.head.get("hears_calls") is False
        found = (NARROW,) * narrow
        if text is not None and not self.reads_text:
            return (*found, TEXT_UNREAD)
        return (*found, NO_TEXT) if self.reads_text and text is None and not sentences else found

    def score_one(self, samples: np.ndarray, text: str | None, columns: Sequence[int]) -> np.ndarray:
        """(chosen classes,) calibrated probabilities of (samples,) float32 mono 16 kHz.

        Networks whose features are those of the last answer are not run again: of a clip with one stretch of speech,
        whole and stretch are often the same sound once the silence around it is trimmed.
        """
        features, last = self._features(samples, text), self._last
        before = {} if last is None else self._known(*last, features)
        logits = self._logits([features], before)
        self._last = features, logits
        return np.asarray(calibration.restricted(self._combined(logits, 1), columns)[0])

    def score_clips(self, clips: Sequence[np.ndarray], texts: Sequence[str] | None = None) -> np.ndarray:
        """(clips, classes) calibrated probabilities, the networks run once on all clips together.

        Args:
            clips: (samples,) float32 mono 16 kHz each. texts: one for each, for models that read.
        """
        if not len(clips):
            return np.zeros((0, len(self.labels)))
        return self._answered(clips, [None] * len(clips) if texts is None else list(texts))

    def _answered(self, clips: Sequence[np.ndarray], words: Sequence[str | None]) -> np.ndarray:
        rows = [self._features(c, t) for c, t in zip(clips, words, strict=True)]
        return self._combined(self._logits(rows, {}), len(rows))

    def _measured_cut(self, labels: tuple[str, ...], threshold: float | None) -> float:
        probabilities, truth = self._held_out(labels)
        if threshold is not None:
            return calibration.confidence_for(threshold, probabilities, truth).confidence
        if len(truth) < calibration.LEAST_ROWS:
            return 0.0
        return calibration.unsure_below(probabilities, truth)

    def _settings(self, **options: Any) -> StreamSettings:
        known = StreamSettings.__dataclass_fields__
        for key in options:
            if key not in known:
                raise SerkitError(f"predict has no option '{key}'" + did_you_mean(key, known))
        return StreamSettings(**{"max_s": self._max_s, **options})

    def _blocks(self, recording: Recording, rate_hz: float | None) -> Generator[np.ndarray]:
        """(samples,) float32 mono 16 kHz, in order."""
        recording = inputs.known(recording)
        if isinstance(recording, np.ndarray):
            if rate_hz is None:
                raise SerkitError("an array needs its sampling rate: rate_hz=…")
            yield audio.to_mono_16k(inputs.refuse_empty(recording), rate_hz)
        else:
            yield from audio.blocks(recording, max_s=self._max_s)

    def _features(self, samples: np.ndarray, text: str | None) -> dict[str, np.ndarray]:
        found = self._heard(samples, text)
        return found if self.bundle.adaptation is None else self.bundle.adaptation.apply(found)

    def _heard(self, samples: np.ndarray, text: str | None) -> dict[str, np.ndarray]:
        return compute(without_offset(samples), self._encoders, text=text or "")

    @cached_property
    def _entries(self) -> dict[tuple[str, str], Any]:
        return {(n.system, n.model): n for n in self.bundle.networks}

    @cached_property
    def _sessions(self) -> dict[tuple[str, str], Any]:
        """The networks in onnxruntime, loaded at the first answer."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        return {
            key: onnxruntime.InferenceSession(self.bundle.read(entry.file), options, providers=providers)
            for key, entry in self._entries.items()
        }

    def _known(self, features: dict[str, np.ndarray], logits: Logits, asked: dict[str, np.ndarray]) -> Logits:
        """Of logits for some features, those that hold for others too: of networks that read none that differ."""
        same = inputs.unchanged(features, asked)
        return {key: found for key, found in logits.items() if same.issuperset(self._entries[key].features)}

    def _logits(self, rows: list[dict[str, np.ndarray]], known: Logits) -> Logits:
        """Each network's (rows, classes) logits of clips given by their features, but for those that are known."""
        found = dict(known)
        for key, session in self._sessions.items():
            if key in known:
                continue
            entry = self._entries[key]
            together = [rows] if entry.batches else [[row] for row in rows]
            parts = [session.run(["emotion"], inputs.feed(some, entry.features))[0] for some in together]
            found[key] = np.concatenate(parts)
        return found

    def _combined(self, logits: Logits, n: int) -> np.ndarray:
        """(n, classes) calibrated probabilities from each network's logits."""
        ids = tuple(str(k) for k in range(n))
        scores: dict[str, list[tuple[str, np.ndarray]]] = {}
        for system, model in self._sessions:
            scores.setdefault(system, []).append((model, logits[system, model]))
        tables = {}
        for system, found in scores.items():
            models = tuple(model for model, _ in found for _ in ids)
            values = np.concatenate([values for _, values in found])
            seen = np.zeros(len(models), dtype=bool)
            tables[system] = Predictions(system, self.labels, "logit", ids * len(found), models, seen, values)
        answered = self.bundle.stack.predict(tables).take(ids)
        return self.bundle.calibration.apply(answered.probabilities())

    def _held_out(self, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Held-out scores of the rows whose truth is among ``labels``, restricted to them."""
        if labels not in self._held:
            probabilities, truth = self.bundle.held_out
            columns = self.columns(labels)
            place = {c: k for k, c in enumerate(columns)}
            rows = np.array([int(t) in place for t in truth], dtype=bool)
            inside = np.array([place[int(t)] for t in truth[rows]], dtype=np.int64)
            self._held[labels] = (calibration.restricted(probabilities[rows], columns), inside)
        return self._held[labels]
