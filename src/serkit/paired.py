"""The statistics of a paired comparison, of any number that sums over units give. Imports numpy only."""

from __future__ import annotations

import math

import numpy as np

from serkit.bootstrap import Clusters, Units

# distance between no effect and one whose interval leaves out 0 four times in five, in standard errors:
# z(0.975) + z(0.8)
POWER_80 = 1.959964 + 0.841621


def gap(values: np.ndarray) -> np.ndarray:
    """(draws, seeds) differences from (draws, 2, seeds) values."""
    return np.asarray(values[:, 0] - values[:, 1])


def over_seeds(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws,) means over seeds drawn with replacement, deviations widened for their small number."""
    draws, n_seeds = gaps.shape
    mean = gaps.mean(axis=1)
    if n_seeds == 1:
        return np.asarray(mean)
    chosen = np.take_along_axis(gaps, rng.integers(n_seeds, size=(draws, n_seeds)), axis=1).mean(axis=1)
    return np.asarray(mean + math.sqrt(n_seeds / (n_seeds - 1)) * (chosen - mean))


def seeded_p(gaps: np.ndarray, by_seed: np.ndarray, n_units: int) -> float:
    """Two-sided p of the mean difference over seeds of training, by a t-test; 0 of one seed, which has no spread.

    Draws of three seeds are of these three: where most of the spread is theirs, as with many speakers, bootstrap and
    permutation call seeds that agree by chance certain. Here the variance is that over speakers plus that over seeds,
    and few of either have few degrees of freedom (Welch 1947; Satterthwaite 1946).

    Args:
        gaps: (draws, seeds) when speakers are drawn. by_seed: (seeds,) as measured. n_units: what a draw draws.
    """
    from scipy.special import stdtr

    n_seeds = len(by_seed)
    if n_seeds == 1 or len(gaps) < 2:
        return 0.0
    of_speakers, of_seeds = float(gaps.mean(axis=1).var(ddof=1)), float(by_seed.var(ddof=1)) / n_seeds
    variance = of_speakers + of_seeds
    if variance < 1e-24:
        return 0.0
    freedom = variance**2 / (of_speakers**2 / max(n_units - 1, 1) + of_seeds**2 / (n_seeds - 1))
    return float(2 * stdtr(freedom, -abs(by_seed.mean()) / math.sqrt(variance)))


def named(groups: Clusters, draws: int, n_seeds: int) -> str:
    """What the interval is called: paired, and by seeds where there are several."""
    text = groups.interval(draws).replace("% ", "% paired ", 1)
    if n_seeds == 1:
        return text
    return text.replace(f" bootstrap ({draws} draws)", f" and seed bootstrap ({draws} draws, {n_seeds} seeds)")


def trades(times: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """How many of each unit trade places: every way of it once where these are few enough, else at random.

    Args:
        times: (units,) how many there are of each unit. draws: how many ways at the most.

    Returns:
        (ways, units) float64, and whether these are all there are.
    """
    if (times == 1).all() and 2 ** len(times) <= draws:
        return (np.arange(2 ** len(times))[:, None] >> np.arange(len(times)) & 1).astype(np.float64), True
    return rng.binomial(times, 0.5, size=(draws, len(times))).astype(np.float64), False


def swapped(units: Units, trades: np.ndarray) -> np.ndarray:
    """(ways, columns): sums after the two systems traded places in the units of each row of ``trades``."""
    half = units.sums.shape[1] // 2
    a, b = units.sums[:, :half], units.sums[:, half:]
    times = units.times.astype(np.float64)
    first = trades @ (b - a) + times @ a
    return np.concatenate([first, times @ (a + b) - first], axis=1)


def permutation_p(null: np.ndarray, difference: float, *, exact: bool) -> float:
    """Share of (ways,) differences after a swap that are as large; one is added to both where they are a sample."""
    more = 0 if exact else 1
    return float(((np.abs(null) >= abs(difference) - 1e-12).sum() + more) / (len(null) + more))


def bootstrap_p(gaps: np.ndarray) -> float:
    """Two-sided p of (draws,) bootstrap differences against 0."""
    tail = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(gaps) + 1))
