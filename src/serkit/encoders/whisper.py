"""Hidden states of Whisper's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known
from serkit.foundation.base import Layer, LayerTap, Precision, Pretrained
from serkit.foundation.loading import front_end, load_model, transformers_package
from serkit.foundation.pieces import Window, encoded
from serkit.foundation.whisper import HOP, IGNORED, N_FFT, PREFIXES, attended, check_front_end, entering, log_mel

WINDOWS = ("30s", "clip")


class Whisper(Pretrained):
    """Whisper's encoder (Radford et al. 2022, arXiv 2212.04356), 50 frames a second.

    A clip of ``n`` samples gives ``ceil(n / 320)`` frames. One longer than 30 s is computed in windows of
    30 s, one after the other, each with positions from zero, as the model was trained.

    Args:
        name: ``whisper/…``, or ``hub:ORG/MODEL`` or ``path:DIR`` of that architecture.
        layer: hidden state: a number (0 is what enters the first layer), ``last``, ``mean_last_4``, or ``all``
            side by side, (frames, layers x dim), with ``n_layers`` in the spec's parameters.
        window: ``30s``: every clip is padded with silence to 30 s, which the encoder attends to, and the
            silent frames are dropped afterwards (as published). ``clip``: positions are cut to the clip and
            nothing else is attended to: much cheaper, other numbers.
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder in the hub's layout that replaces the source.
        precision: arithmetic of the model: ``float32``, ``bf16`` or ``fp16``.
        batch_s: seconds of audio computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    FAMILY: ClassVar[str] = "whisper"
    MODALITY: ClassVar[Literal["audio", "text"]] = "audio"

    def __init__(
        self,
        name: str = "whisper/large-v3",
        *,
        layer: Layer = "last",
        window: Literal["30s", "clip"] = "30s",
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        precision: Precision = "float32",
        batch_s: float | None = None,
    ) -> None:
        check_known(window, WINDOWS, f"encoder '{name}': window '{window}'")
        self.resolved = self._resolved(name, source)
        self.whole = window == "30s"
        self.batch_s = batch_s
        self._specify(
            name, layer=layer, pool=pool, dtype=dtype, precision=precision, window=HOP, hop=HOP,
            padding=HOP - 1, params={"window": window},
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> Whisper:
        """Small random weights of the real class, saved and loaded like a download."""
        return cls("whisper/random", window="clip")

    def _load(self, folder: Path) -> None:
        import torch

        transformers = transformers_package(self.spec.name)
        name = self.spec.name
        self._model: Any = load_model(
            name, transformers.models.whisper.modeling_whisper.WhisperEncoder, folder, key_mapping=PREFIXES,
            ignored=IGNORED,
        )  # fmt: skip
        front = front_end(name, folder)
        check_front_end(f"encoder '{name}'", vars(front), self._model.config.num_mel_bins)
        config = self._model.config
        if (config.d_model, config.encoder_layers) != (self.resolved.dim, self.resolved.layers):
            raise SerkitError(
                f"encoder '{name}': weights with dim {config.d_model} and {config.encoder_layers} layers, expected "
                f"{self.resolved.dim} and {self.resolved.layers}"
            )
        self._mel = torch.from_numpy(np.asarray(front.mel_filters.T, dtype=np.float32)).contiguous()
        self._frames_max = int(config.max_source_positions)
        self._tap = LayerTap(self._model.layers, self.taken)

    def _to(self, device: Any, dtype: Any) -> None:
        self._model.to(device=device, dtype=dtype)
        self._mel = self._mel.to(device)

    def _encode(self, items: list[np.ndarray]) -> list[np.ndarray]:
        longest = self._frames_max * HOP
        windows: list[Window[np.ndarray]] = []
        for index, samples in enumerate(items):
            starts = range(0, max(len(samples), 1), longest)
            windows += [Window(index, samples[start : start + longest], slice(None)) for start in starts]
        lengths = [longest if self.whole else max(len(w.seen), HOP) for w in windows]
        seconds = self.batch_s or (60.0 if self.device == "cpu" else 960.0)
        return encoded(windows, self._batch, int(seconds * SAMPLE_RATE_HZ), lengths=lengths)

    def _batch(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(samples,) each, at most one window, to (frames, dim) each."""
        import torch

        n = [max(1, -(-len(w) // HOP)) for w in waves]
        time = self._frames_max if self.whole else max(n)
        padded = np.zeros((len(waves), time * HOP + (0 if self.whole else N_FFT)), dtype=np.float32)
        for row, wave in enumerate(waves):
            padded[row, : len(wave)] = wave
        values = torch.from_numpy(padded).to(self.device)
        seen = torch.arange(time, device=values.device)[None, :] < torch.tensor(n, device=values.device)[:, None]
        mel = log_mel(values, self._mel, None if self.whole else seen)
        model = self._model
        hidden = entering(model, mel.to(model.dtype))
        mask = attended(None if self.whole else seen, hidden.dtype)
        for layer in model.layers:
            hidden = layer(hidden, mask)
        states = self._combined(self._tap.states(model.layer_norm(hidden))).numpy()
        return [states[row, : n[row]] for row in range(len(waves))]
