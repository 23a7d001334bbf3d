"""Speech networks as ONNX graphs, padding masked as in torch: wav2vec 2.0, Whisper and emotion2vec layer by layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation.emotion2vec_model import slopes
from serkit.foundation.trainable import Emotion2vecBackbone, WaveBackbone, WhisperBackbone
from serkit.foundation.whisper import DYNAMIC_RANGE, HOP, MEL_HOP, N_FFT, QUIETEST
from serkit.serving.graphs import Graph, numpy


def speech_states(graph: Graph, network: Any, x: str, n: str) -> tuple[list[str], str]:
    """Samples through the backbone of a network that has one on waveforms, and ``max_s``.

    Args:
        x: (batch, time, 1) samples, zeros in the padding. n: (batch,) int64 lengths.

    Returns:
        What enters the first layer and what each layer gives, each (batch, frames, dim), as ``Backbone.states`` has
        them; and their (batch, frames) mask.

    Raises:
        SerkitError: a variant of the architecture that has no form here.
    """
    backbone = network.backbone
    wave, n = _samples(graph, network, x, n)
    if backbone.normalise:
        wave = _standardised(graph, wave, n, backbone.quiet_variance)
    if isinstance(backbone, WhisperBackbone):
        return _whisper(graph, backbone, wave, n)
    if isinstance(backbone, Emotion2vecBackbone):
        return _emotion2vec(graph, backbone, wave, n)
    return _wav2vec(graph, backbone, wave, n)


def _wav2vec(graph: Graph, backbone: WaveBackbone, wave: str, n: str) -> tuple[list[str], str]:
    """wav2vec 2.0 and its kin, from (batch, time) samples."""
    model, config = backbone.model, backbone.model.config
    if {config.hidden_act, config.feat_extract_activation} != {"gelu"} or getattr(config, "conv_pos_batch_norm", False):
        raise SerkitError("no ONNX form of a backbone with activations other than gelu, or batch normalisation")
    if getattr(config, "adapter_attn_dim", None) is not None:
        raise SerkitError("no ONNX form of a backbone with adapters in its layers (adapter_attn_dim)")
    x = graph.unsqueeze(wave, 1)
    for k, layer in enumerate(model.feature_extractor.conv_layers):
        x = graph.convolution(x, layer.conv)
        if k == 0 and config.feat_extract_norm == "group":
            first = _divided(graph, n, int(config.conv_kernel[0]), int(config.conv_stride[0]))
            x = _norm_over_time(graph, x, first, layer.layer_norm)
        elif config.feat_extract_norm == "layer":
            x = _turned(graph, graph.layer_norm(_turned(graph, x), layer.layer_norm))
        x = graph.gelu(x)
    frames = _turned(graph, x)
    mask = graph.mask(_divided(graph, n, backbone.window, backbone.hop), graph.time(frames))
    projection = model.feature_projection
    if hasattr(projection, "layer_norm"):
        frames = graph.layer_norm(frames, projection.layer_norm)
    frames = graph.masked(graph.linear(frames, projection.projection), mask)
    frames = graph.add(frames, graph.gelu(_position(graph, frames, model.encoder.pos_conv_embed.conv)))
    states = _transformer(graph, frames, mask, model.encoder, stable=bool(config.do_stable_layer_norm))
    if config.do_stable_layer_norm and not backbone.raw_end:
        states[-1] = graph.layer_norm(states[-1], model.encoder.layer_norm)
    return states, mask


def _samples(graph: Graph, network: Any, x: str, n: str) -> tuple[str, str]:
    """(batch, time) samples of at least one window, zeros in the padding, and their lengths."""
    window = network.backbone.window
    wave = graph.squeeze(x, 2)
    if network.max_s is not None:
        longest = graph.constant([max(1, round(network.max_s * SAMPLE_RATE_HZ))], np.int64)
        wave = graph("Slice", wave, graph.constant([0], np.int64), longest, graph.constant([1], np.int64))
        n = graph("Min", n, longest)
    missing = graph("Sub", graph.constant([window], np.int64), graph.unsqueeze(graph.time(wave), 0))
    missing = graph("Max", missing, graph.constant([0], np.int64))
    wave = graph("Pad", wave, graph("Concat", graph.constant([0, 0, 0], np.int64), missing, axis=0))
    n = graph("Max", n, graph.constant([window], np.int64))
    return graph.times(wave, graph.real(graph.mask(n, graph.time(wave)))), n


def _standardised(graph: Graph, wave: str, n: str, quiet: float) -> str:
    """Zero mean and unit variance over each row's own samples."""
    count = graph.unsqueeze(graph.real(n), 1)
    real = graph.real(graph.mask(n, graph.time(wave)))
    mean = graph("Div", graph.total(wave, 1, keep=True), count)
    away = graph.times(graph("Sub", wave, mean), real)
    variance = graph("Div", graph.total(graph.times(away, away), 1, keep=True), count)
    return graph("Div", away, graph("Sqrt", graph.add(variance, graph.constant(quiet))))


def _norm_over_time(graph: Graph, x: str, n: str, norm: Any) -> str:
    """(batch, channels, time) normalised by channel over each row's own time."""
    real = graph.unsqueeze(graph.real(graph.mask(n, graph.time(x, 2))), 1)
    count = graph.unsqueeze(graph.real(n), 1, 2)
    mean = graph("Div", graph.total(graph.times(x, real), 2, keep=True), count)
    away = graph("Sub", x, mean)
    inside = graph.times(away, real)
    variance = graph("Div", graph.total(graph.times(inside, inside), 2, keep=True), count)
    scaled = graph("Div", away, graph("Sqrt", graph.add(variance, graph.constant(float(norm.eps)))))
    weight, bias = (graph.constant(numpy(p)[None, :, None]) for p in (norm.weight, norm.bias))
    return graph.add(graph.times(scaled, weight), bias)


def _divided(graph: Graph, n: str, window: int, hop: int) -> str:
    """``(n - window) // hop + 1`` of int64."""
    left = graph("Sub", n, graph.constant([window], np.int64))
    return graph.add(graph("Div", left, graph.constant([hop], np.int64)), graph.constant([1], np.int64))


def _turned(graph: Graph, x: str) -> str:
    return graph("Transpose", x, perm=[0, 2, 1])


def _position(graph: Graph, frames: str, conv: Any) -> str:
    """A grouped convolution that stands for positions; of an even kernel the last frame is dropped."""
    kernel, half = int(conv.kernel_size[0]), int(conv.padding[0])
    weight, bias = graph.matrix(numpy(conv.weight), (1, 2)), graph.constant(numpy(conv.bias))
    sides = [half, half - (1 if kernel % 2 == 0 else 0)]
    found = graph("Conv", _turned(graph, frames), weight, bias, group=int(conv.groups), pads=sides)
    return _turned(graph, found)


def _transformer(graph: Graph, frames: str, mask: str, encoder: Any, *, stable: bool) -> list[str]:
    if not stable:
        frames = graph.layer_norm(frames, encoder.layer_norm)
    states = [frames]
    first = encoder.layers[0].attention
    distance = _distance_bias(graph, frames, first) if hasattr(first, "rel_attn_embed") else None
    for layer in encoder.layers:
        if stable:
            normed = graph.layer_norm(frames, layer.layer_norm)
            frames = graph.add(frames, _attention(graph, normed, mask, layer.attention, distance))
            normed = graph.layer_norm(frames, layer.final_layer_norm)
            frames = graph.add(frames, _feed_forward(graph, normed, layer.feed_forward))
        else:
            frames = graph.add(frames, _attention(graph, frames, mask, layer.attention, distance))
            frames = graph.layer_norm(frames, layer.layer_norm)
            frames = graph.add(frames, _feed_forward(graph, frames, layer.feed_forward))
            frames = graph.layer_norm(frames, layer.final_layer_norm)
        states.append(frames)
    return states


def _feed_forward(graph: Graph, x: str, module: Any) -> str:
    return graph.linear(graph.gelu(graph.linear(x, module.intermediate_dense)), module.output_dense)


def _distance_bias(graph: Graph, frames: str, attention: Any) -> str:
    """(heads, time, time): WavLM's learned bias of each distance; beyond the farthest one it stays the same."""
    import torch

    farthest = int(attention.max_distance)
    with torch.no_grad():
        buckets = attention._relative_positions_bucket(torch.arange(-farthest, farthest + 1))
        table = graph.constant(numpy(attention.rel_attn_embed(buckets)))
    place = graph.positions(graph.time(frames))
    apart = graph("Sub", place, graph("Transpose", place, perm=[1, 0]))
    low, high = (graph.constant(d, np.int64) for d in (-farthest, farthest))
    row = graph.add(graph("Clip", apart, low, high), high)
    return graph("Transpose", graph("Gather", table, row, axis=0), perm=[2, 0, 1])


def _attention(graph: Graph, x: str, mask: str | None, attention: Any, distance: str | None) -> str:
    """Self-attention of (batch, time, dim), with WavLM's gated bias where ``distance`` is given."""
    heads, dim = int(attention.num_heads), int(attention.q_proj.out_features)
    size = dim // heads
    apart = graph.constant([0, 0, heads, size], np.int64)

    def split(projected: str) -> str:
        return graph("Transpose", graph("Reshape", projected, apart), perm=[0, 2, 1, 3])

    query, key, value = (split(graph.linear(x, p)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    query = graph.times(query, graph.constant(1.0 / math.sqrt(size)))
    scores = graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2]))
    if distance is not None:
        gates = graph.linear(split(x), attention.gru_rel_pos_linear)
        gates = graph("Reshape", gates, graph.constant([0, 0, 0, 2, 4], np.int64))
        gates = graph("Sigmoid", graph.total(gates, 4))
        one, two = (graph("Gather", gates, graph.constant([k], np.int64), axis=3) for k in (0, 1))
        inner = graph.times(two, graph.constant(numpy(attention.gru_rel_pos_const)))
        gate = graph.add(graph.times(one, graph("Sub", inner, graph.constant(1.0))), graph.constant(2.0))
        scores = graph.add(scores, graph.times(gate, distance))
    mixed = _mixed(graph, scores, mask, value, dim)
    return graph.linear(mixed, attention.out_proj)


def _mixed(graph: Graph, scores: str, mask: str | None, value: str, dim: int) -> str:
    """(batch, heads, time, time) scores and (batch, heads, time, size) values to (batch, time, dim)."""
    weights = graph.softmax(scores, None if mask is None else graph.unsqueeze(mask, 1, 2))
    mixed = graph("Transpose", graph("MatMul", weights, value), perm=[0, 2, 1, 3])
    return graph("Reshape", mixed, graph.constant([0, 0, dim], np.int64))


def _emotion2vec(graph: Graph, backbone: Emotion2vecBackbone, wave: str, n: str) -> tuple[list[str], str]:
    """emotion2vec from (batch, time) samples; see :mod:`serkit.foundation.emotion2vec_model`."""
    model: Any = backbone.model
    audio, dim = model.audio, backbone.dim
    x = graph.unsqueeze(wave, 1)
    for layer in audio.local_encoder.conv_layers:
        x = _turned(graph, graph.convolution(x, layer["0"]))
        x = _turned(graph, graph.gelu(graph.layer_norm(x, layer["2"]["1"])))
    x, n_frames = _turned(graph, x), _divided(graph, n, backbone.window, backbone.hop)
    time = graph.time(x)
    mask = graph.mask(n_frames, time)
    x = graph.linear(graph.layer_norm(x, audio.project_features["1"]), audio.project_features["2"])
    position, plain = x, (graph.constant(np.ones(dim)), graph.constant(np.zeros(dim)))
    for layer in audio.relative_positional_encoder.values():
        position = _position(graph, graph.masked(position, mask), layer["0"])
        position = graph.gelu(graph("LayerNormalization", position, *plain, axis=-1, epsilon=1e-5))
    tokens = int(audio.extra_tokens.shape[1])
    rows = graph("Concat", graph("Shape", n), graph.constant([tokens, dim], np.int64), axis=0)
    first = graph("Expand", graph.constant(numpy(audio.extra_tokens)), rows)
    x = graph.layer_norm(graph("Concat", first, graph.add(x, position), axis=1), audio.context_encoder.norm)
    seen = graph.mask(graph.add(n_frames, graph.constant(tokens, np.int64)), graph.time(x))
    penalty, states = _penalty(graph, audio, time, tokens), [x]
    for layer in backbone.layers:
        x = _emotion2vec_layer(graph, x, seen, penalty, layer)
        states.append(x)
    begin, end, axis = (graph.constant([k], np.int64) for k in (tokens, np.iinfo(np.int64).max, 1))
    return [graph("Slice", state, begin, end, axis) for state in states], mask


def _penalty(graph: Graph, audio: Any, time: str, tokens: int) -> str:
    """(heads, tokens + time, tokens + time): what grows with the distance of two frames; none to or from a token."""
    scale = np.maximum(numpy(audio.alibi_scale)[0, 0], 0.0)
    each = np.asarray(slopes(len(scale)), np.float32)[:, None, None] * scale
    place = graph.positions(time)
    apart = graph.real(graph("Abs", graph("Sub", place, graph("Transpose", place, perm=[1, 0]))))
    sides = graph.constant([0, tokens, tokens, 0, 0, 0], np.int64)
    return graph("Pad", graph.times(graph.unsqueeze(apart, 0), graph.constant(-each)), sides)


def _emotion2vec_layer(graph: Graph, x: str, seen: str, penalty: str, layer: Any) -> str:
    attention = layer.attn
    dim, heads = int(attention.proj.out_features), int(attention.heads)
    apart, parts = graph.constant([0, 0, heads, dim // heads], np.int64), []
    weights, biases = (np.split(numpy(p), 3) for p in (attention.qkv.weight, attention.qkv.bias))
    for weight, bias in zip(weights, biases, strict=True):
        split = graph("Reshape", graph.affine(x, weight.T, bias), apart)
        parts.append(graph("Transpose", split, perm=[0, 2, 1, 3]))
    query, key, value = parts
    query = graph.times(query, graph.constant(1.0 / math.sqrt(dim // heads)))
    scores = graph.add(graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2])), penalty)
    x = graph.layer_norm(
        graph.add(x, graph.linear(_mixed(graph, scores, seen, value, dim), attention.proj)), layer.norm1
    )
    wide = graph.linear(graph.gelu(graph.linear(x, layer.mlp.fc1)), layer.mlp.fc2)
    return graph.layer_norm(graph.add(x, wide), layer.norm2)


def _whisper(graph: Graph, backbone: WhisperBackbone, wave: str, n: str) -> tuple[list[str], str]:
    """Whisper's encoder from (batch, time) samples, in windows one after the other."""
    model: Any = backbone.model
    if model.config.activation_function != "gelu":
        raise SerkitError("no ONNX form of a backbone with activations other than gelu")

    def number(value: int) -> str:
        return graph.constant([value], np.int64)

    steps = n if backbone.begun else graph("Max", graph("Div", n, number(MEL_HOP)), number(1))
    n_frames = _divided_up(graph, steps, number(HOP if backbone.begun else HOP // MEL_HOP))
    time = _divided_up(graph, graph.unsqueeze(graph.time(wave), 0), number(HOP))
    size = number(backbone.frames) if backbone.frames else graph("Min", time, number(backbone.most))
    count = _divided_up(graph, time, size)
    whole = graph.times(count, size)
    missing = graph("Sub", graph.times(whole, number(HOP)), graph.unsqueeze(graph.time(wave), 0))
    wave = graph("Pad", wave, graph("Concat", graph.constant([0, 0, 0], np.int64), missing, axis=0))
    wave = graph("Reshape", wave, graph("Concat", number(-1), graph.times(size, number(HOP)), axis=0))
    first = graph.times(graph.positions(graph.squeeze(count, 0)), size)
    own = graph("Max", graph("Min", graph("Sub", graph.unsqueeze(n_frames, 1), first), size), number(0))
    own = graph("Reshape", own, number(-1))
    seen = None if backbone.frames else graph.mask(own, graph.squeeze(size, 0))
    mel = _log_mel(graph, wave, numpy(backbone.filters), own, seen)
    frames = _turned(graph, graph.gelu(graph.convolution(graph.gelu(graph.convolution(mel, model.conv1)), model.conv2)))
    places = graph.constant(numpy(model.embed_positions.weight))
    frames = graph.add(frames, graph("Slice", places, number(0), size, number(0)))
    states = [frames]
    for layer in backbone.layers:
        frames = _whisper_layer(graph, frames, seen, layer)
        states.append(frames)
    states[-1] = graph.layer_norm(frames, model.layer_norm)
    joined = graph("Concat", number(-1), whole, number(backbone.dim), axis=0)
    if backbone.whole:
        n_frames = graph.times(_divided_up(graph, n_frames, size), size)
    return [graph("Reshape", s, joined) for s in states], graph.mask(n_frames, graph.squeeze(whole, 0))


def _divided_up(graph: Graph, a: str, b: str) -> str:
    """``a / b`` of positive int64, rounded up."""
    return graph("Div", graph("Sub", graph.add(a, b), graph.constant([1], np.int64)), b)


def _log_mel(graph: Graph, wave: str, filters: np.ndarray, own: str, seen: str | None) -> str:
    """As :func:`serkit.foundation.whisper.log_mel`; the Fourier transform is a convolution with its waves.

    Args:
        wave: (windows, samples), zeros after the end of a clip. own: (windows,) int64 frames of the clip.
        seen: whether the clip is cut out of its window. What follows it is silence then, or else its mirror image.
    """
    after = N_FFT // 2 - MEL_HOP  # of what follows, a last frame sees so much
    mirrored, silent = ([0, N_FFT // 2, 0, 0], [0, 0, 0, after]) if seen else ([0, N_FFT // 2, 0, after], [0] * 4)
    wave = graph("Pad", wave, graph.constant(mirrored, np.int64), mode="reflect")
    wave = graph("Pad", wave, graph.constant(silent, np.int64))
    angle = 2 * np.pi * np.outer(np.arange(N_FFT // 2 + 1), np.arange(N_FFT)) / N_FFT
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    power = None
    for waves in (np.cos(angle) * hann, np.sin(angle) * hann):
        part = graph("Conv", graph.unsqueeze(wave, 1), graph.constant(waves[:, None, :]), strides=[MEL_HOP])
        square = graph.times(part, part)
        power = square if power is None else graph.add(power, square)
    mel = graph("Max", graph("MatMul", graph.constant(filters), str(power)), graph.constant(QUIETEST))
    log = graph.times(graph("Log", mel), graph.constant(1 / math.log(10)))
    real = None
    if seen is not None:
        twice = graph.times(own, graph.constant([2], np.int64))
        real = graph.unsqueeze(graph.mask(twice, graph.time(log, 2)), 1)
        log = graph("Where", real, log, graph.constant(math.log10(QUIETEST)))
    loudest = graph("ReduceMax", log, axes=[1, 2], keepdims=1)
    log = graph("Max", log, graph("Sub", loudest, graph.constant(DYNAMIC_RANGE)))
    scaled = graph.times(graph.add(log, graph.constant(4.0)), graph.constant(0.25))
    return scaled if real is None else graph.times(scaled, graph.real(real))


def _whisper_layer(graph: Graph, frames: str, mask: str | None, layer: Any) -> str:
    normed = graph.layer_norm(frames, layer.self_attn_layer_norm)
    frames = graph.add(frames, _attention(graph, normed, mask, layer.self_attn, None))
    normed = graph.layer_norm(frames, layer.final_layer_norm)
    return graph.add(frames, graph.linear(graph.gelu(graph.linear(normed, layer.fc1)), layer.fc2))
