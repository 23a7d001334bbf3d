"""What an hour of audio costs a pretrained model, in arithmetic and in frames, from the shapes of its layers.

Counted are matrix products and convolutions, two operations for a multiplication with its addition, of all layers;
transforms of Fourier, normalisations and activations are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serkit.checkpoints import Resolved

CLIP_S = 5.0  # proposal: acted and conversational turns last 3 to 6 s; attention grows with the length of a clip
WINDOW_S = 30.0  # of Whisper
TOKENS_PER_AUDIO_HOUR = 12_000  # proposal: 150 words a minute at 1.3 tokens a word
SAMPLES_PER_S = 16_000
CODEC_RATE = 80  # frames a second of FACodec
CODEC_STRIDES = (2, 4, 5, 5)
SPEECH = ("wavlm", "hubert", "wav2vec2", "distilhubert")
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)  # Baevski et al. 2020, section 4.2
MODERNBERT_INNER = {768: 1152, 1024: 2624}  # by width, of the two published ones


def frames_per_audio_hour(found: Resolved) -> int:
    """Hidden states per hour of audio; of a text model, tokens of about 150 words a minute."""
    if found.family in ("whisper", "emotion2vec", *SPEECH):
        return 50 * 3600
    return CODEC_RATE * 3600 if found.family == "facodec" else TOKENS_PER_AUDIO_HOUR


def tflop_per_audio_hour(found: Resolved, clip_s: float = CLIP_S, *, whole: bool = True) -> float:
    """10^12 floating-point operations per hour of audio in clips of ``clip_s`` seconds (computed).

    Args:
        found: the model; shapes that its configuration does not say are those of the published ones.
        clip_s: length of a clip, for attention. whole: Whisper's ``window: 30s``, in which a clip of any length costs
            30 s; otherwise its ``window: clip``.
    """
    n = float(frames_per_audio_hour(found))
    if found.family == "whisper":
        filled_s = WINDOW_S * -(-clip_s // WINDOW_S) if whole else clip_s
        heard = n * filled_s / clip_s
        return heard * _whisper(found, 50 * (WINDOW_S if whole else min(clip_s, WINDOW_S))) / 1e12
    seen = n * clip_s / 3600  # frames, or tokens, of a clip
    if found.family == "facodec":
        return n * _facodec(found, seen) / 1e12
    if found.family in SPEECH:
        return n * _speech(found, seen) / 1e12
    if found.family == "emotion2vec":
        return n * _emotion2vec(found, seen) / 1e12
    return n * found.layers * _text_layer(found, seen) / 1e12


def _layer(dim: int, inner: int, seen: float) -> float:
    """Of a transformer layer, per position: four projections, two layers of ``inner``, ``seen`` positions attended."""
    return 8.0 * dim**2 + 4.0 * dim * inner + 4.0 * seen * dim


def _whisper(found: Resolved, seen: float) -> float:
    dim, inner = found.dim, int(found.config.get("encoder_ffn_dim") or 4 * found.dim)
    bands = int(found.config.get("num_mel_bins") or (128 if found.name.startswith("whisper/large-v3") else 80))
    front = 2 * 2.0 * 201 * bands + 2 * 2.0 * 3 * bands * dim + 2.0 * 3 * dim**2  # spectrum, two convolutions
    return front + found.layers * _layer(dim, inner, seen)


def _speech(found: Resolved, seen: float) -> float:
    config, dim = found.config, found.dim
    front, inside = _convolutions(config)
    kernel, groups = config.get("num_conv_pos_embeddings", 128), config.get("num_conv_pos_embedding_groups", 16)
    front += 2.0 * inside * dim + 2.0 * dim**2 * int(kernel) / int(groups)
    return front + found.layers * _layer(dim, int(config.get("intermediate_size") or 4 * dim), seen)


def _emotion2vec(found: Resolved, seen: float) -> float:
    config, dim = found.config, found.dim
    front, inside = _convolutions(config)
    depth, kernel, groups = (
        int(config.get(key, published))
        for key, published in (("conv_pos_depth", 5), ("conv_pos_kernel", 19), ("conv_pos_groups", 16))
    )
    front += 2.0 * inside * dim + depth * 2.0 * dim**2 * kernel / groups
    positions = seen + int(config.get("num_extra_tokens", 10))  # every layer computes the tokens of a clip as well
    inner = int(config.get("intermediate_size") or 4 * dim)
    return front + found.layers * _layer(dim, inner, positions) * positions / seen


def _convolutions(config: Mapping[str, Any]) -> tuple[float, int]:
    """Of the layers that read samples, per frame; and the channels of the last."""
    kernels, strides = _list(config, "conv_kernel", KERNELS), _list(config, "conv_stride", STRIDES)
    widths = _list(config, "conv_dim", (512,) * len(kernels))
    front, inside, rate = 0.0, 1, 1.0  # rate: outputs of a layer per frame of the last
    for stride in strides:
        rate *= stride
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        rate /= stride
        front += 2.0 * rate * kernel * inside * width
        inside = width
    return front, inside


def _text_layer(found: Resolved, seen: float) -> float:
    dim = found.dim
    inner = int(found.config.get("intermediate_size") or 0)
    if found.family == "modernbert":  # its first layer is twice as wide: one half gates the other
        inner = inner or MODERNBERT_INNER.get(dim, 3 * dim // 2)
        return _layer(dim, inner, seen) + 2.0 * dim * inner
    cost = _layer(dim, inner or 4 * dim, seen)
    if found.family == "deberta":  # each token meets the directions of 512 relative positions, and they each token
        cost += 2 * 2.0 * dim * 2 * int(found.config.get("position_buckets") or 256)
    return cost


def _facodec(found: Resolved, seen: float) -> float:
    sizes = found.config
    channels, dim, inner = (int(sizes.get(k, d)) for k, d in (("channels", 32), ("dim", 256), ("inner", 1024)))
    # four layers, the first of whose two wide ones is a convolution over five frames
    transformer = 4 * (_layer(dim, inner, seen) + 4 * 2.0 * dim * inner)
    codebook = 2.0 * (8 * dim + 8 * 1024 + 8 * dim)
    prosody = 2.0 * 80 * 513 + 2.0 * 20 * dim + transformer + codebook
    if found.name == "facodec/prosody":
        return prosody
    rate = SAMPLES_PER_S / CODEC_RATE  # samples of a frame
    front = 2.0 * rate * 7 * channels
    for stride in CODEC_STRIDES:
        front += rate * 3 * 2.0 * 8 * channels**2  # three residual units: kernels of 7 and of 1
        front += rate * 7 * 2.0 * 26 * channels  # seven activations at twice the rate, filtered by 7 and 12 taps
        front += rate / stride * 2.0 * 2 * stride * channels * 2 * channels
        rate, channels = rate / stride, 2 * channels
    return prosody + front + 2.0 * 26 * channels + 2.0 * 3 * channels * dim + transformer


def _list(config: Mapping[str, Any], key: str, published: Sequence[int]) -> list[int]:
    return [int(n) for n in config.get(key) or published]
