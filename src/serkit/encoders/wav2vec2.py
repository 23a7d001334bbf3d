"""Hidden states of wav2vec 2.0."""

from __future__ import annotations

from typing import ClassVar

from serkit.foundation.speech import SpeechEncoder


class Wav2vec2(SpeechEncoder):
    """wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), robust and XLS-R variants, 50 frames a second."""

    FAMILY: ClassVar[str] = "wav2vec2"
