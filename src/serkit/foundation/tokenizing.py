"""A tokenizer as one JSON file: texts to token ids by the package tokenizers alone, with neither hub nor model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serkit.errors import SerkitError
from serkit.extras import optional
from serkit.foundation.loading import tokenizer_of

FAMILIES = ("roberta", "bert", "deberta", "modernbert")
MAX_TOKENS, OVERLAP = 512, 64  # of a window of a long text, markers counted, and what windows share on each side
_PLACED_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")


class Tokenizer:
    """Token ids of texts, as the transformers tokenizer that it was made of gives them.

    Args:
        content: of a ``tokenizer.json``, as the package tokenizers writes it. name: of the encoder, for messages.

    Attributes:
        content: as given. prefix, suffix: ids of the markers before and after a text, such as ``<s>`` and ``</s>``.

    Raises:
        MissingExtra: the package is not installed.
        SerkitError: the content is damaged, or the tokenizer puts no marker before a text.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.content = content
        package = optional("tokenizers", "foundation", f"encoder '{name}'")
        try:
            self._inner: Any = package.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # noqa: BLE001  # what the tokenizers package raises has no type of its own
            reason = " ".join(str(error).split())[:200]
            raise SerkitError(f"encoder '{name}': its tokenizer.json is damaged: {reason}") from None
        self._inner.no_truncation()
        self._inner.no_padding()
        self._inner.encode_special_tokens = True  # <s> in a transcript is four characters, not a marker
        self.prefix, self.suffix = markers(name, self.ids("a"), self._inner.encode("a").ids)
        if not self.prefix:
            raise SerkitError(f"encoder '{name}': its tokenizer puts no marker before a text")

    @classmethod
    def of_folder(cls, name: str, folder: Path) -> Tokenizer:
        """That of a model's folder in the hub's layout.

        Raises:
            MissingExtra: transformers is not installed.
            SerkitError: as for :func:`serkit.foundation.loading.tokenizer_of`, and for :meth:`of`.
        """
        return cls.of(name, tokenizer_of(name, folder))

    @classmethod
    def of(cls, name: str, tokenizer: Any) -> Tokenizer:
        """That of a tokenizer of transformers.

        Raises:
            SerkitError: it is computed in Python, and has no such file.
        """
        inner = getattr(tokenizer, "backend_tokenizer", None)
        if inner is None:
            raise SerkitError(f"encoder '{name}': a {type(tokenizer).__name__} is none of the package tokenizers")
        return cls(inner.to_str().encode("utf-8"), name)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text without markers."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def frames(self, text: str) -> np.ndarray:
        """(tokens, 1) float32, which holds every id exactly: with both markers; of an empty text the first alone."""
        ids = self.ids(text)
        row = [*self.prefix, *ids, *self.suffix] if ids else self.prefix[:1]
        return np.asarray(row, dtype=np.float32)[:, None]


def markers(name: str, inner: Sequence[int], outer: Sequence[int]) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and after a text, from its ids of one text without (``inner``) and with markers.

    Raises:
        SerkitError: the ids of the text itself differ.
    """
    for start in range(len(outer) - len(inner) + 1):
        if list(outer[start : start + len(inner)]) == list(inner):
            return list(outer[:start]), list(outer[start + len(inner) :])
    raise SerkitError(f"encoder '{name}': its tokenizer changes a text when special tokens are added")


def longest_window(config: Any, tokenizer: Any, most: int = MAX_TOKENS) -> int:
    """Tokens, markers counted, that a model sees at once: at most ``most``, never more than its own positions.

    Args:
        config: of transformers. tokenizer: of transformers, which has a limit of its own.
    """
    limit = int(getattr(config, "max_position_embeddings", 0) or 512)
    if config.model_type in _PLACED_AFTER_PADDING:
        limit -= int(config.pad_token_id) + 1  # positions start after the padding index
    return min(limit, most, int(tokenizer.model_max_length))
