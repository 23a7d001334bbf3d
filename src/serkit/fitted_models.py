"""Fitted scikit-learn models on disk without pickle: same models, same bytes; only known types are read.

The format is that of skops, a zip archive. scikit-learn and skops are imported where they are used.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serkit.errors import SerkitError
from serkit.files import write_bytes
from serkit.interrupts import interrupts_after

TRUSTED = frozenset({"sklearn.tree._tree.Tree"})
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can tell


def save_models(models: Sequence[Any], path: Path) -> None:
    """Write models whole or not at all.

    Raises:
        RunFailed: the disk is full.
    """
    import skops.io

    buffer = io.BytesIO()
    with interrupts_after():  # an archive that is left in the middle of a member cannot be closed
        skops.io.dump(list(models), buffer)
        content = _reproducible(buffer)
    write_bytes(path, content)


def load_models(path: Path) -> list[Any]:
    """Read what :func:`save_models` wrote; skops builds only types that it or :data:`TRUSTED` knows.

    Raises:
        SerkitError: no such file, a damaged one, or an unknown type.
    """
    import skops.io

    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - TRUSTED)
        if unknown:
            raise SerkitError(f"{path} holds types a stack does not use: {', '.join(unknown)}; not loaded")
        models = skops.io.load(path, trusted=sorted(TRUSTED))
    except FileNotFoundError:
        raise SerkitError(f"the models of the stack are missing: {path}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SerkitError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    return list(models)


def check_model(model: Any, n_features: int, classes: np.ndarray, folder: Path) -> None:
    """Refuse a model of other features or classes, and trees whose nodes point outside the tree.

    Args:
        classes: (k,) int64: those that the stack has probabilities for. folder: of the stack, for the message.

    Raises:
        SerkitError: it is one.
    """
    if model.n_features_in_ != n_features or not np.array_equal(model.classes_, classes):
        raise SerkitError(f"{folder}: the models take {model.n_features_in_} scores, stack.json says {n_features}")
    for tree in getattr(model, "estimators_", []):
        nodes = tree.tree_
        own = np.arange(nodes.node_count)
        inner = nodes.children_left != -1
        left, right, feature = nodes.children_left[inner], nodes.children_right[inner], nodes.feature[inner]
        forward = (left > own[inner]) & (right > own[inner]) & (left < len(own)) & (right < len(own))
        if not forward.all() or ((feature < 0) | (feature >= n_features)).any():
            raise SerkitError(f"{folder}: a tree of the forest points outside itself; the file is damaged")


def _reproducible(archive: io.BytesIO) -> bytes:
    """The archive without what differs from run to run: its members' times, and objects named by their address.

    Objects (``__id__`` in ``schema.json``) and the files of arrays, which are named after them, are counted instead.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w") as new:
        schema = json.loads(old.read("schema.json"))
        members = [name for name in old.namelist() if name != "schema.json"]
        files = {name: f"{k}{Path(name).suffix}" for k, name in enumerate(members)}
        _count(schema, {}, files)
        for name, content in (
            *((files[name], old.read(name)) for name in members),
            ("schema.json", json.dumps(schema, indent=2).encode()),
        ):
            new.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return out.getvalue()


def _count(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    """Replace the ids and file names in a schema, in place, by numbers in the order in which they come."""
    if isinstance(node, list):
        for item in node:
            _count(item, numbers, files)
    elif isinstance(node, dict):
        if "__id__" in node:  # 0 would count as none when it is read
            node["__id__"] = numbers.setdefault(node["__id__"], 1 + len(numbers))
        if "__loader__" in node and node.get("file") in files:
            node["file"] = files[node["file"]]
        for item in node.values():
            _count(item, numbers, files)
