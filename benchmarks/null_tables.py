"""How often a table of `serkit ablate` says that a part helps or harms when no variant differs from the full recipe.

    python benchmarks/null_tables.py [--tables N] [--seeds K …] [--speakers S …] [--deviation D …]

Every network has an accuracy of 0.6 and, by its training, a normal deviation of D; speakers differ in difficulty (a
standard deviation of 0.8 in log odds), and in how well a network suits them (0.3), and have 20 clips each. A table has
the full recipe and five variants. Intervals and p are those of serkit (`serkit.paired`, `serkit.comparison.holm`), from
400 draws. Random numbers depend on the arguments alone.

Printed are the share of single intervals that leave out zero, and the share of tables that call one variant or more
certain: as serkit does, and without the t-test over speakers and seeds.
"""

from __future__ import annotations

import argparse

import numpy as np

from serkit import paired
from serkit.comparison import holm

CLIPS, VARIANTS, DRAWS = 20, 5, 400
DIFFICULTY, TASTE = 0.8, 0.3


def right_clips(rng: np.random.Generator, n_speakers: int, n_seeds: int, deviation: float) -> np.ndarray:
    """(variants + 1, seeds, speakers) of how many clips each network has right."""
    difficulty = rng.normal(0, DIFFICULTY, n_speakers)
    found = np.empty((VARIANTS + 1, n_seeds, n_speakers))
    for network in found.reshape(-1, n_speakers):
        accuracy = np.clip(0.6 + rng.normal(0, deviation), 0.05, 0.95)
        odds = np.log(accuracy / (1 - accuracy)) + difficulty + rng.normal(0, TASTE, n_speakers)
        network[:] = rng.binomial(CLIPS, 1 / (1 + np.exp(-odds)))
    return found


def swaps(rng: np.random.Generator, n_speakers: int) -> tuple[np.ndarray, bool]:
    """Signs (swaps, speakers) of exchanging two systems, and whether each exchange is there once."""
    if 2**n_speakers <= DRAWS:
        return 1 - 2.0 * ((np.arange(2**n_speakers)[:, None] >> np.arange(n_speakers)) & 1), True
    return rng.choice([-1.0, 1.0], (DRAWS, n_speakers)), False


def table(rng: np.random.Generator, n_speakers: int, n_seeds: int, deviation: float) -> tuple[float, bool, bool]:
    """Share of intervals without zero; whether a variant is called certain, with the t-test and without."""
    right = right_clips(rng, n_speakers, n_seeds, deviation)
    drawn = rng.multinomial(n_speakers, np.ones(n_speakers) / n_speakers, size=DRAWS) / n_speakers / CLIPS
    signs, exact = swaps(rng, n_speakers)
    outside, p, p_seeds, p_permuted = [], [], [], []
    for variant in right[1:]:
        gap = (right[0] - variant).T  # (speakers, seeds)
        by_speakers, by_seed = drawn @ gap, gap.mean(axis=0) / CLIPS
        both = paired.over_seeds(by_speakers, rng)
        low, high = np.percentile(both, [2.5, 97.5])
        outside.append(low > 0 or high < 0)
        p.append(paired.bootstrap_p(both))
        p_seeds.append(max(p[-1], paired.seeded_p(by_speakers, by_seed, n_speakers)))
        null = signs @ gap.mean(axis=1) / n_speakers / CLIPS
        p_permuted.append(paired.permutation_p(null, float(by_seed.mean()), exact=exact))
    out, permuted = np.array(outside), np.array(holm(p_permuted)) < 0.05
    sure, before = ((out & permuted & (np.array(holm(values)) < 0.05)).any() for values in (p_seeds, p))
    return float(out.mean()), bool(sure), bool(before)


def main() -> None:
    """Print a line for each number of speakers, seeds and deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--speakers", type=int, nargs="+", default=[6, 18, 50, 200])
    parser.add_argument("--deviation", type=float, nargs="+", default=[0.02, 0.05])
    given = parser.parse_args()
    for deviation in given.deviation:
        for n_seeds in given.seeds:
            for n_speakers in given.speakers:
                rng = np.random.default_rng([5, n_speakers, n_seeds, int(deviation * 100)])
                rows = [table(rng, n_speakers, n_seeds, deviation) for _ in range(given.tables)]
                outside, sure, before = np.mean(rows, axis=0)
                print(
                    f"deviation {deviation:g}, {n_seeds} seeds, {n_speakers} speakers: intervals without zero "
                    f"{outside:.1%}; tables with a certain variant {sure:.1%}, without the t-test {before:.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
