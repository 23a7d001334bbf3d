"""What each speaker says in all: the parts of an answer, summed up by who speaks in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit.serving.results import Abstain, By, Prediction, Segment, Speaker, held_s


def sum_up(parts: Sequence[Segment], by: By, cut: float) -> tuple[Speaker, ...]:
    """Every speaker of some parts, in the order in which they first speak.

    Args:
        parts: in order of time. by: how the recording was divided. cut: confidence below which an answer is unsure.

    Returns:
        Nothing where no part has a speaker.
    """
    names = dict.fromkeys(s.speaker for s in parts if s.speaker is not None)
    return tuple(_one(name, [s for s in parts if s.speaker == name], by, cut) for name in names)


def of_channel(name: str, alone: Prediction) -> Speaker:
    """A channel by its own answer."""
    return Speaker(
        name, alone.label, alone.confidence, alone.probabilities, alone.abstain, alone.speech_s, alone.summary
    )


def _one(name: str, own: Sequence[Segment], by: By, cut: float) -> Speaker:
    labels = tuple(own[0].probabilities)
    speech_s = sum(s.speech_s for s in own)
    weights = [s.speech_s if speech_s > 0 else 1.0 for s in own]
    shares = np.average([list(s.probabilities.values()) for s in own], axis=0, weights=weights)
    best = int(shares.argmax())
    abstain: Abstain = "no_speech" if speech_s == 0 else "unsure" if shares[best] < cut else ""
    found = dict(zip(labels, shares.tolist(), strict=True))
    return Speaker(name, labels[best], float(shares[best]), found, abstain, speech_s, held_s(own, by))
