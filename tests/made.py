"""Small made-up data for tests: manifests and features with a class signal, without a sound."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from serkit.networks import NetworkConfig
from serkit.sampling import Examples
from serkit.settings import System
from serkit.types import Manifest, Utterance

LABELS = ("anger", "neutral", "sadness")


def made_manifest(n: int = 60, speakers: int = 6, labels: tuple[str, ...] = LABELS) -> Manifest:
    """Utterances ``u0`` … whose speakers go in turn: the last is test, the last but one dev."""
    rows = []
    for k in range(n):
        who = k % speakers
        split = "test" if who == speakers - 1 else "dev" if who == speakers - 2 else "train"
        emotion = labels[(k // speakers) % len(labels)]
        rows.append(Utterance(f"u{k}", f"{k}.wav", speaker=f"s{who}", split=split, emotion=emotion, text=emotion))
    return Manifest("made", labels, tuple(rows))


def voted(n: int = 120, alone: int = 4) -> Manifest:
    """Clips with votes: of every ``alone`` one without agreement; three times as many of one class as of each other."""
    rows = []
    for k, u in enumerate(made_manifest(n)):
        emotion = LABELS[(k // 6) % 3] if (k // 6) % 5 < 3 else "anger"
        votes = {emotion: 3.0, LABELS[k % 3]: 1.0}
        rows.append(replace(u, emotion=None if k % alone == 0 else emotion, votes=votes))
    return Manifest("made", LABELS, tuple(rows))


class MadeSource:
    """Frames whose mean leans towards the class, of a length of their own; the same on every call."""

    def __init__(self, manifest: Manifest, dim: int = 4, signal: float = 1.0) -> None:
        self.dim, self.signal = dim, signal
        self.classes = dict(zip(manifest.ids, manifest.label_index().tolist(), strict=True))
        self.reads: list[str] = []

    def frames(self, utterance_id: str) -> int:
        return 2 + zlib.crc32(utterance_id.encode()) % 7

    def get(self, utterance_id: str) -> np.ndarray:
        self.reads.append(utterance_id)
        rng = np.random.default_rng(zlib.crc32(utterance_id.encode()))
        frames = rng.normal(size=(self.frames(utterance_id), self.dim))
        frames[:, max(self.classes[utterance_id], 0) % self.dim] += self.signal
        return frames.astype(np.float16)


def made_system(**changes: object) -> System:
    """A small network on one made-up feature; ``train`` is merged, anything else replaced."""
    train = {"epochs": 3, "batch_size": 8, "lr": 1e-2, **changes.pop("train", {})}  # type: ignore[dict-item]
    tree = {"features": ["x"], "model": {"name": "cross_attention", "hidden": 8}, "train": train, **changes}
    return System.model_validate(tree)


def made_examples(manifest: Manifest | None = None, **options: object) -> tuple[Examples, Examples]:
    """Train and dev examples of a manifest."""
    manifest = manifest or made_manifest()
    source = MadeSource(manifest)
    return tuple(Examples.of(manifest.split(s), {"x": source}, **options) for s in ("train", "dev"))  # type: ignore


def made_config(system: System, seed: int = 1, labels: tuple[str, ...] = LABELS) -> NetworkConfig:
    """What to build for :func:`made_system`."""
    model = {"name": system.model.name, **system.model.parameters}
    return NetworkConfig("made", model, {"x": 4}, {}, labels, seed, system.model_dump(mode="json"))
