"""A network as a folder: what it is (``config.json``) and its weights (``model.safetensors``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from serkit import registry
from serkit.errors import SerkitError, in_one_line
from serkit.files import content_hash, fingerprint, write_bytes, write_json
from serkit.layer_weights import WeightedLayers
from serkit.settings import BACKBONES
from serkit.text_rows import json_object

FORMAT, WITH_TEXT = 1, 2
TOKENIZER = "tokenizer.json"  # of a network that is built on a text model


@dataclass(frozen=True)
class NetworkConfig:
    """All it takes to build a network again, apart from its weights.

    Attributes:
        system: name of the system in its recipe. model: its name and parameters.
        dims: width of each feature, by key, in the network's order.
        features: by key, name and parameters of the encoder and the fingerprint of what it gave.
        labels: class order of the logits.
        seed: of weights, draws and dropout.
        train: the training settings, for the record.
        backbone: of a model that is built on a pretrained network, what that is
            (:func:`serkit.foundation.backbones.describe`); ``None`` for every other, or where it is not known yet.
        text_backbone: the same of a pretrained text model (:func:`serkit.foundation.text_backbones.describe`).
    """

    system: str
    model: Mapping[str, Any]
    dims: Mapping[str, int]
    features: Mapping[str, Mapping[str, Any]]
    labels: tuple[str, ...]
    seed: int
    train: Mapping[str, Any]
    backbone: Mapping[str, Any] | None = None
    text_backbone: Mapping[str, Any] | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes the numbers."""
        return fingerprint(_row(self))


def with_backbone(config: NetworkConfig) -> NetworkConfig:
    """The config with its pretrained networks described, where its model is built on some.

    Raises:
        SerkitError: an unknown backbone, one that cannot be fetched, or tokens that its text model does not know.
    """
    absent = [key for key in BACKBONES if config.model.get(key) is not None and getattr(config, key) is None]
    if not absent:
        return config
    from serkit.foundation.kinds import KINDS

    found = replace(config, **{key: KINDS[key].describe(config.model[key]) for key in absent})
    if found.text_backbone is not None:
        here = found.text_backbone["revision"]
        for feature in found.features.values():
            known = feature["spec"]["revision"] if str(feature["name"]).startswith("tokens/") else here
            if known != here:
                raise SerkitError(
                    f"{feature['name']} are of revision {known}, and the text model is {here} by now: run extract again"
                )
    return found


def build_network(config: NetworkConfig, *, pretrained: bool = True) -> nn.Module:
    """Make the network with fresh weights, on its pretrained backbone where it has one; the caller seeds torch.

    Where a feature is a stack of layers, weights of those layers stand before the network, unless its
    ``layer_weights`` is ``none``.

    Args:
        pretrained: load the backbone's weights; otherwise it is only the shape of the trained network.

    Raises:
        SerkitError: an unknown model or backbone, or a parameter out of range.
    """
    make = registry.find("models", config.model["name"])
    parameters = {k: v for k, v in config.model.items() if k != "name"}
    config = with_backbone(config)
    described = {key: found for key in BACKBONES if (found := getattr(config, key)) is not None}
    if described:
        from serkit.foundation.kinds import KINDS

        parameters |= {key: KINDS[key].build(found, weights=pretrained) for key, found in described.items()}
        if not pretrained:  # the adapters are in the weights
            parameters |= {key: "full" for key in ("tuning", "text_tuning") if parameters.get(key) == "lora"}
    dims, stacks = dict(config.dims), _stacks(config)
    kind = parameters.pop("layer_weights", "softmax") if stacks else "none"
    if kind == "none":
        network: nn.Module = make(dims=dims, n_classes=len(config.labels), **parameters)
        return network
    each = {name: dim // stacks.get(name, 1) for name, dim in dims.items()}
    network = make(dims=each, n_classes=len(config.labels), **parameters)
    return WeightedLayers(network, dims, stacks, kind)


def _stacks(config: NetworkConfig) -> dict[str, int]:
    """Number of layers by feature, of the features that hold every layer of their model."""
    specs = {name: feature.get("spec", {}) for name, feature in config.features.items()}
    return {name: int(s["params"]["n_layers"]) for name, s in specs.items() if s.get("layer") == "all"}


def save_network(network: nn.Module, config: NetworkConfig, folder: Path) -> None:
    """Write ``config.json`` and, last, ``model.safetensors``: where that stands, the network is whole.

    The tokenizer of one that is built on a text model stands beside them as ``tokenizer.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = with_backbone(config)
    row = {"format": FORMAT if config.text_backbone is None else WITH_TEXT, **_row(config)}
    write_json(folder / "config.json", row)
    if config.text_backbone is not None:
        write_bytes(folder / TOKENIZER, _of_text(network).tokenizer)
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state))


def load_network(folder: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, NetworkConfig]:
    """Read what :func:`save_network` wrote, in eval mode; every weight name must be there and known.

    Raises:
        SerkitError: a missing file, another format, or weights that do not fit the config.
    """
    config = load_config(folder)
    try:
        network = build_network(config, pretrained=False)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
        raise SerkitError(f"{folder}/config.json describes no network: {in_one_line(error)}") from error
    try:
        state = load_file(folder / "model.safetensors")
        network.load_state_dict(state, strict=True)
    except FileNotFoundError:
        raise SerkitError(f"no trained network in {folder}: model.safetensors is missing") from None
    except SafetensorError as error:
        raise SerkitError(
            f"{folder}/model.safetensors is damaged: {error}; delete {folder} and train again (serkit train RUN)"
        ) from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SerkitError(f"{folder}/model.safetensors does not fit its config.json: {reason[:300]}") from None
    if config.text_backbone is not None:
        _of_text(network).tokenizer = tokenizer_of(folder, config)
    return network.eval().to(device), config


def tokenizer_of(folder: Path, config: NetworkConfig) -> bytes:
    """The ``tokenizer.json`` of a network that is built on a text model.

    Raises:
        SerkitError: it is missing, or another than the one that the network was trained with.
    """
    path = folder / TOKENIZER
    content = path.read_bytes() if path.is_file() else b""
    if config.text_backbone is None or content_hash(content) != config.text_backbone["tokenizer"]:
        what = "missing" if not content else "not the one that the network was trained with"
        raise SerkitError(f"{path} is {what}; delete {folder} and train again (serkit train RUN)")
    return content


def _of_text(network: nn.Module) -> Any:
    """The text model in a network, or the one behind weighted layers."""
    inner = network.network if isinstance(network, WeightedLayers) else network
    return inner.text_backbone


def is_whole(folder: Path, config: NetworkConfig) -> bool:
    """Whether the network that ``config`` describes lies in ``folder``, trained."""
    try:
        return (folder / "model.safetensors").is_file() and load_config(folder).fingerprint == config.fingerprint
    except SerkitError:
        return False


def load_config(folder: Path) -> NetworkConfig:
    """Read ``config.json`` alone.

    Raises:
        SerkitError: it is missing, damaged, or of a later format.
    """
    if not (folder / "config.json").is_file():
        raise SerkitError(f"no trained network in {folder}: config.json is missing")
    row = json_object(folder / "config.json")
    try:
        if row.pop("format") > WITH_TEXT:
            raise SerkitError(f"{folder}/config.json was written by a later serkit; upgrade to read it")
        row["labels"] = tuple(row["labels"])
        return NetworkConfig(**row)
    except (KeyError, TypeError) as error:
        raise SerkitError(f"{folder}/config.json is damaged: {error}") from None


def _row(config: NetworkConfig) -> dict[str, Any]:
    """The fields as plain values; a network without a backbone says nothing of one."""
    row = asdict(config)
    for key in BACKBONES:
        if row[key] is None:
            row.pop(key)
    return row
