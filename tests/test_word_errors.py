"""Word and character error rates against a plain recursion."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.word_errors import cer, edits, normal, wer


def recursive(a: str, b: str) -> int:
    @cache
    def at(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return at(len(a), len(b))


def test_distance_is_levenshteins() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 12))) for _ in range(2))
        assert edits(a, b) == recursive(a, b), (a, b)


def test_rates_are_over_all_words_not_a_mean_of_rates() -> None:
    rate = wer(["one two three four", "yes"], ["one too three", "no"])
    assert (rate.errors, rate.n, rate.texts) == (3, 5, 2)
    assert rate.rate == pytest.approx(0.6)
    assert cer(["abc d"], ["abd"]).errors == 1
    assert math.isnan(wer([""], [""]).rate)
    assert wer([""], ["invented words"]).errors == 2


def test_what_is_forgiven() -> None:
    assert normal("  Don't—STOP, “now”!  ") == "dont stop now"
    assert normal("ሰላም፣ ዓለም።") == "ሰላም ዓለም"
    assert normal("ＦＵＬＬ") == "full"
    with pytest.raises(SerkitError, match="2 references, 1 transcripts"):
        wer(["a", "b"], ["a"])
