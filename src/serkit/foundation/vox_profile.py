"""vox-profile's classifiers of emotions (SAILER, arXiv 2505.22133): WavLM large or Whisper large-v3 and a small head.

Read in tiantiaf0627/vox-profile-release, ``src/model/emotion/wavlm_emotion.py`` and ``whisper_emotion.py``; no code of
it is here. The class computes of a clip alone:

- on WavLM: samples of zero mean and unit variance; the sum of all hidden states under a softmax of ``weights``, the
  last one normalised, as transformers 4.46 (its ``requirements.txt``) has it; without ``use_conv_output``, what enters
  the first layer is not part of it;
- on Whisper: a window of 15 s, silence included, and the last layer's frames (``weights`` is not used), positions from
  ``embed_positions``; of ``n`` samples the first ``(n // 160 - 1) // 2 + 1`` frames count;
- three convolutions of one frame with ReLU between them, the mean over the frames, two linear layers with ReLU between.

Adapters (``finetune_method: lora``) are told in :func:`serkit.foundation.author_weights.with_adapters`. Four more
outputs of the class, of 17 finer emotions and of arousal, valence and dominance, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation import author_weights as weights
from serkit.foundation.author_classes import EMOTIONS, VoxConfig
from serkit.foundation.loading import transformers_package
from serkit.foundation.whisper import HOP

WINDOW_S = 15.0
_FRAMES = round(WINDOW_S * SAMPLE_RATE_HZ) // HOP
_BODY, _EMOTION, _SEQ = "backbone_model.", "emotion_layer.", "model_seq."
_UNUSED = ("detailed_out_layer.", "arousal_layer.", "valence_layer.", "dominance_layer.", f"{_BODY}decoder.")
_POSITIONS = "embed_positions"


@dataclass(frozen=True)
class LoadedVoxProfile:
    """The network in float32 and evaluation mode.

    Attributes:
        model: ``WavLMModel``, or Whisper's encoder, of transformers. sums: (states,) logits of the layers of WavLM.
        frames: the convolutions. emotion: what stands on their mean. config: what its file says.
        architecture, origin, notes: as of :class:`serkit.foundation.classifier_networks.Loaded`.
    """

    model: Any
    sums: Tensor | None
    frames: nn.Sequential
    emotion: nn.Sequential
    config: VoxConfig
    architecture: str
    notes: tuple[str, ...]
    origin: str = "tiantiaf0627/vox-profile-release as serkit computes it"

    @property
    def hears_windows(self) -> bool:
        """Whether it is on Whisper."""
        return self.sums is None

    @property
    def window_s(self) -> float | None:
        """Seconds of its window; ``None`` where there is none."""
        return WINDOW_S if self.hears_windows else None

    @property
    def n_parameters(self) -> int:
        """Numbers in those of its weights that are used."""
        return sum(p.numel() for part in (self.model, self.frames, self.emotion) for p in part.parameters())

    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(clips, classes) float32 of (samples,) float32 at 16 kHz each, each clip alone."""
        with torch.inference_mode():
            found = [self.emotion(self.frames(self._states(clip).transpose(1, 2)).mean(dim=2)) for clip in clips]
            return np.asarray(torch.cat(found).numpy())

    def _states(self, clip: np.ndarray) -> Tensor:
        """(1, time, dim) frames of a clip below the convolutions."""
        package = transformers_package(self.architecture)
        if self.sums is None:
            bands = int(self.model.config.num_mel_bins)
            front = package.WhisperFeatureExtractor(feature_size=bands, chunk_length=round(WINDOW_S))
            given = front(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")["input_features"]
            n_frames = (len(clip) // 160 - 1) // 2 + 1
            return cast(Tensor, self.model(given).last_hidden_state[:, :n_frames])
        front = package.Wav2Vec2FeatureExtractor(do_normalize=True)
        given = front(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")["input_values"]
        found = self.model(given, output_hidden_states=True)
        states = [*found.hidden_states[:-1], found.last_hidden_state]
        states = states[len(states) - len(self.sums) :]
        return (self.sums.softmax(0)[:, None, None, None] * torch.stack(states)).sum(0)


def load(name: str, folder: Path, config: VoxConfig) -> LoadedVoxProfile:
    """The network of a checkpoint; every name of its weights is accounted for.

    Args:
        name: of the checkpoint, for messages. folder: in the hub's layout.

    Raises:
        SerkitError: weights that are missing, unexpected or damaged, or other sizes than the configuration's.
    """
    on_whisper = config.architecture == "WhisperWrapper"
    body = f"{_BODY}encoder." if on_whisper else _BODY
    tensors = weights.read(name, folder, (body, _SEQ, _EMOTION, "weights", _POSITIONS), _UNUSED)
    if not any(key.startswith(_EMOTION) for key in tensors):
        raise SerkitError(f"'{name}' lacks weight '{_EMOTION}0.weight': it is no classifier of emotions")
    own = weights.under(tensors, _BODY)
    n_layers = weights.n_layers_of(own)
    linear = ("fc1", "fc2") if on_whisper else ("feed_forward.intermediate_dense", "feed_forward.output_dense")
    own = weights.with_adapters(name, own, linear, n_layers, config.lora_rank, _BODY)
    if on_whisper:
        model = _whisper(name, own, tensors.pop(_POSITIONS, None))
        dim = int(model.config.d_model)
    else:
        model = weights.wavlm(name, own, _BODY)
        dim = int(model.config.hidden_size)
    sums = tensors.pop("weights", None)
    n_states = n_layers + config.use_conv_output
    found = None if sums is None else tuple(sums.shape)
    if found != (n_states,) and not (on_whisper and found is None):
        raise SerkitError(f"'{name}': its 'weights' of the layers are {found or 'none'}, expected {(n_states,)}")
    known = (_BODY, _SEQ, _EMOTION)
    if other := [key for key in tensors if not key.startswith(known)]:
        raise SerkitError(f"'{name}' has an unexpected weight '{min(other)}'")
    width = config.hidden_dim
    frames = nn.Sequential(
        nn.Conv1d(dim, width, 1), nn.ReLU(), nn.Dropout(0.1), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Dropout(0.1),
        nn.Conv1d(width, width, 1),
    )  # fmt: skip
    weights.filled(name, frames, weights.under(tensors, _SEQ), _SEQ)
    emotion = weights.mlp(name, tensors, _EMOTION, (width, width, config.n_classes))
    return LoadedVoxProfile(
        model, None if on_whisper else sums, frames, emotion, config, config.architecture, _notes(config)
    )


def _whisper(name: str, own: dict[str, Tensor], positions: Tensor | None) -> Any:
    """Whisper's encoder with the positions that the class puts into it, of 15 s."""
    key = "encoder.embed_positions.weight"
    if positions is not None:
        own[key] = positions[:_FRAMES]
    found = tuple(own[key].shape) if key in own else ("none",)
    if found[0] != _FRAMES:
        raise SerkitError(f"'{name}' has {found[0]} positions in '{_POSITIONS}', expected {_FRAMES}, which are 15 s")
    return weights.whisper_encoder(name, own, _BODY)


def _notes(config: VoxConfig) -> tuple[str, ...]:
    notes = [
        "its class is code of its author's own, of which nothing is run: the network was written from the code of "
        "tiantiaf0627/vox-profile-release and tried on made-up weights, never on the published ones",
        "its outputs of 17 finer emotions and of arousal, valence and dominance are left out",
        "its README says that it was trained on clips of 3 to 15 s: with --max-clip 15 no stretch is longer",
    ]
    if config.n_classes == len(EMOTIONS) and not config.named:
        notes.append("its files do not name its labels, which are those of the examples in that repository")
    if config.lora_rank:
        notes.append(
            "its adapters were added to its weights, as loralib does when such a file is loaded. Weights that were "
            "saved with the adapters in them already would have them twice, there as here"
        )
    return tuple(notes)
