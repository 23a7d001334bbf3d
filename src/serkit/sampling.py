"""Examples to padded batches: length buckets, balanced draws, augmentation, the same for the same seed.

Which rows make an epoch is decided from lengths and labels alone; features are read, or computed anew from
an augmented waveform, when a batch is made. Nothing here keeps state between epochs, so epoch ``k`` is the
same after a resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from serkit.augment import Augmentation, Example, apply_chain, split_chain
from serkit.errors import SerkitError
from serkit.examples import Examples
from serkit.settings import Draw
from serkit.tensors import Batch, pad_sequences

_CHUNK_BATCHES = 50
_WORKERS = 2  # threads that augment waveforms and compute their features ahead of the network


def draw_epoch(groups: np.ndarray, rng: np.random.Generator, draw: Draw = "replacement") -> np.ndarray:
    """The rows of one epoch, each group equally often.

    With one group this is a permutation. Otherwise each group gets ``rows / n_groups`` draws (the
    remainder goes to random groups): ``replacement`` draws them independently, as the published
    WeightedRandomSampler does (code of Ueda et al. 2025), ``passes`` in shuffled passes over the group, so
    that no row is drawn twice before every row of its group was drawn once. ``undersample`` draws none
    twice, and of each group as many as the smallest has (code of Chatzichristodoulou et al. 2025);
    ``undersample_once`` is the same draw with a generator that is the same in every epoch.

    Returns:
        (draws,) int64, shuffled: as many as there are rows, or as :func:`undersampled` says.
    """
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    if len(members) == 1:
        return rng.permutation(len(groups))
    if draw in ("undersample", "undersample_once"):
        n_each = undersampled(groups) // len(members)
        return rng.permutation(np.concatenate([rng.choice(rows, size=n_each, replace=False) for rows in members]))
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


def undersampled(groups: np.ndarray) -> int:
    """How many rows are left where each group has as many as the smallest."""
    sizes = np.unique(groups, return_counts=True)[1]
    return len(sizes) * int(sizes.min())


def bucket_batches(
    rows: np.ndarray,
    lengths: np.ndarray,
    groups: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Cut drawn rows into batches of similar length, keeping each group's share in every batch.

    The draw is cut into chunks of ``_CHUNK_BATCHES`` batches. Inside a chunk every group is sorted by
    length on its own and dealt out evenly along the chunk, so a batch holds clips of similar length and,
    up to rounding, each group's share of the chunk. Without this, a class of short clips would fill
    whole batches. The order of the batches is shuffled.

    Args:
        rows: (draws,) row numbers. lengths: (rows,) frames by row number. groups: (rows,) by row number.

    Returns:
        Arrays of row numbers, each of ``batch_size`` but one a chunk.
    """
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), batch_size * _CHUNK_BATCHES):
        chunk = rows[start : start + batch_size * _CHUNK_BATCHES]
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
        without_agreement: rows without a label that an epoch has beside those with one, as a share of these;
            ``None`` makes no difference between them.

    Where the examples have copies, a training batch takes the clip or one of its copies, each as often.
    """

    examples: Examples
    batch_size: int
    seed: int = 0
    balance: str | None = None
    draw: Draw = "replacement"
    bucket: bool = True
    augment: Sequence[Augmentation] = ()
    without_agreement: float | None = None

    def batch_rows(self, epoch: int) -> list[np.ndarray]:
        """Row numbers of every training batch of an epoch; the same for the same seed and epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn, groups, others = self._drawn_from()
        once = self.draw == "undersample_once"
        rows = drawn[draw_epoch(groups[drawn], np.random.default_rng(self.seed) if once else rng, self.draw)]
        if once or len(others):
            more = rng.choice(others, size=self.n_rows - len(rows), replace=False)
            rows = rng.permutation(np.concatenate([rows, more]))
        if not self.bucket:
            return [rows[k : k + self.batch_size] for k in range(0, len(rows), self.batch_size)]
        return bucket_batches(rows, self.examples.lengths.max(axis=1), groups, self.batch_size, rng)

    @cached_property
    def n_rows(self) -> int:
        """How many rows an epoch has."""
        drawn, groups, others = self._drawn_from()
        fewer = self.balance is not None and self.draw in ("undersample", "undersample_once")
        n = undersampled(groups[drawn]) if fewer else len(drawn)
        return n + min(len(others), int((self.without_agreement or 0.0) * n + 1e-9))

    def _drawn_from(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that are drawn by group, the (rows,) groups of all, and the rows that are drawn beside them.

        Raises:
            SerkitError: no row has a label, and those without are to be drawn beside them; or no groups.
        """
        groups, labelled = self.examples.groups(self.balance), self.examples.labels >= 0
        if self.without_agreement is None:
            return np.arange(len(groups)), groups, np.empty(0, dtype=np.int64)
        if not labelled.any():
            raise SerkitError("without_agreement: no training clip has a label that raters agree on; leave it out")
        apart = np.where(labelled, groups, groups.max() + 1)
        return np.flatnonzero(labelled), apart, np.flatnonzero(~labelled)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def epoch(self, epoch: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Training batches of an epoch; of several processes, each gets its share of every batch."""
        batches = (rows[rank::world] if len(rows) >= world else rows for rows in self.batch_rows(epoch))
        workers = _WORKERS if any(step.kind == "samples" for step in self.augment) else 1
        yield from _prefetched(lambda rows: self.collate(rows, epoch), batches, workers)

    def in_order(self) -> Iterator[Batch]:
        """Every row once, sorted by length, never augmented: for scoring."""
        order = np.argsort(self.examples.lengths.max(axis=1), kind="stable")
        batches = (order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size))
        yield from _prefetched(self.collate, batches)

    def collate(self, rows: np.ndarray, epoch: int | None = None) -> Batch:
        """Make the batch of some rows.

        A class that has a share of a row's mixed label is possible for that row, even where its own corpus does
        not have the class. Attributes of a mixture mix like its label; an unknown one leaves it unknown.

        Args:
            rows: row numbers. epoch: seeds the augmentation; ``None`` applies none.
        """
        examples = self.examples
        changed = epoch is not None and bool(self.augment or examples.copies)
        if changed:
            clips = [self._augmented(int(r), (self.seed, 1 + (epoch or 0), int(r), k)) for k, r in enumerate(rows)]
        else:
            clips = [examples.example(int(r)) for r in rows]
        features, lengths = {}, {}
        for name in examples.sources:
            features[name], lengths[name] = pad_sequences([clip.features[name] for clip in clips])
        targets = None
        if examples.targets is not None or (changed and any(_changes_target(s) for s in self.augment)):
            targets = np.stack([c.target for c in clips]).astype(np.float32)
        mask = None
        if examples.class_mask is not None:
            mask = examples.class_mask[rows] if targets is None else examples.class_mask[rows] | (targets > 0)
        attributes = np.stack([np.full(3, np.nan) if c.attributes is None else c.attributes for c in clips])
        return Batch(
            ids=tuple(examples.ids[r] for r in rows),
            features=features,
            lengths=lengths,
            labels=torch.from_numpy(examples.labels[rows]),
            targets=None if targets is None else torch.from_numpy(targets),
            class_mask=None if mask is None else torch.from_numpy(mask),
            attributes=torch.from_numpy(attributes.astype(np.float32)),
            genders=torch.tensor([clip.gender for clip in clips]),
        )

    def _augmented(self, row: int, seed: tuple[int, ...]) -> Example:
        """One row after the chain: samples and labels first, then its features, then steps on those.

        Everything random in it comes from ``seed``; a waveform that was changed with it before may be remembered.
        """
        remembered = None if self.examples.hearing is None else self.examples.hearing.remembered
        known = None if remembered is None else remembered.get(seed)
        if known is not None:
            return known
        rng = np.random.default_rng(seed)
        before, after = split_chain(self.augment)
        heard = any(step.kind == "samples" for step in before)
        alone = [step for step in before if not step.needs_partner]
        n, n_copies = len(self.examples), len(self.examples.copies)

        def any_copy(number: int, r: np.random.Generator) -> Example:
            copy = int(r.integers(1 + n_copies)) if n_copies and not heard else 0
            return self.examples.example(number, heard=heard, copy=copy)

        def drawn(r: np.random.Generator) -> Example:
            return any_copy(int(r.integers(n)), r)

        def drawn_later(r: np.random.Generator) -> Example:
            other = int(r.integers(n))
            plain = any_copy(other, r)
            return self._with_features(other, plain, apply_chain(alone, plain, r))

        plain = any_copy(row, rng)
        clip = self._with_features(row, plain, apply_chain(before, plain, rng, drawn))
        result = apply_chain(after, clip, rng, drawn_later)
        if remembered is not None and clip.samples is not plain.samples:
            remembered.keep(seed, result)
        return result

    def _with_features(self, row: int, plain: Example, clip: Example) -> Example:
        """The clip with its features: the stored ones where no step changed its waveform, which are the same."""
        hearing = self.examples.hearing
        if plain.samples is None or hearing is None or clip.samples is None:
            return clip
        if clip.samples is plain.samples:
            return replace(clip, features=self.examples.stored(row))
        found = hearing.features(clip.samples)
        read = self.examples.stored(row, [k for k in self.examples.sources if k not in found])  # texts
        return replace(clip, features={**read, **found})


def _changes_target(step: Augmentation) -> bool:
    return step.needs_partner or step.kind == "target"


def _prefetched(
    make: Callable[[np.ndarray], Batch], batches: Iterable[np.ndarray], workers: int = 1
) -> Iterator[Batch]:
    """Make the next batches in threads while the current one is used; order and content do not change."""
    pending: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for rows in batches:
            pending.append(pool.submit(make, rows))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
