"""Token states of Bert-shaped text models."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.text import TextEncoder


class Bert(TextEncoder):
    """BERT (Devlin et al. 2019, arXiv 1810.04805): one state per token."""

    FAMILY: ClassVar[str] = "bert"
