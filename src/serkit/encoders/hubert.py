"""Hidden states of HuBERT."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.speech import SpeechEncoder


class Hubert(SpeechEncoder):
    """HuBERT (Hsu et al. 2021, arXiv 2106.07447), 50 frames a second."""

    FAMILY: ClassVar[str] = "hubert"
