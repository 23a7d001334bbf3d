"""Token states of Modernbert-shaped text models."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.text import TextEncoder


class Modernbert(TextEncoder):
    """ModernBERT (Warner et al. 2024, arXiv 2412.13663): one state per token."""

    FAMILY: ClassVar[str] = "modernbert"
