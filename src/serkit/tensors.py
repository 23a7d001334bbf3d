"""Padded batches in, network outputs out, and the masks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from serkit.errors import SerkitError, check_known


@dataclass(frozen=True)
class Batch:
    """Some utterances, padded on the right.

    Attributes:
        ids: utterance ids, in row order.
        features: by encoder name, (batch, time, dim) float32; zeros after each row's length.
        lengths: by encoder name, (batch,) int64 number of real frames, at least 1.
        labels: (batch,) int64 class, -1 where there is none.
        targets: (batch, classes) float32 label distribution, where soft labels are asked for.
        class_mask: (batch, classes) bool, False for a class that the utterance's corpus cannot have.
        attributes: (batch, 3) float32 arousal, valence, dominance; NaN where unknown.
        genders: (batch,) int64 of the speaker, its place in :data:`serkit.types.GENDERS`; -1 where unknown.
    """

    ids: tuple[str, ...]
    features: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    labels: Tensor
    targets: Tensor | None = None
    class_mask: Tensor | None = None
    attributes: Tensor | None = None
    genders: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def mask(self, name: str) -> Tensor:
        """(batch, time) bool of one modality: True where the data is real."""
        return length_mask(self.lengths[name], self.features[name].shape[1])

    def frames(self, name: str, dim: int) -> tuple[Tensor, Tensor]:
        """(batch, time, dim) of one modality and its (batch, time) mask, for a network that was built for ``dim``.

        Raises:
            SerkitError: the batch lacks the modality, or it has another width.
        """
        check_known(name, self.features, f"batch without features of '{name}'")
        frames = self.features[name]
        if frames.shape[2] != dim:
            raise SerkitError(f"features of '{name}': the network was built for width {dim}, got {frames.shape[2]}")
        return frames, self.mask(name)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device, non_blocking=True)

        return replace(
            self,
            features={k: v.to(device, non_blocking=True) for k, v in self.features.items()},
            lengths={k: v.to(device, non_blocking=True) for k, v in self.lengths.items()},
            labels=self.labels.to(device, non_blocking=True),
            targets=move(self.targets),
            class_mask=move(self.class_mask),
            attributes=move(self.attributes),
            genders=move(self.genders),
        )


@dataclass(frozen=True)
class Mixture:
    """Which clips of a batch a network mixed inside itself, while it is trained (manifold mixup).

    Attributes:
        partners: (batch,) int64 row that was mixed into each row. shares: (batch,) its share, from 0 to ½.
    """

    partners: Tensor
    shares: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """(batch, ...) rows, each with its partner's share of it: what the network did, to be done with the labels."""
        shares = self.shares.to(rows).reshape(-1, *[1] * (rows.ndim - 1))
        return (1 - shares) * rows + shares * rows[self.partners]


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch.

    Attributes:
        emotion: (batch, classes) logits.
        neutral: (batch,) logit of neutral (positive) against expressive, where the network has that head.
        attributes: (batch, 3) arousal, valence, dominance, where it has that head.
        embedding: (batch, dim) the vector the classifier reads.
        frames: (batch, time, dim) frame-level features, with ``frames_mask`` (batch, time).
        layers: (batch, dim) vectors on the way to ``emotion``, by name and in the order of the network's ``layer_dims``
            (name to dim). Names: ``frames/FEATURE`` before the modalities meet, ``pooled/FEATURE``, ``hidden``.
        mixture: how rows were mixed with each other on the way to ``emotion``, ``attributes`` and ``embedding``, where
            they were; the labels are mixed alike before any loss sees them.
    """

    emotion: Tensor
    neutral: Tensor | None = None
    attributes: Tensor | None = None
    embedding: Tensor | None = None
    frames: Tensor | None = None
    frames_mask: Tensor | None = None
    layers: Mapping[str, Tensor] | None = None
    mixture: Mixture | None = None


def length_mask(lengths: Tensor, time: int) -> Tensor:
    """(batch, time) bool, True for the first ``lengths[row]`` positions of each row.

    >>> length_mask(torch.tensor([1, 3]), 3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(time, device=lengths.device)[None, :] < lengths[:, None]


def pad_sequences(items: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
    """Stack clips of different length, zeros on the right.

    Args:
        items: (time, dim) each, any floating type, at least one frame, the same dim.

    Returns:
        (batch, longest, dim) float32 and (batch,) int64 lengths.

    Raises:
        SerkitError: no items, an item without frames, or of another width.

    >>> padded, lengths = pad_sequences([torch.ones(1, 1), torch.ones(2, 1)])
    >>> padded[:, :, 0].tolist(), lengths.tolist()
    ([[1.0, 0.0], [1.0, 1.0]], [1, 2])
    """
    if not items:
        raise SerkitError("nothing to pad: a batch needs at least one clip")
    dim = items[0].shape[-1]
    for row, item in enumerate(items):
        if item.ndim != 2 or len(item) < 1 or item.shape[1] != dim:
            raise SerkitError(f"clip {row} of a batch: expected (1 frame or more, {dim}), got {tuple(item.shape)}")
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    padded = np.zeros((len(items), int(lengths.max()), dim), dtype=np.float32)
    for row, item in enumerate(items):
        padded[row, : len(item)] = item
    return torch.from_numpy(padded), torch.from_numpy(lengths)
