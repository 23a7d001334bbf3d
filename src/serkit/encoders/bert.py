"""Token states of Bert-shaped text models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from serkit.foundation.base import Layer, Precision
from serkit.foundation.text import Special, TextEncoder


class Bert(TextEncoder):
    """BERT (Devlin et al. 2019, arXiv 1810.04805): one state per token.

    Args:
        name: ``bert/…``, or ``hub:ORG/MODEL`` or ``path:DIR`` of that architecture (a
            sentence-transformer-shaped folder too).
        layer: hidden state: a number (0 is what enters the first layer), ``last``, ``mean_last_4``, or ``all``
            side by side, (tokens, layers x dim), with ``n_layers`` in the spec's parameters.
        special_tokens: ``keep`` the states of the markers at both ends (as published), or ``drop`` them.
        max_tokens: longest window, markers counted; never more than the model's own limit.
        overlap: tokens that a window sees beyond those it gives, on each side, where a text needs several.
        pad_to: cut or pad every text to so many tokens and keep the states of the padding, as the released code
            of Ueda et al. 2025 does with 80; ``None``: texts as long as they are.
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder in the hub's layout that replaces the source.
        precision: arithmetic of the model: ``float32``, ``bf16`` or ``fp16``.
        batch_tokens: tokens computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    FAMILY: ClassVar[str] = "bert"

    def __init__(
        self,
        name: str = "bert/base-uncased",
        *,
        layer: Layer = "last",
        special_tokens: Special = "keep",
        max_tokens: int = 512,
        overlap: int = 64,
        pad_to: int | None = None,
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        precision: Precision = "float32",
        batch_tokens: int | None = None,
    ) -> None:
        self._build(
            name, layer=layer, pool=pool, dtype=dtype, source=source, precision=precision,
            special_tokens=special_tokens, max_tokens=max_tokens, overlap=overlap, pad_to=pad_to,
            batch_tokens=batch_tokens,
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> Bert:
        """Small random weights of the real class, saved and loaded like a download."""
        return cls("bert/random")
