"""Who spoke when, which words, and which emotion prevails: turns and words from files, and hysteresis."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit.errors import SerkitError

MARGIN = 0.1  # how much more probable another emotion has to be before it takes over at once
PAUSE_S = 1.0  # after a longer pause, the same speaker begins another turn
_VOICE = re.compile(r"<v(?:\.[^\s>]+)?\s+([^>]+)>")  # of WebVTT; what follows is said by that one, up to the next
_ESCAPE = re.compile(r"&(?:\w+|#\d{1,6}|#x[\da-f]{1,5});", re.I)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")


@dataclass(frozen=True)
class Turn:
    """A stretch that was marked from outside: by a diarisation or a transcript.

    Attributes:
        start_s, end_s: where it lies. speaker, text: where known.
        words: the text word by word, where the transcript has the times of its words.
    """

    start_s: float
    end_s: float
    speaker: str | None = None
    text: str | None = None
    words: tuple[Turn, ...] = ()


@dataclass
class Hysteresis:
    """Which emotion holds: a new one takes over when it leads clearly, or twice in a row.

    Attributes:
        margin: lead in probability over the emotion that holds, with which it is replaced at once.
    """

    margin: float = MARGIN
    _state: int | None = None
    _rival: int | None = field(default=None)

    def step(self, probabilities: np.ndarray) -> int:
        """(classes,) probabilities of the next part to the class that holds now."""
        best, held = int(probabilities.argmax()), self._state
        leads = held is None or probabilities[best] - probabilities[held] >= self.margin
        if best == held or leads or best == self._rival:
            self._state, self._rival = best, None
            return best
        self._rival = best
        return int(self._state or 0)


def read_rttm(path: Path | str) -> dict[str, list[Turn]]:
    """Turns by recording from an RTTM file (NIST RT-09, lines ``SPEAKER name 1 onset duration … speaker``).

    Raises:
        SerkitError: cannot be read, or a line that is not RTTM.
    """
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            start, duration, speaker = float(words[3]), float(words[4]), words[7]
        except (IndexError, ValueError):
            raise SerkitError(f"{path}, line {number}: not an RTTM line: {line.strip()[:80]!r}") from None
        if not (math.isfinite(start) and math.isfinite(duration) and start >= 0 and duration >= 0):
            raise SerkitError(
                f"{path}, line {number}: onset {start:g} and duration {duration:g} are not a stretch of time"
            )
        if duration > 0:
            found.setdefault(words[1], []).append(Turn(start, start + duration, speaker))
    if not found:
        raise SerkitError(f"{path} holds no SPEAKER line; expected RTTM")
    return {name: sorted(turns, key=lambda t: t.start_s) for name, turns in found.items()}


def turns_of(rttm: dict[str, list[Turn]], name: str) -> list[Turn]:
    """The turns of one recording: by the name of its file, or all of an RTTM that names a single one.

    Raises:
        SerkitError: the RTTM names several recordings and this is none of them.
    """
    stem = Path(name).stem
    if stem in rttm:
        return rttm[stem]
    if len(rttm) == 1:
        return next(iter(rttm.values()))
    raise SerkitError(f"{name}: the RTTM has no turns of '{stem}'; it names {', '.join(sorted(rttm)[:5])}")


def read_transcript(path: Path | str) -> list[Turn]:
    """Sentences with times: SubRip (.srt), WebVTT (.vtt), or JSON rows with ``start_s, end_s, text, speaker``.

    In WebVTT ``<v Ann>`` names who speaks, and ``&amp;`` is a character. SubRip has neither: ``Ann: …`` there is words.
    JSON may be a list, an object with ``segments``, or one row a line; ``start`` and ``end`` are
    accepted too, and ``words`` with times of their own are kept, as Whisper and WhisperX write them.

    Raises:
        SerkitError: cannot be read, no sentence with times, or a time that is none.
    """
    path = Path(path)
    text = _text(path)
    turns = _json_turns(path, text) if path.suffix.lower() in (".json", ".jsonl") else _cues(path, text)
    for turn in turns:
        if not (math.isfinite(turn.start_s) and 0 <= turn.start_s < turn.end_s < math.inf):
            raise SerkitError(f"{path}: {turn.start_s:g} to {turn.end_s:g} s is not a stretch of time")
    if not turns:
        raise SerkitError(f"{path} holds no sentence with times; expected .srt, .vtt or .json")
    return sorted(turns, key=lambda t: t.start_s)


def completed(turns: Sequence[Turn], sentences: Sequence[Turn]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Turns and sentences of a recording, by time, each standing in for the other where only one of them is known.

    The one rule for files, Python and HTTP: sentences that name their speakers make turns (see :func:`joined`), and
    turns that have words are sentences.
    """
    said = sentences or [t for t in turns if t.text]
    spoken = turns or joined(sorted(sentences, key=_begin))
    return tuple(sorted(spoken, key=_begin)), tuple(sorted(said, key=_begin))


def _begin(turn: Turn) -> float:
    return turn.start_s


def joined(sentences: Iterable[Turn]) -> list[Turn]:
    """Turns of sentences that name their speakers: what one says without a longer pause is one turn."""
    found: list[Turn] = []
    for sentence in sentences:
        last = found[-1] if found else None
        if sentence.speaker is None:
            continue
        if last is None or last.speaker != sentence.speaker or sentence.start_s - last.end_s > PAUSE_S:
            found.append(Turn(sentence.start_s, sentence.end_s, sentence.speaker))
        else:
            found[-1] = replace(last, end_s=max(last.end_s, sentence.end_s))
    return found


def check_words(sentences: Iterable[Turn]) -> None:
    """Refuse sentences none of whose words have times, or a word whose times are none."""
    words = [w for s in sentences for w in s.words]
    if not words:
        raise SerkitError(
            "by 'word' needs a transcript with the times of its words (.json, as Whisper or WhisperX writes it)"
        )
    for w in words:
        if not (math.isfinite(w.start_s) and 0 <= w.start_s <= w.end_s < math.inf):
            raise SerkitError(f"{w.start_s:g} to {w.end_s:g} s is not a stretch of time, for the word {w.text!r}")


def speaker_at(turns: Iterable[Turn], start_s: float, end_s: float) -> str | None:
    """Who speaks longest between two times."""
    seconds: dict[str, float] = {}
    for turn in turns:
        overlap = min(end_s, turn.end_s) - max(start_s, turn.start_s)
        if overlap > 0 and turn.speaker is not None:
            seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + overlap
    return max(seconds, key=lambda s: seconds[s]) if seconds else None


def text_at(turns: Iterable[Turn], start_s: float, end_s: float) -> str | None:
    """The words whose middle lies between two times; sentences go as a whole where their words have no times."""
    return " ".join(said for turn in turns if (said := _said(turn, start_s, end_s))) or None


def said_in_all(text: str | None, sentences: Sequence[Turn], length_s: float) -> str | None:
    """The words of a whole recording: those that are given as such, else those of all its sentences."""
    return text if text is not None or not sentences else text_at(sentences, 0.0, length_s)


def _said(turn: Turn, start_s: float, end_s: float) -> str:
    """The words of a sentence between two times, spaced as the sentence is (Chinese has no spaces)."""
    inside = [start_s <= (u.start_s + u.end_s) / 2 < end_s for u in turn.words or (turn,)]
    if all(inside) and turn.text:
        return turn.text
    text, found, at = turn.text or "", "", 0
    for word, wanted in zip(turn.words, inside, strict=False):
        place = text.find(word.text or "", at)
        gap = text[at:place] if place >= 0 else " "
        at = place + len(word.text or "") if place >= 0 else at
        if wanted and word.text:
            found += (gap if found else "") + word.text
    return found


def _text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SerkitError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise SerkitError(f"{path} is not text in UTF-8: save it as that") from None
    except OSError as error:
        raise SerkitError(f"{path} cannot be read as text: {error.strerror or error}") from None


def _cues(path: Path, text: str) -> list[Turn]:
    read = _unescaped if path.suffix.lower() == ".vtt" else str
    found = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = [x.strip() for x in block.strip().splitlines()]
        at = next((k for k, x in enumerate(lines) if "-->" in x), None)
        if at is None:
            continue
        times = [_seconds(m) for m in _CLOCK.finditer(lines[at])]
        if len(times) < 2:
            raise SerkitError(f"{path}: not a time line: {lines[at][:80]!r}")
        nobody, *voices = _VOICE.split(" ".join(lines[at + 1 :]))
        for speaker, words in ((None, nobody), *zip(voices[::2], voices[1::2], strict=True)):
            plain = read(re.sub(r"<[^>]*>", "", words)).strip()
            if times[1] > times[0] and plain and (speaker is not None or not voices or re.search(r"\w", plain)):
                found.append(Turn(times[0], times[1], None if speaker is None else read(speaker).strip(), plain))
    return found


def _unescaped(text: str) -> str:
    """Words of WebVTT with the characters that it writes as ``&amp;`` and the like."""
    return _ESCAPE.sub(lambda match: html.unescape(match[0]), text)


def _seconds(match: re.Match[str]) -> float:
    hours, minutes, seconds, part = match.groups()
    return 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(f"{seconds}.{part}")


def _json_turns(path: Path, text: str) -> list[Turn]:
    try:
        if path.suffix.lower() == ".jsonl":
            rows: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
        rows = rows["segments"] if isinstance(rows, dict) else rows
        return [turn_of(row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SerkitError(f"{path}: not sentences with start_s, end_s and text: {error}") from None


def turn_of(row: Mapping[str, Any]) -> Turn:
    """A turn, a sentence or a word from a row of ``start_s, end_s, speaker, text, words``; or ``start``, ``end``.

    Blank words and a blank speaker are none.

    Raises:
        KeyError, TypeError, ValueError: times that are missing, or are not numbers.
    """
    speaker = row.get("speaker")
    return Turn(
        _time(row, "start"),
        _time(row, "end"),
        None if speaker is None else str(speaker).strip() or None,
        str(row.get("text") or row.get("word") or "").strip() or None,
        _words(row.get("words") or ()),
    )


def _time(row: Mapping[str, Any], name: str) -> float:
    """The time ``start`` or ``end`` of a row, in seconds."""
    value = row[f"{name}_s" if f"{name}_s" in row else name]
    if value is None:
        raise ValueError(f"a row has no time '{name}'")
    return float(value)


def _words(rows: Sequence[dict[str, Any]]) -> tuple[Turn, ...]:
    """Words with times; where a single one lacks them (WhisperX leaves out numbers), none: no word is to be lost."""
    timed = all(r.get("start_s", r.get("start")) is not None and r.get("end_s", r.get("end")) is not None for r in rows)
    return tuple(turn_of(r) for r in rows) if timed else ()
