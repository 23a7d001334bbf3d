"""What ``serkit predict`` does: recordings answered in several processes, written, resumed."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import IO, Any

from serkit.errors import SerkitError, check_known
from serkit.files import check_writable, is_stream, write_text
from serkit.interrupts import resumable
from serkit.progress import Meter, ProgressCallback
from serkit.remarks import Damage
from serkit.serving import formats
from serkit.serving.gathering import SOON_S, gather
from serkit.serving.pool import Asked, Worker, answers
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction, division
from serkit.serving.resuming import STDIN, Answered, look, size_and_time, stamp
from serkit.serving.turns_and_words import names_in, words_of


def predict(
    asked: Asked,
    write: Callable[[str], None],
    complain: Callable[[str], None],
    progress: ProgressCallback | None = None,
) -> int:
    """Answer for every input; one that cannot be answered costs no other its row.

    Args:
        write: is handed text for standard output. complain: a line for standard error.
        progress: told how far it is, where there is more than one input.

    Returns:
        How many recordings could not be answered; a folder that cannot be read counts as one.

    Raises:
        SerkitError: wrong options, no bundle, nothing to predict. Stopped: by Ctrl-C, where ``csv`` or ``jsonl`` goes
            to a file, which holds the answers so far.
    """
    asked, kind = _settled(asked)
    unread: list[str] = []
    files = gather(asked.inputs, unread.append, progress)
    if kind == "rttm":
        _refuse_same_stem(files)
    formats.refuse_several(kind, len(files))
    stamps = _looked_at(files, asked, progress)
    if asked.out is not None:
        check_writable(asked.out)
    worker = Worker(asked)
    labels = tuple(worker.model.labels[k] for k in worker.model.columns(asked.labels))
    worker.check(files)
    sets = asked.coverage is not None
    head = formats.header(kind, labels, worker.model.attributes, timeline=asked.timeline, sets=sets)
    answered = _answered(asked, worker.model, head, stamps)
    for line in unread:
        complain(line)
    left = [f for f in files if answered is None or formats.shown(f) not in answered.paths]
    if len(left) < len(files):
        complain(f"{len(files) - len(left)} of {len(files)} recordings are already answered in {asked.out}")
    pace = _Pace({path: stamps[path][0] for path in left}, progress)
    failed = len(unread)
    told = _Notes(complain, several=len(files) > 1)
    kept = resumable() if answered is not None else contextlib.nullcontext()
    with kept, _Sink(asked, kind, head, write, answered, listed=len(files) > 1) as sink:
        for path, answer in answers(left, worker, asked, pace.heard):
            pace.answered(path, failed=isinstance(answer, str))
            if isinstance(answer, str):
                failed += 1
                named = path in answer if path != STDIN else "standard input" in answer
                complain(formats.shown(answer if named else f"{path}: {answer}"))
                continue
            told.of(answer)
            sink.add(answer)
    told.end()
    return failed


def _settled(asked: Asked) -> tuple[Asked, str]:
    """The options with the format and the division that they amount to, and that format.

    Raises:
        SerkitError: no such format or division, or options that do not go together.
    """
    kind = asked.kind or ("table" if asked.out is None else formats.of_file(asked.out))
    check_known(kind, formats.FORMATS, f"format '{kind}'")
    timeline = asked.timeline or kind in formats.OF_PARTS
    by = division(asked.by, timeline=timeline, named="--timeline" if asked.timeline else f"--format {kind}")
    if by == "channel" and (asked.rttm or asked.diariser):
        raise SerkitError("--by channel uses the channels as speakers: leave out --rttm and --diarise")
    if asked.coverage is not None and (kind in formats.OF_PARTS or (kind == "csv" and timeline)):
        shown = "--format csv with a timeline" if kind == "csv" else f"--format {kind}"
        raise SerkitError(
            f"--coverage gives a set for the whole recording, and {shown} writes only its parts: take json or table"
        )
    return replace(asked, kind=kind, timeline=timeline, by=by), kind


class _Pace:
    """How much is done: a file counts by its size, the one that is heard just now by how far it is.

    Args:
        sizes: of the files that are to be answered. progress: is told.
    """

    def __init__(self, sizes: Mapping[str, int], progress: ProgressCallback | None) -> None:
        self._left = dict(sizes)
        self._all, self._done = max(1, sum(self._left.values())), 0
        self._meter = Meter("predict", len(sizes), progress, unit="files")

    def heard(self, path: str, share: float) -> None:
        """So much of a file is heard."""
        self._meter.advance(0, share=(self._done + share * self._left[path]) / self._all)

    def answered(self, path: str, *, failed: bool) -> None:
        """A file is over."""
        self._done += self._left.pop(path)
        self._meter.advance(failed=int(failed), share=self._done / self._all)


class _Notes:
    """Notes of answers for whoever watches: each in full once, with the recording it is of, and then counted.

    That a part of a recording is missing is said of each: rows of CSV do not say it.
    """

    def __init__(self, complain: Callable[[str], None], *, several: bool) -> None:
        self._complain, self._several = complain, several
        self._n: Counter[str] = Counter()

    def of(self, answer: Prediction) -> None:
        """What is new among the notes of an answer."""
        for note in answer.notes:
            if not self._n[note]:
                self._complain("note: " + f"{answer.path}: " * self._several + note)
            self._n[note] += not isinstance(note, Damage)

    def end(self) -> None:
        """How many recordings had the same."""
        for note, n in self._n.items():
            if n > 1:
                self._complain(f"note: same for {n - 1} more: {shorten(note, 70, placeholder=' …')}")


def _refuse_same_stem(files: Sequence[str]) -> None:
    """RTTM names a recording by its file name alone."""
    names: dict[str, str] = {}
    for path in files:
        other = names.setdefault(formats.rttm_name(path), path)
        if other != path:
            raise SerkitError(
                f"RTTM would call {formats.shown(other)} and {formats.shown(path)} both '{formats.rttm_name(path)}': "
                "predict them in separate calls, or as csv or jsonl"
            )


def _answered(asked: Asked, model: Model, head: str, stamps: Mapping[str, list[int]]) -> Answered | None:
    """What the file of the answers holds already, where it is one that is gone on with."""
    if asked.out is None or asked.kind not in formats.RESUMED or is_stream(asked.out):
        return None
    shown = {formats.shown(path): stamp for path, stamp in stamps.items()}
    return Answered(asked.out, asked.kind, head, _question(asked, model), shown)


def _question(asked: Asked, model: Model) -> dict[str, Any]:
    """All that answers depend on but the recordings."""
    names = (
        "kind",
        "timeline",
        "labels",
        "text",
        "by",
        "threshold",
        "window_s",
        "hop_s",
        "vad",
        "asr",
        "diariser",
        "language",
    )
    hop = {}
    if asked.window_s is not None and asked.hop_s is None:  # written out: what is left out meant 1.5 s at one time
        hop = {"hop_s": asked.window_s / 2}
    words = asked.transcript
    if words is not None and words.is_dir():  # each recording has its own, which is looked at with the recording
        beside = {"rttm": stamp(asked.rttm), "transcript": [str(words)]}
    else:
        beside = {"rttm": stamp(asked.rttm), "transcript": stamp(words)}
    calls = None if model.calls is None else model.calls.fingerprint
    sets = {} if asked.coverage is None else {"coverage": asked.coverage}
    return {
        "model": model.id,
        "calls": calls,
        **{name: getattr(asked, name) for name in names},
        **hop,
        **sets,
        **beside,
    }


def _looked_at(files: Sequence[str], asked: Asked, progress: ProgressCallback | None) -> dict[str, list[int]]:
    """Size and time of each recording, and of the transcript of its own where there is a folder of them.

    Raises:
        SerkitError: answers would be written to a file that is read, and lost by that.
    """
    out = None if asked.out is None else look(asked.out)

    def not_out(found: os.stat_result | None, what: str) -> list[int]:
        if out is not None and found is not None and os.path.samestat(out, found):
            raise SerkitError(f"--out {asked.out} is {what}; choose another name")
        return size_and_time(found)

    folder = asked.transcript if asked.transcript is not None and asked.transcript.is_dir() else None
    for option, given in (("--transcript", asked.transcript if folder is None else None), ("--rttm", asked.rttm)):
        if given is not None:
            not_out(look(given), f"read by {option}, and would be overwritten")
    listed = None if folder is None else names_in(folder)
    meter = Meter("look", len(files), progress, unit="files looked at", after_s=SOON_S)
    stamps = {}
    for path in files:
        found = None if path == STDIN else look(path)
        stamps[path] = not_out(found, "one of the recordings, and would overwrite it")
        words = None if folder is None else words_of(folder, path, listed)
        if words is not None:
            stamps[path] += not_out(look(words), "read by --transcript, and would be overwritten")
        meter.advance()
    return stamps


class _Sink:
    """Where predictions go: row by row, or as one document at the end."""

    def __init__(
        self,
        asked: Asked,
        kind: str,
        head: str,
        write: Callable[[str], None],
        answered: Answered | None = None,
        *,
        listed: bool,
    ) -> None:
        self._asked, self._kind, self._head, self._write, self._listed = asked, kind, head, write, listed
        self._answered = answered
        self._kept: list[Prediction] = []
        self._apart = False
        self._file: IO[str] | None = None
        # what resumes is written as it comes; any other file is whole or not there
        self._by_row = kind in formats.RESUMED or (kind in ("table", "rttm") and asked.out is None)

    def __enter__(self) -> _Sink:
        out = self._asked.out
        if out is not None and self._by_row:
            out.parent.mkdir(parents=True, exist_ok=True)
            stream = is_stream(out)  # after what a shell has put into the file behind it
            fresh = stream or not out.is_file() or not out.stat().st_size
            self._file = out.open("w" if fresh and not stream else "a", encoding="utf-8", newline="")
            self._write = self._put
            if not fresh:
                return self
        if self._by_row and self._head:
            self._write(self._head)
        return self

    def add(self, prediction: Prediction) -> None:
        """Write it, or keep it for the document."""
        if not self._by_row:
            self._kept.append(prediction)
        elif self._kind == "table":
            text = formats.document("table", [prediction], timeline=self._asked.timeline)
            self._write("\n" + text if self._asked.timeline and self._apart else text)
            self._apart = True
        else:
            text = formats.rows(self._kind, prediction, timeline=self._asked.timeline)
            self._write(text)
            if self._answered is not None:
                n_rows = len(prediction.segments) if self._kind == "csv" and self._asked.timeline else 1
                self._answered.add(prediction.path or STDIN, n_rows)

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self._file is not None:
            with contextlib.suppress(*(OSError,) * (kind is not None)):  # what could not be written is said already
                self._file.close()
        elif kind is None and not self._by_row and (self._kept or (self._kind == "json" and self._listed)):
            text = formats.document(self._kind, self._kept, timeline=self._asked.timeline, listed=self._listed)
            if self._asked.out is None:
                self._write(text)
            else:
                write_text(self._asked.out, text)

    def _put(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:  # which does not say of what file it is
            raise OSError(error.errno, error.strerror, str(self._asked.out)) from None


def about(name: str) -> str:
    """A line on a bundle for ``--version``: what it is, and the licence of its weights."""
    from serkit.serving.bundle import names, open_bundle

    if name == "default" and "default" not in names() and not Path(name).exists():
        return "no default model in this installation"
    bundle = open_bundle(name)
    return f"model {bundle.id}, weights: {bundle.head['licence']['weights']}"
