"""The weights of a checkpoint on this machine: found, brought from the hub, or told to be absent before any work."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from serkit.checkpoint_files import lacking, transformer_folder, wanted_files
from serkit.checkpoints import Resolved
from serkit.config import config_path
from serkit.errors import SerkitError, refuse
from serkit.hub import hub_errors, hub_package, unreached, why

_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.yaml")


def fetch(found: Resolved) -> Path:
    """The folder with the weights, brought from the hub where it is not here yet.

    Only safetensors are brought where the revision has them; code files never.

    Raises:
        SerkitError: the hub cannot be reached and not all is in its cache, or a folder that lacks something.
        MissingExtra: ``huggingface_hub`` is not installed.
    """
    folder, allowed = _looked_for(found, unreached)
    if folder is not None:
        return folder
    hub = hub_package(found.name)
    try:
        what: dict[str, Any] = {"repo_id": found.hub, "revision": found.revision}
        folder = transformer_folder(Path(hub.snapshot_download(**what, allow_patterns=allowed)))
    except hub_errors(hub) as error:
        raise _Unreachable([found], why(error), reached=True) from None
    if reason := lacking(folder, found.family):
        raise SerkitError(f"encoder '{found.name}': {reason}")
    return folder


def require(wanted: Iterable[Resolved]) -> None:
    """Refuse unavailable models, all of them in one line; loads and downloads nothing.

    Raises:
        SerkitError, MissingExtra: as for :func:`fetch`, as far as that is known without a download.
    """
    refused: list[SerkitError] = []
    asked = functools.cache(unreached)  # once for all of them
    for found in {found.name: found for found in wanted}.values():
        try:
            _looked_for(found, asked)
        except SerkitError as error:
            refused.append(error)
    unreachable = [error for error in refused if isinstance(error, _Unreachable)]
    if len(unreachable) > 1:
        first = unreachable[0]
        absent = _Unreachable([found for error in unreachable for found in error.absent], first.reason, first.reached)
        refused = [absent, *(error for error in refused if not isinstance(error, _Unreachable))]
    refuse(refused)


class _Unreachable(SerkitError):
    """Some models cannot be downloaded from the hub, and no folder replaces them."""

    def __init__(self, absent: Sequence[Resolved], reason: str, reached: bool) -> None:
        self.absent, self.reason, self.reached = absent, reason, reached
        first = absent[0]
        why = f"from the hub ({reason})" if reached else f"here: this machine cannot reach the hub ({reason})"
        what = f"encoder '{first.name}': {first.hub} cannot be downloaded {why}; put a downloaded folder"
        if len(absent) > 1:
            named = ", ".join(f"{found.name} ({found.hub})" for found in absent)
            what = f"{len(absent)} models cannot be downloaded {why}: {named}; put downloaded folders"
        folders = ", ".join(f"{found.name}: DIR" for found in absent)
        super().__init__(f"{what} into {config_path()} as 'checkpoints: {{{folders}}}'")


def at_hand(found: Resolved) -> Path | None:
    """The folder with the files of a model on this machine, whole or not; ``None`` where nothing was brought yet.

    Raises:
        SerkitError: a list of modules that is damaged. MissingExtra: ``huggingface_hub`` is not installed.
    """
    if found.folder is not None:
        return transformer_folder(found.folder)
    hub = hub_package(found.name)
    what: dict[str, Any] = {"repo_id": found.hub, "revision": found.revision}
    try:
        return transformer_folder(Path(hub.snapshot_download(**what, local_files_only=True)))
    except (OSError, ValueError):
        return None


def here(found: Resolved) -> Path | None:
    """The folder with the weights where it is on this machine; ``None`` where they are to be brought from the hub.

    Raises:
        SerkitError: a folder that lacks something. MissingExtra: ``huggingface_hub`` is not installed.
    """
    folder = at_hand(found)
    if folder is None or not (reason := lacking(folder, found.family)):
        return folder
    if found.folder is not None:
        raise SerkitError(f"encoder '{found.name}': {reason}")
    return None  # what is there in part, of another program or of a download that was stopped, is not all


def _looked_for(found: Resolved, unreached: Callable[[Any], str]) -> tuple[Path | None, list[str]]:
    """The folder with the weights where it is here; otherwise which files are to be brought from the hub."""
    if (folder := here(found)) is not None:
        return folder, []
    hub = hub_package(found.name)
    if reason := unreached(hub):
        raise _Unreachable([found], reason, reached=False)
    what: dict[str, Any] = {"repo_id": found.hub, "revision": found.revision}
    try:
        return None, [*_SMALL_FILES, *wanted_files(hub.HfApi().list_repo_files(**what))]
    except hub_errors(hub) as error:
        raise _Unreachable([found], why(error), reached=True) from None
