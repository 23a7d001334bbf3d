"""Hidden states of HuBERT."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from serkit.foundation.base import Layer, Precision
from serkit.foundation.speech import SpeechEncoder


class Hubert(SpeechEncoder):
    """HuBERT (Hsu et al. 2021, arXiv 2106.07447), 50 frames a second.

    Args:
        name: ``hubert/…``, or ``hub:ORG/MODEL`` or ``path:DIR`` of that architecture.
        layer: hidden state: a number (0 is what enters the first layer), ``last``, ``mean_last_4``, or ``all``
            side by side, (frames, layers x dim), with ``n_layers`` in the spec's parameters.
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder in the hub's layout that replaces the source.
        precision: arithmetic of the model: ``float32``, ``bf16`` or ``fp16``.
        chunk_s, context_s: clips longer than the one are computed in stretches that see the other on each side.
        batch_s: seconds of audio computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    FAMILY: ClassVar[str] = "hubert"
    CLASS: ClassVar[str] = "HubertModel"

    def __init__(
        self,
        name: str = "hubert/xlarge-ls960-ft",
        *,
        layer: Layer = "last",
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        precision: Precision = "float32",
        chunk_s: float = 60.0,
        context_s: float = 5.0,
        batch_s: float | None = None,
    ) -> None:
        self._build(
            name, layer=layer, pool=pool, dtype=dtype, source=source, precision=precision, chunk_s=chunk_s,
            context_s=context_s, batch_s=batch_s,
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> Hubert:
        """Small random weights of the real class, saved and loaded like a download."""
        return cls("hubert/random")
