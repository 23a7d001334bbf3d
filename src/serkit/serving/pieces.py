"""Cutting a recording that is still being received: by speech, by window, by given turns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.recent import Recent
from serkit.segments import Segmenter, SegmentSettings, Stretch, make_not_speech, make_vad
from serkit.serving.timeline import Turn, text_at

WINDOW_S = 3.0
LEAST_SPEECH = 0.2  # of a window: with less it is left out
SHORTEST_S = 0.05  # of a turn
CONTEXT_S = 1.5  # on either side of the middle of a word: what it is answered by
MAX_PIECES = 100_000  # of all turns together: two weeks of them


@dataclass(frozen=True)
class Piece:
    """What is to be scored as one: samples ``start`` to ``end`` at 16 kHz.

    Attributes:
        part: which answer it belongs to: several pieces of a long turn make one. last: it is the last of them.
        begin, until: samples of the whole part. speaker, text: of the part. around: what a model reads in place of the
            text, of a word with others near it. speech: samples of speech in the piece.
    """

    start: int
    end: int
    part: int
    last: bool
    begin: int
    until: int
    speaker: str | None = None
    text: str | None = None
    around: str | None = None
    speech: int = 0


class Cutter(Protocol):
    """Chunks in, pieces out; ``needed_from`` is the first sample that a later piece may hold."""

    @property
    def needed_from(self) -> int:
        """Samples before it can be forgotten."""

    def push(self, samples: np.ndarray) -> list[Piece]:
        """The pieces that have become whole."""

    def finish(self) -> list[Piece]:
        """The pieces that the end makes whole."""


class _Detector:
    """How much of any stretch is speech, while a recording comes in."""

    def __init__(self, settings: SegmentSettings) -> None:
        self._vad = make_vad(settings)
        self._off = settings.off
        self._flags = np.zeros(0, dtype=bool)
        self._first = 0  # hop of the detector that _flags begins with

    @property
    def known(self) -> int:
        """Samples that are scored; the last hop may reach beyond the end of the recording."""
        return (self._first + len(self._flags)) * self._vad.hop

    def push(self, samples: np.ndarray) -> None:
        """Score what has come in."""
        self._flags = np.concatenate([self._flags, self._vad.push(samples) >= self._off])

    def finish(self) -> None:
        """Score the rest."""
        self._flags = np.concatenate([self._flags, self._vad.finish() >= self._off])

    def speech(self, start: int, end: int) -> int:
        """Samples of speech from ``start`` to ``end``, as far as they are known."""
        low, high = start // self._vad.hop - self._first, -(-end // self._vad.hop) - self._first
        return min(int(self._flags[max(0, low) : high].sum()) * self._vad.hop, end - start)

    def forget(self, before: int) -> None:
        """What is before this sample is not needed any more."""
        gone = min(before // self._vad.hop - self._first, len(self._flags))
        if gone > 0:
            self._flags, self._first = self._flags[gone:], self._first + gone


class SpeechCutter:
    """Stretches of speech, each a piece.

    Args:
        segmenter: shared with whoever counts speech; it is pushed here.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter, self._n = segmenter, 0

    @property
    def needed_from(self) -> int:
        """As the segmenter says."""
        return self._segmenter.needed_from

    def push(self, samples: np.ndarray) -> list[Piece]:
        """The stretches that have ended."""
        return [self._piece(s.start, s.end, s.speech) for s in self._segmenter.push(samples)]

    def finish(self) -> list[Piece]:
        """The stretches that the end ends."""
        return [self._piece(s.start, s.end, s.speech) for s in self._segmenter.finish()]

    def _piece(self, start: int, end: int, speech: int) -> Piece:
        self._n += 1
        return Piece(start, end, self._n, True, start, end, speech=speech)


class WindowCutter:
    """Windows on a fixed grid; those with hardly any speech are left out.

    Args:
        window_s, hop_s: length of a window, and from one to the next.
        settings: of the detector.

    Raises:
        SerkitError: durations out of range.
    """

    def __init__(self, window_s: float, hop_s: float, settings: SegmentSettings) -> None:
        if not (0.2 <= window_s <= 60 and 0.05 <= hop_s <= window_s):
            raise SerkitError(
                f"windows of {window_s:g} s every {hop_s:g} s: expected 0.2 to 60 s, and a hop within them"
            )
        self._window, self._hop = round(window_s * SAMPLE_RATE_HZ), round(hop_s * SAMPLE_RATE_HZ)
        self._detector = _Detector(settings)
        self._not_speech = make_not_speech(settings)
        self._samples = self._at = self._n = 0

    @property
    def needed_from(self) -> int:
        """Where the next window begins."""
        return self._at

    def push(self, samples: np.ndarray) -> list[Piece]:
        """The windows that are scored by the detector to their end."""
        self._samples += len(samples)
        self._not_speech.push(samples)
        self._detector.push(samples)
        return self._take(last=False)

    def finish(self) -> list[Piece]:
        """What is left, as a shorter window, unless the one before holds it."""
        self._detector.finish()
        return self._take(last=True)

    def _take(self, *, last: bool) -> list[Piece]:
        found = []
        while self._at + self._window <= min(self._detector.known, self._samples) or (last and self._rest()):
            end = min(self._at + self._window, self._samples)
            speech = self._detector.speech(self._at, end)
            if speech >= LEAST_SPEECH * (end - self._at) and not self._not_speech.between(self._at, end):
                self._n += 1
                found.append(Piece(self._at, end, self._n, True, self._at, end, speech=speech))
            self._at += self._hop
            self._not_speech.forget(self._at)
            self._detector.forget(self._at)
        return found

    def _rest(self) -> bool:
        """Whether samples are left that no window has held."""
        held = self._at - self._hop + self._window if self._at else 0
        return self._samples > max(held, self._at)


class GivenCutter:
    """Pieces that are known before the recording is heard.

    Args:
        pieces: of :func:`given_pieces`. settings: of the detector.
    """

    def __init__(self, pieces: Sequence[Piece], settings: SegmentSettings) -> None:
        self._pieces = sorted(pieces, key=lambda p: (p.end, p.part))
        self._detector = _Detector(settings)
        starts = [p.start for p in self._pieces]
        self._oldest = np.minimum.accumulate(starts[::-1])[::-1].tolist() if starts else []
        self._next = self._samples = 0

    @property
    def needed_from(self) -> int:
        """Where the earliest piece that is not whole begins."""
        return int(self._oldest[self._next]) if self._next < len(self._pieces) else self._samples

    def push(self, samples: np.ndarray) -> list[Piece]:
        """The pieces that have come in whole."""
        self._samples += len(samples)
        self._detector.push(samples)
        found = []
        ready = min(self._detector.known, self._samples)
        while self._next < len(self._pieces) and self._pieces[self._next].end <= ready:
            found.append(self._heard(self._pieces[self._next]))
            self._next += 1
        self._detector.forget(self.needed_from)
        return found

    def finish(self) -> list[Piece]:
        """What began before the end of the recording; what is after it is left out."""
        self._detector.finish()
        least = round(SHORTEST_S * SAMPLE_RATE_HZ)
        rest, self._next = self._pieces[self._next :], len(self._pieces)
        inside = [p for p in rest if max(p.start, p.begin) + least <= self._samples]
        cut = [dataclasses.replace(p, end=min(p.end, self._samples)) for p in inside]
        final = {p.part: k for k, p in enumerate(cut)}
        return [
            self._heard(dataclasses.replace(p, last=final[p.part] == k, until=min(p.until, self._samples)))
            for k, p in enumerate(cut)
        ]

    def _heard(self, piece: Piece) -> Piece:
        start, end = max(piece.start, piece.begin), min(piece.end, piece.until)  # of a word without its context
        return dataclasses.replace(piece, speech=self._detector.speech(start, end))


def given_pieces(
    by: Literal["turn", "sentence", "word"], turns: Sequence[Turn], sentences: Sequence[Turn], max_s: float
) -> list[Piece]:
    """Turns, sentences or words as pieces; a long one in equal pieces that make one answer.

    Args:
        by: which of them. turns, sentences: in any order; they may overlap. max_s: length of the longest piece.

    Raises:
        SerkitError: so long and so many that no recording could hold them.
    """
    return _words(sentences, max_s) if by == "word" else _divided(turns if by == "turn" else sentences, max_s)


def _words(sentences: Sequence[Turn], max_s: float) -> list[Piece]:
    """Words, each answered by the 3 s around its middle, as far as its sentence reaches.

    A word alone is too short to hear an emotion in, and what another speaker says is none of its own. A sentence whose
    words have no times goes as a whole.
    """
    least = 1.01 * SHORTEST_S  # a recogniser may let a word end where it begins
    around = [s for s in sentences for _ in s.words or (s,)]
    words = [
        dataclasses.replace(w, end_s=max(w.end_s, w.start_s + least), speaker=w.speaker or s.speaker)
        for s in sentences
        for w in s.words or (s,)
    ]
    context = round(CONTEXT_S * SAMPLE_RATE_HZ)
    found = []
    for p in _divided(words, max_s):
        said = around[p.part]
        if said.words and (p.start, p.end) == (p.begin, p.until):
            middle = (p.start + p.end) // 2
            low = max(round(said.start_s * SAMPLE_RATE_HZ), middle - context)
            high = min(round(said.end_s * SAMPLE_RATE_HZ), middle + context)
            start, end = min(p.start, low), max(p.end, high)
            near = text_at([said], start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ)
            p = dataclasses.replace(p, start=start, end=end, around=near)
        found.append(p)
    return found


def _divided(turns: Sequence[Turn], max_s: float) -> list[Piece]:
    n_pieces = sum(math.ceil((turn.end_s - turn.start_s) / max_s) for turn in turns)
    if n_pieces > MAX_PIECES:
        raise SerkitError(
            f"{len(turns)} turns, sentences or words that make {n_pieces} pieces of {max_s:g} s, expected at most "
            f"{MAX_PIECES}: are their times in seconds?"
        )
    pieces = []
    for part, turn in enumerate(turns):
        begin, until = round(turn.start_s * SAMPLE_RATE_HZ), round(turn.end_s * SAMPLE_RATE_HZ)
        if until - begin < SHORTEST_S * SAMPLE_RATE_HZ:
            continue
        n = max(1, math.ceil((until - begin) / (max_s * SAMPLE_RATE_HZ)))
        edges = [begin + (until - begin) * k // n for k in range(n + 1)]
        for k in range(n):
            pieces.append(
                Piece(edges[k], edges[k + 1], part, k == n - 1, begin, until, speaker=turn.speaker, text=turn.text)
            )
    return pieces


class SpeechClips:
    """Stretches of speech with their samples, which are forgotten once they are told.

    Args:
        settings: of the detector.
    """

    def __init__(self, settings: SegmentSettings) -> None:
        self._segmenter, self._recent = Segmenter(settings), Recent()

    def push(self, samples: np.ndarray) -> list[tuple[Stretch, np.ndarray]]:
        """The stretches that have ended, each with its (samples,)."""
        self._recent.push(samples)
        found = self._taken(self._segmenter.push(samples))
        self._recent.forget(self._segmenter.needed_from)
        return found

    def finish(self) -> list[tuple[Stretch, np.ndarray]]:
        """Those that the end ends."""
        return self._taken(self._segmenter.finish())

    def _taken(self, stretches: Sequence[Stretch]) -> list[tuple[Stretch, np.ndarray]]:
        return [(s, self._recent.take(s.start, s.end)) for s in stretches]


def standing_for(blocks: Iterable[np.ndarray], longest_s: float) -> Iterator[tuple[int, np.ndarray]]:
    """The clips by which a recording is answered: itself where it is short, else its stretches of speech.

    Args:
        blocks: (n,) float32 mono 16 kHz each, in order. longest_s: of what is answered as it is; without speech so much
            of the beginning stands for a longer one.

    Yields:
        A weight, the samples of speech, and (samples,).
    """
    head, ear, longest = Recent(), SpeechClips(SegmentSettings()), round(longest_s * SAMPLE_RATE_HZ)
    spoken: list[tuple[Stretch, np.ndarray]] = []
    said = False
    for block in blocks:
        spoken += ear.push(block)
        if head.end <= longest:
            head.push(block)
        if head.end > longest:
            yield from ((stretch.speech, clip) for stretch, clip in spoken)
            said, spoken = said or bool(spoken), []
    spoken += ear.finish()
    if head.end > longest and (said or spoken):
        yield from ((stretch.speech, clip) for stretch, clip in spoken)
    else:
        yield 1, head.take(0, min(head.end, longest))
