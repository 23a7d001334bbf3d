"""Token states of Deberta-shaped text models."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.text import TextEncoder


class Deberta(TextEncoder):
    """DeBERTa v2 and v3 (He et al. 2021, arXiv 2006.03654 and 2111.09543): one state per token."""

    FAMILY: ClassVar[str] = "deberta"
