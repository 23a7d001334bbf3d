"""What a reader should know of an answer beside its numbers, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from serkit.serving.bundle import Bundle
from serkit.serving.rated import PROBABILITIES, not_classes
from serkit.serving.timeline import Turn

NARROW = (
    "recording of 8 kHz or less, like a call, but the model was trained on wider bandwidth: it is less accurate here "
    "than its card says; the model 'telephone' was also trained on calls"
)
SENT = "nothing above 4 kHz, as in calls: answered by the model '{name}', which was also trained on telephone calls"
NOT_CALIBRATED = (
    "imported model: its confidence is not calibrated, and serkit has not measured it; measure it on labelled "
    "recordings (serkit measure), or correct it by them (serkit adapt --corpus)"
)
TEXT_UNREAD = "this model does not use text: the given text was ignored"
NO_TEXT = "this model uses text and none was given: an empty text was used"


def of_bundle(bundle: Bundle, *, call: bool, stands_in: bool) -> tuple[str, ...]:
    """What is to be said of a bundle that answers.

    Args:
        call: the recording has the sampling rate of calls. stands_in: the bundle answers in place of another one.
    """
    imported = "imported" in bundle.head
    raw = imported and bundle.correction is None
    regions = not_classes(bundle.labels) if imported else ""
    found = {
        NOT_CALIBRATED: raw,
        f"{regions} {PROBABILITIES}." if raw else regions: bool(regions),
        NARROW: call and bundle.head.get("hears_calls") is False,
        SENT.format(name=bundle.name): stands_in,
    }
    return tuple(note for note, holds in found.items() if holds)


def of_words(text: str | None, sentences: Sequence[Turn], *, reads_text: bool) -> tuple[str, ...]:
    """Whether words were given to a model that reads none, or none to one that ``reads_text``."""
    if text is not None and not reads_text:
        return (TEXT_UNREAD,)
    return (NO_TEXT,) if reads_text and text is None and not sentences else ()
