"""Augmented copies of clips, made once, with their own features in the store.

Augmenting waveforms while batches are made costs the features of every clip in every epoch. A copy is made
once: each training clip is also there slower, or through another room, and a batch takes one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from serkit.augment import Augmentation, Example, apply_chain
from serkit.encoding import Encoder, EncoderSpec, WithWeights
from serkit.errors import SerkitError


def copy_key(feature: str, number: int) -> str:
    """Name of a feature's copy among the features of a run; number 0 is the clip as it is."""
    return f"{feature}~{number}" if number else feature


@dataclass
class CopyEncoder:
    """An encoder that hears every clip through some augmentations first.

    What is random in them comes from the clip's own samples and the copy's number, so that a clip's copy is the
    same in every run and on every machine, and two clips of one batch do not share it.

    Args:
        encoder: of audio. steps: augmentations of samples that need no partner, in order. number: from 1 on.

    Raises:
        SerkitError: the encoder reads text, or a step does not work on the samples of one clip.
    """

    encoder: Encoder
    steps: Sequence[Augmentation]
    number: int

    def __post_init__(self) -> None:
        if self.encoder.spec.modality != "audio":
            raise SerkitError(f"copies: '{self.encoder.spec.name}' reads text, and text has no copies")
        check_steps(self.steps)
        steps = [{"name": type(step).__name__, **asdict(step)} for step in self.steps]  # type: ignore[call-overload]  # dataclasses, checked
        inner = self.encoder.spec
        self.spec: EncoderSpec = replace(inner, params={**inner.params, "copy": self.number, "steps": steps})

    def load(self, device: str = "cpu") -> None:
        """As the encoder's own."""
        self.encoder.load(device)

    @property
    def loaded(self) -> bool:
        """As the encoder's own."""
        return isinstance(self.encoder, WithWeights) and self.encoder.loaded

    def resident_bytes(self, device: str = "cpu") -> int:
        """As the encoder's own; 0 where it has no weights."""
        return self.encoder.resident_bytes(device) if isinstance(self.encoder, WithWeights) else 0

    def fetch(self) -> None:
        """As the encoder's own."""
        if isinstance(self.encoder, WithWeights):
            self.encoder.fetch()

    def unload(self) -> None:
        """As the encoder's own."""
        if isinstance(self.encoder, WithWeights):
            self.encoder.unload()

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        """One (frames, dim) float32 array per (samples,) float32 waveform, of its copy."""
        return self.encoder([self.heard(item) for item in items])

    def heard(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) float32 to the copy's (samples',) float32; its length may differ."""
        return heard_through(self.steps, samples, self.number)


def heard_through(steps: Sequence[Augmentation], samples: np.ndarray, number: int) -> np.ndarray:
    """(samples,) float32 to (samples',) float32 after augmentations: the same clip and number, the same bytes.

    Args:
        steps: in order, each applied with its probability. number: another one draws anew.
    """
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    seed = int.from_bytes(hashlib.blake2b(samples.tobytes(), digest_size=8).digest(), "little")
    example = Example(target=np.zeros(1), samples=samples)
    changed = apply_chain(steps, example, np.random.default_rng([seed, number])).samples
    return samples if changed is None else changed


def check_steps(steps: Sequence[Any]) -> None:
    """Refuse augmentations that cannot make a copy.

    Raises:
        SerkitError: no step, one on features or labels, or one that mixes two clips.
    """
    if not steps:
        raise SerkitError("copies: an entry without augmentations is the clip itself; leave it out")
    for step in steps:
        name = step.__name__ if isinstance(step, type) else type(step).__name__
        if step.kind != "samples" or step.needs_partner:
            raise SerkitError(f"copies: {name} does not change the samples of one clip; put it under augment")
