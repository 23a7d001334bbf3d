"""Files of emotion2vec as they are published: which hold the weights, and what ``config.yaml`` says.

Published are ``config.yaml`` and ``emotion2vec_base.pt``, or, with a classifier of nine classes, ``config.yaml``,
``model.pt`` and ``tokens.txt``. Read here without FunASR; no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.yaml_text import parse

WEIGHTS = ("model.pt", "emotion2vec_base.pt")
CONFIG, TOKENS = "config.yaml", "tokens.txt"
_NAMED = re.compile(r"^model: *Emotion2vec *$", re.MULTILINE)  # the class of FunASR
UNUSED = "unuse"  # what tokens.txt calls a class that the publisher does not use begins with
_COMPUTED: Mapping[str, Any] = {"layer_norm_first": False, "norm_affine": True, "normalize": True}
_COMPUTED_AUDIO: Mapping[str, Any] = {
    "extractor_mode": "layer_norm", "use_alibi_encoder": True, "learned_alibi": False,
    "learned_alibi_scale_per_layer": False, "learned_alibi_scale_per_head": True, "conv_pos_pre_ln": False,
}  # fmt: skip
_TERM = r"\[\((\d+),(\d+),(\d+)\)\](?:\*(\d+))?"


def is_emotion2vec(folder: Path) -> bool:
    """Whether a folder holds ``config.yaml`` of emotion2vec."""
    path = folder / CONFIG
    return path.is_file() and bool(_NAMED.search(path.read_text(encoding="utf-8", errors="replace")))


def sizes(folder: Path) -> dict[str, Any]:
    """What ``config.yaml`` says of the network, by the names that ``config.json`` of other speech models has.

    The layers are those of the context encoder (``prenet_depth``) and of the network above it (``depth``) together.

    Raises:
        SerkitError: the file is missing, damaged, or describes a network that serkit does not compute.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise SerkitError(f"{path} is missing; it is published beside {' and '.join(WEIGHTS)}")
    table = _read(path)
    network = _part(table, "model_conf", path)
    audio = _part(_part(network, "modalities", path), "audio", path)
    for part, expected in ((network, _COMPUTED), (audio, _COMPUTED_AUDIO)):
        for key, value in expected.items():
            if part.get(key, value) != value:
                raise SerkitError(f"{path}: {key} is {part[key]!r}, serkit computes {key} {value!r} alone")
    dim, heads = _number(network, "embed_dim", path), _number(network, "num_heads", path)
    if dim % heads or audio.get("num_alibi_heads", heads) != heads:
        raise SerkitError(
            f"{path}: {heads} heads of embed_dim {dim} and {audio.get('num_alibi_heads', heads)} alibi heads: "
            "expected as many of both, and a multiple of them as embed_dim"
        )
    before, above = _number(audio, "prenet_depth", path), _number(network, "depth", path)
    depth = _number(audio, "conv_pos_depth", path)
    widths, kernels, strides = _convolutions(audio.get("feature_encoder_spec"), path)
    return {
        "model_type": "emotion2vec",
        "hidden_size": dim,
        "num_hidden_layers": before + above,
        "prenet_layers": before,
        "num_attention_heads": heads,
        "intermediate_size": int(dim * float(network.get("mlp_ratio", 4.0))),
        "layer_norm_eps": float(network.get("norm_eps", 1e-5)),
        "conv_dim": widths,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "conv_pos_depth": depth,
        "conv_pos_kernel": max(3, _number(audio, "conv_pos_width", path) // depth),
        "conv_pos_groups": _number(audio, "conv_pos_groups", path),
        "num_extra_tokens": _number(audio, "num_extra_tokens", path, least=0),
    }


def labels(folder: Path) -> tuple[str | None, ...]:
    """Classes of the classifier in their order, in English; ``None`` for one that the publisher does not use.

    A line of ``tokens.txt`` is ``CHINESE/ENGLISH``, ``<unk>`` (here ``unknown``) or ``unuse_N``.

    Raises:
        SerkitError: no ``tokens.txt``, as ``emotion2vec/base`` has none, or one that names a class twice.
    """
    path = folder / TOKENS
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = "is missing: only emotion2vec+ has a classifier" if not path.is_file() else f"is damaged ({error})"
        raise SerkitError(f"{path} {reason}") from None
    found = ["unknown" if line == "<unk>" else line.rpartition("/")[2] for line in lines]
    if len(set(found)) != len(found) or not found:
        raise SerkitError(f"{path}: expected one class a line, each once, got {', '.join(found) or 'none'}")
    return tuple(None if label.startswith(UNUSED) else label for label in found)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SerkitError(f"{path} is not valid YAML: it is no text in UTF-8") from None
    table = parse(text, str(path))
    return table if isinstance(table, dict) else {}


def _part(table: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    part = table.get(key)
    if not isinstance(part, dict):
        raise SerkitError(f"{path} has no {key}; perhaps an incomplete download")
    return part


def _number(table: Mapping[str, Any], key: str, path: Path, least: int = 1) -> int:
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SerkitError(f"{path}: {key} is {value!r}, expected a whole number of {least} or more")
    return value


def _convolutions(spec: Any, path: Path) -> tuple[list[int], list[int], list[int]]:
    """Widths, kernels and strides that a sum of lists in Python's way says; it is read, never evaluated."""
    text = re.sub(r"\s", "", str(spec))
    if not re.fullmatch(rf"{_TERM}(?:\+{_TERM})*", text):
        raise SerkitError(f"{path}: feature_encoder_spec is {spec!r}, expected '[(WIDTH, KERNEL, STRIDE)] * N + ...'")
    rows = [row for *row, times in re.findall(_TERM, text) for _ in range(int(times or 1))]
    widths, kernels, strides = zip(*rows, strict=True)
    return [int(n) for n in widths], [int(n) for n in kernels], [int(n) for n in strides]
