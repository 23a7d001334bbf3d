"""A pretrained model's name becomes a folder, a revision, a licence and a size, without loading it.

A name is ``family/checkpoint`` of :data:`serkit.checkpoint_table.TABLE`, ``hub:ORG/MODEL`` or ``path:DIR``.
``~/.config/serkit/roots.yaml`` replaces the source of a name everywhere on this machine::

    checkpoints:
      whisper/large-v3: /models/whisper-large-v3

Then width and frame constants come from that folder's ``config.json``, and the revision is a hash of its
weights, so that features of other weights are never taken for the published ones. Reads files and hashes;
loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serkit.checkpoint_files import (
    is_facodec,
    older_facodec,
    read_json,
    transformer_folder,
    weights_hash,
)
from serkit.checkpoint_table import BY_NAME, TABLE, UNKNOWN, Checkpoint
from serkit.config import checkpoint_folders, config_path
from serkit.emotion2vec_files import is_emotion2vec, sizes
from serkit.errors import SerkitError, did_you_mean
from serkit.hub import hub_errors, hub_package, unreached, why

FAMILY_OF_TYPE: Mapping[str, str] = {
    "whisper": "whisper",
    "wavlm": "wavlm",
    "hubert": "hubert",
    "wav2vec2": "wav2vec2",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "deberta": "deberta",
    "deberta-v2": "deberta",
    "modernbert": "modernbert",
    "bert": "bert",
    "facodec": "facodec",
    "emotion2vec": "emotion2vec",
}
FAMILIES = tuple(dict.fromkeys(row.family for row in TABLE))


class OtherType(SerkitError):
    """A model of a type that no family knows, or of another family; ``kind`` is its ``model_type``."""

    def __init__(self, kind: object, message: str) -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True)
class Resolved:
    """Where a name's weights come from on this machine.

    Attributes:
        name: as asked for. family: file in ``encoders/``.
        hub: id on the hub, or ``None`` for a folder that has none.
        folder: local folder that is used instead of the hub.
        revision: commit of the hub, ``main`` where none is pinned, or ``weights-HASH`` of a folder.
        config: the folder's ``config.json`` (empty where it has none, or before a download).
        row: the table's line, where the name has one.
        substituted: a folder replaces the published source.
    """

    name: str
    family: str
    hub: str | None
    folder: Path | None
    revision: str
    config: Mapping[str, Any] = field(default_factory=dict)
    row: Checkpoint | None = None
    substituted: bool = False

    @property
    def source(self) -> str:
        """``local`` or the hub id: what the fingerprint says beside the revision; no machine path."""
        return "local" if self.folder is not None else str(self.hub)

    @property
    def licence(self) -> str:
        """Licence of the published checkpoint; ``unknown`` for a folder, whose weights may be others."""
        return self.row.licence if self.row is not None and self.folder is None else UNKNOWN

    @property
    def note(self) -> str:
        """What a report should say about the source, or nothing."""
        if self.substituted:
            return f"substituted: weights from {self.folder} in place of {self.hub}"
        if self.folder is None and self.revision == "main":
            return f"revision of {self.hub} not pinned: run 'serkit encoders --lock'"
        return ""

    @property
    def dim(self) -> int:
        """Width of a hidden state.

        Raises:
            SerkitError: neither a known name nor a readable configuration.
        """
        return self._number("dim", ("d_model", "hidden_size"))

    @property
    def layers(self) -> int:
        """Number of transformer layers of the encoder.

        Raises:
            SerkitError: as for ``dim``.
        """
        return self._number("layers", ("encoder_layers", "num_hidden_layers"))

    def _number(self, fact: str, keys: tuple[str, ...]) -> int:
        for key in keys:
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        if self.row is not None and self.folder is None:
            return int(getattr(self.row, fact))
        raise SerkitError(f"encoder '{self.name}': config.json in {self.folder} has none of {', '.join(keys)}")


def replaced_sources() -> dict[str, Path]:
    """Folder by name, in place of the published source, as ``roots.yaml`` says.

    Raises:
        SerkitError: a name that there is not; it would replace nothing, without a word.
    """
    folders = checkpoint_folders()
    known = [*BY_NAME, *(f"{family}/random" for family in FAMILIES)]
    for name in folders:
        if name not in known and not name.startswith(("hub:", "path:")):
            raise SerkitError(
                f"{config_path()}: checkpoints: no encoder '{name}'{did_you_mean(name, known)} "
                "(or hub:ORG/MODEL; a model of your own is named path:DIR, where it is used)"
            )
    return folders


def is_unlisted(name: str) -> bool:
    """Whether a name stands for a model of the hub or a folder, whose family only its ``config.json`` says."""
    return name.startswith(("hub:", "path:"))


def family_of(name: str) -> str:
    """File in ``encoders/`` that a name belongs to; ``hub:`` and ``path:`` names are read from their config.

    Raises:
        SerkitError: no such name, or a model type that no family knows.
    """
    before = name.split("/", 1)[0]
    return before if ":" not in name and before in FAMILIES else resolve(name).family


def rows(family: str | None = None, *, commercial: bool = False) -> tuple[Checkpoint, ...]:
    """Lines of the table, of one family where given; with ``commercial`` only those whose licence says yes."""
    return tuple(row for row in TABLE if family in (None, row.family) and (not commercial or row.commercial is True))


def resolve(name: str, source: Path | str | None = None, *, family: str | None = None) -> Resolved:
    """Say where a name's weights come from, reading at most a folder's small files and its hash.

    Args:
        name: ``family/checkpoint``, ``hub:ORG/MODEL`` or ``path:DIR``.
        source: a folder that replaces the source, before ``roots.yaml`` is asked.
        family: the family that asks; needed only for a folder without ``model_type``.

    Raises:
        SerkitError: an unknown name without a folder, a folder that is none, or another family's model.
    """
    roots = replaced_sources()
    row = BY_NAME.get(name)
    given = source if source is not None else roots.get(name)
    if given is None and name.startswith("path:"):
        given = name.removeprefix("path:")
    hub = row.hub if row else name.removeprefix("hub:") if name.startswith("hub:") else None
    if given is not None:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise SerkitError(f"encoder '{name}': no folder {folder} (from {_origin(name, source, roots)})")
        return _of_folder(name, folder, hub, row, family)
    if row is not None:
        return Resolved(name, row.family, hub, None, _revision(name, row), row=row)
    if hub is not None:
        return _of_hub(name, hub, family)
    raise SerkitError(
        f"no encoder '{name}'" + (did_you_mean(name, BY_NAME) or f"; families: {', '.join(FAMILIES)}")
        + " (or give hub:ORG/MODEL, path:DIR)"
    )  # fmt: skip


def resolve_here(name: str) -> Resolved | None:
    """As :func:`resolve` of a ``hub:`` name, without asking the hub: ``None`` where its cache has nothing of it.

    Raises:
        SerkitError: as for :func:`resolve`. MissingExtra: ``huggingface_hub`` is not installed.
    """
    if name in replaced_sources():
        return resolve(name)
    hub_id, revision = name.removeprefix("hub:"), locked().get(name, "main")
    try:
        at = hub_package(name).try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except ValueError:  # no name of a model: whoever asks the hub for it is told
        at = None
    return _of_config(name, hub_id, revision, Path(at), None) if isinstance(at, str) else None


def locked() -> dict[str, str]:
    """Commit by name, as :func:`serkit.availability.lock` kept it.

    Raises:
        SerkitError: the file is damaged.
    """
    path = lock_path()
    try:
        return {str(k): str(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, RecursionError) as error:
        raise SerkitError(f"{path} is damaged ({error}); remove it, or run 'serkit encoders --lock' again") from None


def _of_folder(name: str, folder: Path, hub: str | None, row: Checkpoint | None, family: str | None) -> Resolved:
    config: dict[str, Any] = {}
    at = transformer_folder(folder) / "config.json"
    if at.is_file():
        config = read_json(at, dict)
    elif is_emotion2vec(folder) or "emotion2vec" in (family, name.split("/", 1)[0]):
        config = sizes(folder)
    kind = config.get("model_type")
    expected = _expected_family(name, row, family)
    if kind is None and expected is None and (is_facodec(folder) or older_facodec(folder)):
        expected = "facodec"
    if kind is None and expected != "facodec":
        raise SerkitError(f"encoder '{name}': {at} is missing or names no model_type")
    found = FAMILY_OF_TYPE.get(str(kind)) if kind is not None else "facodec"
    same = found == expected or (found == "hubert" and expected == "distilhubert")
    if found is None or (expected is not None and not same):
        wanted = f"a {expected} model" if expected else f"one of {', '.join(FAMILY_OF_TYPE)}"
        raise OtherType(kind, f"encoder '{name}': {at} is of model_type '{kind}', expected {wanted}")
    revision = f"weights-{weights_hash(folder)}"
    if (expected or found) == "facodec":  # its folder names sizes of its own, or, as published, none
        dim = int(config.get("dim", 256)) * (1 if name == "facodec/prosody" else 2)
        config = {"hidden_size": dim, "num_hidden_layers": 1, **config}
    return Resolved(name, expected or found, hub, folder, revision, config, row, substituted=hub is not None)


def _expected_family(name: str, row: Checkpoint | None, family: str | None) -> str | None:
    """The family that is asked for, or that the name begins with; ``None`` where neither is a known one."""
    named = name.split("/", 1)[0] if "/" in name and ":" not in name else None
    found = family or (row.family if row else named)
    return found if found in FAMILIES else None


def _of_hub(name: str, hub_id: str, family: str | None) -> Resolved:
    hub = hub_package(name)
    revision = locked().get(name, "main")
    reason = unreached(hub)  # then only what an earlier download left in its cache is looked at
    try:
        at = hub.hf_hub_download(hub_id, "config.json", revision=revision, local_files_only=bool(reason))
    except hub_errors(hub) as error:
        said = f"this machine cannot reach the hub, {reason}" if reason else why(error)
        raise SerkitError(
            f"encoder '{name}': config.json of {hub_id} cannot be downloaded ({said}); without the hub, give path:DIR "
            f"or put a folder into {config_path()}"
        ) from None
    return _of_config(name, hub_id, revision, Path(at), family)


def _of_config(name: str, hub_id: str, revision: str, at: Path, family: str | None) -> Resolved:
    config = read_json(at, dict)
    found = FAMILY_OF_TYPE.get(str(config.get("model_type")))
    if found is None or (family not in (None, found) and not (found == "hubert" and family == "distilhubert")):
        kind, wanted = config.get("model_type"), family or f"one of {', '.join(FAMILY_OF_TYPE)}"
        raise OtherType(kind, f"encoder '{name}': {hub_id} is of model_type '{kind}', expected {wanted}")
    return Resolved(name, family or found, hub_id, None, revision, config)


def _revision(name: str, row: Checkpoint) -> str:
    return locked().get(name) or (row.revision if row.revision != UNKNOWN else "main")


def lock_path() -> Path:
    """Where the commits of :func:`locked` are kept: beside ``roots.yaml``."""
    return config_path().with_name("encoders.lock.json")


def _origin(name: str, source: Path | str | None, roots: Mapping[str, Path]) -> str:
    return "source=" if source is not None else str(config_path()) if name in roots else "the name"
