"""Weights of classes that are their authors' own: every name accounted for, and the backbone by what they show.

Such a checkpoint has the weights of its backbone but not its configuration, which its class takes from another model
of the hub. Sizes are read off the shapes here. What shapes do not show is that of the one backbone that the class
names:

- WavLM large: strides (5, 2, 2, 2, 2, 2, 2), a stable layer normalisation, distances up to 800, gelu; samples that are
  brought to zero mean and unit variance (said by its authors in microsoft/unilm issue 708; its
  ``preprocessor_config.json`` was not read).
- Whisper large-v3: heads of 64 numbers, gelu.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serkit.checkpoint_files import weight_files
from serkit.errors import SerkitError
from serkit.foundation.loading import read_some, safe_folder, transformers_package

_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
_DISTANCE = 800
_WHISPER_HEAD = 64
_OLD = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def read(name: str, folder: Path, used: tuple[str, ...], unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a folder, in float32, whose names begin with ``used``.

    Args:
        name: of the checkpoint, for messages. unused: how names begin that may be there too.

    Raises:
        SerkitError: a name that begins with neither, or files that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    for path in weight_files(safe_folder(name, folder)):
        try:
            with safe_open(path, "pt") as file:
                other = sorted(key for key in file.keys() if not key.startswith((*used, *unused)))  # noqa: SIM118  # no dict
        except (OSError, SafetensorError) as error:
            raise SerkitError(f"'{name}': {folder} cannot be loaded: {' '.join(str(error).split())}") from None
        if other:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise SerkitError(f"'{name}' has an unexpected weight '{other[0]}'{more}")
    found = [read_some(name, folder, part) for part in used]
    return {key: tensor.float() for part in found for key, tensor in part.items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def filled(name: str, module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> nn.Module:
    """A module with these tensors as its own, in evaluation mode.

    Args:
        name: of the checkpoint. module: may be on the device ``meta``. prefix: of the names in the file, for messages.

    Raises:
        SerkitError: a tensor that is missing, unexpected or of another shape.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    for what, keys in (("lacks", shapes.keys() - tensors.keys()), ("has an unexpected", tensors.keys() - shapes)):
        if keys:
            raise SerkitError(f"'{name}' {what} weight '{prefix}{min(keys)}'" + _more(keys))
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            raise SerkitError(
                f"'{name}' has another shape for weight '{prefix}{key}': {tuple(tensors[key].shape)}, expected {shape}"
            )
    module.load_state_dict(dict(tensors), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def with_adapters(
    name: str, tensors: dict[str, Tensor], linear: tuple[str, ...], n_layers: int, rank: int, prefix: str
) -> dict[str, Tensor]:
    """Tensors with their low-rank adapters added: those of ``loralib``, in the upper half of the layers.

    ``loralib.Linear(…, r=rank)`` has the factor ``1 / rank`` and adds ``lora_B @ lora_A`` times it to its weight when
    it goes into evaluation mode. vox-profile gives every layer above ``n_layers // 2`` two of them.

    Args:
        linear: their names in a layer. rank: 0 where there are none. prefix: of the names in the file, for messages.

    Raises:
        SerkitError: a factor that is missing or of another rank.
    """
    found = dict(tensors)
    for layer in range(n_layers // 2 + 1, n_layers if rank else 0):
        for part in linear:
            key = f"encoder.layers.{layer}.{part}"
            try:
                down, up = (found.pop(f"{key}.lora_{kind}") for kind in "AB")
                weight = found[f"{key}.weight"]
            except KeyError as error:
                raise SerkitError(f"'{name}' lacks weight '{prefix}{error.args[0]}', of a rank of {rank}") from None
            if (len(down), up.shape[-1], up.shape[0], down.shape[-1]) != (rank, rank, *weight.shape):
                raise SerkitError(
                    f"'{name}' has another shape for weight '{prefix}{key}.lora_A': {tuple(down.shape)}, expected "
                    f"{(rank, weight.shape[1])}, as lora_rank of its config.json says"
                )
            found[f"{key}.weight"] = weight + (up @ down) * (1.0 / rank)
    return found


def n_layers_of(tensors: Mapping[str, Tensor]) -> int:
    """How many layers an encoder has, by the names of its weights."""
    numbers = {key.split(".")[2] for key in tensors if key.startswith("encoder.layers.")}
    return len(numbers)


def wavlm(name: str, tensors: Mapping[str, Tensor], prefix: str) -> Any:
    """``WavLMModel`` of transformers, of WavLM large's kind, with these tensors.

    Args:
        name: of the checkpoint. tensors: by the names that it has there, or had before torch 2.1. prefix: of the names
            in the file, for messages.

    Raises:
        SerkitError: a weight that is missing, unexpected or of another shape, or a network of another kind.
    """
    own = {}
    for key, tensor in tensors.items():
        start, dot, last = key.rpartition(".")
        own[start + dot + _OLD.get(last, last)] = tensor
    own.pop("masked_spec_embed", None)  # of training

    def shape(key: str) -> tuple[int, ...]:
        if key not in own:
            raise SerkitError(f"'{name}' lacks weight '{prefix}{key}'")
        return tuple(own[key].shape)

    convs = [shape(f"feature_extractor.conv_layers.{k}.conv.weight") for k in range(len(_KERNELS))]
    position = shape("encoder.pos_conv_embed.conv.parametrizations.weight.original1")
    buckets, heads = shape("encoder.layers.0.attention.rel_attn_embed.weight")
    kernels = tuple(conv[-1] for conv in convs)
    if kernels != _KERNELS or "feature_extractor.conv_layers.1.layer_norm.weight" not in own:
        raise SerkitError(
            f"'{name}' is on another network than WavLM large: it has convolutions of {kernels} samples, expected "
            f"{_KERNELS}, and a layer normalisation in each"
        )
    package = transformers_package(name)
    config = package.WavLMConfig(
        hidden_size=position[0], num_hidden_layers=n_layers_of(own), num_attention_heads=heads, num_buckets=buckets,
        intermediate_size=shape("encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        conv_dim=tuple(conv[0] for conv in convs), conv_kernel=_KERNELS, conv_stride=_STRIDES,
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in own, num_conv_pos_embeddings=position[-1],
        num_conv_pos_embedding_groups=position[0] // position[1], max_bucket_distance=_DISTANCE,
        feat_extract_norm="layer", do_stable_layer_norm=True, mask_time_prob=0.0, mask_feature_prob=0.0, layerdrop=0.0,
    )  # fmt: skip
    with torch.device("meta"):
        model = package.WavLMModel(config)
    return filled(name, model, own, prefix)


def whisper_encoder(name: str, tensors: Mapping[str, Tensor], prefix: str) -> Any:
    """Whisper's encoder of transformers with these tensors.

    Raises:
        SerkitError: a weight that is missing, unexpected or of another shape.
    """
    own = under(tensors, "encoder.")
    wanted = ("conv1.weight", "embed_positions.weight", "layers.0.fc1.weight")
    absent = [key for key in wanted if key not in own]
    if absent:
        raise SerkitError(f"'{name}' lacks weight '{prefix}encoder.{absent[0]}'")
    (dim, bands, _), (positions, _), (wide, _) = (own[key].shape for key in wanted)
    package = transformers_package(name)
    config = package.WhisperConfig(
        d_model=dim, num_mel_bins=bands, max_source_positions=positions, encoder_layers=n_layers_of(tensors),
        encoder_attention_heads=max(1, dim // _WHISPER_HEAD), encoder_ffn_dim=wide, encoder_layerdrop=0.0,
    )  # fmt: skip
    with torch.device("meta"):
        model = package.models.whisper.modeling_whisper.WhisperEncoder(config)
    return filled(name, model, own, f"{prefix}encoder.")


def mlp(name: str, tensors: Mapping[str, Tensor], prefix: str, sizes: tuple[int, int, int]) -> nn.Sequential:
    """Two linear layers with ReLU between them, of the names ``0`` and ``2`` under ``prefix``.

    Raises:
        SerkitError: a weight that is missing or of another shape.
    """
    inside, hidden, out = sizes
    layers = nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, out))
    filled(name, layers, under(tensors, prefix), prefix)
    return layers


def _more(keys: Iterable[str]) -> str:
    n = len(set(keys)) - 1
    return f" and {n} more" if n else ""
