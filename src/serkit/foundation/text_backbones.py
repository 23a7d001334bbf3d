"""Pretrained text models to train on, by name; as :mod:`serkit.foundation.backbones` has it for speech."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit import checkpoints, fetching
from serkit.files import content_hash
from serkit.foundation.backbones import Naming
from serkit.foundation.loading import config_of, quiet, tokenizer_of, transformers_package
from serkit.foundation.text import WITHOUT_POOLER, load_text_model
from serkit.foundation.tokenizing import FAMILIES, OVERLAP, Tokenizer, longest_window
from serkit.foundation.trainable_text import TextBackbone

NAMING = Naming("text_backbone", FAMILIES, ("name", "layers", "dropout"))
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_DROPOUTS_OF_MODERNBERT = ("attention_dropout", "mlp_dropout", "embedding_dropout")


def describe(wanted: str | Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is needed to build a text backbone again, as plain values; brings its files from the hub.

    Args:
        wanted: ``family/checkpoint``, ``hub:ORG/MODEL``, ``path:DIR`` or ``FAMILY/random`` (tiny random weights), or a
            mapping with that as ``name`` and, where wanted, ``layers`` (the first so many transformer layers are kept)
            and ``dropout`` (of all of its dropouts; its own where absent).

    Returns:
        ``name``, ``options``, ``family``, ``source``, ``revision``, ``licence``, ``note``, ``config`` (of
        transformers), ``window`` (tokens that it sees at once), ``prefix`` and ``suffix`` (ids of the markers),
        ``pad``, and ``tokenizer``, the hash of its ``tokenizer.json``.

    Raises:
        MissingExtra: transformers is not installed.
        SerkitError: an unknown name or option, or a model of another family than those of
            :mod:`serkit.foundation.tokenizing`.
    """
    return NAMING.describe(wanted, _described)


def sketch(wanted: str | Mapping[str, Any]) -> dict[str, Any] | None:
    """What :func:`describe` says as far as it is known without a download; see ``backbones.sketch``.

    Raises:
        SerkitError, MissingExtra: as :func:`describe`.
    """
    return NAMING.sketch(wanted, _described)


def _described(found: checkpoints.Resolved, options: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    config = NAMING.config(found, options, folder, "num_hidden_layers", changes)
    if changes.keys() == {"num_hidden_layers"}:
        config.pop("layer_types", None)  # of a ModernBERT, one for each layer that there was
    read, tokenizer = config_of(found.name, folder), tokenizer_of(found.name, folder)
    own = Tokenizer.of(found.name, tokenizer)
    return {
        **NAMING.facts(found, options),
        "config": config,
        "window": longest_window(read, tokenizer),
        "prefix": own.prefix,
        "suffix": own.suffix,
        "pad": int(read.pad_token_id or 0),
        "tokenizer": content_hash(own.content),
    }


def build(described: Mapping[str, Any], *, weights: bool = True) -> TextBackbone:
    """Make the network that :func:`describe` describes, trainable throughout.

    Args:
        weights: load the pretrained ones, and the tokenizer; otherwise it is only the shape, for weights of another
            file.

    Raises:
        MissingExtra: transformers is not installed.
        SerkitError: weights that are no longer there, or do not fit.
    """
    name, options, family = str(described["name"]), described["options"], str(described["family"])
    transformers, kind = transformers_package(name), str(described["config"]["model_type"])
    changes: dict[str, Any] = {}
    if options.get("dropout") is not None:
        dropouts = _DROPOUTS_OF_MODERNBERT if kind == "modernbert" else _DROPOUTS
        changes = dict.fromkeys(dropouts, float(options["dropout"]))
    content = b""
    if weights:
        folder = fetching.fetch(NAMING.resolved(name))
        model = load_text_model(name, folder, kind, **changes)
        content = Tokenizer.of_folder(name, folder).content
    else:
        config = transformers.CONFIG_MAPPING[kind].from_dict({**described["config"], **changes})
        without = {"add_pooling_layer": False} if kind in WITHOUT_POOLER else {}
        with quiet():
            model = transformers.MODEL_MAPPING[type(config)](config, **without)
    layers = model.layers if family == "modernbert" else model.encoder.layer
    if options.get("layers") is not None:
        del layers[int(options["layers"]) :]
    model.requires_grad_(True)
    return TextBackbone(
        model, layers=layers, top=[model.final_norm] if family == "modernbert" else [],
        dim=int(model.config.hidden_size), window=int(described["window"]), overlap=OVERLAP,
        prefix=described["prefix"], suffix=described["suffix"], pad=int(described["pad"]), tokenizer=content,
    )  # fmt: skip
