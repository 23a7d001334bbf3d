"""Transformers on token ids as ONNX graphs, layer by layer: those of BERT and RoBERTa, ModernBERT, DeBERTa v2 and v3.

Each takes (windows, time) ids, of which (windows, time) bool are real, and gives what its last layer gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from serkit.errors import SerkitError
from serkit.foundation.trainable_text import TextBackbone
from serkit.serving.graphs import Graph, numpy


def bert(graph: Graph, backbone: TextBackbone, ids: str, real: str) -> str:
    """BERT, RoBERTa, XLM-RoBERTa and CamemBERT, which differ in where positions begin."""
    model: Any = backbone.model
    _refuse_other(model.config.hidden_act, getattr(model.config, "position_embedding_type", None) or "absolute")
    embeddings = model.embeddings
    first = int(model.config.pad_token_id) + 1 if model.config.model_type != "bert" else 0
    places = graph.matrix(numpy(embeddings.position_embeddings.weight)[first:], (1,))
    x = graph.add(_looked_up(graph, embeddings.word_embeddings, ids), _first_kind(graph, embeddings))
    x = graph.add(x, graph("Gather", places, graph.positions(graph.time(ids)), axis=0))
    x = graph.layer_norm(x, embeddings.LayerNorm)
    heads, mask = int(model.config.num_attention_heads), graph.unsqueeze(real, 1, 2)
    for layer in cast(Any, backbone.layers):
        own = layer.attention.self
        query, key, value = (_split(graph, graph.linear(x, p), heads) for p in (own.query, own.key, own.value))
        attended = _attended(graph, query, key, value, mask, backbone.dim // heads)
        x = _after_attention(graph, x, attended, layer)
    return x


def modernbert(graph: Graph, backbone: TextBackbone, ids: str, real: str) -> str:
    """ModernBERT: rotary positions; some layers attend to near tokens alone."""
    model: Any = backbone.model
    config = model.config
    _refuse_other(
        config.hidden_activation, *{row["rope_type"] for row in config.rope_parameters.values()} - {"default"}
    )
    x = _norm(graph, _looked_up(graph, model.embeddings.tok_embeddings, ids), model.embeddings.norm)
    place = graph.positions(graph.time(ids))
    apart = graph("Abs", graph("Sub", place, graph("Transpose", place, perm=[1, 0])))
    near = graph("LessOrEqual", apart, graph.constant(int(config.sliding_window), np.int64))
    full = graph.unsqueeze(real, 1, 2)
    masks = {"full_attention": full, "sliding_attention": graph("And", full, near)}
    angles = {kind: numpy(getattr(model.rotary_emb, f"{kind}_inv_freq")) for kind in set(config.layer_types)}
    heads = int(config.num_attention_heads)
    for layer in cast(Any, backbone.layers):
        kind, own = layer.attention_type, layer.attn
        angle = graph.times(graph.unsqueeze(graph.real(graph.squeeze(place, 0)), 1), graph.constant(angles[kind]))
        turn = [graph("Concat", part, part, axis=1) for part in (graph("Cos", angle), graph("Sin", angle))]
        normed = x if layer.layer_idx == 0 else _norm(graph, x, layer.attn_norm)
        parts = np.split(numpy(own.Wqkv.weight), 3)
        biases = [None] * 3 if own.Wqkv.bias is None else np.split(numpy(own.Wqkv.bias), 3)
        query, key, value = (
            _split(graph, graph.affine(normed, w.T, b), heads) for w, b in zip(parts, biases, strict=True)
        )
        query, key = (_turned(graph, part, turn) for part in (query, key))
        attended = _attended(graph, query, key, value, masks[kind], backbone.dim // heads)
        x = graph.add(x, graph.linear(attended, own.Wo))
        inside, gate = graph.many(
            "Split", graph.linear(_norm(graph, x, layer.mlp_norm), layer.mlp.Wi), n_outputs=2, axis=2
        )
        x = graph.add(x, graph.linear(graph.times(graph.gelu(inside), gate), layer.mlp.Wo))
    return _norm(graph, x, model.final_norm)


def deberta(graph: Graph, backbone: TextBackbone, ids: str, real: str) -> str:
    """DeBERTa v2 and v3: attention also between tokens and their distance (He et al. 2021, arXiv 2006.03654, eq. 4)."""
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    model: Any = backbone.model
    config, encoder, embeddings = model.config, model.encoder, model.embeddings
    _refuse_other(config.hidden_act, *([] if encoder.relative_attention else ["absolute positions alone"]))
    x = _looked_up(graph, embeddings.word_embeddings, ids)
    if embeddings.position_embeddings is not None:
        x = graph.add(x, _looked_up(graph, embeddings.position_embeddings, graph.positions(graph.time(ids))))
    if embeddings.token_type_embeddings is not None:
        x = graph.add(x, _first_kind(graph, embeddings))
    x = x if embeddings.embed_proj is None else graph.linear(x, embeddings.embed_proj)
    x = before = graph.masked(graph.layer_norm(x, embeddings.LayerNorm), real)
    most = backbone.room + len(backbone.prefix) + len(backbone.suffix)
    with torch.no_grad():
        distances = torch.arange(1 - most, most)
        if encoder.position_buckets > 0:
            distances = make_log_bucket_position(distances, encoder.position_buckets, encoder.max_relative_positions)
        rows = encoder.get_rel_embedding()
    span = len(rows) // 2
    table = graph.constant(numpy(distances.float()).astype(np.int64), np.int64)
    place = graph.positions(graph.time(ids))
    apart = graph("Sub", graph("Transpose", place, perm=[1, 0]), place)  # of each query from each key
    distance = graph("Gather", table, graph.add(apart, graph.constant(most - 1, np.int64)))
    both = [graph.add(part, graph.constant(span, np.int64)) for part in (distance, graph("Neg", distance))]
    ends = graph.constant(0, np.int64), graph.constant(2 * span - 1, np.int64)
    c2p, p2c = (graph("Clip", part, *ends) for part in both)
    heads = int(config.num_attention_heads)
    for number, layer in enumerate(cast(Any, backbone.layers)):
        own, kinds = layer.attention.self, layer.attention.self.pos_att_type
        query, key, value = (
            _split(graph, graph.linear(x, p), heads) for p in (own.query_proj, own.key_proj, own.value_proj)
        )
        score = graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2]))
        if "c2p" in kinds:
            by = own.key_proj if own.share_att_key else own.pos_key_proj
            score = graph.add(score, _gathered(graph, query, by, rows, heads, c2p))
        if "p2c" in kinds:
            by = own.query_proj if own.share_att_key else own.pos_query_proj
            found = _gathered(graph, key, by, rows, heads, p2c)
            score = graph.add(score, graph("Transpose", found, perm=[0, 1, 3, 2]))
        size = int(own.query_proj.out_features) // heads * (1 + len({"c2p", "p2c"} & set(kinds)))
        score = graph.times(score, graph.constant(1.0 / math.sqrt(size)))
        x = _after_attention(graph, x, _mixed(graph, score, graph.unsqueeze(real, 1, 2), value), layer)
        if number == 0 and encoder.conv is not None:
            x = _with_convolution(graph, encoder.conv, before, x, real)
    return x


def _with_convolution(graph: Graph, module: Any, before: str, x: str, real: str) -> str:
    """What DeBERTa adds to its first layer: a convolution of the embeddings."""
    found = graph(
        "Transpose", graph.convolution(graph("Transpose", before, perm=[0, 2, 1]), module.conv), perm=[0, 2, 1]
    )
    acts: dict[str, Callable[[str], str]] = {"gelu": graph.gelu, "tanh": lambda t: graph("Tanh", t)}
    if module.conv_act not in acts or module.conv.groups != 1:
        raise SerkitError(f"no ONNX form of a text backbone with a convolution in groups, or with {module.conv_act}")
    found = graph.layer_norm(graph.add(x, acts[module.conv_act](found)), module.LayerNorm)
    return graph.masked(found, real)


def _gathered(graph: Graph, states: str, projection: Any, rows: Any, heads: int, at: str) -> str:
    """(windows, heads, time, time): products of each state with the rows of the distances that stand (time, time) at.

    Args:
        projection: a linear layer on the rows. rows: (distances, dim) of torch.
    """
    import torch

    with torch.no_grad():
        projected = numpy(projection(rows))
    split = projected.reshape(len(projected), heads, -1).transpose(1, 2, 0)  # (heads, size, distances)
    products = graph("MatMul", states, graph.matrix(split, (1,)))
    size = graph("Concat", graph("Shape", states, start=0, end=2), graph("Shape", at), axis=0)
    return graph("GatherElements", products, graph("Expand", at, size), axis=3)


def _after_attention(graph: Graph, x: str, attended: str, layer: Any) -> str:
    """The rest of a layer of BERT: what was attended to, then two linear layers, each added and normalised."""
    output = layer.attention.output
    x = graph.layer_norm(graph.add(x, graph.linear(attended, output.dense)), output.LayerNorm)
    wide = graph.gelu(graph.linear(x, layer.intermediate.dense))
    return graph.layer_norm(graph.add(x, graph.linear(wide, layer.output.dense)), layer.output.LayerNorm)


def _attended(graph: Graph, query: str, key: str, value: str, mask: str, size: int) -> str:
    """(windows, time, dim) of (windows, heads, time, size) each; ``mask`` broadcasts to the products."""
    query = graph.times(query, graph.constant(1.0 / math.sqrt(size)))
    return _mixed(graph, graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2])), mask, value)


def _mixed(graph: Graph, scores: str, mask: str, value: str) -> str:
    """(windows, heads, time, time) scores and (windows, heads, time, size) values to (windows, time, dim)."""
    mixed = graph("Transpose", graph("MatMul", graph.softmax(scores, mask), value), perm=[0, 2, 1, 3])
    return graph("Reshape", mixed, graph.constant([0, 0, -1], np.int64))


def _turned(graph: Graph, x: str, turn: Sequence[str]) -> str:
    """(windows, heads, time, size) turned by angles, of which these are the (time, size) cosines and sines."""
    low, high = graph.many("Split", x, n_outputs=2, axis=3)
    other = graph("Concat", graph("Neg", high), low, axis=3)
    return graph.add(graph.times(x, turn[0]), graph.times(other, turn[1]))


def _norm(graph: Graph, x: str, layer: Any) -> str:
    """A layer normalisation that may have no bias."""
    if layer.bias is not None:
        return graph.layer_norm(x, layer)
    weight = graph.constant(numpy(layer.weight))
    zeros = graph.constant(np.zeros(layer.weight.shape))
    return graph("LayerNormalization", x, weight, zeros, axis=-1, epsilon=float(layer.eps))


def _split(graph: Graph, x: str, heads: int) -> str:
    """(windows, time, dim) to (windows, heads, time, size)."""
    return graph("Transpose", graph("Reshape", x, graph.constant([0, 0, heads, -1], np.int64)), perm=[0, 2, 1, 3])


def _looked_up(graph: Graph, embedding: Any, ids: str) -> str:
    return graph("Gather", graph.matrix(numpy(embedding.weight), (1,)), ids, axis=0)


def _first_kind(graph: Graph, embeddings: Any) -> str:
    return graph.constant(numpy(embeddings.token_type_embeddings.weight)[0])


def _refuse_other(activation: str, *others: str) -> None:
    """Refuse a variant of an architecture that has no form here."""
    for other in [*([] if activation == "gelu" else [activation]), *(o for o in others if o != "absolute")]:
        raise SerkitError(f"no ONNX form of a text backbone with '{other}'")
