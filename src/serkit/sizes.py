"""Disk space of an extraction, reported before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serkit.batching import Item, audio_item
from serkit.contents import text_key
from serkit.encoding import SAMPLE_RATE_HZ, EncoderSpec, n_frames
from serkit.errors import RunFailed
from serkit.types import Manifest


@dataclass(frozen=True)
class SizeEstimate:
    """What an extraction will take, from headers and times alone.

    Attributes:
        items, frames, bytes: by encoder name: distinct clips or texts, their frames, and their size on disk.
        audio_s: seconds of audio to decode. free_bytes: what the disk has left.

    Frames of audio are exact (silence trimming, which an encoder may do, makes fewer); those of texts are
    one per three letters and two, about a third more than subword tokenizers give for English.
    """

    items: Mapping[str, int]
    frames: Mapping[str, int]
    bytes: Mapping[str, int]
    audio_s: float
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        """Of all encoders together."""
        return sum(self.bytes.values())

    @property
    def total_size(self) -> str:
        """The same in words, such as ``"19.2 MB"``."""
        return _size(self.total_bytes)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_size(self.bytes[name])}" for name in self.bytes)
        free = _size(self.free_bytes)
        return f"{self.total_size} for {self.audio_s / 3600:.2f} h of audio ({parts}); {free} free"


def estimate(
    manifest: Manifest,
    specs: Mapping[str, EncoderSpec] | Sequence[EncoderSpec],
    store: Path | str,
) -> SizeEstimate:
    """What extracting a whole manifest takes; reads headers of recordings whose length it does not state.

    What the store holds already is not taken off here (that needs every file's content);
    :func:`serkit.extraction.extract` announces what is left to do.

    Args:
        manifest: what to extract. specs: of the encoders, by name or as a sequence.
        store: folder; need not exist.
    """
    named = dict(specs) if isinstance(specs, Mapping) else {spec.name: spec for spec in specs}
    audio = tuple(name for name, spec in named.items() if spec.modality == "audio")
    readers = tuple(name for name, spec in named.items() if spec.modality == "text")
    items: list[Item] = []
    for u in manifest:
        if audio:
            items.append(audio_item(manifest, u, u.id, audio))
        if readers and u.text is not None:
            items.append(Item(text_key(u.text), u.id, readers, text=u.text))
    return estimated({(item.text is None, item.key): item for item in items}.values(), named, Path(store))


def estimated(items: Iterable[Item], specs: Mapping[str, EncoderSpec], root: Path) -> SizeEstimate:
    """What the encoders that each item names will make of it, in a store under ``root``."""
    n_items, frames, n_bytes = dict.fromkeys(specs, 0), dict.fromkeys(specs, 0), dict.fromkeys(specs, 0)
    audio_s = 0.0
    for item in items:
        audio_s += item.duration_s
        for name in item.encoders:
            spec = specs[name]
            n = (
                n_frames(round(item.duration_s * SAMPLE_RATE_HZ), spec)
                if item.text is None
                else len(item.text) // 3 + 2
            )
            n_items[name] += 1
            frames[name] += n
            n_bytes[name] += n * spec.dim * np.dtype(spec.dtype).itemsize
    return SizeEstimate(n_items, frames, n_bytes, audio_s, _free_bytes(root))


def _free_bytes(root: Path) -> int:
    folder = root.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def refuse_small_disk(size: SizeEstimate, root: Path, reserved: int = 0) -> None:
    """Refuse features that do not fit beside ``reserved`` bytes of later ones; raises ``RunFailed`` with what to do."""
    if size.total_bytes + reserved > size.free_bytes:
        largest = max(size.bytes, key=lambda name: size.bytes[name])
        alone = f"{largest} alone {_size(size.bytes[largest])}"
        later = f", and later ones {_size(reserved)}" if reserved else ""
        raise RunFailed(
            f"the features need {size.total_size} ({alone}){later}, the disk of {root} has {_size(size.free_bytes)} "
            "left: choose another place with --store, or pool the encoder's frames"
        )


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"
