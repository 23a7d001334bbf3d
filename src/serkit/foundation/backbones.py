"""Pretrained speech networks to train on, by name.

A backbone is described by plain values (:func:`describe`), which go into a network's ``config.json``; from them the
same network is made again without the hub (:func:`build` with ``weights=False``), its weights coming from
that network's own file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from serkit import checkpoints, fetching
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known
from serkit.foundation.loading import load_model, peft_package, quiet, transformers_package
from serkit.foundation.speech import CLASSES, HEADS, MASK
from serkit.foundation.tiny import tiny_folder
from serkit.foundation.trainable import Backbone, WaveBackbone, WhisperBackbone
from serkit.foundation.whisper import IGNORED, PREFIXES, check_front_end, mel_filters, window_frames

WHISPER = "whisper"
FAMILIES = (*CLASSES, WHISPER)


@dataclass(frozen=True)
class Naming:
    """How a kind of backbone is named in a recipe.

    Attributes:
        key: what the recipe calls it, for messages. families: that it may be of. options: its keys.
    """

    key: str
    families: tuple[str, ...]
    options: tuple[str, ...]

    def name_and_options(self, wanted: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """What a recipe says, taken apart.

        Raises:
            SerkitError: an unknown option.
        """
        options = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
        for key in options:
            check_known(key, self.options, f"{self.key}: no option '{key}'")
        return str(options.pop("name", "")), options

    def resolved(self, name: str, known: checkpoints.Resolved | None = None) -> checkpoints.Resolved:
        """Where the weights come from.

        Raises:
            SerkitError: an unknown name, or a model of another family.
        """
        family = known.family if known is not None else checkpoints.family_of(name)
        if family not in self.families:
            expected = ", ".join(self.families)
            raise SerkitError(f"{self.key} '{name}' is of the family '{family}', expected one of {expected}")
        source = tiny_folder(family) if name == f"{family}/random" else None
        return known or checkpoints.resolve(name, source, family=family)

    def describe(self, wanted: str | Mapping[str, Any], described: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """What ``described(found, options, folder)`` says of its files, which are brought from the hub."""
        name, options = self.name_and_options(wanted)
        found = self.resolved(name)
        return described(found, options, fetching.fetch(found))

    def sketch(
        self, wanted: str | Mapping[str, Any], described: Callable[..., dict[str, Any]]
    ) -> dict[str, Any] | None:
        """What ``described(found, options, folder, **changes)`` says of files that are here, or else of tiny ones."""
        name, options = self.name_and_options(wanted)
        known = checkpoints.resolve_here(name) if name.startswith("hub:") else None
        if name.startswith("hub:") and known is None:
            return None
        found = self.resolved(name, known)
        folder = fetching.here(found)
        if folder is not None:
            return described(found, options, folder)
        depth = "encoder_layers" if found.family == WHISPER else "num_hidden_layers"
        changes = found.config or {depth: found.layers}
        return described(found, options, tiny_folder(found.family), **changes)

    def config(
        self, found: checkpoints.Resolved, options: Mapping[str, Any], folder: Path, depth: str, changes: dict[str, Any]
    ) -> dict[str, Any]:
        """The configuration in a folder, with changes; the options that several kinds have are checked by it.

        Raises:
            SerkitError: more layers than ``depth`` in it says, or a share out of range.
        """
        config = {**json.loads((folder / "config.json").read_text(encoding="utf-8")), **changes}
        what, layers = f"{self.key} '{found.name}'", options.get("layers")
        if layers is not None and (type(layers) is not int or not 1 <= layers <= int(config[depth])):
            raise SerkitError(f"{what}: layers {layers}, expected 1 to {int(config[depth])}")
        for key in ("dropout", "layer_drop"):
            share = options.get(key, 0.0)
            if share is not None and (type(share) not in (int, float) or not 0 <= share < 1):
                raise SerkitError(f"{what}: {key} {share}, expected a number from 0 up to 1")
        return config

    def facts(self, found: checkpoints.Resolved, options: dict[str, Any]) -> dict[str, Any]:
        """What every description says of where a backbone comes from."""
        return {
            "name": found.name,
            "options": options,
            "family": found.family,
            "source": found.source,
            "revision": found.revision,
            "licence": found.licence,
            "note": found.note,
        }


NAMING = Naming("backbone", FAMILIES, ("name", "layers", "dropout", "layer_drop", "window"))


def describe(wanted: str | Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is needed to build a backbone again, as plain values; brings its files from the hub.

    Args:
        wanted: ``family/checkpoint``, ``hub:ORG/MODEL``, ``path:DIR`` or ``FAMILY/random`` (tiny random weights), or a
            mapping with that as ``name`` and, where wanted, ``layers`` (the first so many transformer layers
            are kept), ``dropout`` (of all of its dropouts; its own where absent), ``layer_drop`` (0) and, of Whisper,
            ``window`` (``clip``, or seconds that clips are padded to, such as ``30s``; see :class:`WhisperBackbone`).

    Returns:
        ``name``, ``options``, ``family``, ``source``, ``revision``, ``licence``, ``note``, ``config`` (of
        transformers) and ``normalise`` (whether it was trained on clips of zero mean and unit variance).

    Raises:
        SerkitError: an unknown name or option, or a model of another family than :data:`FAMILIES`.
    """
    return NAMING.describe(wanted, _described)


def sketch(wanted: str | Mapping[str, Any]) -> dict[str, Any] | None:
    """What :func:`describe` says as far as it is known without a download, to build the shape of a network.

    Where the files are not here, it is the tiny network of the family with as many layers as the published one has;
    ``None`` for ``hub:ORG/MODEL`` where nothing of it is in the hub's cache.

    Raises:
        SerkitError: as :func:`describe`. MissingExtra: a package that reads or makes the files is not installed.
    """
    return NAMING.sketch(wanted, _described)


def _described(found: checkpoints.Resolved, options: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    """The description from the small files of a folder, with changes to its configuration."""
    name, whisper = found.name, found.family == WHISPER
    front = folder / "preprocessor_config.json"
    settings = json.loads(front.read_text(encoding="utf-8")) if front.is_file() else {}
    what = f"backbone '{name}'"
    config = NAMING.config(found, options, folder, "encoder_layers" if whisper else "num_hidden_layers", changes)
    if whisper:
        check_front_end(what, settings, int(config.get("num_mel_bins", 80)))
        window_frames(what, options.get("window", "clip"), int(config.get("max_source_positions", 1500)))
    elif settings.get("sampling_rate", SAMPLE_RATE_HZ) != SAMPLE_RATE_HZ:
        raise SerkitError(f"{what}: trained at {settings['sampling_rate']} Hz, expected {SAMPLE_RATE_HZ}")
    elif "window" in options:
        raise SerkitError(f"{what}: window '{options['window']}' has no effect on a {found.family}, only on a Whisper")
    normalise = bool(settings.get("do_normalize", not whisper))
    return {**NAMING.facts(found, options), "config": config, "normalise": normalise}


def build(described: Mapping[str, Any], *, weights: bool = True) -> Backbone:
    """Make the network that :func:`describe` describes, trainable throughout.

    Args:
        weights: load the pretrained ones; otherwise it is only the shape, for weights of another file.

    Raises:
        MissingExtra: transformers is not installed.
        SerkitError: weights that are no longer there, or do not fit.
    """
    name, options, family = str(described["name"]), described["options"], str(described["family"])
    transformers, whisper = transformers_package(name), family == WHISPER
    source = transformers.models.whisper.modeling_whisper if whisper else transformers
    made = getattr(source, "WhisperEncoder" if whisper else CLASSES[family])
    changes = _changes(options, whisper)
    if weights:
        tiny = tiny_folder(family) if name == f"{family}/random" else None
        folder = fetching.fetch(checkpoints.resolve(name, tiny, family=family))
        names: dict[str, Any] = {"ignored": (*HEADS, *MASK)}
        if whisper:
            names = {"ignored": IGNORED, "key_mapping": PREFIXES}
        model = load_model(name, made, folder, **names, **changes)
    else:
        with quiet():
            model = made(made.config_class.from_dict({**described["config"], **changes}))
    if options.get("layers") is not None:
        del (model.layers if whisper else model.encoder.layers)[int(options["layers"]) :]
    model.requires_grad_(True)
    normalise = bool(described["normalise"])
    if not whisper:
        return WaveBackbone(model, normalise=normalise)
    filters = mel_filters(name, int(model.config.num_mel_bins))
    frames = window_frames(f"backbone '{name}'", options.get("window", "clip"), int(model.config.max_source_positions))
    return WhisperBackbone(model, normalise=normalise, filters=filters, frames=frames)


def _changes(options: Mapping[str, Any], whisper: bool) -> dict[str, Any]:
    """What the options change in a configuration of transformers."""
    dropouts = ["attention_dropout", "activation_dropout"]
    if whisper:
        dropouts += ["dropout"]
        changes: dict[str, Any] = {"encoder_layerdrop": float(options.get("layer_drop") or 0.0)}
    else:
        dropouts += ["hidden_dropout", "feat_proj_dropout"]
        changes = {"layerdrop": float(options.get("layer_drop") or 0.0)}
        changes |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # they draw outside of torch's generator
    if options.get("dropout") is not None:
        changes |= dict.fromkeys(dropouts, float(options["dropout"]))
    return changes


def add_adapters(backbone: nn.Module, *, rank: int, alpha: int, dropout: float, targets: Sequence[str]) -> None:
    """Put low-rank adapters (LoRA, Hu et al. 2021) on linear layers, in place; only they can be trained then.

    Args:
        targets: names of linear layers, such as ``q_proj``.

    Raises:
        MissingExtra: peft is not installed. SerkitError: no layer has such a name.
    """
    peft = peft_package()
    linear = {n.rpartition(".")[2] for n, m in backbone.named_modules() if isinstance(m, nn.Linear)}
    for target in targets:
        check_known(target, linear, f"lora: the backbone has no linear layer '{target}'")
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    peft.inject_adapter_in_model(settings, backbone)


def merge_adapters(backbone: nn.Module) -> None:
    """Add what adapters have learned to the weights they stand on, and take the adapters away, in place."""
    for name, module in list(backbone.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            module.merge()  # a LoraLayer of peft, which need not be installed
            above, _, leaf = name.rpartition(".")
            setattr(backbone.get_submodule(above), leaf, module.get_base_layer())
