"""What ``serkit predict`` and ``serkit bundle`` do once the command line is parsed."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from serkit.errors import SerkitError, did_you_mean
from serkit.progress import Meter, ProgressCallback
from serkit.serving import example, formats
from serkit.serving.predictor import Model, load
from serkit.serving.results import By, Prediction

if TYPE_CHECKING:
    from serkit.serving.hearing import Beside

AUDIO = frozenset(f".{x}" for x in (
    "3gp", "aac", "aif", "aifc", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "m4a", "m4v", "mka", "mkv",
    "mov", "mp3", "mp4", "mpeg", "mpg", "oga", "ogg", "opus", "sph", "w64", "wav", "webm", "wma", "wmv",
))  # fmt: skip
STDIN = "-"
_MEMORY_BYTES = 32 << 20  # of standard input, before it goes to a temporary file


@dataclass(frozen=True)
class Asked:
    """The options of ``serkit predict``.

    Attributes:
        inputs: files, folders, or ``-``. model: name or place of a bundle. timeline: parts too.
        kind: format; ``None``: what the name of ``out`` ends in, else a table.
        labels, text, by, threshold, window_s, hop_s: as for :meth:`serkit.serving.predictor.Model.predict`.
        vad: how speech is found. rttm, transcript, asr, diariser, language: see
            :class:`serkit.serving.hearing.Beside`. out: file to write. jobs: processes; 0 is one per core.
    """

    inputs: tuple[str, ...]
    model: str = "default"
    kind: str | None = None
    timeline: bool = False
    labels: tuple[str, ...] | None = None
    text: str | None = None
    by: By | None = None
    threshold: float | None = None
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
        How many recordings could not be answered.

    Raises:
        SerkitError: wrong options, no bundle, nothing to predict.
    """
    kind = asked.kind or formats.BY_SUFFIX.get(asked.out.suffix.lower() if asked.out is not None else "", "table")
    if kind not in formats.FORMATS:
        raise SerkitError(f"format '{kind}'" + did_you_mean(kind, formats.FORMATS))
    timeline = asked.timeline or kind in ("rttm", "textgrid")
    asked = replace(asked, kind=kind, timeline=timeline, by=asked.by or ("segment" if timeline else "clip"))
    if asked.by != "window" and (asked.window_s, asked.hop_s) != (None, None):
        raise SerkitError("--window and --hop are of windows: add --by window")
    files = gather(asked.inputs)
    if kind == "textgrid" and len(files) != 1:
        raise SerkitError(f"a TextGrid holds one recording, got {len(files)}; predict them one by one")
    if asked.out is not None:
        _check_out(asked.out, files)
    worker = _Worker(asked)
    labels = tuple(worker.model.labels[k] for k in worker.model.columns(asked.labels))
    worker.check()
    head = formats.header(kind, labels, timeline=timeline)
    done: set[str] = set()
    if asked.out is not None and kind in formats.BY_ROW:
        done = resumed(asked.out, kind, head)
    left = [f for f in files if formats.shown(f) not in done]
    meter = Meter("predict", len(left), progress if len(files) > 1 else None, unit="files")
    failed = 0
    said: set[str] = set()
    with _Sink(asked, kind, head, write, listed=len(files) > 1) as sink:
        for path, answer in _answers(left, worker, asked):
            meter.advance(failed=int(isinstance(answer, str)))
            if isinstance(answer, str):
                failed += 1
                complain(formats.shown(answer if path in answer else f"{path}: {answer}"))
                continue
            for note in answer.notes:
                if note not in said:
                    said.add(note)
                    complain(f"note: {note}")
            sink.add(answer)
    return failed


def gather(inputs: Sequence[str]) -> list[str]:
    """Files, and the recordings in folders, sorted within each; each once.

    Raises:
        SerkitError: nothing given, a folder without recordings, ``-`` beside other inputs.
    """
    if not inputs:
        raise SerkitError("nothing to predict: give a recording, a folder, or - for standard input")
    if STDIN in inputs and len(inputs) > 1:
        raise SerkitError("- (standard input) stands alone; give files in another call")
    found: dict[str, None] = {}
    for given in map(example.recording, inputs):
        path = Path(given)
        if given == STDIN or not path.is_dir():
            found[given] = None
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO and not p.is_dir())
        if not inside:
            raise SerkitError(f"{given}: no recordings in this folder ({', '.join(sorted(AUDIO)[:6])} …)")
        found.update(dict.fromkeys(str(p) for p in inside))
    return list(found)


def _check_out(out: Path, files: Sequence[str]) -> None:
    """Refuse a place for the answers that could not be written, or is a recording that would be lost."""
    if out.is_dir():
        raise SerkitError(f"--out {out} is a folder; name a file in it")
    for path in files if out.exists() else ():
        if path != STDIN and _is_same(out, path):
            raise SerkitError(f"--out {out} is one of the recordings, which it would write over; choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SerkitError(f"--out {out} cannot be written: {error.strerror or error}") from None
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise SerkitError(f"--out {out} cannot be written: no permission")


def _is_same(out: Path, path: str) -> bool:
    try:
        return out.samefile(path)
    except (OSError, ValueError):  # no such file: it is said when its turn comes
        return False


def resumed(out: Path, kind: str, head: str) -> set[str]:
    """Recordings that a file of rows holds already; a last line that was cut off is taken away.

    Raises:
        SerkitError: the file holds something else: another format or other labels.
    """
    if not out.is_file():
        return set()
    try:
        text = out.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SerkitError(f"{out} is no text, so no {kind} of predictions; choose another --out") from None
    whole = text[: text.rfind("\n") + 1]
    if head and whole and not whole.startswith(head):
        raise SerkitError(f"{out} holds other columns than these; choose another --out, or remove it")
    try:
        if kind == "jsonl":
            found = {str(json.loads(line)["path"]) for line in whole.splitlines()}
        elif kind == "csv":
            rows = list(csv.reader(io.StringIO(whole)))
            found = {row[0] for row in rows[1:]}
        else:
            return set()
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise SerkitError(f"{out} is not a {kind} of predictions ({error}); choose another --out") from None
    if whole != text:
        out.write_text(whole, encoding="utf-8")
    return found


class _Sink:
    """Where predictions go: row by row, or as one document at the end."""

    def __init__(self, asked: Asked, kind: str, head: str, write: Callable[[str], None], *, listed: bool) -> None:
        self._asked, self._kind, self._head, self._write, self._listed = asked, kind, head, write, listed
        self._kept: list[Prediction] = []
        self._apart = False
        self._file: IO[str] | None = None
        self._by_row = kind in formats.BY_ROW or (kind == "table" and asked.out is None)

    def __enter__(self) -> _Sink:
        out = self._asked.out
        if out is not None and self._by_row:
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh = not out.is_file() or self._kind == "rttm" or not out.stat().st_size
            self._file = out.open("w" if fresh else "a", encoding="utf-8", newline="")
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
            self._write(formats.rows(self._kind, prediction, timeline=self._asked.timeline))

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self._file is not None:
            self._file.close()
        elif kind is None and not self._by_row and (self._kept or (self._kind == "json" and self._listed)):
            text = formats.document(self._kind, self._kept, timeline=self._asked.timeline, listed=self._listed)
            if self._asked.out is None:
                self._write(text)
            else:
                from serkit.files import write_text

                write_text(self._asked.out, text)

    def _put(self, text: str) -> None:
        if self._file is not None:
            self._file.write(text)
            self._file.flush()


class _Worker:
    """A loaded model with the options of one call; made once in every process."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.model: Model = load(asked.model)
        self._beside: Beside | None = None
        if any(x is not None for x in (asked.rttm, asked.transcript, asked.asr, asked.diariser, asked.language)):
            from serkit.serving.hearing import Beside

            self._beside = Beside(
                rttm=asked.rttm, transcript=asked.transcript, asr=asked.asr, diariser=asked.diariser,
                language=asked.language,
            )  # fmt: skip

    def check(self) -> None:
        """Refuse options that no recording could be answered with."""
        asked, beside = self.asked, self._beside
        if asked.by == "turn" and not (beside and beside.has_turns):
            raise SerkitError("--by turn needs --rttm FILE, the turns of a diarisation, or --diarise")
        if asked.by == "sentence" and not (beside and beside.has_sentences):
            raise SerkitError("--by sentence needs --transcript FILE with times (.srt, .vtt or .json), or --asr")
        if asked.threshold is not None:
            self.model.unsure_below([self.model.labels[k] for k in self.model.columns(asked.labels)], asked.threshold)
        self.settings(STDIN, b"", known=False)

    def settings(self, path: str, recording: Any, *, known: bool = True) -> dict[str, Any]:
        """Options of :meth:`Model.predict` for one recording; without what is ``known`` of it for a mere check."""
        from serkit.segments import SegmentSettings

        asked = self.asked
        turns, sentences = self._beside.of(path, recording) if self._beside is not None and known else ([], [])
        options: dict[str, Any] = {"window_s": asked.window_s, "hop_s": asked.hop_s}
        return {
            "labels": asked.labels, "text": asked.text, "by": asked.by, "threshold": asked.threshold,
            "turns": turns, "sentences": sentences,
            "segments": SegmentSettings(vad=asked.vad),  # type: ignore[arg-type]  # checked there
            **{k: v for k, v in options.items() if v is not None},
        }  # fmt: skip

    def answer(self, path: str) -> Prediction | str:
        """The prediction, or what is wrong with the recording in one line."""
        try:
            if path != STDIN:
                found = self.model.predict(path, **self.settings(path, path))
                return replace(found, path=formats.shown(path))
            with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as held:
                while block := sys.stdin.buffer.read(1 << 20):
                    held.write(block)
                settings = self.settings(path, held)
                held.seek(0)
                return replace(self.model.predict(held, **settings), path=STDIN)  # type: ignore[arg-type]  # a BinaryIO
        except SerkitError as error:
            return str(error)
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror or error}"


_WORKER: _Worker | None = None


def _start(asked: Asked) -> None:
    global _WORKER
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _WORKER = _Worker(asked)


def _work(path: str) -> Prediction | str:
    if _WORKER is None:
        raise SerkitError("the worker was not started")
    return _WORKER.answer(path)


def _answers(files: Sequence[str], worker: _Worker, asked: Asked) -> Iterator[tuple[str, Prediction | str]]:
    """Every file with its answer, in order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(asked.jobs or cores, len(files))
    if jobs <= 1:
        for path in files:
            yield path, worker.answer(path)
        return
    import multiprocessing as mp

    with ProcessPoolExecutor(jobs, mp.get_context("spawn"), _start, (asked,)) as pool:
        answers: Iterable[Prediction | str] = pool.map(_work, files, chunksize=max(1, min(8, len(files) // (4 * jobs))))
        yield from zip(files, answers, strict=True)


def about(name: str) -> str:
    """A line on a bundle for ``--version``: what it is, and the licence of its weights."""
    from serkit.serving.bundle import names, open_bundle

    if name == "default" and "default" not in names() and not Path(name).exists():
        return "no default model in this installation"
    bundle = open_bundle(name)
    return f"model {bundle.name}@{bundle.fingerprint[:12]}, weights: {bundle.head['licence']['weights']}"
