"""Hidden states of WavLM."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.speech import SpeechEncoder


class Wavlm(SpeechEncoder):
    """WavLM (Chen et al. 2022, arXiv 2110.13900), 50 frames a second."""

    FAMILY: ClassVar[str] = "wavlm"
