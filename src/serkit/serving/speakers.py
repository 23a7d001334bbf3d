"""Summary of each speaker: the parts of an answer, grouped by who speaks in them.

A speaker is the mean over the parts; a channel, which is answered as a recording of its own, is that answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit.serving.results import By, Decision, Prediction, Segment, Speaker, held_s


def speakers_of(parts: Sequence[Segment], by: By, cut: float) -> tuple[Speaker, ...]:
    """Every speaker of some parts, in the order in which they first speak.

    Args:
        parts: in order of time. by: how the recording was divided. cut: confidence below which an answer is unsure.

    Returns:
        Nothing where no part has a speaker.
    """
    found = []
    for name in dict.fromkeys(s.speaker for s in parts if s.speaker is not None):
        own = [s for s in parts if s.speaker == name]
        speech_s = sum(s.speech_s for s in own)
        found.append(speaker_from(name, mean_by_speech(own), own[0], own, by, cut, speech_s))
    return tuple(found)


def speaker_from(
    name: str,
    numbers: Sequence[float],
    like: Segment | Prediction,
    own: Sequence[Segment],
    by: By,
    cut: float,
    speech_s: float,
) -> Speaker:
    """A speaker, or a channel, by what all its parts come to.

    Args:
        numbers: probabilities, then attributes, of all, in the order of ``like``. own: its parts, in order of time.
        speech_s: seconds of speech in them.
    """
    found = Decision.of(tuple(like.probabilities), numbers, cut, speech=speech_s > 0, attributes=tuple(like.attributes))
    return Speaker(
        name, found.label, found.confidence, found.probabilities, found.abstain, speech_s, held_s(own, by),
        found.attributes,
    )  # fmt: skip


def mean_by_speech(rows: Sequence[Segment] | Sequence[Prediction]) -> list[float]:
    """Probabilities and attributes: the mean over rows by the speech in them; without any, all count alike."""
    speech = [row.speech_s for row in rows]
    weights = speech if any(speech) else [1.0] * len(rows)
    found: list[float] = np.average([row.numbers for row in rows], axis=0, weights=weights).tolist()
    return found
