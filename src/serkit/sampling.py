"""Manifest and features to padded batches: length buckets, balanced draws, the same ones for a seed.

Which rows make an epoch is decided from lengths and labels alone; features are read when a batch
is made. Nothing here keeps state between epochs, so epoch ``k`` is the same after a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch

from serkit.augment import Augmentation, Example, apply_chain
from serkit.errors import SerkitError
from serkit.tensors import Batch
from serkit.types import NEUTRAL, Manifest


class FrameSource(Protocol):
    """Frames by utterance id: what extraction hands to training."""

    def get(self, utterance_id: str) -> np.ndarray:
        """(frames, dim) of one utterance."""

    def frames(self, utterance_id: str) -> int:
        """Its number of frames, without reading them."""


@dataclass(frozen=True)
class Examples:
    """The rows of one split with everything a batch needs but the features.

    Attributes:
        ids: utterance ids. sources: by feature key. lengths: (rows, modalities) int64 frames.
        labels: (rows,) int64, -1 where there is none. targets: (rows, classes) float32 or ``None``.
        class_mask: (rows, classes) bool or ``None`` where every corpus can have every class.
        attributes: (rows, 3) float32, NaN where unknown. corpora: (rows,) name of each row's corpus.
    """

    ids: tuple[str, ...]
    sources: Mapping[str, FrameSource]
    lengths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    corpora: tuple[str, ...]
    targets: np.ndarray | None = None
    class_mask: np.ndarray | None = None
    attributes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.float32))

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        sources: Mapping[str, FrameSource],
        *,
        targets: Literal["labels", "votes", "all"] = "labels",
    ) -> Examples:
        """Rows of a manifest that can be used.

        Args:
            targets: ``labels`` keeps rows with an emotion, ``votes`` rows with an emotion or rater votes
                (as distributions), ``all`` every row (for scoring).

        Raises:
            SerkitError: no row is left.
        """
        index = manifest.label_index()
        votes = manifest.votes() if targets == "votes" else None
        usable = np.ones(len(manifest), dtype=bool)
        if targets == "labels":
            usable = index >= 0
        elif votes is not None:
            usable = np.isfinite(votes).all(axis=1)
        rows = np.flatnonzero(usable)
        if not len(rows):
            raise SerkitError(f"corpus '{manifest.corpus}': no usable utterance among {len(manifest)}")
        kept = [manifest.utterances[k] for k in rows]
        ids = tuple(u.id for u in kept)
        lengths = np.array([[s.frames(i) for s in sources.values()] for i in ids], dtype=np.int64)
        mask = None
        if manifest.class_sets:
            can = {c: np.isin(manifest.labels, list(names)) for c, names in manifest.class_sets.items()}
            everything = np.ones(len(manifest.labels), dtype=bool)
            mask = np.stack([can.get(u.corpus or "", everything) for u in kept])
            mask = None if mask.all() else mask
        attributes = np.array([[u.arousal, u.valence, u.dominance] for u in kept], dtype=np.float32)
        return cls(
            ids,
            sources,
            lengths,
            index[rows],
            manifest.labels,
            tuple(u.corpus or "" for u in kept),
            votes[rows].astype(np.float32) if votes is not None else None,
            mask,
            attributes,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def class_counts(self) -> np.ndarray:
        """(classes,) int64 rows by class; of distributions, the rounded sum."""
        if self.targets is not None:
            return np.asarray(np.rint(self.targets.sum(axis=0)), dtype=np.int64)
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.label_names))

    def groups(self, balance: str | None) -> np.ndarray:
        """(rows,) int64 group of each row that a balanced draw evens out.

        Args:
            balance: ``None`` (one group), ``neutral`` (neutral against expressive), ``class``, ``corpus``.

        Raises:
            SerkitError: ``neutral`` without that label, or a balance with a single group.
        """
        dominant = self.labels if self.targets is None else self.targets.argmax(axis=1)
        if balance is None:
            return np.zeros(len(self), dtype=np.int64)
        if balance == "neutral":
            if NEUTRAL not in self.label_names:
                raise SerkitError(f"balance: neutral needs the label '{NEUTRAL}'; labels are {list(self.label_names)}")
            group = (dominant == self.label_names.index(NEUTRAL)).astype(np.int64)
        elif balance == "class":
            group = np.unique(dominant, return_inverse=True)[1]
        else:
            group = np.unique(np.array(self.corpora), return_inverse=True)[1]
        if len(np.unique(group)) < 2:
            raise SerkitError(f"balance: {balance} has only one group among {len(self)} utterances; set balance: null")
        return np.asarray(group, dtype=np.int64)


def draw_epoch(
    groups: np.ndarray, rng: np.random.Generator, draw: Literal["replacement", "passes"] = "replacement"
) -> np.ndarray:
    """The rows of one epoch, as many as there are rows, each group equally often.

    With one group this is a permutation. Otherwise each group gets ``rows / n_groups`` draws (the
    remainder goes to random groups): ``replacement`` draws them independently, as the published
    WeightedRandomSampler does (systems.md 1.9.4), ``passes`` in shuffled passes over the group, so
    that no row is drawn twice before every row of its group was drawn once.

    Returns:
        (rows,) int64, shuffled.
    """
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    if len(members) == 1:
        return rng.permutation(len(groups))
    quota = np.full(len(members), len(groups) // len(members))
    quota[rng.permutation(len(members))[: len(groups) % len(members)]] += 1
    drawn = []
    for rows, n in zip(members, quota, strict=True):
        if draw == "replacement":
            drawn.append(rng.choice(rows, size=n, replace=True))
        else:
            passes = [rng.permutation(rows) for _ in range(-(-int(n) // len(rows)))]
            drawn.append(np.concatenate(passes)[:n])
    return rng.permutation(np.concatenate(drawn))


def bucket_batches(
    rows: np.ndarray,
    lengths: np.ndarray,
    groups: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    chunk_batches: int = 50,
) -> list[np.ndarray]:
    """Cut drawn rows into batches of like length, keeping each group's share in every batch.

    The draw is cut into chunks of ``chunk_batches`` batches. Inside a chunk every group is sorted by
    length on its own and dealt out evenly along the chunk, so a batch holds clips of like length and,
    up to rounding, each group's share of the chunk. Without this, a class of short clips would fill
    whole batches. The order of the batches is shuffled.

    Args:
        rows: (draws,) row numbers. lengths: (rows,) frames by row number. groups: (rows,) by row number.

    Returns:
        Arrays of row numbers, each of ``batch_size`` but one a chunk.
    """
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), batch_size * chunk_batches):
        chunk = rows[start : start + batch_size * chunk_batches]
        place = np.empty(len(chunk))
        for g in np.unique(groups[chunk]):
            mine = np.flatnonzero(groups[chunk] == g)
            order = mine[np.argsort(lengths[chunk[mine]] + rng.random(len(mine)), kind="stable")]
            place[order] = (np.arange(len(order)) + 0.5) / len(order)
        ordered = chunk[np.argsort(place, kind="stable")]
        batches += [ordered[k : k + batch_size] for k in range(0, len(ordered), batch_size)]
    return [batches[k] for k in rng.permutation(len(batches))]


@dataclass(frozen=True)
class Loader:
    """Batches of some examples: shuffled by epoch for training, in length order for scoring.

    Attributes:
        examples: the rows. batch_size: rows per batch. seed: of every draw.
        balance, draw, bucket: see :func:`draw_epoch` and :func:`bucket_batches`.
        augment: steps of :mod:`serkit.augment`, applied while a training batch is made, so only ever to
            the split this loader serves. Each utterance has its own generator, from seed, epoch and row.
    """

    examples: Examples
    batch_size: int
    seed: int = 0
    balance: str | None = None
    draw: Literal["replacement", "passes"] = "replacement"
    bucket: bool = True
    augment: Sequence[Augmentation] = ()

    def batch_rows(self, epoch: int) -> list[np.ndarray]:
        """Row numbers of every training batch of an epoch; the same for the same seed and epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        groups = self.examples.groups(self.balance)
        rows = draw_epoch(groups, rng, self.draw)
        if not self.bucket:
            return [rows[k : k + self.batch_size] for k in range(0, len(rows), self.batch_size)]
        return bucket_batches(rows, self.examples.lengths.max(axis=1), groups, self.batch_size, rng)

    def __len__(self) -> int:
        return len(self.batch_rows(0))

    def epoch(self, epoch: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Training batches of an epoch; of several processes, each gets its share of every batch."""
        batches = (rows[rank::world] if len(rows) >= world else rows for rows in self.batch_rows(epoch))
        yield from _prefetched(lambda rows: self.collate(rows, epoch), batches)

    def in_order(self) -> Iterator[Batch]:
        """Every row once, sorted by length, never augmented: for scoring."""
        order = np.argsort(self.examples.lengths.max(axis=1), kind="stable")
        batches = (order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size))
        yield from _prefetched(self.collate, batches)

    def collate(self, rows: np.ndarray, epoch: int | None = None) -> Batch:
        """Make the batch of some rows.

        Args:
            rows: row numbers. epoch: seeds the augmentation; ``None`` applies none.
        """
        examples = self.examples
        clips = [self._clip(int(r)) for r in rows]
        changed = epoch is not None and bool(self.augment)
        if changed:
            clips = [
                apply_chain(
                    self.augment,
                    clip,
                    np.random.default_rng([self.seed, 1 + (epoch or 0), int(r), place]),
                    lambda rng: self._clip(int(rng.integers(len(examples)))),
                )
                for place, (clip, r) in enumerate(zip(clips, rows, strict=True))
            ]
        features, lengths = {}, {}
        for name in examples.sources:
            features[name], lengths[name] = _padded([clip.features[name] for clip in clips])
        soft = examples.targets is not None or (changed and any(_changes_target(s) for s in self.augment))
        return Batch(
            ids=tuple(examples.ids[r] for r in rows),
            features=features,
            lengths=lengths,
            labels=torch.from_numpy(examples.labels[rows]),
            targets=torch.from_numpy(np.stack([c.target for c in clips]).astype(np.float32)) if soft else None,
            class_mask=None if examples.class_mask is None else torch.from_numpy(examples.class_mask[rows]),
            attributes=torch.from_numpy(examples.attributes[rows]),
        )

    def _clip(self, row: int) -> Example:
        examples = self.examples
        target = np.zeros(len(examples.label_names))
        if examples.targets is not None:
            target = examples.targets[row].astype(np.float64)
            target = target / target.sum()
        elif examples.labels[row] >= 0:
            target[examples.labels[row]] = 1.0
        utterance = examples.ids[row]
        frames = {name: np.asarray(s.get(utterance), dtype=np.float32) for name, s in examples.sources.items()}
        return Example(target=target, features=frames)


def _changes_target(step: Augmentation) -> bool:
    return step.needs_partner or step.kind == "target"


def _padded(items: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = np.array([len(x) for x in items], dtype=np.int64)
    padded = np.zeros((len(items), int(sizes.max()), items[0].shape[1]), dtype=np.float32)
    for k, x in enumerate(items):
        padded[k, : len(x)] = x
    return torch.from_numpy(padded), torch.from_numpy(sizes)


def _prefetched(make: Callable[[np.ndarray], Batch], batches: Iterable[np.ndarray]) -> Iterator[Batch]:
    """Make the next batch in a thread while the current one is used; order and content do not change."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for rows in batches:
            ahead = pool.submit(make, rows)
            if pending is not None:
                yield pending.result()
            pending = ahead
        if pending is not None:
            yield pending.result()
