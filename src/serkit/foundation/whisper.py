"""Whisper's encoder in parts: its log-mel spectrogram, what enters its first layer, and which positions it sees.

Frozen features and networks that are trained further compute them here, so their numbers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation.loading import transformers_package

if TYPE_CHECKING:
    from torch import Tensor

HOP = 320  # samples: a 10-ms spectrogram, halved by the second convolution (Radford et al. 2022, section 2.2)
N_FFT, MEL_HOP = 400, 160
DYNAMIC_RANGE = 8.0  # powers of ten below the loudest value of a window; what is softer is raised to that
QUIETEST = 1e-10  # power
IGNORED = ("model.decoder.", "decoder.", "proj_out.", "projector.", "classifier.", "layer_weights")
PREFIXES = {r"^model\.encoder\.": "", r"^encoder\.": ""}


def check_front_end(what: str, settings: Mapping[str, Any], bands: int) -> None:
    """Refuse a front end other than Whisper's.

    Args:
        what: whose it is, for messages. settings: of its ``preprocessor_config.json``; what it does not say is taken
            to be Whisper's. bands: mel bands that the model reads.

    Raises:
        SerkitError: another sampling rate, hop, window or number of bands.
    """
    expected = {"sampling_rate": SAMPLE_RATE_HZ, "hop_length": MEL_HOP, "n_fft": N_FFT, "feature_size": bands}
    found = tuple(settings.get(key, value) for key, value in expected.items())
    if found != tuple(expected.values()):
        raise SerkitError(f"{what}: front end with rate, hop, window and bands {found} is not Whisper's")


def window_frames(what: str, window: str, most: int) -> int | None:
    """How many frames every clip is padded to; ``None`` for ``clip``, which pads nothing.

    Args:
        what: whose choice it is, for messages. window: ``clip``, or seconds such as ``15s``. most: positions that the
            model has.

    Raises:
        SerkitError: another word, or more than the model has positions for.

    >>> window_frames("backbone", "15s", 1500)
    750
    """
    if window == "clip":
        return None
    seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(window))
    frames = round(float(seconds[1]) * SAMPLE_RATE_HZ / HOP) if seconds else 0
    if not 1 <= frames <= most:
        longest = f"{most * HOP / SAMPLE_RATE_HZ:g}s"
        raise SerkitError(f"{what}: window '{window}', expected 'clip' or seconds with an s, at most '{longest}'")
    return frames


def mel_filters(name: str, bands: int) -> np.ndarray:
    """(bands, 201) float32 weights of the mel bands (Slaney's), as the published front end has them.

    Args:
        name: of the model, for messages.

    Raises:
        MissingExtra: transformers is not installed.
    """
    front = transformers_package(name).WhisperFeatureExtractor(feature_size=bands)
    return np.ascontiguousarray(np.asarray(front.mel_filters.T, dtype=np.float32))


def log_mel(values: Tensor, filters: Tensor, seen: Tensor | None) -> Tensor:
    """The published spectrogram of some windows.

    Args:
        values: (batch, samples) float32, zeros after the end of each clip; with ``seen``, :data:`N_FFT` more zeros.
        filters: (bands, 201), see :func:`mel_filters`.
        seen: (batch, time) bool, which frames of the encoder are the clip's. Each row is then scaled by its own
            loudest real frame, frames after its end are zero, and what follows the clip is silence rather than its
            mirror image. Without it all samples are the clip's, as published for a window of 30 s.

    Returns:
        (batch, bands, 2 x time) float32.
    """
    import torch

    window = torch.hann_window(N_FFT, device=values.device)
    spectrum = torch.stft(values, N_FFT, MEL_HOP, window=window, return_complex=True)
    steps = values.shape[1] // MEL_HOP if seen is None else 2 * seen.shape[1]
    power = spectrum[..., :steps].abs() ** 2
    log = (filters @ power).clamp(min=QUIETEST).log10()
    if seen is not None:
        real = seen.repeat_interleave(2, dim=1)[:, None, :]
        log = log.masked_fill(~real, float("-inf"))
    floor = log.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
    scaled = (torch.maximum(log, floor) + 4.0) / 4.0
    return scaled if seen is None else scaled.masked_fill(~real, 0.0)


def entering(model: Any, mel: Tensor) -> Tensor:
    """(batch, bands, 2 x time) to (batch, time, dim): through the convolutions, with positions from zero.

    Args:
        model: ``WhisperEncoder`` of transformers.
    """
    from torch.nn import functional as F

    hidden = F.gelu(model.conv1(mel))
    hidden = F.gelu(model.conv2(hidden)).transpose(1, 2)
    entered: Tensor = hidden + model.embed_positions.weight[: hidden.shape[1]]
    return entered


def attended(seen: Tensor | None, dtype: Any) -> Tensor | None:
    """What the layers add to their scores, (batch, 1, time, time); ``None`` where every frame is real.

    Args:
        seen: (batch, time) bool, real frames.
    """
    import torch

    if seen is None or bool(seen.all()):
        return None
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    return mask[:, None, None, :].expand(-1, 1, seen.shape[1], -1)
