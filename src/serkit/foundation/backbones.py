"""Pretrained speech networks to train on: samples in, frames out, and no trace of the padding.

A backbone is described by plain values (:func:`describe`), which go into a network's ``config.json``; from them the
same network is made again without the hub (:func:`build` with ``weights=False``), its weights coming from
that network's own file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from serkit import checkpoints
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean
from serkit.foundation.loading import load_model, peft_package, quiet, transformers_package
from serkit.foundation.speech import CLASSES, HEADS, isolate_clips, receptive_field
from serkit.foundation.tiny import tiny_folder

OPTIONS = ("name", "layers", "dropout", "layer_drop")
_QUIET_VARIANCE = 1e-7  # of Wav2Vec2FeatureExtractor


def describe(wanted: str | Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is needed to build a backbone again, as plain values; brings its files from the hub.

    Args:
        wanted: ``family/checkpoint``, ``hub:ORG/MODEL``, ``path:DIR`` or ``FAMILY/random`` (tiny random weights), or a
            mapping with that as ``name`` and, where wanted, ``layers`` (the first so many transformer layers
            are kept), ``dropout`` (of all of its dropouts; its own where absent) and ``layer_drop`` (0).

    Returns:
        ``name``, ``options``, ``family``, ``source``, ``revision``, ``licence``, ``note``, ``config`` (of
        transformers) and ``normalise`` (whether it was trained on clips of zero mean and unit variance).

    Raises:
        SerkitError: an unknown name or option, or a model that is no wav2vec 2.0-shaped speech network.
    """
    name, options = _name_and_options(wanted)
    found = _resolved(name)
    return _described(found, options, checkpoints.fetch(found))


def sketch(wanted: str | Mapping[str, Any]) -> dict[str, Any] | None:
    """What :func:`describe` says as far as it is known without a download, to build the shape of a network.

    Where the files are not here, it is the tiny network of the family with as many layers as the published one has;
    ``None`` for ``hub:ORG/MODEL`` where nothing of it is in the hub's cache.

    Raises:
        SerkitError: as :func:`describe`. MissingExtra: a package that reads or makes the files is not installed.
    """
    name, options = _name_and_options(wanted)
    known = checkpoints.resolve_here(name) if name.startswith("hub:") else None
    if name.startswith("hub:") and known is None:
        return None
    found = _resolved(name, known)
    folder = checkpoints.here(found)
    if folder is not None:
        return _described(found, options, folder)
    changes = found.config or {"num_hidden_layers": found.layers}
    return _described(found, options, tiny_folder(found.family), **changes)


def _name_and_options(wanted: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    for key in options:
        if key not in OPTIONS:
            raise SerkitError(f"backbone: no option '{key}'" + did_you_mean(key, OPTIONS))
    return str(options.pop("name", "")), options


def _resolved(name: str, known: checkpoints.Resolved | None = None) -> checkpoints.Resolved:
    family = known.family if known is not None else checkpoints.family_of(name)
    if family not in CLASSES:
        raise SerkitError(f"backbone '{name}' is of the family '{family}', expected one of {', '.join(CLASSES)}")
    source = tiny_folder(family) if name == f"{family}/random" else None
    return known or checkpoints.resolve(name, source, family=family)


def _described(found: checkpoints.Resolved, options: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    """The description from the small files of a folder, with changes to its configuration."""
    name = found.name
    config = {**json.loads((folder / "config.json").read_text(encoding="utf-8")), **changes}
    front = folder / "preprocessor_config.json"
    settings = json.loads(front.read_text(encoding="utf-8")) if front.is_file() else {}
    rate = settings.get("sampling_rate", SAMPLE_RATE_HZ)
    if rate != SAMPLE_RATE_HZ:
        raise SerkitError(f"backbone '{name}': trained at {rate} Hz, expected {SAMPLE_RATE_HZ}")
    layers = options.get("layers")
    if layers is not None and not 1 <= int(layers) <= int(config["num_hidden_layers"]):
        raise SerkitError(f"backbone '{name}': layers {layers}, expected 1 to {config['num_hidden_layers']}")
    return {
        "name": name,
        "options": options,
        "family": found.family,
        "source": found.source,
        "revision": found.revision,
        "licence": found.licence,
        "note": found.note,
        "config": config,
        "normalise": bool(settings.get("do_normalize", True)),
    }


def build(described: Mapping[str, Any], *, weights: bool = True) -> Backbone:
    """Make the network that :func:`describe` describes, trainable throughout.

    Args:
        weights: load the pretrained ones; otherwise it is only the shape, for weights of another file.

    Raises:
        MissingExtra: transformers is not installed.
        SerkitError: weights that are no longer there, or do not fit.
    """
    name, options = str(described["name"]), described["options"]
    transformers = transformers_package(name)
    made = getattr(transformers, CLASSES[described["family"]])
    changes: dict[str, Any] = {
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }  # they draw outside of torch's generator
    changes["layerdrop"] = float(options.get("layer_drop", 0.0))
    if options.get("dropout") is not None:
        keys = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
        changes |= dict.fromkeys(keys, float(options["dropout"]))
    if weights:
        family = described["family"]
        source = tiny_folder(family) if name == f"{family}/random" else None
        folder = checkpoints.fetch(checkpoints.resolve(name, source, family=family))
        model = load_model(name, made, folder, ignored=(*HEADS, "masked_spec_embed"), **changes)
    else:
        with quiet():
            model = made(made.config_class.from_dict({**described["config"], **changes}))
    if options.get("layers") is not None:
        del model.encoder.layers[int(options["layers"]) :]
    return Backbone(model.requires_grad_(True), normalise=bool(described["normalise"]))


class Backbone(nn.Module):
    """A wav2vec 2.0-shaped network of transformers on padded batches, in which a clip's frames are its own.

    What is masked, and why, is told in :mod:`serkit.foundation.speech`; the frames of a clip are those that the
    encoder of the same name extracts, in evaluation mode.

    Args:
        model: of transformers. normalise: bring each clip to zero mean and unit variance, as its front end does.
        raw_end: of all states, give the last layer's own output in place of the model's, which in networks with a
            stable layer normalisation is that output normalised.

    Attributes:
        dim: width of a frame. window, hop: samples that a frame spans, and between frames.
        front: the convolutions. layers: the transformer layers, first to last.
    """

    def __init__(self, model: Any, *, normalise: bool, raw_end: bool = False) -> None:
        super().__init__()
        config = model.config
        self.model, self.normalise, self.raw_end = model, normalise, raw_end
        self.dim = int(config.hidden_size)
        self.window, self.hop = receptive_field(config.conv_kernel, config.conv_stride)
        self._kernels, self._strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self._norm = isolate_clips(model)

    @property
    def front(self) -> nn.Module:
        """The convolutions that read samples."""
        return cast(nn.Module, self.model.feature_extractor)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Transformer layers, first to last."""
        return list(self.model.encoder.layers)

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of some clips.

        Args:
            samples: (batch, time) float, anything in the padding. lengths: (batch,) int64, at least 1.

        Returns:
            (batch, frames, dim) and (batch,) int64 numbers of real frames.
        """
        states, n_frames = self.states(samples, lengths, every=False)
        return states[0], n_frames

    def states(self, samples: Tensor, lengths: Tensor, *, every: bool = True) -> tuple[list[Tensor], Tensor]:
        """Hidden states of some clips: what enters the first layer, then what each layer gives.

        The last one is the model's own output, after its final normalisation, as in features with ``layer: all``;
        or before it, where ``raw_end`` says so.

        Args:
            samples: (batch, time) float, anything in the padding. lengths: (batch,) int64, at least 1.
            every: or else the last one alone.

        Returns:
            (batch, frames, dim) each, and (batch,) int64 numbers of real frames.
        """
        lengths = lengths.clamp(min=self.window)
        short = self.window - samples.shape[1]
        samples = nn.functional.pad(samples, (0, short)) if short > 0 else samples
        real = torch.arange(samples.shape[1], device=samples.device)[None, :] < lengths[:, None]
        samples = samples.float().masked_fill(~real, 0.0)
        if self.normalise:
            n = lengths[:, None].float()
            away = (samples - samples.sum(dim=1, keepdim=True) / n).masked_fill(~real, 0.0)
            samples = away * torch.rsqrt((away**2).sum(dim=1, keepdim=True) / n + _QUIET_VARIANCE)
        if self._norm is not None:
            self._norm.lengths = (lengths - self._kernels[0]) // self._strides[0] + 1
        mask = None if bool(real.all()) else real.long()
        found = self.model(samples, attention_mask=mask, output_hidden_states=every)
        below = list(found.hidden_states[:-1]) if every else []
        last = found.hidden_states[-1] if every and self.raw_end else found.last_hidden_state
        return [*below, last], (lengths - self.window) // self.hop + 1

    def freeze_front(self) -> None:
        """Train the convolutions no further, and keep no graph of them."""
        self.front._freeze_parameters()  # type: ignore[operator]  # of transformers, in every family

    def checkpoint_activations(self) -> None:
        """Keep no activations of the transformer layers, and compute them again in the backward pass."""
        enable = getattr(self.model, "activation_checkpointing_enable", None)  # its name since transformers 5
        enable = enable or self.model.gradient_checkpointing_enable
        enable({"use_reentrant": False})


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
        if target not in linear:
            raise SerkitError(f"lora: the backbone has no linear layer '{target}'" + did_you_mean(target, linear))
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    peft.inject_adapter_in_model(settings, backbone)


def merge_adapters(backbone: nn.Module) -> None:
    """Add what adapters have learned to the weights they stand on, and take the adapters away, in place."""
    for name, module in list(backbone.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            module.merge()  # a LoraLayer of peft, which need not be installed
            above, _, leaf = name.rpartition(".")
            setattr(backbone.get_submodule(above), leaf, module.get_base_layer())
