"""Features of new recordings shifted to match a model's training data: one factor and one offset per dimension.

What differs most between corpora is the location of features: another microphone, room or language shifts all of them.
Mean and deviation of recordings without labels say how far (the diagonal of CORAL, Sun et al. 2016, remembered).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from serkit.errors import SerkitError

PRIOR = 20.0  # stretches of speech that the training's own statistics weigh as much as
LEAST_DEVIATION = 0.1  # of the training's: a feature that hardly moves is not blown up


@dataclass
class Moments:
    """Sums over frames of one feature.

    Attributes:
        frames: how many. total, squares: (dim,) float64 sums of values and of their squares.
    """

    frames: int
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> Self:
        """Of (time, dim) features."""
        wide = np.asarray(frames, dtype=np.float64)
        return cls(len(wide), wide.sum(axis=0), np.square(wide).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.frames + other.frames, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """(dim,) float64."""
        return np.asarray(self.total / self.frames)

    @property
    def deviation(self) -> np.ndarray:
        """(dim,) float64, of the population."""
        return np.asarray(np.sqrt(np.maximum(self.squares / self.frames - self.mean**2, 0.0)))


@dataclass(frozen=True)
class Adaptation:
    """What is done to features before the networks.

    Attributes:
        scale, offset: (dim,) float32 by feature; features that are not named stay as they are.
    """

    scale: Mapping[str, np.ndarray]
    offset: Mapping[str, np.ndarray]

    def apply(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """(time, dim) float32 features, each times its scale, plus its offset."""
        return {
            key: values * self.scale[key] + self.offset[key] if key in self.scale else values
            for key, values in features.items()
        }

    @classmethod
    def from_moments(
        cls, heard: Mapping[str, Moments], trained: Mapping[str, tuple[np.ndarray, np.ndarray]], pieces: int
    ) -> Self:
        """From the moments of new recordings to the (mean, deviation) of the training.

        Args:
            heard: moments by feature. trained: mean and deviation by feature, of those to adapt.
            pieces: stretches of speech that were heard: with n of them, the new statistics weigh
                n / (n + :data:`PRIOR`), the training's the rest (deviations as logarithms).
        """
        share = pieces / (pieces + PRIOR)
        scale, offset = {}, {}
        for key, (mean, deviation) in trained.items():
            own = np.maximum(heard[key].deviation, LEAST_DEVIATION * deviation)
            wide = np.exp(share * np.log(own) + (1.0 - share) * np.log(deviation))
            centre = share * heard[key].mean + (1.0 - share) * mean
            factor = deviation / wide
            scale[key] = factor.astype(np.float32)
            offset[key] = (mean - centre * factor).astype(np.float32)
        return cls(scale, offset)


def to_arrays(
    parts: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], keys: Iterable[str]
) -> dict[str, np.ndarray]:
    """Arrays by ``NUMBER.NAME``, the number that of the feature among ``keys``, for a safetensors file."""
    order = list(keys)
    return {
        f"{order.index(key)}.{name}": np.asarray(values, dtype=np.float32)
        for part, name in zip(parts, names, strict=True)
        for key, values in part.items()
    }


def from_arrays(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], features: Mapping[str, Mapping[str, Any]], where: str
) -> list[dict[str, np.ndarray]]:
    """The parts of what :func:`to_arrays` made, each by feature.

    Args:
        features: what ``bundle.json`` says of each. where: the file, for the message.

    Raises:
        SerkitError: a part lacks a feature that another has, or is not one finite number for each of its dimensions.
    """
    parts = [
        {key: arrays[f"{k}.{name}"] for k, key in enumerate(features) if f"{k}.{name}" in arrays} for name in names
    ]
    if any(part.keys() != parts[0].keys() for part in parts):
        raise SerkitError(f"{where} is damaged: {' and '.join(names)} are not of the same features")
    for name, part in zip(names, parts, strict=True):
        for key, values in part.items():
            dim = features[key]["spec"].get("dim")
            if values.shape != (dim,) or values.dtype.kind != "f" or not np.isfinite(values).all():
                raise SerkitError(f"{where} is damaged: {name} of '{key}' is expected to be {dim} finite numbers")
    return parts
