"""Word and character error rates of transcripts against given references."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serkit.errors import SerkitError


@dataclass(frozen=True)
class ErrorRate:
    """Errors over the length of the references.

    Attributes:
        errors: substitutions, insertions and deletions together. n: units in the references. texts: how many.
    """

    errors: int
    n: int
    texts: int

    @property
    def rate(self) -> float:
        """``errors / n``; nan where the references are empty."""
        return self.errors / self.n if self.n else float("nan")


def wer(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Word error rate after :func:`normal`: edits over words of the references, summed over texts.

    >>> wer(["Hello, world!"], ["hello word"]).rate
    0.5
    """
    return _rate([normal(t).split() for t in references], [normal(t).split() for t in hypotheses])


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Character error rate after :func:`normal`, spaces not counted: for languages written without them too.

    >>> cer(["日本語"], ["日本誤"]).errors
    1
    """
    given, found = ([list(normal(t).replace(" ", "")) for t in texts] for texts in (references, hypotheses))
    return _rate(given, found)


def normal(text: str) -> str:
    """Lower case, compatibility characters unified, punctuation and symbols away, single spaces.

    Apostrophes inside words go without leaving a space; nothing is translated or spelled out.

    >>> normal("Don’t  STOP—now!")
    'dont stop now'
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("'", "").replace("’", "")
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join("".join(kept).split())


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance: fewest substitutions, insertions and deletions from one to the other.

    >>> edits("kitten", "sitting")
    3
    """
    ids = {unit: k for k, unit in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    target = np.array([ids[unit] for unit in hypothesis], dtype=np.int64)
    ramp = np.arange(len(target) + 1)
    row = ramp.copy()
    for unit in reference:
        changed = np.concatenate([[row[0] + 1], np.minimum(row[1:] + 1, row[:-1] + (target != ids[unit]))])
        row = np.minimum.accumulate(changed - ramp) + ramp  # insertions run along the row
    return int(row[-1])


def _rate(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> ErrorRate:
    if len(references) != len(hypotheses):
        raise SerkitError(
            f"error rate: {len(references)} references, {len(hypotheses)} transcripts; expected the same number"
        )
    errors = sum(edits(r, h) for r, h in zip(references, hypotheses, strict=True))
    return ErrorRate(errors, sum(len(r) for r in references), len(references))
