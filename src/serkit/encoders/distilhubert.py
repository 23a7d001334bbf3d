"""Hidden states of DistilHuBERT."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.speech import SpeechEncoder


class Distilhubert(SpeechEncoder):
    """DistilHuBERT (Chang et al. 2022, arXiv 2110.01900), two layers of HuBERT, 50 frames a second."""

    FAMILY: ClassVar[str] = "distilhubert"
