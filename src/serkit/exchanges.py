"""Whether groups differ by more than chance: members exchange groups at random, and the gap is measured again.

Where the members are speakers, a gap is measured in standard errors, not as it is: a group of speakers with few clips
each varies more than one of speakers with many, and a plain gap would take that for a difference (Chung and Romano
2013, Annals of Statistics 41: a permutation test of a studentised statistic holds its level then too).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_ROOM = 4_000_000  # numbers in one table of a chunk
_TINY = 1e-12


@dataclass(frozen=True)
class Members:
    """What changes groups.

    Attributes:
        counts: (members, classes²) float64: clips of each truth and answer. group: (members,) int64 below ``n_groups``.
        block: (members,) int64: a member changes groups with those of its block alone.
        in_errors: whether gaps are measured in standard errors.
    """

    counts: np.ndarray
    group: np.ndarray
    block: np.ndarray
    n_groups: int
    in_errors: bool


@dataclass(frozen=True)
class Ratios:
    """A mean of ratios of counts, such as UAR, and which groups are compared in it.

    Attributes:
        above, below: (classes², terms) float64: what of the counts stands above and below the line of each term.
        support: (classes², terms): the clips without which a group has no such term.
        among: (groups,) bool.
    """

    above: np.ndarray
    below: np.ndarray
    support: np.ndarray
    among: np.ndarray


def recalls(classes: np.ndarray, n_classes: int, among: np.ndarray) -> Ratios:
    """The mean recall of some classes: UAR, or the recall of one."""
    right, truth, _ = _columns(classes, n_classes)
    return Ratios(right, truth, truth, among)


def f1s(classes: np.ndarray, n_classes: int, among: np.ndarray) -> Ratios:
    """The mean F1 of some classes: Macro-F1."""
    right, truth, answer = _columns(classes, n_classes)
    return Ratios(2 * right, truth + answer, truth, among)


def _columns(classes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes², terms) columns that add up the right answers, the clips and the answers of each class."""
    one = np.eye(n_classes)[:, classes]
    everywhere = np.ones_like(one)
    right, truth, answer = (
        (a[:, None, :] * b[None, :, :]).reshape(n_classes**2, -1)
        for a, b in ((one, one), (one, everywhere), (everywhere, one))
    )
    return right, truth, answer


def p_values(
    members: Members, numbers: Mapping[str, Ratios], *, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Share of exchanges whose largest gap is at least as large as the measured one, one added to both, by number.

    Args:
        members: as they are. numbers: by name. draws: exchanges; the same for every number.
    """
    order = np.argsort(members.block, kind="stable")
    block = np.unique(members.block[order], return_inverse=True)[1].reshape(-1)
    counts, group = members.counts[order], members.group[order]
    measured = {name: float(_largest(counts, group[None, :], members, r)[0]) for name, r in numbers.items()}
    more = dict.fromkeys(numbers, 1)
    step = max(1, _ROOM // max(len(block), 1))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        moved = group[np.argsort(block + rng.random((size, len(block))), axis=1)]
        sums = _sums(counts, moved, members.n_groups)
        for name, ratios in numbers.items():
            found = _largest(counts, moved, members, ratios, sums)
            more[name] += int((found >= measured[name] * (1 - 1e-9) - _TINY).sum())
    return {name: n / (draws + 1) for name, n in more.items()}


def _sums(counts: np.ndarray, moved: np.ndarray, n: int) -> np.ndarray:
    """(draws, groups, classes²) counts of each group, of (draws, members) groups."""
    return np.stack([(moved == g).astype(np.float64) @ counts for g in range(n)], axis=1)


def _largest(
    counts: np.ndarray, moved: np.ndarray, members: Members, ratios: Ratios, sums: np.ndarray | None = None
) -> np.ndarray:
    """(draws,) the largest gap between two groups, of (draws, members) groups."""
    sums = _sums(counts, moved, members.n_groups) if sums is None else sums
    below = sums @ ratios.below
    there = sums @ ratios.support > 0
    share = np.where(there, sums @ ratios.above / np.maximum(below, _TINY), 0.0)
    n_terms = there.sum(axis=-1)
    value = share.sum(axis=-1) / np.maximum(n_terms, 1)
    known = (n_terms > 0) & ratios.among
    if not members.in_errors:
        return np.asarray(np.where(known, value, -np.inf).max(axis=1) - np.where(known, value, np.inf).min(axis=1))
    weight = np.where(there, 1 / np.maximum(below, _TINY), 0.0) / np.maximum(n_terms, 1)[..., None]
    above_of, below_of = counts @ ratios.above, counts @ ratios.below
    variance = np.zeros(value.shape)
    for g in np.flatnonzero(ratios.among):
        pull = weight[:, g] @ above_of.T - (weight[:, g] * share[:, g]) @ below_of.T  # of each member on the number
        variance[:, g] = ((moved == g) * pull**2).sum(axis=1)
    largest = np.full(len(value), -np.inf)
    places = np.flatnonzero(ratios.among)
    for k, a in enumerate(places):
        for b in places[k + 1 :]:
            gap = np.abs(value[:, a] - value[:, b]) / np.sqrt(variance[:, a] + variance[:, b] + _TINY)
            largest = np.maximum(largest, np.where(known[:, a] & known[:, b], gap, -np.inf))
    return largest
