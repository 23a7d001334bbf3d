"""Energy-adaptive mixup: a piece of another clip at a drawn SNR, with the matching label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serkit.augment import Example, check_probability
from serkit.augment._signal import (
    check_choice,
    check_range,
    full_scale,
    mixed,
    power,
    snr_gain,
)
from serkit.errors import SerkitError

_TRIES = 10


@dataclass(frozen=True)
class Eam:
    """Energy-adaptive mixup of two waveforms (Wang et al. 2026, arXiv 2512.04551).

    A piece shorter than half of the main clip is cut from each clip at random positions; the partner's
    piece is scaled so that it lies ``snr`` dB under the main clip's and put into its place. The share of
    the partner's label is coverage × energy share,
    ``λ = l_mix / l_i · 1 / (1 + 10^(snr/10))``, which for −5 dB and half a clip is at most 0.38: the main
    label always dominates. This λ is read in the same author's twin paper (2512.04552, Algorithm 1); that
    2512.04551 uses exactly it is inferred. Whether pieces are added or overwritten is told both ways.

    Attributes:
        snr_low_db, snr_high_db: range of the SNR, main over partner, uniform (read: −5 to 10).
        max_fraction: the piece is shorter than this part of the main clip (read: half).
        mode: ``add`` (the twin paper, and SeeNet by the same laboratory) or ``overwrite``, where λ is the share
            of the mixture's energy that the new piece brings (a proposal; it can exceed 0.38).
        reference: powers compared of the two pieces (``segment``, as the formulas are told) or of the two
            whole clips (``utterance``, as in SeeNet's code).
        silence_db: a piece this far below its own clip counts as silent; positions are drawn anew until both pieces
            can be heard, ten times at most (a proposal: 40). Speech has pauses: scaled to the SNR of a pause a
            partner could not be heard, and a pause scaled to the SNR of speech is its background noise.
        probability: unknown in the paper; 0.5 as in label-adaptive mixup, its baseline.
    """

    snr_low_db: float = -5.0
    snr_high_db: float = 10.0
    max_fraction: float = 0.5
    mode: Literal["add", "overwrite"] = "add"
    reference: Literal["segment", "utterance"] = "segment"
    silence_db: float = 40.0
    probability: float = 0.5

    kind = "samples"
    needs_partner = True

    def __post_init__(self) -> None:
        check_range("eam", "the SNR in dB", self.snr_low_db, self.snr_high_db)
        check_choice("eam", "mode", self.mode, ("add", "overwrite"))
        check_choice("eam", "reference", self.reference, ("segment", "utterance"))
        check_range("eam", "silence_db", 0.0, self.silence_db)
        check_probability("eam", self.probability)
        if not 0.0 < self.max_fraction <= 1.0:
            raise SerkitError(
                f"augmentation 'eam': max_fraction is {self.max_fraction}, expected more than 0, at most 1"
            )

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Mix; unchanged where a clip or every drawn piece is silent, or the main clip too short for a piece."""
        if partner is None or example.samples is None or partner.samples is None:
            return example
        main, other = example.samples, partner.samples
        main_power, other_power = power(main), power(other)
        longest = min(math.ceil(len(main) * self.max_fraction) - 1, len(other))
        if main_power == 0.0 or other_power == 0.0 or longest < 1:
            return example
        length = int(rng.integers(1, longest + 1))
        snr_db = float(rng.uniform(self.snr_low_db, self.snr_high_db))
        quiet = 10.0 ** (-self.silence_db / 10.0)
        for _ in range(_TRIES):
            start = int(rng.integers(0, len(main) - length + 1))
            start_other = int(rng.integers(0, len(other) - length + 1))
            place, piece = main[start : start + length], other[start_other : start_other + length]
            if power(place) > quiet * main_power and power(piece) > quiet * other_power:
                return self.mix(example, partner, start, start_other, length, snr_db)
        return example

    def mix(
        self, example: Example, partner: Example, start: int, start_other: int, length: int, snr_db: float
    ) -> Example:
        """The mixture for given positions and SNR: what :meth:`__call__` does once it has drawn them.

        Args:
            example, partner: clips with samples. start, start_other, length: the pieces, in samples.
            snr_db: main over partner, in dB.

        Returns:
            A new example of the main clip's length; ``example`` itself where a piece is silent.

        Raises:
            SerkitError: a piece reaches over the end of its clip, or a clip has no samples.
        """
        main, other = example.samples, partner.samples
        if main is None or other is None:
            raise SerkitError("augmentation 'eam': mixes waveforms, and a clip has none")
        if length < 1 or min(start, start_other) < 0 or start + length > len(main) or start_other + length > len(other):
            raise SerkitError(
                f"augmentation 'eam': pieces of {length} samples at {start} of {len(main)} and at {start_other} of "
                f"{len(other)} do not lie inside their clips"
            )
        piece, place = other[start_other : start_other + length].astype(np.float64), slice(start, start + length)
        whole = self.reference == "utterance"
        main_power = power(main) if whole else power(main[place])
        other_power = power(other) if whole else power(piece)
        if main_power == 0.0 or other_power == 0.0 or power(piece) == 0.0:
            return example
        scaled = snr_gain(main_power, other_power, snr_db) * piece
        result = main.astype(np.float64)
        if self.mode == "add":
            result[place] += scaled
            share = length / len(main) / (1.0 + 10.0 ** (snr_db / 10.0))
        else:
            result[place] = scaled
            share = power(scaled) * length / (power(result) * len(result))
        return mixed(example, partner, share, samples=full_scale(result))
