"""What an explanation is: plain frozen rows, in natural units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Stretch:
    """A stretch of the clip. ``effect``: how far the log-odds of the label fall (in nats) when it is silenced."""

    start_s: float
    end_s: float
    effect: float


@dataclass(frozen=True)
class Word:
    """A word of the text. ``effect``: how far the log-odds of the label fall (in nats) when it is left out."""

    text: str
    effect: float


@dataclass(frozen=True)
class Cue:
    """A descriptor of the voice, in voiced frames.

    Attributes:
        name: of the descriptor in the encoder ``voice``. words: what it is. unit: of the two means.
        salient: mean over the most telling stretches. clip: mean over the clip.
        deviations: their difference in standard deviations of the clip's frames.
        n_frames: voiced frames (10 ms apart) in those stretches.
    """

    name: str
    words: str
    unit: str
    salient: float
    clip: float
    deviations: float
    n_frames: int


@dataclass(frozen=True)
class Altered:
    """The answer to the clip once it is altered.

    Attributes:
        name, words: what was done. label, confidence: what is answered then. probability: of the explained label.
    """

    name: str
    words: str
    label: str
    confidence: float
    probability: float


@dataclass(frozen=True)
class SystemAnswer:
    """What one system of the model answers alone, before calibration.

    Attributes:
        system: its name. label, confidence: what it answers. probability: of the explained label.
    """

    system: str
    label: str
    confidence: float
    probability: float


@dataclass(frozen=True)
class Explanation:
    """Why a model answered as it did, as far as altered input can tell.

    Attributes:
        label: the label that is explained. probability: of it. answer, confidence: what the model answers, usually the
            same label. probabilities: by label. abstain: as in :class:`serkit.serving.results.Prediction`.
        stretches: side by side, from the beginning to the end of the clip.
        cues: the voice in the ``n_salient`` most telling of them. words: of the text, for a model that reads.
        altered: the answers to the clip softer, deeper, in noise and so on. systems: what each system answers alone.
        n_salient: number of most telling stretches.
        peaks: highest absolute amplitude of each ``peak_s`` of the clip, for drawing.
        path: the file. start_s, end_s: which part of it. channel: of its channels, if one was chosen.
        model: name and fingerprint.
    """

    label: str
    probability: float
    answer: str
    confidence: float
    probabilities: Mapping[str, float]
    abstain: str
    stretches: Sequence[Stretch]
    cues: Sequence[Cue]
    words: Sequence[Word]
    altered: Sequence[Altered]
    systems: Sequence[SystemAnswer]
    n_salient: int
    peaks: Sequence[float]
    peak_s: float
    start_s: float
    end_s: float
    model: str
    path: str | None = None
    channel: int | None = None

    @property
    def salient(self) -> list[Stretch]:
        """The most telling stretches, the highest effect first."""
        return sorted(self.stretches, key=lambda s: -s.effect)[: self.n_salient]

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row; without ``channel`` where none was chosen."""
        return {k: v for k, v in asdict(self).items() if k != "channel" or v is not None}
