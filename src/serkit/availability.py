"""Whether a pretrained model can be loaded here, from where, how large it is and what it costs.

Behind ``serkit encoders --check`` and ``--lock``. Downloads nothing.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serkit.checkpoint_files import lacking, looked_at, weight_files
from serkit.checkpoint_table import TABLE
from serkit.checkpoints import Resolved, lock_path, locked, resolve
from serkit.costs import frames_per_audio_hour, tflop_per_audio_hour
from serkit.errors import MissingExtra, RunFailed, SerkitError
from serkit.fetching import at_hand
from serkit.files import write_json
from serkit.hub import hub_errors, hub_package

PACKAGES = ("transformers", "sentencepiece", "tokenizers")  # of the extra 'foundation'


@dataclass(frozen=True)
class Availability:
    """Whether a model can be loaded here, and what it costs.

    Attributes:
        name: as asked for. loadable: its files are here now. where: ``folder``, ``hub cache``, ``hub`` or ``nowhere``.
        folder: where its files lie. size_gb: of the weights, 10^9 bytes. licence: as published.
        tflop_per_audio_hour: arithmetic per hour of audio in clips of :data:`serkit.costs.CLIP_S` (computed from the
            shapes of the layers). tflop_window_clip: of Whisper with ``window: clip``; nothing for others.
        gb_per_audio_hour: float16 features of one layer per hour of audio, 10^9 bytes (computed).
        reason: why it cannot be loaded, in words. looked_at: what was looked at before it was called loadable; never
            the weights themselves, which are read when it is loaded.
    """

    name: str
    loadable: bool
    where: str
    folder: Path | None
    size_gb: float | None
    licence: str
    tflop_per_audio_hour: float
    gb_per_audio_hour: float
    reason: str = ""
    tflop_window_clip: float | None = None
    looked_at: str = ""


def check(name: str) -> Availability:
    """Say whether ``name`` can be loaded on this machine, from where, how large it is and what it costs.

    Nothing is downloaded.

    Raises:
        SerkitError: no such name.
    """
    found = resolve(name)
    cost = tflop_per_audio_hour(found)
    folder, where, reason = found.folder, "folder" if found.folder is not None else "hub cache", ""
    size, looked = found.row.download_gb if found.row and found.folder is None else None, ""
    try:
        folder = at_hand(found)
        if folder is None:
            where, reason = "hub", f"not downloaded yet: {found.hub} at {found.revision}"
        else:
            reason = lacking(folder, found.family)
            files = weight_files(folder)
            size, looked = sum(p.stat().st_size for p in files) / 1e9, looked_at(files, found.family)
    except MissingExtra as error:
        where, reason = "hub", str(error)
    except SerkitError as error:
        reason = str(error)
    reason = reason or absent_package(found)
    disk = 2.0 * found.dim * frames_per_audio_hour(found) / 1e9
    clip = tflop_per_audio_hour(found, whole=False) if found.family == "whisper" else None
    here = folder is not None and not reason
    return Availability(name, here, where, folder, size, found.licence, cost, disk, reason, clip, looked)


def absent_package(found: Resolved) -> str:
    """What to install, where a package that loads this family is not."""
    needed: tuple[str, ...] = PACKAGES if found.family == "deberta" else PACKAGES[:1]
    if found.family in ("facodec", "emotion2vec"):
        needed = ()
    for package in needed:
        if importlib.util.find_spec(package) is None:
            return str(MissingExtra(package, "foundation", f"encoder '{found.name}'"))
    return ""


def processor_gflops() -> float:
    """10^9 floating-point operations per second of float32 matrix products on this processor, measured for 0.2 s now.

    An upper bound for what an encoder reaches here; a busy machine gives less.
    """
    size = 768  # of the square matrices
    left = np.ones((size, size), dtype=np.float32)
    left @ left
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.2:
        left @ left
        count += 1
    return 2.0 * size**3 * count / (time.perf_counter() - start) / 1e9


def lock(wanted: Iterable[str] | None = None) -> dict[str, str]:
    """Ask the hub for the newest commit of each name and keep it beside ``roots.yaml``; returns the table.

    A model that the hub refuses (gone, or only for members) does not stop the others.

    Raises:
        SerkitError: the hub cannot be reached.
        RunFailed: it refused some, named; the others are kept.
    """
    table = locked()
    refused: list[str] = []
    for name in wanted if wanted is not None else [row.name for row in TABLE]:
        found = resolve(name)
        if found.hub is None:
            continue
        hub = hub_package(name)
        try:
            table[name] = str(hub.HfApi().model_info(found.hub).sha)
        except hub.errors.HfHubHTTPError:
            refused.append(f"{name} ({found.hub})")
        except hub_errors(hub) as error:
            reason = " ".join(str(error).split())
            raise SerkitError(f"encoder '{name}': the hub does not answer for {found.hub}: {reason}") from None
    write_json(lock_path(), dict(sorted(table.items())))
    if refused:
        raise RunFailed(f"the hub has no commit of {', '.join(refused)}; {len(table)} others are in {lock_path()}")
    return table
