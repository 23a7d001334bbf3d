"""Whether a pretrained model can be loaded here, from where, how large it is and what it costs.

Behind ``serkit encoders --check`` and ``--lock``. Downloads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serkit.checkpoint_table import TABLE
from serkit.checkpoints import (
    Resolved,
    hub_errors,
    hub_package,
    lock_path,
    locked,
    resolve,
    transformer_folder,
    weight_files,
)
from serkit.errors import MissingExtra, SerkitError
from serkit.files import write_text

TOKENS_PER_AUDIO_HOUR = 12_000  # proposal: 150 words a minute at 1.3 tokens a word


@dataclass(frozen=True)
class Availability:
    """Whether a model can be loaded here, and what it costs.

    Attributes:
        name: as asked for. loadable: its files are here now. where: ``folder``, ``hub cache``, ``hub`` or ``nowhere``.
        folder: where its files lie. size_gb: of the weights, 10^9 bytes. licence: as published.
        tflop_per_audio_hour: arithmetic per hour of audio (computed from width and depth).
        reason: why it cannot be loaded, in words.
    """

    name: str
    loadable: bool
    where: str
    folder: Path | None
    size_gb: float | None
    licence: str
    tflop_per_audio_hour: float
    reason: str = ""


def check(name: str) -> Availability:
    """Say whether ``name`` can be loaded on this machine, from where, how large it is and what it costs.

    Nothing is downloaded.

    Raises:
        SerkitError: no such name.
    """
    found = resolve(name)
    cost = tflop_per_audio_hour(found)
    folder, where, reason = found.folder, "folder", ""
    if folder is None:
        try:
            hub = hub_package(name)
            folder = Path(hub.snapshot_download(found.hub, revision=found.revision, local_files_only=True))
            where = "hub cache"
        except MissingExtra as error:
            where, reason = "hub", str(error)
        except (OSError, ValueError):
            where, reason = "hub", f"not downloaded yet: {found.hub} at {found.revision}"
    size = found.row.download_gb if found.row and found.folder is None else None
    if folder is not None:
        try:
            size = sum(p.stat().st_size for p in weight_files(transformer_folder(folder))) / 1e9
        except (SerkitError, FileNotFoundError) as error:
            reason = str(error)
    return Availability(name, folder is not None and not reason, where, folder, size, found.licence, cost, reason)


def tflop_per_audio_hour(found: Resolved) -> float:
    """10^12 floating-point operations per hour of audio (computed): 24 dim² per layer and position, twice
    the 12 dim² weights of a transformer layer; attention and front end not counted."""
    per_hour = TOKENS_PER_AUDIO_HOUR
    if found.family == "whisper" or found.family in ("wavlm", "hubert", "wav2vec2", "distilhubert"):
        per_hour = 50 * 3600
    elif found.family == "facodec":
        per_hour = 80 * 3600
    return 24.0 * found.dim**2 * found.layers * per_hour / 1e12


def lock(wanted: Iterable[str] | None = None) -> dict[str, str]:
    """Ask the hub for the newest commit of each name and keep it beside ``roots.yaml``; returns the table.

    Raises:
        SerkitError: the hub cannot be reached.
    """
    table = locked()
    for name in wanted if wanted is not None else [row.name for row in TABLE]:
        found = resolve(name)
        if found.hub is None:
            continue
        hub = hub_package(name)
        try:
            table[name] = str(hub.HfApi().model_info(found.hub).sha)
        except hub_errors(hub) as error:
            reason = " ".join(str(error).split())
            raise SerkitError(f"encoder '{name}': the hub does not answer for {found.hub}: {reason}") from None
    write_text(lock_path(), json.dumps(table, indent=1, sort_keys=True) + "\n")
    return table
