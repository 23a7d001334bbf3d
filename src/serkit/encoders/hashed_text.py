"""Words as hashed vectors: a text encoder without weights."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from serkit.encoding import EncoderSpec
from serkit.errors import SerkitError, check_known

DIMS = (32, 64, 128, 256)
GRAMS = (3, 4, 5)
EMPTY = "<empty>"
# letters of languages that write no spaces stand alone; other words whole; marks that carry tone
TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]|[^\W_]+(?:['’][^\W_]+)*|[!?…]+")


class HashedText:
    """Strings to one vector per word: the sum of pseudo-random vectors of the word and its letter groups.

    Words that share letter groups get similar vectors, in any language, without training (the hashing
    of P. Bojanowski et al. (2017), TACL 5, section 3.2, without their learning). Every group's vector is
    ±1 from SHAKE-256 of its letters, so it is the same everywhere. Context is left to the network.

    Args:
        name: ``hashed_text/DIM``. max_tokens: words after these are dropped.
        pool: accepted for symmetry; words are not pooled, so only 1 is.
    """

    COMMERCIAL: ClassVar[bool | None] = True  # its licence allows commercial use

    def __init__(self, name: str = "hashed_text/128", *, max_tokens: int = 512, pool: int = 1) -> None:
        name = "hashed_text/128" if name == "hashed_text" else name
        check_known(name, self.names(), f"no encoder '{name}'")
        if max_tokens < 1 or pool != 1:
            raise SerkitError(f"encoder '{name}': max_tokens {max_tokens} must be at least 1, and pool {pool} be 1")
        self.max_tokens = int(max_tokens)
        self.spec = EncoderSpec(
            name=name,
            modality="text",
            dim=int(name.rpartition("/")[2]),
            params={"max_tokens": self.max_tokens},
            licence="Apache-2.0",
        )

    def __call__(self, items: Sequence[str]) -> list[np.ndarray]:
        """One (words, dim) float32 array per string; one frame for a text without words."""
        return [self._one(item) for item in items]

    def load(self, device: str = "cpu") -> None:
        """Nothing to load."""

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {
            f"hashed_text/{dim}": f"hashed words and letter groups, {dim} numbers a word (Apache-2.0)" for dim in DIMS
        }

    @classmethod
    def tiny(cls) -> HashedText:
        """32 numbers a word."""
        return cls("hashed_text/32")

    def _one(self, text: str) -> np.ndarray:
        if not isinstance(text, str):
            raise SerkitError(f"encoder '{self.spec.name}': got {type(text).__name__}, expected a string")
        words = TOKENS.findall(unicodedata.normalize("NFKC", text).casefold())[: self.max_tokens] or [EMPTY]
        return np.stack([_word(word[:64], self.spec.dim) for word in words])


@lru_cache(maxsize=65_536)
def _word(word: str, dim: int) -> np.ndarray:
    """(dim,) float32 of mean square about 1: the whole word counts as much as its letter groups together."""
    whole = _signs(f"={word}", dim)
    marked = f"<{word}>"
    groups = [marked[i : i + n] for n in GRAMS for i in range(len(marked) - n + 1)]
    if not groups or word == EMPTY:
        return whole
    parts = np.sum([_signs(group, dim) for group in groups], axis=0) / np.sqrt(len(groups))
    return np.asarray((whole + parts) / np.sqrt(2.0), dtype=np.float32)


def _signs(group: str, dim: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(group.encode()).digest(dim // 8), dtype=np.uint8))
    return bits.astype(np.float32) * 2 - 1
