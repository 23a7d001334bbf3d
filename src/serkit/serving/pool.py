"""A model with the options of one call of ``serkit predict``, in this process or in several."""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from serkit import audio
from serkit.errors import SerkitError
from serkit.processes import WorkerDied, cores, in_processes_by
from serkit.serving import formats
from serkit.serving.predictor import Model, load
from serkit.serving.results import By, Prediction
from serkit.serving.resuming import STDIN

if TYPE_CHECKING:
    from serkit.serving.turns_and_words import Beside

Tell = Callable[[str, float], None]  # which file, and the share of it that is heard
_SOON_S = 1.0
_MEMORY_BYTES = 32 << 20  # of standard input, before it goes to a temporary file
_MOST_BYTES = 12 * 3600 * 48_000 * 2 * 4  # of it in all: as 12 h take, in stereo, 48 kHz, 32 bits
_OF_FREE = 0.8  # nor more than this share of what the disk of temporary files has left


@dataclass(frozen=True)
class Asked:
    """The options of ``serkit predict``.

    Attributes:
        inputs: files, folders, or ``-``. model: name or place of a bundle. calls: that for calls. timeline: parts too.
        kind: format; ``None``: what the name of ``out`` ends in, else a table.
        labels, text, by, threshold, coverage, window_s, hop_s: as for :meth:`serkit.serving.predictor.Model.predict`.
        vad: how speech is found. rttm, transcript, asr, diariser, language: see
            :class:`serkit.serving.turns_and_words.Beside`. out: file to write. jobs: processes; 0 is one per core.
    """

    inputs: tuple[str, ...]
    model: str = "default"
    calls: str = "auto"
    kind: str | None = None
    timeline: bool = False
    labels: tuple[str, ...] | None = None
    text: str | None = None
    by: By | None = None
    threshold: float | None = None
    coverage: float | None = None
    window_s: float | None = None
    hop_s: float | None = None
    vad: str = "spectral"
    rttm: Path | None = None
    transcript: Path | None = None
    asr: str | None = None
    diariser: str | None = None
    language: str | None = None
    out: Path | None = None
    jobs: int = 1


class Worker:
    """A loaded model with the options of one call; made once in every process."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.model: Model = load(asked.model, calls=asked.calls)
        self._beside: Beside | None = None
        if any(x is not None for x in (asked.rttm, asked.transcript, asked.asr, asked.diariser, asked.language)):
            from serkit.serving.turns_and_words import Beside

            self._beside = Beside(
                rttm=asked.rttm, transcript=asked.transcript, asr=asked.asr, diariser=asked.diariser,
                language=asked.language,
            )  # fmt: skip

    def check(self, names: Sequence[str] = (STDIN,)) -> None:
        """Refuse a model or options that no recording could be answered with, or not these together."""
        asked, beside = self.asked, self._beside
        self.model.scorer.check()
        if beside is not None:
            beside.check(names)
        if asked.by == "turn" and not (beside and beside.has_turns):
            raise SerkitError("--by turn needs --rttm FILE, the turns of a diarisation, or --diarise")
        if asked.by == "sentence" and not (beside and beside.has_sentences):
            raise SerkitError("--by sentence needs --transcript FILE with times (.srt, .vtt or .json), or --asr")
        if asked.by == "word" and not (beside and beside.has_sentences):
            raise SerkitError(
                "--by word needs --transcript FILE with the times of words (.json of Whisper or WhisperX), or --asr"
            )
        if asked.threshold is not None:
            self.model.unsure_below([self.model.labels[k] for k in self.model.columns(asked.labels)], asked.threshold)
        options = self.settings(STDIN, b"", known=False)
        self.model.stream(**{**options, "by": asked.by if asked.by in ("clip", "window", "channel") else "segment"})

    def settings(self, path: str, recording: Any, *, known: bool = True) -> dict[str, Any]:
        """Options of :meth:`Model.predict` for one recording; without what is ``known`` of it for a mere check."""
        from serkit.segments import SegmentSettings

        asked = self.asked
        beside = self._beside if known else None
        turns, sentences = ([], []) if beside is None else beside.of(path, recording, apart=asked.by == "channel")
        by = asked.by
        if beside is not None and asked.asr is not None and by in ("sentence", "word"):
            if not sentences:
                by = "segment"  # no word was recognised: what else is heard is answered all the same
            elif by == "word" and not any(s.words for s in sentences):
                raise SerkitError(
                    f"{path}: '{asked.asr}' gives no times of words, as its generation_config.json names no "
                    "alignment_heads: --by sentence"
                )
        return {
            "labels": asked.labels, "text": asked.text, "by": by, "threshold": asked.threshold,
            "coverage": asked.coverage, "turns": turns, "sentences": sentences, "window_s": asked.window_s,
            "hop_s": asked.hop_s,
            "segments": SegmentSettings(vad=asked.vad),  # type: ignore[arg-type]  # checked there
        }  # fmt: skip

    def answer(self, path: str, tell: Tell | None = None) -> Prediction | str:
        """The prediction, or what is wrong with the recording in one line; ``tell`` is told how far it is."""
        try:
            if path != STDIN:
                heard = None if tell is None else _shares(path, tell)
                found = self.model.predict(path, heard=heard, **self.settings(path, path))
                return replace(found, path=formats.shown(path))
            with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as held:
                _keep(sys.stdin.buffer, cast("BinaryIO", held))
                settings = self.settings(path, held)
                held.seek(0)
                found = self.model.predict(cast("BinaryIO", held), **settings)
                return replace(found, path=STDIN)
        except SerkitError as error:
            return _of_stdin(str(error)) if path == STDIN else str(error)
        except OSError as error:
            where = f"standard input: cannot be read, or kept in {tempfile.gettempdir()}"
            return f"{where if path == STDIN else f'{path}: cannot be read'}: {error.strerror or error}"


def _keep(stream: BinaryIO, held: BinaryIO) -> None:
    """Copy a stream to its end, which an endless one does not have: it must not fill the disk of temporary files.

    Raises:
        SerkitError: it goes on after what is taken of it.
    """
    folder, n = tempfile.gettempdir(), 0
    room = max(_MEMORY_BYTES, int(_OF_FREE * shutil.disk_usage(folder).free))
    while block := stream.read(1 << 20):
        n += len(block)
        if n > min(_MOST_BYTES, room):
            most = f"{_MOST_BYTES / 1e9:.1f} GB, the limit" if n > _MOST_BYTES else f"all that {folder} has room for"
            raise SerkitError(f"audio stream: continues after {most}; an endless stream has no answer for the whole")
        held.write(block)


def _of_stdin(message: str) -> str:
    """What is wrong with standard input, called so; text may be a list of files."""
    said = (
        f"standard input{message[1:]}"
        if message.startswith("-: ")
        else message.replace("audio stream", "standard input", 1)
    )
    return said + "; a list of files goes through xargs" * ("looks like text" in said)


def _shares(path: str, tell: Tell) -> Callable[[float], None]:
    """A function of the seconds heard; only of what takes a while is the length looked up, if its header says it."""
    began = time.monotonic()
    length_s: float | None = None

    def heard(seconds: float) -> None:
        nonlocal length_s
        if length_s is None and time.monotonic() - began > _SOON_S:
            length_s = math.inf
            with contextlib.suppress(SerkitError):
                length_s = audio.info(path).duration_s
        if length_s is not None and 0 < length_s < math.inf:
            tell(path, min(1.0, seconds / length_s))

    return heard


def answers(
    files: Sequence[str], worker: Worker, asked: Asked, tell: Tell | None = None
) -> Iterator[tuple[str, Prediction | str]]:
    """Every file with its answer, in order; ``tell`` is told how much is heard of a file that takes a while.

    A process that dies, for want of memory or by somebody's hand, costs no other file its answer: the one it had is
    tried once more, alone, and where that fails too, the reason stands in its place.
    """
    jobs = min(asked.jobs or cores(), len(files))
    if jobs <= 1:
        for path in files:
            yield path, worker.answer(path, tell)
        return
    left = deque(files)
    while left:
        try:
            for answer in _in_processes(left, jobs, asked):
                yield left.popleft(), answer
        except WorkerDied:
            path = left.popleft()
            try:
                [answer] = _in_processes([path], 1, asked)
                yield path, answer
            except WorkerDied as error:
                yield path, f"{error}, and again when it was tried alone (killed, or out of memory)"


def _in_processes(files: Sequence[str], jobs: int, asked: Asked) -> Iterator[Prediction | str]:
    """Answers in order; what is far ahead of the one that is waited for is not begun."""
    found = in_processes_by(functools.partial(Worker, asked), Worker.answer, tuple(files), jobs=jobs, ahead=8)
    with contextlib.closing(found):
        yield from found
