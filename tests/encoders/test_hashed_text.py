from __future__ import annotations

import numpy as np
import pytest

from serkit.encoders.hashed_text import HashedText
from serkit.errors import SerkitError


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_one_frame_a_word_and_one_for_nothing() -> None:
    words, nothing, blank = HashedText()(["I'm so happy!", "", " \n"])
    assert words.shape == (4, 128)
    assert nothing.shape == (1, 128)
    np.testing.assert_array_equal(nothing, blank)
    assert HashedText()(["日本語"])[0].shape == (3, 128)


def test_similar_words_are_near_and_others_are_not() -> None:
    happy, happily, table, upper = HashedText("hashed_text/256")(["happy", "happily", "table", "HAPPY"])
    assert cosine(happy[0], happily[0]) > 0.2
    assert abs(cosine(happy[0], table[0])) < 0.2
    np.testing.assert_array_equal(happy, upper)


def test_the_numbers_are_the_same_everywhere() -> None:
    vector = HashedText("hashed_text/32")(["hello"])[0][0]
    np.testing.assert_allclose((vector**2).mean(), 1.0, atol=0.9)
    golden = [0.2989, -1.1154, 0.7071, 1.5236, 0.2989, -0.2989]
    np.testing.assert_allclose(vector[:6], golden, atol=1e-4)


def test_a_word_has_one_vector_wherever_it_stands() -> None:
    a, b = HashedText()(["yes no", "no yes"])
    np.testing.assert_array_equal(a, b[::-1])


def test_limits() -> None:
    assert len(HashedText(max_tokens=5)(["a b c d e f g"])[0]) == 5
    for options in ({"max_tokens": 0}, {"pool": 4}, {"name": "hashed_text/100"}):
        with pytest.raises(SerkitError):
            HashedText(**options)  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="expected a string"):
        HashedText()([3])  # type: ignore[list-item]
