"""Token states of Roberta-shaped text models."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.text import TextEncoder


class Roberta(TextEncoder):
    """RoBERTa (Liu et al. 2019, arXiv 1907.11692), XLM-RoBERTa and CamemBERT: one state per token."""

    FAMILY: ClassVar[str] = "roberta"
