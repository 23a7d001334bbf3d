"""The networks of published classifiers, and what their classes compute.

Networks of four families are read: wav2vec 2.0, HuBERT, WavLM and Whisper. Transformers' ``ForSequenceClassification``
(of Whisper ``ForAudioClassification``) computes of a clip alone: the frames of the last layer, or the sum of all hidden
states under a softmax of ``layer_weights``; a linear projector on each frame; the mean over the frames, which of
Whisper are those of its whole window of 30 s, silence included; a linear classifier. The other head that is read, of a
class ``ForSpeechClassification``, is that of :mod:`serkit.foundation.dense_head`. The names of the weights say which
one a checkpoint has: ``config.json`` may name the other class, and transformers then fills its own with random numbers.

Of networks with a stable layer normalisation, the last state in that sum was normalised by transformers 4, as the
model's output is; transformers 5 (looked at: 5.24) sums it before the normalisation. A checkpoint is summed as it was
trained: in the way of 4 unless its ``config.json`` says that transformers 5 or later wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serkit.checkpoint_files import read_json
from serkit.emotion2vec_files import TOKENS, labels
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation import author_classes, odyssey, vox_profile
from serkit.foundation.classifiers import EMOTION2VEC, Published
from serkit.foundation.dense_head import PREFIX, SOURCE, DenseHead, dense_head, is_dense
from serkit.foundation.emotion2vec_model import Emotion2vecClassifier
from serkit.foundation.loading import front_end, load_model, read_some, transformers_package
from serkit.foundation.whisper import HOP, MEL_HOP, N_FFT

_STILL: Mapping[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}  # of training
_HEAD = ("classifier.", "projector.", "layer_weights")


@dataclass(frozen=True)
class Loaded:
    """A classifier in float32 and evaluation mode.

    Attributes:
        model: of transformers, with its classifier, or the network below ``dense``. front: its feature extractor.
        dense: the head where it is none of transformers'. architecture: class that its weights are of.
        notes: what was decided by the weights, or is not known, in sentences.
    """

    model: Any
    front: Any
    architecture: str
    dense: DenseHead | None = None
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Whose class it is."""
        return "transformers" if self.dense is None else SOURCE

    @property
    def body(self) -> Any:
        """The network below the classifier."""
        return self.model.encoder if self.hears_windows else self.model.base_model

    @property
    def hears_windows(self) -> bool:
        """Whether it is a Whisper, whose every clip is padded with silence to a window."""
        return bool(self.model.config.model_type == "whisper")

    @property
    def window_s(self) -> float | None:
        """Seconds of that window; ``None`` where there is none."""
        return self.front.n_samples / SAMPLE_RATE_HZ if self.hears_windows else None

    @property
    def n_parameters(self) -> int:
        """Numbers in its weights."""
        head = () if self.dense is None else self.dense.parameters()
        return sum(p.numel() for p in (*self.model.parameters(), *head))

    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, classes) float32 of (samples,) float32 at 16 kHz each, by its own class, each clip alone."""
        found = []
        with torch.inference_mode():
            for clip in clips:
                given = self.front(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=False)
                (values,) = given.values()
                answer = self.model(values)
                logits = answer.logits if self.dense is None else self.dense(answer.last_hidden_state)
                found.append(logits.numpy())
        return np.concatenate(found)

    @property
    def raw_end(self) -> bool:
        """Whether the sum of all states takes the last layer's own output, and not the model's, as computed here."""
        if self.hears_windows:
            return False
        with torch.inference_mode():
            found = self.body(torch.linspace(-1.0, 1.0, SAMPLE_RATE_HZ)[None], output_hidden_states=True)
        return not torch.equal(found.hidden_states[-1], found.last_hidden_state)


@dataclass(frozen=True)
class LoadedEmotion2vec:
    """emotion2vec+ in float32 and evaluation mode.

    Attributes:
        classifier: with all classes of the file. architecture, origin, window_s, notes: as of :class:`Loaded`.
    """

    classifier: Emotion2vecClassifier
    architecture: str = EMOTION2VEC
    origin: str = "FunASR as serkit computes it"
    window_s: float | None = None
    notes: tuple[str, ...] = (
        "the network was written from FunASR's code and compared with it on made-up weights, never on the published "
        "ones",
    )

    @property
    def used(self) -> list[int]:
        """Numbers of the classes that the publisher uses."""
        return [k for k, label in enumerate(self.classifier.labels) if label is not None]

    @property
    def n_parameters(self) -> int:
        """Numbers in its weights."""
        return sum(p.numel() for p in self.classifier.model.parameters())

    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, used classes) float32 of (samples,) float32 at 16 kHz each, each clip alone."""
        return self.classifier.logits(clips)[:, self.used]


AnyLoaded = Loaded | LoadedEmotion2vec | odyssey.LoadedOdyssey | vox_profile.LoadedVoxProfile


def load(published: Published) -> AnyLoaded:
    """The network of a checkpoint; every name of its weights is accounted for.

    Raises:
        SerkitError: weights that are missing, unexpected or damaged, or a front end of another kind or sampling rate.
    """
    name, folder = published.name, published.folder
    if published.architecture == EMOTION2VEC:
        return _emotion2vec(name, folder)
    if published.architecture in author_classes.CLASSES:
        return _of_author(published)
    front = front_end(name, folder)
    whisper = published.stem == "Whisper"
    expected = "WhisperFeatureExtractor" if whisper else "Wav2Vec2FeatureExtractor"
    if type(front).__name__ != expected or not (whisper or front.feature_size == 1):
        raise SerkitError(f"'{name}' has the front end {type(front).__name__}, expected {expected}")
    if front.sampling_rate != SAMPLE_RATE_HZ:
        raise SerkitError(f"'{name}' was trained at {front.sampling_rate} Hz, expected {SAMPLE_RATE_HZ}")
    if whisper:
        return _with_whisper(published, front)
    tensors = read_some(name, folder, PREFIX)
    loaded = _with_dense(published, front, tensors) if is_dense(tensors) else _with_classifier(published, front)
    if loaded.architecture == published.architecture:
        return loaded
    note = (
        f"config.json says {published.architecture}, but its weights are those of {loaded.architecture} "
        f"({loaded.origin}), and it is imported as that"
        + (": transformers would fill the head with random numbers" if loaded.dense else "")
    )
    return replace(loaded, notes=(note, *loaded.notes))


def _of_author(published: Published) -> odyssey.LoadedOdyssey | vox_profile.LoadedVoxProfile:
    """Of a class that is its author's own, see :mod:`serkit.foundation.author_classes`."""
    name, folder = published.name, published.folder
    config = read_json(folder / "config.json", dict)
    if published.architecture == author_classes.SER_MODEL:
        return odyssey.load(name, folder, author_classes.odyssey_config(name, config))
    return vox_profile.load(name, folder, author_classes.vox_config(name, config))


def _emotion2vec(name: str, folder: Path) -> LoadedEmotion2vec:
    try:
        return LoadedEmotion2vec(Emotion2vecClassifier.load(folder, name))
    except SerkitError as error:
        if "another shape for weight 'proj." not in str(error):
            raise
        raise SerkitError(f"{error}: {TOKENS} names {len(labels(folder))} classes") from None


def _with_whisper(published: Published, front: Any) -> Loaded:
    """Whisper's encoder with the head of transformers."""
    name = published.name
    model = _loaded(published, published.architecture, encoder_layerdrop=0.0)
    config = model.config
    known = (config.num_mel_bins, N_FFT, MEL_HOP, config.max_source_positions * HOP)
    found = (front.feature_size, front.n_fft, front.hop_length, front.n_samples)
    if found != known:
        raise SerkitError(
            f"'{name}': its front end has {found[0]} mel bands, windows of {found[1]} every {found[2]} and {found[3]} "
            f"samples, and the network takes {known[0]}, {known[1]}, {known[2]} and {known[3]}"
        )
    return Loaded(model, front, published.architecture)


def _with_classifier(published: Published, front: Any) -> Loaded:
    """With the head of transformers."""
    architecture = f"{published.stem}ForSequenceClassification"
    model = _loaded(published, architecture, **_STILL)
    if published.before_5:
        model.config.tie_last_hidden_states = True  # of transformers 5; 4 does so and does not ask
    return Loaded(model, front, architecture)


def _loaded(published: Published, architecture: str, **changes: Any) -> Any:
    """The model of a class of transformers; every name of its weights is accounted for."""
    name = published.name
    made = getattr(transformers_package(name), architecture)
    unused = f"{made.base_model_prefix}.masked_spec_embed"  # of training
    try:
        return load_model(name, made, published.folder, ignored=(unused,), missing_ok=(unused,), **changes)
    except SerkitError as error:
        if not any(f"weight '{part}" in str(error) for part in _HEAD):
            raise
        if "another shape" in str(error):
            raise SerkitError(f"{error}: config.json names {len(published.words)} labels") from None
        raise SerkitError(
            f"{error}: its classifier is not that of {architecture}, but of code of its author's own, which "
            "serkit does not run (transformers fills what is missing with random numbers)"
        ) from None


def _with_dense(published: Published, front: Any, tensors: Mapping[str, Any]) -> Loaded:
    """With the head of :mod:`serkit.foundation.dense_head`, of these of its weights."""
    name = published.name
    pooling = read_json(published.folder / "config.json", dict).get("pooling_mode")
    if pooling not in (None, "mean"):
        raise SerkitError(f"'{name}' pools its frames by '{pooling}' (pooling_mode in its config.json), expected mean")
    made = getattr(transformers_package(name), f"{published.stem}Model")
    unused = ("masked_spec_embed", f"{made.base_model_prefix}.masked_spec_embed")  # of training
    model = load_model(name, made, published.folder, ignored=(PREFIX, *unused), missing_ok=unused, **_STILL)
    head = dense_head(name, tensors, dim=model.config.hidden_size, n_classes=len(published.words))
    notes = []
    if head.renamed:
        notes.append(
            f"its last layer is named {head.last}, and no code with that name is known. That a tanh comes before it, "
            f"as in {SOURCE}, is an assumption, which weights cannot show"
        )
    if pooling is None:
        notes.append("config.json has no pooling_mode: the mean over the frames is assumed")
    return Loaded(model, front, f"{published.stem}ForSpeechClassification", head, tuple(notes))
