"""Prosody and timbre of FACodec, the codec of NaturalSpeech 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from serkit.checkpoint_files import FACODEC_STEMS
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known
from serkit.foundation.base import Pretrained
from serkit.foundation.loading import read_bin
from serkit.foundation.pieces import Window, encoded, pieces

HOP = 200
SHORTEST = 600  # samples: the spectrogram mirrors 412 of them at each end
SPEAKERS = ("mean", "frames")


class Facodec(Pretrained):
    """FACodec (Ju et al. 2024, arXiv 2403.03100), encoder V2, 80 frames a second.

    ``facodec/prosody`` is the quantised prosody vector of each frame (256-d), ``facodec/prosody_speaker``
    appends timbre (512-d). As published, a clip is zero-padded to the next multiple of 200 samples, a
    multiple by 200 more, so that ``n`` samples give ``1 + n // 200`` frames.

    A frame whose two nearest codebook entries are equally near, to the last digits of float32, may take
    either: there alone a batch can differ from a clip alone.

    Args:
        name: ``facodec/prosody`` or ``facodec/prosody_speaker``; or ``path:DIR``, with the published files or a
            ``config.json`` in it, which is ``facodec/prosody_speaker`` of that folder.
        speaker: timbre appended: ``mean``, one speaker embedding repeated in every frame (the paper), or
            ``frames``, the timbre encoder's own frames (what the published extraction script stores).
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder with ``ns3_facodec_encoder_v2.bin`` and ``ns3_facodec_decoder_v2.bin``.
        chunk_s, context_s: clips longer than the one are computed in stretches that see the other on each side.
        batch_s: seconds of audio computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    FAMILY: ClassVar[str] = "facodec"
    MODALITY: ClassVar[Literal["audio", "text"]] = "audio"
    TRANSFORMERS: ClassVar[bool] = False

    def __init__(
        self,
        name: str = "facodec/prosody",
        *,
        speaker: Literal["mean", "frames"] = "mean",
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        chunk_s: float = 60.0,
        context_s: float = 5.0,
        batch_s: float | None = None,
    ) -> None:
        check_known(speaker, SPEAKERS, f"encoder '{name}': speaker '{speaker}'")
        if chunk_s <= 2 * context_s or context_s < 0:
            raise SerkitError(f"encoder '{name}': chunk_s {chunk_s} must be more than twice context_s {context_s}")
        found = self._resolved(name, source)
        self.sizes = {k: int(found.config.get(k, d)) for k, d in (("channels", 32), ("dim", 256), ("inner", 1024))}
        self.with_speaker = name != "facodec/prosody"
        self.speaker_mean = speaker == "mean"
        self.batch_s = batch_s
        self._chunk, self._context = (int(s * SAMPLE_RATE_HZ / HOP) for s in (chunk_s, context_s))
        dim = self.sizes["dim"] * (2 if self.with_speaker else 1)
        self.resolved = dataclasses.replace(found, config={"hidden_size": dim, "num_hidden_layers": 1})
        params: dict[str, Any] = {"chunk_s": float(chunk_s), "context_s": float(context_s)}
        if self.with_speaker:
            params["speaker"] = speaker
        self._specify(
            name, layer="last", pool=pool, dtype=dtype, precision="float32", window=HOP, hop=HOP,
            padding=HOP, params=params,
        )  # fmt: skip
        self.spec = dataclasses.replace(self.spec, layer=None)

    @classmethod
    def tiny(cls) -> Facodec:
        """Small random weights with prosody and timbre, saved and loaded like a download."""
        return cls("facodec/random")

    @property
    def n_weights(self) -> int:
        """Of the parts that are built: 21.7 million as published (counted), as the square of the width for others."""
        return int(21.7e6 * (self.sizes["dim"] / 256) ** 2)

    def _load(self, folder: Path) -> None:
        from serkit.foundation.facodec_model import FacodecDecoder, FacodecEncoder, accounted

        self._encoder = FacodecEncoder(self.sizes["channels"], self.sizes["dim"])
        self._decoder = FacodecDecoder(self.sizes["dim"], self.sizes["inner"])
        for stem, part in zip(FACODEC_STEMS, (self._encoder, self._decoder), strict=True):
            file = next((f for e in (".safetensors", ".bin") if (f := folder / f"{stem}{e}").is_file()), None)
            if file is None:
                raise SerkitError(f"encoder '{self.spec.name}': no {stem}.bin in {folder}")
            tensors, own = read_bin(self.spec.name, file), part.state_dict()
            strange, lacking = accounted(list(tensors), list(own))
            odd = [k for k in own if k in tensors and tensors[k].shape != own[k].shape]
            for what, names in (("lacks", lacking), ("has an unexpected", strange), ("has another shape for", odd)):
                if names:
                    raise SerkitError(f"encoder '{self.spec.name}': {file} {what} weight '{names[0]}'")
            part.load_state_dict({k: tensors[k] for k in own}, strict=True)
            part.eval().requires_grad_(False)

    def _to(self, device: Any, dtype: Any) -> None:
        self._encoder.to(device)
        self._decoder.to(device)

    def _encode(self, items: list[np.ndarray]) -> list[np.ndarray]:
        windows: list[Window[np.ndarray]] = []
        for index, samples in enumerate(items):
            total = 1 + len(samples) // HOP
            padded = np.pad(samples, (0, max(total * HOP, SHORTEST) - len(samples)))
            for piece in pieces(total, self._chunk, self._context):
                end = len(padded) if piece.end == total else piece.end * HOP
                windows.append(Window(index, padded[piece.start * HOP : end], piece.kept))
        seconds = self.batch_s or (30.0 if self.device == "cpu" else 240.0)
        clips = encoded(windows, self._batch, int(seconds * SAMPLE_RATE_HZ))
        if self.with_speaker and self.speaker_mean:
            for frames in clips:
                frames[:, self.sizes["dim"] :] = frames[:, self.sizes["dim"] :].mean(axis=0)
        return clips

    def _batch(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(samples,) each, multiples of 200, to (frames, dim) each."""
        import torch

        from serkit.foundation.facodec_model import REFLECTED

        longest = max(len(w) for w in waves)
        mirrored = np.zeros((len(waves), longest + 2 * REFLECTED), dtype=np.float32)
        for row, wave in enumerate(waves):
            mirrored[row, : len(wave) + 2 * REFLECTED] = np.pad(wave, REFLECTED, mode="reflect")
        n = [len(w) // HOP for w in waves]
        frames = torch.tensor(n, device=self.device) if min(n) < max(n) else None
        values = torch.from_numpy(mirrored).to(self.device)
        states = self._decoder.prosody(self._encoder.mel_transform(values), frames)
        if self.with_speaker:
            plain = values[:, REFLECTED:-REFLECTED]
            latent = self._encoder(plain, None if frames is None else frames * HOP)
            states = torch.cat([states, self._decoder.timbre(latent, frames)], dim=-1)
        found = states.cpu().numpy()
        return [found[row, : n[row]] for row in range(len(waves))]
