"""What a stream shows of labelled recordings while it hears them: chunks in, every answer kept with its moment.

The clock is that of the sound: a chunk of 0.1 s moves it on by 0.1 s, however long its computing takes, which is kept
apart.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serkit import audio
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.processes import cores, here_or_in_processes
from serkit.serving.asking import Job
from serkit.serving.predictor import MAX_S, Model, load

CHUNK_S, PARTIAL_S = 0.1, 0.5
SHORTEST_CHUNK_S, LONGEST_CHUNK_S = 0.01, 5.0
SHORTEST_PARTIAL_S, LONGEST_PARTIAL_S = 0.2, 60.0  # as a stream of the service takes them


@dataclass(frozen=True)
class Pace:
    """How recordings are fed.

    Attributes:
        chunk_s: seconds of sound in a chunk. partial_s: a partial answer after every so many seconds of speech.

    Raises:
        SerkitError: out of range.
    """

    chunk_s: float = CHUNK_S
    partial_s: float = PARTIAL_S

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("--chunk", self.chunk_s, SHORTEST_CHUNK_S, LONGEST_CHUNK_S),
            ("--partial", self.partial_s, SHORTEST_PARTIAL_S, LONGEST_PARTIAL_S),
        ):
            if not low <= value <= high:
                raise SerkitError(f"{name} {value:g}: expected {low:g} to {high:g} seconds")

    @property
    def chunk(self) -> int:
        """Samples in a chunk at 16 kHz."""
        return round(self.chunk_s * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Watched:
    """What a stream by segment showed of one recording.

    Attributes:
        duration_s: of the recording. speech_s: start and end of each stretch of speech, as the final answers have it.
        at_s: (answers,) when each answer before the end came, in seconds of sound. shown: (answers, labels) their
            probabilities. unsure: (answers,) whether they were unsure.
        final: (labels,) probabilities for the whole, at the end. abstain: of these, as
            :class:`serkit.serving.results.Prediction` has it.
        chunks_us: (chunks, 2) microseconds of computing for each chunk, by the clock and of processor time.
        answered: (chunks,) whether one brought answers. end_us: (2,) of what is computed after the last chunk.
        processes: that worked at the same time.
    """

    duration_s: float
    speech_s: tuple[tuple[float, float], ...]
    at_s: tuple[float, ...]
    shown: tuple[tuple[float, ...], ...]
    unsure: tuple[bool, ...]
    final: tuple[float, ...]
    abstain: str
    chunks_us: tuple[tuple[int, int], ...]
    answered: tuple[bool, ...]
    end_us: tuple[int, int]
    processes: int

    @classmethod
    def of(cls, row: Sequence[Any]) -> Watched:
        """Of what :meth:`to_row` gave."""
        duration_s, speech, at_s, shown, unsure, final, abstain, chunks, answered, end_us, n = row
        return cls(
            duration_s, tuple((s, e) for s, e in speech), tuple(at_s), tuple(map(tuple, shown)),
            tuple(map(bool, unsure)), tuple(final), abstain, tuple((w, c) for w, c in chunks),
            tuple(map(bool, answered)), (end_us[0], end_us[1]), n,
        )  # fmt: skip

    def to_row(self) -> list[Any]:
        """As plain values."""
        return [
            self.duration_s, [list(s) for s in self.speech_s], list(self.at_s), [list(p) for p in self.shown],
            list(map(int, self.unsure)), list(self.final), self.abstain, list(map(list, self.chunks_us)),
            list(map(int, self.answered)), list(self.end_us), self.processes,
        ]  # fmt: skip

    def heard_by(self, speech_s: float) -> float | None:
        """The moment at which so many seconds of the stretches are heard; ``None`` where there are not so many.

        >>> Watched(9.0, ((1.0, 2.0), (4.0, 7.0)), (), (), (), (), "", (), (), (0, 0), 1).heard_by(1.5)
        4.5
        """
        left = speech_s
        for start, end in self.speech_s:
            if end - start >= left - 1e-9:
                return start + left
            left -= end - start
        return None

    def shown_after(self, speech_s: float, chunk_s: float) -> int | None:
        """Which answer stands there as soon as the chunk is heard that completes so much speech.

        Returns:
            Its place; -1 where none has come yet, ``None`` where the recording has not so much speech.
        """
        moment = self.heard_by(speech_s)
        if moment is None:
            return None
        until = np.ceil(round(moment / chunk_s, 6)) * chunk_s
        return int(np.searchsorted(self.at_s, until + 1e-6, side="right")) - 1


def watch(model: Model, task: Job, pace: Pace, processes: int = 1) -> Watched:
    """Feed a recording to a stream of a model, in chunks at 16 kHz; ``processes`` do so at the same time.

    Raises:
        SerkitError: it cannot be read, or cannot be answered.
    """
    words = task.text if model.reads_text else None
    stream = model.stream(partial_s=pace.partial_s, by="segment", labels=task.labels, text=words)
    blocks = audio.blocks(
        task.path, start_s=task.start_s, end_s=task.end_s, channel=task.channel, max_s=MAX_S, remarks=stream.remarks
    )
    at_s: list[float] = []
    shown: list[tuple[float, ...]] = []
    unsure: list[bool] = []
    chunks_us: list[tuple[int, int]] = []
    answered: list[bool] = []
    for chunk in _chunks(blocks, pace.chunk):
        began = _now()
        events = stream.push(chunk)
        chunks_us.append(_us(began))
        answered.append(bool(events))
        for event in events:
            at_s.append(round(event.at_s, 6))
            shown.append(tuple(event.segment.probabilities.values()))
            unsure.append(event.segment.abstain == "unsure")
    began = _now()
    stream.finish()
    end_us, whole = _us(began), stream.prediction
    return Watched(
        round(whole.duration_s, 6), tuple((round(s.start_s, 6), round(s.end_s, 6)) for s in whole.segments),
        tuple(at_s), tuple(shown), tuple(unsure), tuple(whole.probabilities.values()), whole.abstain,
        tuple(chunks_us), tuple(answered), end_us, processes,
    )  # fmt: skip


def watched(tasks: Sequence[Job], pace: Pace, source: str, calls: str, jobs: int) -> Iterator[Watched | str]:
    """What a stream shows of each recording, in order, or what is wrong with it in one line.

    Args:
        source, calls: the bundle, see :func:`serkit.serving.predictor.load`. jobs: processes; 0 is one per core.
    """
    n = max(1, min(jobs or cores(), len(tasks)))
    ask = functools.partial(_watched, pace=pace, processes=n)
    return here_or_in_processes(functools.partial(_warm, source, calls), ask, tasks, n)


def _warm(source: str, calls: str) -> Model:
    """The model, with all that its answers need already loaded."""
    model = load(source, calls=calls)
    model.predict(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32), rate_hz=SAMPLE_RATE_HZ)
    return model


def _watched(model: Model, task: Job, pace: Pace, processes: int) -> Watched | str:
    try:
        return watch(model, task, pace, processes)
    except SerkitError as error:
        return str(error)


def _chunks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Blocks of any size as chunks of one; the last may be shorter."""
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) - len(rest) % size
        yield from (rest[k : k + size] for k in range(0, whole, size))
        rest = rest[whole:]
    if len(rest):
        yield rest


def _now() -> tuple[float, float]:
    """Seconds by the clock, and of this process's processor time."""
    return time.perf_counter(), time.process_time()


def _us(began: tuple[float, float]) -> tuple[int, int]:
    """Microseconds since a moment, by both."""
    wall, cpu = (round(1e6 * (now - then)) for now, then in zip(_now(), began, strict=True))
    return wall, cpu
