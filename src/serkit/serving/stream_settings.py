"""What is asked of a recording, and what of it goes together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

from serkit.errors import SerkitError, check_known
from serkit.segments import SegmentSettings
from serkit.serving.results import BYS, By
from serkit.serving.timeline import Turn, check_words, completed


@dataclass(frozen=True)
class StreamSettings:
    """What is asked of a recording.

    Attributes:
        labels: restrict the answer to these. text: words of the whole recording, for models that read.
        by: how it is divided: ``clip`` (not at all), ``segment`` of speech, ``window``, ``sentence``, ``word`` (each
            by the 3 s around it), ``turn``, or ``channel``: stretches of speech in each channel alone, see
            :mod:`serkit.serving.channels`.
        turns: of a diarisation, for ``turn``, and for the speakers of the others. sentences: of a transcript
            with times, for ``sentence`` and ``word``, and for the words of the others. Where only one of them is
            given it stands in for the other: :func:`serkit.serving.timeline.completed`. With ``channel`` there are no
            turns, and the speaker of a sentence is its channel: ``channel 1``, …
        threshold: unsure below the smallest confidence at and above which answers were right at least this often on
            held-out speakers; ``None``: where those of that confidence were more often wrong than right.
        coverage: the answer for the whole gets the set of classes that holds the right one with this probability, on
            speakers like those of the training; ``None``: no set. Parts, and events of a stream, have none.
        window_s, hop_s: length of a window and from one to the next, 3 s and half of it unless given; of ``window``
            alone.
        segments: how speech is found.
        partial_s: a partial answer after every so many seconds of speech; ``None``: none.
        max_s: longest recording, in seconds.

    Raises:
        SerkitError: settings that do not go together, and times that are none.
    """

    labels: tuple[str, ...] | None = None
    text: str | None = None
    by: By = "segment"
    turns: Sequence[Turn] = ()
    sentences: Sequence[Turn] = ()
    threshold: float | None = None
    coverage: float | None = None
    window_s: float | None = None
    hop_s: float | None = None
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    partial_s: float | None = None
    max_s: float | None = None

    def __post_init__(self) -> None:
        check_known(self.by, BYS, f"by '{self.by}'")
        for name in ("threshold", "coverage", "window_s", "hop_s", "partial_s", "max_s"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise SerkitError(f"{name} {value!r}: expected a number, got a {type(value).__name__}")
        for turn in (*self.turns, *self.sentences):
            if not isinstance(turn, Turn):
                raise SerkitError(
                    f"got a {type(turn).__name__}; expected serkit.serving.timeline.Turn(start_s, end_s, speaker, text)"
                )
            if not (math.isfinite(turn.start_s) and 0 <= turn.start_s < turn.end_s < math.inf):
                raise SerkitError(
                    f"{turn.start_s:g} to {turn.end_s:g} s is not a stretch of time, for a turn or a sentence"
                )
        if self.by != "channel":
            turns, sentences = completed(self.turns, self.sentences)
            object.__setattr__(self, "turns", turns)
            object.__setattr__(self, "sentences", sentences)
        if self.by == "turn" and not self.turns:
            raise SerkitError(
                "by 'turn' needs the turns of a diarisation (an RTTM file), or sentences that name their speakers "
                "('speaker' in JSON, <v NAME> in .vtt)"
            )
        if self.by == "sentence" and not self.sentences:
            raise SerkitError("by 'sentence' needs a transcript with times (.srt, .vtt or .json), or turns with words")
        if self.by == "word":
            check_words(self.sentences)
        if self.by != "window" and (self.window_s, self.hop_s) != (None, None):
            raise SerkitError(
                f"by '{self.by}' has no windows: window_s and hop_s (--window, --hop) go with by 'window'"
            )
        if self.by == "channel" and self.turns:
            raise SerkitError("by 'channel' takes no turns of a diarisation: its speakers are the channels")
        if self.by == "channel" and self.coverage is not None:
            raise SerkitError("by 'channel' answers for several speakers, a coverage for one: leave one of them out")
        if self.partial_s is not None and not self.partial_s > 0:
            raise SerkitError(f"partial_s {self.partial_s}: expected a time above 0, or None")
