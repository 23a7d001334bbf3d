"""A timeline as subtitles: SubRip (.srt) and WebVTT (.vtt, https://www.w3.org/TR/webvtt1/).

A cue holds ``Ann: [anger 0.83] words``, as far as speaker and words are known. Cues never overlap: while several speak,
a cue has a line for each. Parts of one speaker that overlap are cut as in a TextGrid: the later begins where the other
ends.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from serkit.serving.results import Prediction, Segment


@dataclass(frozen=True)
class Cue:
    """What is shown for a while.

    Attributes:
        start_ms, end_ms: from when to when. parts: that hold then, speakers in the order in which they first speak.
    """

    start_ms: int
    end_ms: int
    parts: tuple[Segment, ...]


def srt(p: Prediction) -> str:
    """SubRip: numbered cues; nothing where there is no part."""
    blocks = []
    for n, cue in enumerate(cues(p), 1):
        lines = [line(part).replace("-->", "->") for part in cue.parts]
        blocks.append("\n".join([str(n), f"{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}", *lines]) + "\n")
    return "\n".join(blocks)


def vtt(p: Prediction) -> str:
    """WebVTT: ``&``, ``<`` and ``>`` are escaped, so that no word is a tag or an arrow."""
    blocks = ["WEBVTT\n"]
    for cue in cues(p):
        lines = [_escaped(line(part)) for part in cue.parts]
        blocks.append("\n".join([f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}", *lines]) + "\n")
    return "\n".join(blocks)


def cues(p: Prediction) -> list[Cue]:
    """Cues in order of time, without an overlap and none of no length; to the millisecond."""
    spans: list[tuple[int, int, Segment]] = []
    reached: dict[str | None, int] = {}
    end_ms = _ms(p.duration_s)
    for s in sorted(p.segments, key=lambda s: _ms(s.start_s)):
        start, end = max(_ms(s.start_s), reached.get(s.speaker, 0)), min(_ms(s.end_s), end_ms)
        if end > start:
            spans.append((start, end, s))
            reached[s.speaker] = end
    place = {speaker: k for k, speaker in enumerate(reached)}
    spans.sort(key=lambda span: span[0])
    found: list[Cue] = []
    held: list[tuple[int, int, Segment]] = []
    k = 0
    for start, end in itertools.pairwise(sorted({at for span in spans for at in span[:2]})):
        held = [span for span in held if span[1] > start]
        while k < len(spans) and spans[k][0] <= start:
            held.append(spans[k])
            k += 1
        if held:
            parts = sorted((part for _, _, part in held), key=lambda part: place[part.speaker])
            found.append(Cue(start, end, tuple(parts)))
    return found


def line(part: Segment) -> str:
    """One part as one line of text.

    >>> line(Segment(0, 1, "anger", 0.8312, {"anger": 0.8312}, speaker="Ann", text="go away"))
    'Ann: [anger 0.83] go away'
    """
    said = f"[{part.label} {part.confidence:.2f}{'?' if part.abstain else ''}]"
    who = f"{part.speaker}: " if part.speaker else ""
    words = f" {part.text}" if part.text else ""
    return " ".join(f"{who}{'[no speech]' if part.abstain == 'no_speech' else said}{words}".split())


def _ms(seconds: float) -> int:
    """Of times as JSON has them, so that the page writes the same."""
    return round(1000 * round(seconds, 3))


def _time(ms: int, mark: str) -> str:
    """75240 as ``00:01:15.240``, the mark before the milliseconds being that of the format."""
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
