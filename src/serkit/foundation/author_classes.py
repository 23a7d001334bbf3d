"""Published classifiers whose class is their authors' own: what their ``config.json`` says.

Two families are read. No code of theirs is run; what their networks compute is told in :mod:`serkit.foundation.odyssey`
and :mod:`serkit.foundation.vox_profile`.

- ``odyssey``: ``SERModel`` of the hub's ``3loi/SER-Odyssey-Baseline-WavLM-…``, the baseline of the Odyssey 2024
  challenge. Its labels, and the mean and deviation of the samples that it was trained on, are in its configuration.
- ``vox_profile``: ``WavLMWrapper`` and ``WhisperWrapper`` of tiantiaf0627/vox-profile-release (SAILER, arXiv
  2505.22133). ``PyTorchModelHubMixin`` wrote the arguments of the class and nothing else: no ``model_type`` and no
  labels, which are those of the repository's examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from serkit import checkpoints
from serkit.checkpoint_files import read_json, weights_hash
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.hub import hub_package
from serkit.types import ATTRIBUTES

Family = Literal["odyssey", "vox_profile"]
SER_MODEL = "SERModel"
WRAPPERS: Mapping[str, str] = {"wavlm_large": "WavLMWrapper", "whisper_large": "WhisperWrapper"}
"""Classes of vox-profile by their argument ``pretrain_model``."""
CLASSES: Mapping[str, str] = {SER_MODEL: "odyssey", **dict.fromkeys(WRAPPERS.values(), "vox_profile")}
"""Classes that are read, and their families."""
EMOTIONS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other")
"""Of vox-profile, in the order of its examples (``src/example/categorized_emotion_*.py``)."""
_BACKBONE = "microsoft/wavlm-large"
_ARGUMENTS: Mapping[str, Any] = {
    "pretrain_model": "wavlm_large", "hidden_dim": 256, "finetune_method": "lora", "lora_rank": 16,
    "freeze_params": True, "output_class_num": 4, "use_conv_output": True, "detailed_class_num": 17,
}  # fmt: skip  # of both classes of vox-profile for emotions, with their defaults
_LEAST_STD = 1e-5


@dataclass(frozen=True)
class OdysseyConfig:
    """What decides the numbers of a ``SERModel``.

    Attributes:
        mean, std: of samples. n_hidden: layers of the classifier below its last. n_classes: of that one.
        dim, n_layers: of WavLM, where the file says so. Its ``num_attention_heads`` decides nothing: WavLM is built by
            its own file.
    """

    mean: float
    std: float
    n_hidden: int
    n_classes: int
    dim: int | None
    n_layers: int | None


@dataclass(frozen=True)
class VoxConfig:
    """What decides the numbers of a class of vox-profile; names as in the package's own arguments.

    Attributes:
        architecture: the class. hidden_dim: width of a frame above the backbone. lora_rank: 0 without LoRA.
        n_classes: emotions. use_conv_output: whether what enters WavLM's first layer is part of the sum.
        named: whether the file names the labels, which the class itself never writes.
    """

    architecture: str
    hidden_dim: int
    lora_rank: int
    n_classes: int
    use_conv_output: bool
    named: bool = False


def resolve(name: str) -> checkpoints.Resolved:
    """As :func:`serkit.checkpoints.resolve`, and of these classes with their family, which no encoder reads.

    Raises:
        SerkitError: as there.
    """
    try:
        found = checkpoints.resolve(name)
    except SerkitError:
        other = _other(name)
        if other is None:
            raise
        return other
    family = family_of(found.config)
    return replace(found, family=family) if family else found


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family that a configuration is of, if any."""
    if config.get("architectures") == [SER_MODEL] or config.get("model_type") == "ser":
        return "odyssey"
    plain = "model_type" not in config and "architectures" not in config
    return "vox_profile" if plain and {"pretrain_model", "output_class_num"} <= config.keys() else None


def architecture(name: str, config: Mapping[str, Any]) -> str:
    """The class of a configuration of either family.

    Raises:
        SerkitError: a variant that is not read.
    """
    return SER_MODEL if family_of(config) == "odyssey" else vox_config(name, config).architecture


def named(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with an ``id2label``: its own, or that of the examples, or ``LABEL_0`` and so on.

    Raises:
        SerkitError: a variant that is not read, or a model of ratings.
    """
    if family_of(config) == "odyssey":
        labels = config.get("id2label")
        if isinstance(labels, Mapping):
            _refuse_ratings(name, [str(label) for label in labels.values()])
            return dict(config)
        return {**config, "id2label": {k: f"LABEL_{k}" for k in range(_whole(name, config, "num_classes", 1))}}
    n = vox_config(name, config).n_classes
    if config.get("id2label") is not None:  # not of the class: whoever wrote them says what the outputs are
        return dict(config)
    words = EMOTIONS if n == len(EMOTIONS) else [f"LABEL_{k}" for k in range(n)]
    return {**config, "id2label": dict(enumerate(words))}


def odyssey_config(name: str, config: Mapping[str, Any]) -> OdysseyConfig:
    """What a configuration of ``SERModel`` says.

    Raises:
        SerkitError: something that is missing, or another backbone or sampling rate.
    """
    for key, wanted in {"ssl_type": _BACKBONE, "sampling_rate": SAMPLE_RATE_HZ}.items():
        if config.get(key, wanted) != wanted:
            raise SerkitError(f"'{name}': {key} of its config.json is {config[key]}, expected {wanted}")
    mean, std = (config.get(key) for key in ("mean", "std"))
    good = all(isinstance(x, (int, float)) and math.isfinite(x) for x in (mean, std))
    if not good or cast(float, std) < _LEAST_STD:
        raise SerkitError(
            f"'{name}': its config.json has mean {mean} and std {std}, expected those of the samples that "
            f"it was trained on: numbers, std at least {_LEAST_STD:g}"
        )
    labels = config.get("id2label")
    n_labels = len(labels) if isinstance(labels, Mapping) else None
    n_classes = _whole(name, {"num_classes": n_labels, **config}, "num_classes", 1)
    if n_labels not in (None, n_classes):
        raise SerkitError(f"'{name}': its config.json names {n_labels} labels and says num_classes {n_classes}")
    sizes = [config.get(key) for key in ("hidden_size", "num_hidden_layers")]
    return OdysseyConfig(
        float(cast(float, mean)), float(cast(float, std)), _whole(name, config, "classifier_hidden_layers", 1),
        n_classes, *(size if isinstance(size, int) else None for size in sizes),
    )  # fmt: skip


def vox_config(name: str, config: Mapping[str, Any]) -> VoxConfig:
    """What a configuration of vox-profile says; an argument that it does not name has the default of the class.

    Raises:
        SerkitError: a model of something else than emotions, another backbone, or another way of training.
    """
    if "predict_gender" in config:
        raise SerkitError(
            f"'{name}' gives arousal, valence and dominance as numbers, and no labels (predict_gender is an argument "
            "of vox-profile's class for these); import reads classifiers"
        )
    more = sorted(config.keys() - _ARGUMENTS.keys() - {"id2label"})
    if more:
        raise SerkitError(
            f"'{name}': its config.json has {', '.join(more)}, which vox-profile's classifiers of emotions do not "
            "have: it is a model of something else, or a changed one"
        )
    given = {**_ARGUMENTS, **config}
    found, method = str(given["pretrain_model"]), given["finetune_method"]
    if found not in WRAPPERS:
        raise SerkitError(f"'{name}' is a vox-profile model on '{found}', expected {' or '.join(WRAPPERS)}")
    if method not in ("lora", "finetune"):
        raise SerkitError(f"'{name}': finetune_method of its config.json is '{method}', expected lora or finetune")
    if not isinstance(given["use_conv_output"], bool):
        raise SerkitError(f"'{name}': use_conv_output of its config.json is {given['use_conv_output']}, expected true")
    rank = _whole(name, given, "lora_rank", 1) if method == "lora" else 0
    width, n_classes = (_whole(name, given, key, 1) for key in ("hidden_dim", "output_class_num"))
    labels = config.get("id2label")
    if isinstance(labels, Mapping) and len(labels) != n_classes:
        raise SerkitError(f"'{name}': its config.json names {len(labels)} labels and says output_class_num {n_classes}")
    return VoxConfig(WRAPPERS[found], width, rank, n_classes, given["use_conv_output"], labels is not None)


def _other(name: str) -> checkpoints.Resolved | None:
    """A checkpoint of these classes that no encoder is made of; ``None`` where it is none, or nothing of it is here."""
    hub_id = name.removeprefix("hub:") if name.startswith("hub:") else None
    given = checkpoints.replaced_sources().get(name)
    if given is None and name.startswith("path:"):
        given = Path(name.removeprefix("path:"))
    revision = checkpoints.locked().get(name, "main")
    at: Any = None
    if given is not None:
        at = given.expanduser() / "config.json"
    elif hub_id is not None:
        try:  # whoever looked for it just now has brought it, or could not
            at = hub_package(name).try_to_load_from_cache(hub_id, "config.json", revision=revision)
        except ValueError:  # no name of a model
            return None
    if not isinstance(at, (str, Path)) or not Path(at).is_file():
        return None
    config = read_json(Path(at), dict)
    family = family_of(config)
    if family is None:
        return None
    if given is None:
        return checkpoints.Resolved(name, family, hub_id, None, revision, config)
    folder = given.expanduser()
    revision = f"weights-{weights_hash(folder)}"
    return checkpoints.Resolved(name, family, hub_id, folder, revision, config, substituted=hub_id is not None)


def _refuse_ratings(name: str, labels: Sequence[str]) -> None:
    if labels and {label.lower() for label in labels} <= set(ATTRIBUTES):
        raise SerkitError(
            f"'{name}' gives {', '.join(labels)} as numbers, and no labels; of {SER_MODEL}, import reads classifiers"
        )


def _whole(name: str, config: Mapping[str, Any], key: str, least: int) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SerkitError(f"'{name}': {key} of its config.json is {value}, expected a whole number of {least} or more")
    return value
